"""The ledger on Redis: what is done by calendar month.

Owns: the arguments and answers of those verbs. Does not know: plans.
"""

from gateway.core import monthly
from gateway.core.errors import LedgerRefused
from gateway.core.money import BALANCE_MAX
from gateway.core.monthly import MonthlyGrant
from gateway.ledger import records, rules
from gateway.ledger.connection import Part
from gateway.ledger.store import Store
from gateway.ports import Plan


class Programmes(Store):
    """See ports.Ledger."""

    async def grant_monthly(
        self, *, account: str, plan: Plan, month: str, grant: MonthlyGrant, expires_ms: int
    ) -> bool:
        """See ports.Ledger."""
        rules.check_grant(grant.amount, monthly.PRIORITY, expires_ms)
        data = records.json(rules.monthly_data(month, expires_ms))
        args: list[Part] = [plan.tier, plan.rate_card, plan.overrides, month, monthly.operation_of(month)]
        args += [str(grant.amount), str(monthly.PRIORITY), str(expires_ms), data, str(BALANCE_MAX)]
        tag, _ = await self._run("grant_monthly", account, [], args)
        if tag == b"too_much":
            raise LedgerRefused(rules.TOO_MUCH)
        return tag == b"given"
