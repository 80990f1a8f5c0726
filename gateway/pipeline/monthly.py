"""Monthly grants, given: to whoever is refused for want of one at once, to the others as they are visited.

Owns: when the ledger is asked to give one; an account that is refused all the time asks once a month.
Does not know: who visits accounts (workers/sweeper), how a grant is given once (the ledger).
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from gateway.core.errors import LedgerRefused
from gateway.core.monthly import expires_ms
from gateway.core.months import month_of
from gateway.ports import Clock, Ledger, Monthly, Observer, Plan
from gateway.settings.overriding import tier_of
from gateway.settings.plans import Tier

_KNOWN_MAX: Final = 100_000


class MonthlyGrants:
    """Gives what plans give each calendar month."""

    def __init__(self, *, tiers: Mapping[str, Tier], ledger: Ledger, observer: Observer, clock: Clock) -> None:
        self._tiers = tiers
        self._ledger = ledger
        self._observer = observer
        self._clock = clock
        self._known: OrderedDict[str, str] = OrderedDict()  # by account: the last month that had its grant

    async def visit(self, account: str, monthly: Monthly) -> None:
        """Give this month's, if it is due."""
        if monthly.granted < monthly.now:
            await self.give(account, monthly.plan)

    async def give(self, account: str, plan: Plan) -> bool:
        """Give this month's, unless that is known to be given: whether the account may have more credit than before."""
        tier = tier_of(self._tiers, plan)
        if tier is None or tier.monthly_grant is None:
            return False
        now_ms = int(self._clock.now() * 1000)
        month, grant = month_of(now_ms), tier.monthly_grant
        if self._known.get(account, "") >= month:
            return False
        try:
            given = await self._ledger.grant_monthly(
                account=account, plan=plan, month=month, grant=grant, expires_ms=expires_ms(grant, now_ms)
            )
        except LedgerRefused:
            self._observer.event("monthly_grant_refused")
            return False
        if given:
            self._known[account] = month
            if len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        return given
