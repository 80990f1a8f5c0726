"""The sweeper: ends what is over by the store's clock, for accounts that make no calls themselves.

Owns: the walk over all accounts, a few of them each round. An account that calls is swept by its own admissions.
Does not know: what expiry means; the ledger does.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from gateway.ports import Ledger, Monthly, Observer

#: What is done of an account by calendar month, once it is swept.
Visit = Callable[[str, Monthly], Awaitable[None]]


class Sweeper:
    """Sweeps `accounts_max` accounts a round, going round and round, and has each of them visited."""

    def __init__(self, *, ledger: Ledger, observer: Observer, accounts_max: int, visits: Sequence[Visit] = ()) -> None:
        self._ledger = ledger
        self._observer = observer
        self._accounts_max = accounts_max
        self._visits = visits
        self._walk: AsyncIterator[str] | None = None

    async def round(self) -> None:
        """Sweep the next accounts; the end of the walk ends the round."""
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
        every = await asyncio.gather(*(self._ledger.sweep(account) for account in batch))
        for account, swept in zip(batch, every, strict=True):
            if swept.grants:  # the ledger itself tells of the holds that it ends, here and elsewhere
                self._observer.event("grant_expired", value=swept.grants)
            if swept.monthly is not None:
                for visit in self._visits:
                    await visit(account, swept.monthly)
