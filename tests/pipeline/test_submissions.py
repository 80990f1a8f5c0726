"""The loop that submits jobs that waited: what it claimed and cannot begin in time is another's."""

import asyncio

from gateway.ports import QueuedJob
from gateway.workers.submissions import Submissions
from tests.ledger.ledgers import MemoryWorld, opened
from tests.ledger.test_queues import take
from tests.pipeline.helpers import until
from tests.review.test_faults import Told

LEASE_SECONDS = 30


class Workers:
    """Two workers of one ledger, whose time is the tests'. A submission takes nearly half a lease."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self.begun: list[str] = []
        self.first, self.second = self._worker(), self._worker()

    def _worker(self) -> Submissions:
        return Submissions(
            ledger=self.world.ledger, submit=self.submit, limits={("jobs", "free"): 9}, when_negative={},
            lease_seconds=LEASE_SECONDS, observer=Told(), clock=self,
        )  # fmt: skip

    def now(self) -> float:
        """The time, which is also the store's."""
        return self.world.now / 1000

    monotonic = now

    async def submit(self, job: QueuedJob) -> None:
        """Submit one; the other worker looks for jobs before the service has answered."""
        ref = job.record.ref
        self.begun.append(ref.id)
        await self.world.advance(LEASE_SECONDS / 2 - 1)
        await self.second.round()
        await asyncio.sleep(0)
        await self.world.ledger.submitted(
            account=job.account, ref=ref, hold_id=job.record.hold, upstream=f"up-{ref.id}", look_seconds=1
        )

    async def idle(self) -> bool:
        """Whether nothing is under way."""
        return not (len(self.first) or len(self.second))


async def test_a_slow_service_gets_no_job_twice_from_those_who_live() -> None:
    """Three turns of one account at once, and each takes so long that the last would begin at the end of its lease."""
    world = MemoryWorld()
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d", "e")
    workers = Workers(world)
    for _ in range(2):
        await workers.first.round()
        assert await until(workers.idle)
        await world.advance(1)
    assert workers.begun == ["ours-c", "ours-d", "ours-e"]
    assert [job.record.state for job in await ledger.jobs("acme")] == ["open"] * 3
