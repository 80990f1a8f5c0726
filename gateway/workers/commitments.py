"""Commitments: closes months that are over, and has what they were short of charged.

Owns: what is read before a month is closed. Does not know: who visits accounts (workers/sweeper), what a month is short
of (core.commitments), how it is charged once (the ledger).

What was charged in a month that is over never changes, so that it does not matter who reads it, how often and when.
"""

from typing import Final

from gateway.core.money import Nanos
from gateway.core.months import following
from gateway.ports import Ledger, Monthly, Observer

#: Months of one visit: those of a gateway that was off for long are closed one after the other.
_MONTHS_MAX: Final = 24


class Commitments:
    """Closes the months of accounts that commit to something."""

    def __init__(self, *, ledger: Ledger, observer: Observer) -> None:
        self._ledger = ledger
        self._observer = observer

    async def visit(self, account: str, monthly: Monthly) -> None:
        """Close every month that is over."""
        if not monthly.closing or monthly.closing >= monthly.now:
            return
        for _ in range(_MONTHS_MAX):
            commitment = await self._ledger.commitment(account)
            month = commitment.closing
            if not month or month >= monthly.now:
                return
            days = await self._ledger.usage(account, since=f"{month}-01", until=f"{following(month)}-01")
            charged = Nanos(sum(day.charged for day in days))
            if not await self._ledger.close_month(account=account, commitment=commitment, charged=charged):
                return  # somebody changed it just now: the next visit looks again
            self._observer.event("month_closed")
