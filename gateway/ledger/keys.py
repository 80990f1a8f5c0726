"""The names of Redis keys.

Owns: every key name. All keys of an account are in the hash slot of `{account}`; these kinds of keys are in none:
the index of key digests, the set of accounts and its order, who does what for all, which accounts have jobs to look at,
which have deliveries that wait, those that wait for a sink of the export and who exports to it, the audit log.
Does not know: what is in them (records, scripts).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.ledger.connection import Packed
from gateway.ports import ResourceRef

_SIX: Final = ("account", "holds", "due", "grants", "burn", "ledger")


@lru_cache(maxsize=4096)
def _of_account(prefix: str, account: str) -> Packed:
    base = f"{prefix}:{{{account}}}:"
    return Packed([base + name for name in _SIX])


@lru_cache(maxsize=4096)
def _of_call(prefix: str, account: str) -> Packed:
    return Packed([f"{prefix}:{{{account}}}:account"])


@dataclass(frozen=True, slots=True)
class Keys:
    """The key names under one prefix."""

    prefix: str

    def __post_init__(self) -> None:
        if not self.prefix or set(self.prefix) & set("{}"):
            raise ValueError(f"{self.prefix!r} is no prefix of Redis keys: it must not be empty or hold braces")

    @property
    def accounts(self) -> str:
        """SET of account ids."""
        return f"{self.prefix}:accounts"

    @property
    def accounts_in_order(self) -> str:
        """ZSET of account ids, all of one score, in the slot of the set. A helper, repaired from the set."""
        return f"{{{self.prefix}:accounts}}:order"

    @property
    def followed(self) -> str:
        """ZSET: account id -> when a job of it is to be looked at next (ms). A helper, repaired from the accounts."""
        return f"{self.prefix}:followed"

    @property
    def outbox(self) -> str:
        """ZSET: account id -> when a delivery of it is due (ms). A helper like `followed`."""
        return f"{self.prefix}:outbox"

    @property
    def audit(self) -> str:
        """STREAM of what administrators did."""
        return f"{self.prefix}:audit"

    @property
    def restoring(self) -> str:
        """STRING: accounts are being restored, and may not all be there yet."""
        return f"{self.prefix}:restoring"

    def exporting(self, sink: str) -> str:
        """ZSET: account id -> since when it waits for the sink (ms). A helper like `followed`."""
        return f"{self.prefix}:export:{sink}"

    def exporter(self, sink: str) -> str:
        """STRING with TTL: the process that exports to the sink."""
        return f"{self.prefix}:exporter:{sink}"

    def leased(self, work: str) -> str:
        """STRING with TTL: the process that does the work for all."""
        return f"{self.prefix}:lease:{work}"

    def exported(self, account: str) -> str:
        """HASH: sink -> id of the last entry that it has had, <sink>.changes -> the account's changes then."""
        return f"{self.prefix}:{{{account}}}:exported"

    def digest(self, digest: str) -> str:
        """STRING "account|key id", for ever; for a week once another digest finds the key."""
        return f"{self.prefix}:key:{digest}"

    def paid(self, provider: str, payment: str) -> str:
        """STRING the account that a payment was credited to first, for as long as payments are known."""
        return f"{self.prefix}:paid:{provider}:{payment}"

    def of_account(self, account: str) -> Packed:
        """KEYS 1 to 6 of most scripts: account, holds, due, grants, burn, ledger."""
        return _of_account(self.prefix, account)

    def of_call(self, account: str) -> Packed:
        """KEYS 1 of the scripts on the path of a call, which derive the others from it."""
        return _of_call(self.prefix, account)

    def six(self, account: str) -> list[str]:
        """The same six by their names."""
        return [f"{self.prefix}:{{{account}}}:{name}" for name in _SIX]

    def account(self, account: str) -> str:
        """HASH: plan, status, sums and counters."""
        return f"{self.prefix}:{{{account}}}:account"

    def ledger(self, account: str) -> str:
        """STREAM of entries."""
        return f"{self.prefix}:{{{account}}}:ledger"

    def end(self, account: str, hold_id: str) -> str:
        """STRING: how a hold ended."""
        return f"{self.prefix}:{{{account}}}:end:{hold_id}"

    def operation(self, account: str, operation: str) -> str:
        """STRING: the first answer of an administrator's operation."""
        return f"{self.prefix}:{{{account}}}:op:{operation}"

    def once(self, account: str, name: str) -> str:
        """STRING: who used a name that may be used by one only."""
        return f"{self.prefix}:{{{account}}}:once:{name}"

    def named(self, account: str, name: str) -> list[str]:
        """ZSET of the names of calls, STRING of their answers' bytes together, HASH of one name."""
        base = f"{self.prefix}:{{{account}}}:"
        return [f"{base}names", f"{base}names.bytes", f"{base}name:{name}"]

    def made(self, account: str, call_id: str) -> str:
        """STRING "kind:id": what was accepted for a call."""
        return f"{self.prefix}:{{{account}}}:made:{call_id}"

    @property
    def queues(self) -> str:
        """ZSET: account id -> when its queues of jobs are to be looked at (ms). A helper like `followed`."""
        return f"{self.prefix}:queues"

    def body(self, account: str, ref: ResourceRef) -> str:
        """STRING: what is kept of the request of a job that waits."""
        return f"{self.prefix}:{{{account}}}:body:{ref.kind}:{ref.id}"

    def ours(self, account: str) -> str:
        """HASH: <kind>:<the upstream's id> of a job -> the id that we gave it."""
        return f"{self.prefix}:{{{account}}}:ours"

    def usage(self, account: str, month: str) -> str:
        """HASH: <day of the month> SEP product SEP key id -> nano-dollars charged; and with SEP n -> how many times."""
        return f"{self.prefix}:{{{account}}}:usage:{month}"

    def watches(self, account: str) -> str:
        """HASH of what is watched."""
        return f"{self.prefix}:{{{account}}}:watches"

    def refunds(self, account: str) -> str:
        """HASH: entry id of a charge -> what was given back of it."""
        return f"{self.prefix}:{{{account}}}:refunds"

    def keys(self, account: str) -> str:
        """SET of the account's key ids."""
        return f"{self.prefix}:{{{account}}}:keys"

    def key(self, account: str, key_id: str) -> str:
        """HASH of one API key."""
        return f"{self.prefix}:{{{account}}}:key:{key_id}"

    def volume(self, account: str, month: str) -> str:
        """HASH: SKU -> millionths of a unit in a month, for as long as usage."""
        return f"{self.prefix}:{{{account}}}:volume:{month}"

    def taken(self, account: str, hold_id: str) -> str:
        """STRING: what the month had before a hold's charge."""
        return f"{self.prefix}:{{{account}}}:taken:{hold_id}"

    def resource(self, account: str, ref: ResourceRef) -> str:
        """HASH of one job, upload or session."""
        return f"{self.prefix}:{{{account}}}:res:{ref.kind}:{ref.id}"

    def autopay(self, account: str) -> str:
        """HASH: what autopay is set to, and how it stands."""
        return f"{self.prefix}:{{{account}}}:autopay"

    def payment(self, account: str, provider: str, payment: str) -> str:
        """HASH of one payment, by its id at its provider."""
        return f"{self.prefix}:{{{account}}}:pay:{provider}:{payment}"
