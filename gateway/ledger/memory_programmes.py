"""The ledger in memory: what is done by calendar month.

Owns: the meaning of those verbs. Does not know: plans.
"""

from gateway.core import monthly
from gateway.core.errors import LedgerRefused
from gateway.core.money import BALANCE_MAX
from gateway.core.monthly import MonthlyGrant
from gateway.core.months import month_of
from gateway.ledger import rules
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
        books.give(now, operation, given, rules.monthly_data(month, expires_ms))
        books.done(operation, month, month)
        return True
