"""The sweeper: ends what is over by the store's clock, for accounts that make no calls themselves.

Owns: the walk over all accounts, a few of them each round. An account that calls is swept by its own admissions.
Does not know: what expiry means; the ledger does. One process sweeps for all; that two do for a moment, when one was
thought lost, harms nobody.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from gateway.ports import Ledger, Monthly, Observer

#: The sweeper's work, by the name of its lease.
_WORK: Final = "sweep"
#: For so many rounds nobody else sweeps, within these bounds: a lost process must not be waited for.
_LEASE_ROUNDS: Final = 3
_LEASE_SECONDS_MIN: Final = 1.0
_LEASE_SECONDS_MAX: Final = 60.0
#: What is done of an account by calendar month, once it is swept.
Visit = Callable[[str, Monthly], Awaitable[None]]


class Sweeper:
    """Sweeps `accounts_max` accounts a round, going round and round, and has each of them visited."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        observer: Observer,
        accounts_max: int,
        round_seconds: float,
        visits: Sequence[Visit] = (),
    ) -> None:
        self._ledger = ledger
        self._observer = observer
        self._accounts_max = accounts_max
        self._lease_seconds = min(max(_LEASE_ROUNDS * round_seconds, _LEASE_SECONDS_MIN), _LEASE_SECONDS_MAX)
        self._visits = visits
        self._walk: AsyncIterator[str] | None = None

    async def round(self) -> None:
        """Sweep the next accounts, if this process is the one to do it; the end of the walk ends the round."""
        if not await self._ledger.lease_work(work=_WORK, seconds=self._lease_seconds):
            return
        walk = self._walk = self._walk or self._ledger.accounts()
        batch: list[str] = []
        try:
            async for account in walk:
                batch.append(account)
                if len(batch) >= self._accounts_max:
                    break
            else:
                self._walk = None
        except Exception:
            self._walk = None  # an iterator that raised is over: the next round starts a new walk
            raise
        every = await asyncio.gather(*(self._sweep(account) for account in batch), return_exceptions=True)
        for fault in filter(None, every):
            raise fault  # the loop tells of it; the others are swept and visited

    async def _sweep(self, account: str) -> None:
        swept = await self._ledger.sweep(account)
        if swept.grants:  # the ledger itself tells of the holds that it ends, here and elsewhere
            self._observer.event("grant_expired", value=swept.grants)
        if swept.monthly is not None:
            for visit in self._visits:
                await visit(account, swept.monthly)
