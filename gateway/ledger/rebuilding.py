"""An account's money from its entries alone.

Owns: what entries say of grants, debt, counters, payments and what was done already. Pure: entries are handed in.
Does not know: Redis' keys (restoring), or where entries come from.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.core import commitments
from gateway.ledger import records
from gateway.ledger.payment_rules import payment_operation
from gateway.ledger.rules import CORRECTION_PRIORITY, NEVER_MS, SEPARATOR, day_of
from gateway.ledger.rules import grant_id as grant_name
from gateway.ledger.verify import Entered
from gateway.ports import Entry

#: What an operation is remembered by that cannot be told from its entry: no content has this digest.
UNTOLD: Final = "0" * 32
_ITEM: Final = ("sku", "quantity", "unit", "unit_price", "amount")


@dataclass(slots=True)
class RebuiltGrant:
    """A grant of which something remains."""

    kind: str
    amount: int
    priority: int
    expires_ms: int | None
    created_ms: int
    left: int

    @property
    def record(self) -> str:
        """As it is stored."""
        expires = "" if self.expires_ms is None else str(self.expires_ms)
        words = ("1", self.kind, str(self.amount), str(self.priority), expires, str(self.created_ms))
        return SEPARATOR.join(words)

    def burn_order(self, grant_id: str) -> tuple[int, str]:
        """Where it stands among others."""
        return self.priority, self.burn_member(grant_id)

    def burn_member(self, grant_id: str) -> str:
        """Its place among those of its priority."""
        return f"{NEVER_MS if self.expires_ms is None else self.expires_ms:013d}:{grant_id}"


@dataclass(slots=True)
class RebuiltPayment:
    """A payment: its hash, but for what was taken back of it."""

    fields: dict[str, str] = field(default_factory=dict)
    taken: int = 0
    moves: int = 0
    said: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)

    def hash(self) -> dict[str, str]:
        """As it is stored. What was taken of sources that no entry names is one source more."""
        found = {"v": "1", **self.fields}
        untold = self.taken - sum(self.said.values())
        said = self.said | ({"restored": untold} if untold > 0 else {})
        found |= {f"by.{source}": str(amount) for source, amount in said.items()}
        found |= {f"closed.{source}": "1" for source in self.closed}
        if self.moves:
            found |= {"taken": str(self.taken), "moves": str(self.moves)}
        return found


@dataclass(slots=True)
class Rebuilt:
    """What entries, one after the other, make of an account. Of operations those since `remember_ms` are remembered."""

    remember_ms: int
    entered: Entered = field(default_factory=Entered)
    debt: int = 0
    grants: dict[str, RebuiltGrant] = field(default_factory=dict)
    grants_made: int = 0
    calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by day, product and key
    refunds: Counter[str] = field(default_factory=Counter)
    payments: dict[str, RebuiltPayment] = field(default_factory=dict)  # by the operation that credits it
    ends: dict[str, tuple[str, int]] = field(default_factory=dict)  # by hold: how it ended, when
    operations: dict[str, tuple[str, int]] = field(default_factory=dict)  # what is remembered of each, when it was done
    entries: int = 0
    granted: str = ""  # the last month that had a monthly grant
    closed: str = ""  # the last month that was short of a commitment

    def add(self, entry: Entry) -> None:
        """The next entry."""
        self.entries += 1
        self.entered.add(entry)
        moved: Mapping[str, int] = entry.data.get("grants", {})
        if entry.amount > 0:
            self._give(entry, moved)
        else:
            self._burn(entry, moved)
        if entry.kind == "charge":
            self._charge(entry)
        if "refunds" in entry.data and entry.kind == "correction":
            self.refunds[entry.data["refunds"]] += entry.amount
        if entry.data.get("kind") == "monthly":
            self.granted = max(self.granted, entry.data["month"])
        if entry.kind == "commitment":
            self.closed = max(self.closed, entry.data["month"])
        if "payment_operation" in entry.data:
            self._reverse(entry)
        elif entry.at_ms >= self.remember_ms and entry.kind in {"grant", "correction"}:
            self.operations[entry.operation] = self._done(entry), entry.at_ms

    @property
    def balance(self) -> int:
        """What all entries add up to: what remains of the grants, less the debt."""
        return self.entered.total

    def spent(self, key_id: str) -> tuple[str, int] | None:
        """What a key has spent in the last month in which it has anything."""
        months = [(month, spent) for (key, month), spent in self.entered.spent.items() if key == key_id]
        return max(months, default=None)

    def _give(self, entry: Entry, moved: Mapping[str, int]) -> None:
        paid = min(self.debt, entry.amount)
        self.debt -= paid
        facts: Mapping[str, Any]
        facts = entry.data if entry.kind == "grant" else {"kind": "correction", "priority": CORRECTION_PRIORITY}
        if not moved and entry.amount > paid:  # a repair: what it gives is in no grant of its own
            moved = {grant_name(self.grants_made + 1): entry.amount}
        for grant_id in moved:
            self.grants_made = max(self.grants_made, int(grant_id.lstrip("g")))
            made = RebuiltGrant(
                kind=facts["kind"],
                amount=entry.amount,
                priority=facts["priority"],
                expires_ms=facts.get("expires_ms"),
                created_ms=entry.at_ms,
                left=entry.amount - paid,
            )
            if made.left:
                self.grants[grant_id] = made
            if "payment" in entry.data:
                operation = payment_operation(entry.data["provider"], entry.data["payment"])
                told = {"amount": str(entry.amount), "grant": grant_id, "record": made.record, "left": str(made.left)}
                self.payments.setdefault(operation, RebuiltPayment()).fields = told

    def _burn(self, entry: Entry, moved: Mapping[str, int]) -> None:
        """What the entry took of grants; what it names no grant for, or more than was left, is debt."""
        owed = -entry.amount
        for grant_id, amount in moved.items():
            grant = self.grants.get(grant_id)
            taken = 0 if grant is None else min(grant.left, amount, owed)
            owed -= taken
            if grant is not None and entry.kind == "grant_expiry":  # it may have been ended before its time
                grant.expires_ms = min(grant.expires_ms or NEVER_MS, entry.at_ms)
            if grant is not None:
                grant.left -= taken
                if not grant.left:
                    del self.grants[grant_id]
        for grant_id, grant in sorted(self.grants.items(), key=lambda pair: pair[1].burn_order(pair[0])):
            taken = min(grant.left, owed)  # a repair: what it takes is of no grant that it names
            owed, grant.left = owed - taken, grant.left - taken
            if not grant.left:
                del self.grants[grant_id]
        self.debt += owed

    def _charge(self, entry: Entry) -> None:
        data = entry.data
        line = day_of(entry.at_ms), data["product"], data["key_id"]
        self.calls[line] += data["call_id"] == entry.operation
        if entry.at_ms >= self.remember_ms:
            charged = str(-entry.amount)
            items = [{name: item[name] for name in _ITEM} for item in data["items"]]
            digest = records.digest_of(charged.encode() + orjson.dumps(items))
            late = "1" if data.get("late") else ""
            told = " ".join(("1 settled", digest, entry.id, charged, str(entry.balance), late))
            self.ends[entry.operation] = told, entry.at_ms

    def _reverse(self, entry: Entry) -> None:
        data = entry.data
        payment = self.payments.setdefault(data["payment_operation"], RebuiltPayment())
        payment.taken -= entry.amount
        payment.moves += 1
        if "source" in data:
            payment.said[data["source"]] = data["said"]
            payment.closed |= {data["source"]} if data["final"] else set()

    def _done(self, entry: Entry) -> str:
        """What is remembered of an operation: the first answer of a grant; of others only that they were done."""
        data, grants = entry.data, list(entry.data.get("grants", {}))
        if entry.kind != "grant" or "payment" in data or not grants:
            return f"1 {UNTOLD} []"
        content = [data["kind"], entry.amount, data["priority"], data["expires_ms"], data["note"]]
        digest = records.digest("grant", records.json(content))
        grant = self.grants.get(grants[0])
        if grant is None:  # debt took all of it
            return f"1 {UNTOLD} []"
        return f"1 {digest} " + orjson.dumps(["granted", [grants[0], grant.record, str(grant.left)]]).decode()


def months_done(rebuilt: Rebuilt, facts: Mapping[str, str]) -> dict[str, str]:
    """What is done by calendar month, where the entries know more than what was stored beside them."""
    commitment = commitments.read(facts.get("commitment", ""))
    while commitment.closing and commitment.closing <= rebuilt.closed:
        commitment = commitments.closed(commitment)
    found = {"granted": max(facts.get("granted", ""), rebuilt.granted), "commitment": commitments.written(commitment)}
    return {name: text for name, text in found.items() if text or name in facts}


def volume_hashes(
    rebuilt: Rebuilt, stored: Mapping[str, Mapping[str, str]], since_month: str
) -> dict[str, dict[str, str]]:
    """The volumes of months, from that month on: as they were stored, and not less than charges took."""
    found = {month: dict(volumes) for month, volumes in stored.items()}
    for (month, sku), volume in rebuilt.entered.volumes.items():
        if month >= since_month:
            of_month = found.setdefault(month, {})
            of_month[sku] = str(max(volume, int(of_month.get(sku, "0"))))
    return found


def usage_hashes(rebuilt: Rebuilt, since_month: str) -> dict[str, dict[str, str]]:
    """The counters of usage by month, from that month on."""
    found: dict[str, dict[str, str]] = {}
    for (day, product, key_id), charged in rebuilt.entered.usage.items():
        month = day[:7]
        if month >= since_month:
            line = SEPARATOR.join((day[8:], product, key_id))
            calls = rebuilt.calls[day, product, key_id]
            found.setdefault(month, {}).update({line: str(charged), f"{line}{SEPARATOR}n": str(calls)})
    return found


def stream_fields(entry: Entry) -> list[Any]:
    """An entry as the stream has it: what was joined when it was read is told apart again."""
    data = {name: value for name, value in entry.data.items() if name not in {"grants", "debt", "late"}}
    moved = ",".join(f"{grant_id}:{amount}" for grant_id, amount in entry.data.get("grants", {}).items())
    return [
        *("v", "1", "kind", entry.kind, "amount", str(entry.amount), "balance", str(entry.balance)),
        *("operation", entry.operation, "at", str(entry.at_ms), "grants", moved),
        *("debt", str(entry.data.get("debt", 0)), "late", "1" if entry.data.get("late") else ""),
        *("data", orjson.dumps(data)),
    ]
