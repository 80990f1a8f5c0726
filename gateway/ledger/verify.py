"""Recomputing an account from its entries and records.

Owns: which numbers must be equal. Pure: the state and the entries are handed in.
Does not know: where they came from.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Self

from gateway.core.months import month_of
from gateway.ledger import records
from gateway.ledger.rules import NEVER_MS, REPAIR, day_of
from gateway.ledger.usage import days_of
from gateway.ports import Drift, Entry, Grant, Hold


@dataclass(frozen=True, slots=True)
class State:
    """Everything stored of an account at one moment, but for its entries."""

    account: Mapping[str, str]
    holds: Mapping[bytes, bytes]
    due: Mapping[bytes, bytes]
    grants: Mapping[bytes, bytes]
    burn: Mapping[bytes, bytes]
    keys: Mapping[str, Mapping[str, str]]
    usage: Mapping[tuple[str, str, str], int]
    volumes: Mapping[str, Mapping[str, int]]
    refunds: Mapping[str, int]
    last_entry: str

    @classmethod
    def read(cls, answer: Sequence[Any]) -> Self:
        """From the answer of state.lua."""
        account, holds, due, grants, burn, keys, months, refunds, last = answer
        return cls(
            account=records.pairs(account),
            holds=_pairs(holds),
            due=_pairs(due),
            grants=_pairs(grants),
            burn=_pairs(burn),
            keys={key_id.decode(): records.pairs(flat) for key_id, flat in keys},
            usage={
                (day.day, day.product, day.key_id): day.charged
                for month, flat, _ in months
                for day in days_of(month.decode(), records.pairs(flat))
            },
            volumes={
                month.decode(): {sku: int(volume) for sku, volume in records.pairs(flat).items()}
                for month, _, flat in months
            },
            refunds={entry_id: int(amount) for entry_id, amount in records.pairs(refunds).items()},
            last_entry=last.decode(),
        )


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    words = iter(flat)
    return dict(zip(words, words, strict=True))


@dataclass(slots=True)
class Entered:
    """What entries say, one after the other: their sum, each key's corrected charges by month, volumes by month and
    SKU, what was given back of charges (and of how much, of those that `refunds` names), the first wrong one.

    Where entries were forgotten (`trimmed`), it begins with what they added up to, and knows nothing of their days.
    """

    total: int = 0
    forgotten_ms: int = 0
    spent: Counter[tuple[str, str]] = field(default_factory=Counter)
    usage: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    volumes: Counter[tuple[str, str]] = field(default_factory=Counter)
    refunds: Set[str] = frozenset()
    refunded: Counter[str] = field(default_factory=Counter)
    charges: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def after(cls, trimmed: str, refunds: Set[str]) -> Self:
        """Of what follows those that were forgotten, as the account says it: the last one's id, the balance then."""
        if not trimmed:
            return cls(refunds=refunds)
        entry_id, balance = trimmed.split(" ")
        return cls(refunds=refunds, total=int(balance), forgotten_ms=int(entry_id.partition("-")[0]))

    @classmethod
    def up_to(cls, balance: int) -> Self:
        """Of nothing after the last entry, whose balance this is: the sum of all, if it is right."""
        return cls(total=balance, forgotten_ms=NEVER_MS)

    def proven_usage(self, state: State) -> dict[tuple[str, str, str], int]:
        """What was charged on each day that is counted, but for the first, in which counting may have begun."""
        first = max(min((day for day, _, _ in state.usage), default="9999"), day_of(self.forgotten_ms))
        return {line: self.usage[line] for line in sorted(state.usage.keys() | self.usage.keys()) if line[0] > first}

    def add(self, entry: Entry) -> None:
        """The next entry."""
        self.total += entry.amount
        if entry.balance != self.total and not self.wrong:
            self.wrong = {f"entry.{entry.id}.balance": (entry.balance, self.total)}
        elif entry.operation.startswith(REPAIR) and entry.balance == self.total:
            self.wrong = {}  # it was looked at, and the entry says what was done
        if entry.kind in {"charge", "correction"}:
            month = entry.data["key_id"], month_of(entry.at_ms)
            self.spent[month] = max(0, self.spent[month] - entry.amount)
            if entry.data["key_id"]:
                product = entry.data["product"] if entry.kind == "charge" else ""
                self.usage[day_of(entry.at_ms), product, entry.data["key_id"]] -= entry.amount
        for sku, volume in entry.data.get("volumes", {}).items():
            self.volumes[month_of(entry.at_ms), sku] += volume
        if "refunds" in entry.data:
            self.refunded[entry.data["refunds"]] += entry.amount
        if entry.id in self.refunds and entry.kind == "charge":
            self.charges[entry.id] = -entry.amount


