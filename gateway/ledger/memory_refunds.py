"""The ledger in memory: charges that are given back.

Owns: the meaning of that verb. Does not know: why something is given back.
"""

from collections.abc import Mapping
from typing import Any

from gateway.core.errors import LedgerRefused
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ledger import rules
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import Grant, Receipt


class MemoryRefunds(MemoryStore):
    """See ports.Ledger."""

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
        given = left if amount is None else amount
        if left <= 0 or given > left:
            raise LedgerRefused(rules.refunded_already(left))
        if books.balance + given > BALANCE_MAX:
            raise LedgerRefused(rules.TOO_MUCH)
        books.count(charge.data["key_id"], -given, now)
        back = Nanos(given)
        grant = Grant(id="", kind="correction", amount=back, remaining=back, priority=rules.CORRECTION_PRIORITY)
        _, entry = books.give(now, operation, grant, rules.refund_data(charge, data), why="correction")
        return books.done(operation, content, Receipt(entry_id=entry.id, charged=Nanos(-given), balance=entry.balance))
