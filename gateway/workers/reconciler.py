"""The reconciler: follows every open job from the store, whether or not anybody asks for it.

Owns: how many jobs are looked at, how fast and how many at once for each upstream, and that what was begun is ended.
What is due stands in the ledger, claimed with a lease: any number of workers on any number of machines share the
work, and what a killed one had claimed is another's after the lease.
Does not know: what a look does (pipeline/follow), or when a job is due (the ledger).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from math import inf
from typing import Final

from gateway.core.errors import LedgerUnavailable
from gateway.ports import Clock, FollowedJob, Ledger, Observer

#: A job whose upstream is asked enough already comes back so soon, in seconds.
_BACK_SECONDS: Final = 2.0
#: Claims of one round, and the wait for a look to end between two of them, in seconds.
_CLAIMS_MAX: Final = 10
_WAIT_SECONDS_MAX: Final = 0.1


@dataclass(slots=True)
class Lane:
    """The looks at one upstream: at most `together_max` at once, and `per_second_max` each second."""

    together_max: int
    per_second_max: float
    under_way: int = 0
    credit: float = inf  # looks that may begin
    refilled: float = 0.0

    def refill(self, now: float) -> None:
        """Let as many looks come as the time since the last refill allows, a second's worth at most."""
        gained = (now - self.refilled) * self.per_second_max if self.refilled else 0.0
        self.credit = min(self.credit + gained, max(1.0, self.per_second_max))
        self.refilled = now

    @property
    def free(self) -> int:
        """How many looks may begin now."""
        return max(0, min(self.together_max - self.under_way, int(self.credit)))

    def begin(self) -> None:
        """A look begins."""
        self.under_way += 1
        self.credit -= 1

    def end(self) -> None:
        """A look is over."""
        self.under_way -= 1


class Reconciler:
    """Looks at jobs, a few each round. `lane_of` says at which lane's upstream a job is asked for."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        follow: Callable[[FollowedJob], Awaitable[None]],
        lanes: Collection[Lane],
        lane_of: Callable[[FollowedJob], Lane],
        lease_seconds: float,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._follow = follow
        self._lanes = lanes
        self._lane_of = lane_of
        self._lease_seconds = lease_seconds
        self._observer = observer
        self._clock = clock
        self._looks: set[asyncio.Task[None]] = set()
        self.lag_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Reconciler looks={len(self._looks)} lag_seconds={self.lag_seconds:.1f}>"

    def __len__(self) -> int:
        """Looks under way."""
        return len(self._looks)

    async def round(self) -> None:
        """Claim what is due, as much as may be looked at now, and begin to look; again while there is more of it."""
        self.lag_seconds = 0.0
        for _ in range(_CLAIMS_MAX):
            limit = self._free()
            if not limit or await self._begin(limit) < limit:
                return
            if self._looks:  # a place may be free soon
                await asyncio.wait(self._looks, timeout=_WAIT_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)

    def _free(self) -> int:
        """How many looks may begin now."""
        now = self._clock.monotonic()
        for lane in self._lanes:
            lane.refill(now)
        return sum(lane.free for lane in self._lanes)

    async def _begin(self, limit: int) -> int:
        claimed = await self._ledger.claim_jobs(limit=limit, lease_seconds=self._lease_seconds)
        for job in claimed:
            self.lag_seconds = max(self.lag_seconds, (job.now_ms - job.look_ms) / 1000)
            lane = self._lane_of(job)
            if lane.free:
                lane.begin()
                task = asyncio.create_task(self._look(job, lane))
                self._looks.add(task)
                task.add_done_callback(self._looks.discard)
            else:
                await self._ledger.look_later(account=job.account, ref=job.record.ref, seconds=_BACK_SECONDS)
        return len(claimed)

    async def _look(self, job: FollowedJob, lane: Lane) -> None:
        try:
            await self._follow(job)
        except LedgerUnavailable:
            self._observer.event("ledger_error", product=job.record.product)
        except Exception as error:  # noqa: BLE001 - one job's fault must not end the others' looks
            self._observer.event("look_failed", product=job.record.product, error=type(error).__name__)
        finally:
            lane.end()

    async def close(self) -> None:
        """End the looks under way. What they were about to write is written by who looks next: it has an id."""
        for task in self._looks:
            task.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)
