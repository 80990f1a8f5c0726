"""The ledger in memory: charges that are corrected, and given back.

Owns: the meaning of these verbs. Does not know: why.
"""

from collections.abc import Mapping
from typing import Any

from gateway.core.errors import LedgerRefused
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ledger import entry_data, rules
from gateway.ledger.memory_books import Books
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import Grant, Receipt


class MemoryRefunds(MemoryStore):
    """See ports.Ledger."""

    async def correct(
        self, *, operation: str, account: str, key_id: str, amount: Nanos, data: Mapping[str, Any], of_call: str = ""
    ) -> Receipt:
        """See ports.Ledger."""
        rules.check_correction(amount)
        books, now = self._at(account)
        explained = {**data, "key_id": key_id}
        content = ("correct", amount, explained)
        first: Receipt | None = books.seen(operation, content)
        if first is not None:
            return first
        if of_call:
            left = _left(books, of_call)
            if left is None:
                raise LedgerRefused(rules.no_charge_of(of_call))
            if amount > max(0, left):
                raise LedgerRefused(rules.left_of(of_call, left))
        if books.balance + amount > BALANCE_MAX:
            raise LedgerRefused(rules.TOO_MUCH)
        books.count(key_id, -amount, now)
        if amount > 0:
            given = Grant(id="", kind="correction", amount=amount, remaining=amount, priority=rules.CORRECTION_PRIORITY)
            _, entry = books.give(now, operation, given, explained, why="correction", back=True)
        else:
            entry = books.write(now, "correction", amount, operation, explained | books.burn(-amount))
            books.watch_charge(now, entry, key_id)
        receipt = Receipt(entry_id=entry.id, charged=Nanos(-amount), balance=entry.balance)
        return books.done(operation, content, receipt)

    async def refund(
        self, *, operation: str, account: str, entry_id: str, amount: Nanos | None, data: Mapping[str, Any]
    ) -> Receipt:
        """See ports.Ledger."""
        rules.check_refund(amount)
        rules.check_entry_id(entry_id)
        books, now = self._at(account)
        charge = rules.charge_of([entry for entry in books.entries if entry.id == entry_id], entry_id)
        content = ("refund", entry_id, amount, {**data})
        first: Receipt | None = books.seen(operation, content)
        if first is not None:
            return first
        left = -charge.amount - sum(entry.amount for entry in books.entries if entry.data.get("refunds") == entry_id)
        left = max(0, min(left, _left(books, charge.data["call_id"]) or 0))
        given = left if amount is None else amount
        if left <= 0 or given > left:
            raise LedgerRefused(rules.refunded_already(left))
        if books.balance + given > BALANCE_MAX:
            raise LedgerRefused(rules.TOO_MUCH)
        books.count(charge.data["key_id"], -given, now)
        back = Nanos(given)
        grant = Grant(id="", kind="correction", amount=back, remaining=back, priority=rules.CORRECTION_PRIORITY)
        facts = entry_data.refund_data(charge, data)
        _, entry = books.give(now, operation, grant, facts, why="correction", back=True)
        return books.done(operation, content, Receipt(entry_id=entry.id, charged=Nanos(-given), balance=entry.balance))


def _left(books: Books, call_id: str) -> int | None:
    """What is left of a call's charges after all that was corrected; None where there is none."""
    found = [entry for entry in books.entries[books.trimmed :] if entry_data.is_of_call(entry, call_id)]
    while found and found[0].kind != "charge":
        del found[0]
    return -sum(entry.amount for entry in found) if found else None
