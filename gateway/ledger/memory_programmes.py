"""The ledger in memory: what is done by calendar month.

Owns: the meaning of those verbs. Does not know: plans.
"""

from gateway.core import commitments, monthly
from gateway.core.commitments import Commitment
from gateway.core.errors import LedgerRefused
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.months import month_of
from gateway.ledger import entry_data, rules
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import Grant, Plan


class MemoryProgrammes(MemoryStore):
    """See ports.Ledger."""

    async def grant_monthly(
        self, *, account: str, plan: Plan, month: str, grant: MonthlyGrant, expires_ms: int
    ) -> bool:
        """See ports.Ledger."""
        rules.check_grant(grant.amount, monthly.PRIORITY, expires_ms)
        books, now = self._at(account)
        if books.granted >= month:
            return True
        if month != month_of(now) or plan != books.plan or expires_ms <= now:
            return False
        if books.balance + grant.amount > BALANCE_MAX:
            raise LedgerRefused(rules.TOO_MUCH)
        books.granted = month
        given = Grant(
            id="", kind="monthly", amount=grant.amount, remaining=grant.amount, priority=monthly.PRIORITY,
            expires_ms=expires_ms,
        )  # fmt: skip
        operation = monthly.operation_of(month)
        books.give(now, operation, given, entry_data.monthly_data(month, expires_ms))
        books.done(operation, month, month)
        return True

    async def commitment(self, account: str) -> Commitment:
        """See ports.Ledger."""
        books, _ = self._at(account)
        return books.commitment

    async def commit(self, *, operation: str, account: str, month: str, amount: Nanos) -> Commitment:
        """See ports.Ledger."""
        rules.check_commitment(month, amount)
        books, now = self._at(account)
        content = ("commit", month, amount)
        first: Commitment | None = books.seen(operation, content)
        if first is not None:
            return first
        if month < month_of(now):
            raise LedgerRefused(rules.MONTH_OVER)
        becomes = commitments.changed(books.commitment, month, amount)
        rules.check_changes_of(becomes)
        books.commitment = becomes
        return books.done(operation, content, becomes)

    async def close_month(self, *, account: str, commitment: Commitment, charged: Nanos) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        month, closing = commitment.closing, books.commitment.closing
        if not closing or closing > month:
            return True
        if commitment != books.commitment or month >= month_of(now):
            return False
        books.commitment = commitments.closed(commitment)
        data = entry_data.commitment_data(commitment, charged)
        if missing := entry_data.missing_of(data):
            entry = books.write(
                now, "commitment", -missing, commitments.operation_of(month), data | books.burn(missing)
            )
            books.look(now, moved=entry.data["grants"])
        books.done(commitments.operation_of(month), month, month)
        return True
