"""Submits jobs that waited for their place, account by account, each account's in their order.

Owns: how many are submitted at once. Whose turn it is stands in the ledger, claimed with a lease: any number of workers
share the work, and what a killed one had claimed is submitted by another after the lease. So a job may reach an
upstream twice, and is charged once: by its hold. Whoever lives begins none that it could not end within its lease.
Does not know: what a submission does (pipeline/queueing), but that it takes no more than half of a lease.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Final

from gateway.core.errors import LedgerUnavailable
from gateway.ports import Clock, Ledger, Observer, QueuedJob

TOGETHER_MAX: Final = 50
#: Between jobs that are given back, so that they keep their order, in seconds.
_APART_SECONDS: Final = 0.001


class Submissions:
    """Submits a few each round. `limits` are the places of each class by tier, `when_negative` those without credit."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        submit: Callable[[QueuedJob], Awaitable[None]],
        limits: Mapping[tuple[str, str], int],
        when_negative: Mapping[tuple[str, str], int],
        lease_seconds: float,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._submit = submit
        self._limits = limits
        self._when_negative = when_negative
        self._lease_seconds = lease_seconds
        self._observer = observer
        self._clock = clock
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Submissions under_way={self._under_way}>"

    def __len__(self) -> int:
        """Submissions under way."""
        return self._under_way

    async def round(self) -> None:
        """Claim those whose turn it is, as many as may be submitted now, and begin."""
        free = TOGETHER_MAX - self._under_way
        if not free:
            return
        late_at = self._clock.monotonic() + self._lease_seconds / 2
        claimed = await self._ledger.claim_queued(
            limit=free, lease_seconds=self._lease_seconds, limits=self._limits, when_negative=self._when_negative
        )
        for _, jobs in groupby(claimed, key=attrgetter("account")):
            turns = list(jobs)
            self._under_way += len(turns)
            task = asyncio.create_task(self._one_after_the_other(turns, late_at))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one_after_the_other(self, turns: list[QueuedJob], late_at: float) -> None:
        for done, job in enumerate(turns):
            try:
                if self._clock.monotonic() < late_at:
                    await self._submit(job)
                else:  # its lease may end before its submission: it is given back
                    seconds = done * _APART_SECONDS
                    await self._ledger.submit_later(account=job.account, ref=job.record.ref, seconds=seconds)
            except LedgerUnavailable:
                self._observer.event("ledger_error", product=job.record.product)
            except Exception as error:  # noqa: BLE001 - one job's fault must not end the others' submissions
                self._observer.event("submission_failed", product=job.record.product, error=type(error).__name__)
            except asyncio.CancelledError:
                self._under_way -= len(turns) - done
                raise
            self._under_way -= 1

    async def close(self) -> None:
        """End the submissions under way. They are claimed again after their lease."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