def recompute(account: str, state: State, entered: Entered) -> list[Drift]:
    """Every difference between what is stored and what follows from entries and records."""
    holds = [
        records.hold(account, hold_id, record, state.due.get(b"h:" + hold_id, b"0"))
        for hold_id, record in state.holds.items()
    ]
    grants = [
        records.grant(grant_id, record, state.grants[grant_id + b".left"])
        for grant_id, record in state.grants.items()
        if not grant_id.endswith(b".left")
    ]
    stored = {name: int(state.account[name]) for name in ("balance", "held", "debt")}
    pairs = {
        "balance": (stored["balance"], entered.total),
        "grants": (stored["balance"], sum(grant.remaining for grant in grants) - stored["debt"]),
        "held": (stored["held"], sum(hold.amount for hold in holds)),
        **entered.wrong,
        **_open(state, holds),
        **_keys(state, holds, entered),
        **_usage(state, entered),
        **{f"volume.{sku}": pair for sku, pair in volumes_of(state, entered).items()},
        **{f"refunded.{entry_id}": pair for entry_id, pair in refunds_of(state, entered).items()},
        **_charges_given_back(state, entered),
        **_order(state, holds, grants),
    }
    return [
        Drift(account=account, what=what, stored=here, recomputed=there)
        for what, (here, there) in pairs.items()
        if here != there
    ]


def _open(state: State, holds: Sequence[Hold]) -> dict[str, tuple[int, int]]:
    counted = Counter(f"open.{hold.concurrency_class}" for hold in holds if hold.concurrency_class)
    stored = {name: int(value) for name, value in state.account.items() if name.startswith("open.")}
    return {name: (stored.get(name, 0), counted[name]) for name in sorted(stored.keys() | counted.keys())}


def _keys(state: State, holds: Sequence[Hold], entered: Entered) -> dict[str, tuple[int, int]]:
    """What each key holds, and has spent in the month that its `spent` is of."""
    held: Counter[str] = Counter()
    for hold in holds:
        held[hold.key_id] += hold.amount
    pairs: dict[str, tuple[int, int]] = {}
    for key_id, key in sorted(state.keys.items()):
        pairs[f"key.{key_id}.held"] = (int(key["held"]), held[key_id])
        if key["month"] > month_of(entered.forgotten_ms):
            pairs[f"key.{key_id}.spent"] = (int(key["spent"]), entered.spent[key_id, key["month"]])
    return pairs


def _usage(state: State, entered: Entered) -> dict[str, tuple[int, int]]:
    """What was charged, as counted and as entered."""
    proven = entered.proven_usage(state)
    return {f"usage.{'/'.join(line)}": (state.usage.get(line, 0), charged) for line, charged in proven.items()}


def volumes_of(state: State, entered: Entered) -> dict[str, tuple[int, int]]:
    """Of each SKU at least what charges took. More may be there: taken for charges that are to come, or never came.

    One month may have taken what is charged in the next: all together are compared, but for the oldest that is kept,
    where something may have been forgotten.
    """
    kept = [month for month, volumes in state.volumes.items() if volumes]
    first = min(kept, default="9999")
    forgotten = max(month_of(entered.forgotten_ms), first if first == min(state.volumes, default="") else "")
    there: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for volumes in state.volumes.values():
        there.update(volumes)
    for (month, sku), volume in entered.volumes.items():
        if month > forgotten:
            taken[sku] += volume
    return {sku: (there[sku], max(there[sku], volume)) for sku, volume in sorted(taken.items())}


def refunds_of(state: State, entered: Entered) -> dict[str, tuple[int, int]]:
    """What was given back of each charge, as counted and, where no entry is forgotten, as entered."""
    pairs: dict[str, tuple[int, int]] = {}
    for entry_id in sorted(state.refunds.keys() | entered.refunded.keys()):
        stored, found = state.refunds.get(entry_id, 0), entered.refunded[entry_id]
        pairs[entry_id] = (stored, max(found, stored) if entered.forgotten_ms else found)
    return pairs


def _charges_given_back(state: State, entered: Entered) -> dict[str, tuple[int, int]]:
    """What was given back of each charge that is known, and the most that could be: the charge."""
    pairs: dict[str, tuple[int, int]] = {}
    for entry_id, charge in entered.charges.items():
        most = max(state.refunds[entry_id], entered.refunded[entry_id])
        pairs[f"refunded.{entry_id}.most"] = (most, min(most, charge))
    return pairs


def _order(state: State, holds: Sequence[Hold], grants: Sequence[Grant]) -> dict[str, tuple[int, int]]:
    """How many are in the order of what ends when, and of what burns first, and how many should be."""
    due = {b"h:" + hold.id.encode() for hold in holds}
    due |= {b"g:" + grant.id.encode() for grant in grants if grant.expires_ms is not None}
    burn = {b"%013d:%b" % (grant.expires_ms or NEVER_MS, grant.id.encode()) for grant in grants}
    return {"due": _members(state.due.keys(), due), "burn": _members(state.burn.keys(), burn)}


def _members(stored: Set[bytes], wanted: Set[bytes]) -> tuple[int, int]:
    """Both counts; where as many are there but not the same ones, those that are right are counted as stored."""
    return (len(stored), len(wanted)) if len(stored) != len(wanted) else (len(stored & wanted), len(wanted))
