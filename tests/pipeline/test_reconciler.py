"""The loop that follows jobs: its bounds for each upstream, its faults, its end."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from gateway.core.errors import LedgerUnavailable
from gateway.ledger.memory import MemoryLedger
from gateway.ports import FollowedJob, Ledger, Plan, Resource, ResourceRef
from gateway.workers.reconciler import Lane, Reconciler


class Scene:
    """Jobs of some kinds, each with an upstream of its own, a time that only tests move, and looks that are noted.

    A look at a job of a kind in `stuck` does not end; one of a kind in `faults` raises.
    """

    def __init__(self, **lanes: Lane) -> None:
        self.seconds = 1000.0
        self.looks: Counter[str] = Counter()
        self.events: list[str] = []
        self.stuck: set[str] = set()
        self.faults: dict[str, Exception] = {}
        self.ledger: Ledger = MemoryLedger(lambda: int(self.seconds * 1000))
        self.reconciler = Reconciler(
            ledger=self.ledger,
            follow=self.follow,
            lanes=[*lanes.values()],
            lane_of=lambda job: lanes[job.record.ref.kind],
            lease_seconds=60,
            observer=self,
            clock=self,
        )

    async def follow(self, job: FollowedJob) -> None:
        """One look: the job is over."""
        ref = job.record.ref
        self.looks[ref.kind] += 1
        if ref.kind in self.stuck:
            await asyncio.sleep(3600)
        if ref.kind in self.faults:
            raise self.faults[ref.kind]
        await self.ledger.give_up(account=job.account, ref=ref, hold_id=job.record.hold)

    def now(self) -> float:
        """The time, which is also the store's."""
        return self.seconds

    monotonic = now

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """Remember it."""
        self.events.append(name)

    def call_finished(self, record: Any) -> None:
        """Nobody calls here."""

    session_finished = job_looked = queue_left = delivery_tried = payment_told = export_tried = call_finished

    async def accept(self, **counts: int) -> None:
        """So many open jobs of each kind, all due."""
        await self.ledger.open_account(operation="open", account="a", plan=Plan(tier="free"))
        for kind, count in counts.items():
            for number in range(count):
                ref = ResourceRef(kind=kind, id=str(number))
                job = Resource(ref=ref, state="open", product=kind, hold=f"{kind}-{number}")
                await self.ledger.accept(account="a", resource=job, deadline_seconds=9000, keep_seconds=0)

    async def rounds(self, count: int) -> None:
        """Rounds of the loop, half a second apart."""
        for _ in range(count):
            await self.reconciler.round()
            await asyncio.sleep(0.01)
            self.seconds += 0.5


async def test_everything_due_is_looked_at() -> None:
    """More than one claim takes, in one round where the bounds allow it."""
    scene = Scene(one=Lane(together_max=5, per_second_max=1000))
    await scene.accept(one=23)
    await scene.rounds(1)
    assert scene.looks == {"one": 23}
    assert len(scene.reconciler) == 0
    assert not await scene.ledger.jobs("a")


async def test_so_many_looks_in_a_second() -> None:
    """A second's worth at once, and then as many as the time allows."""
    scene = Scene(one=Lane(together_max=100, per_second_max=10))
    await scene.accept(one=60)
    await scene.rounds(1)
    assert scene.looks == {"one": 10}
    await scene.rounds(8)
    assert scene.looks == {"one": 50}


async def test_an_upstream_that_hangs_holds_up_nobody_else() -> None:
    """At most so many of its looks are under way; the jobs of the other one get their turn, however many wait first."""
    scene = Scene(slow=Lane(together_max=3, per_second_max=1000), fast=Lane(together_max=4, per_second_max=1000))
    scene.stuck.add("slow")
    await scene.accept(slow=50, fast=10)
    await scene.rounds(6)
    assert scene.looks == {"slow": 3, "fast": 10}
    assert len(scene.reconciler) == 3
    await scene.reconciler.close()
    assert len(scene.reconciler) == 0


async def test_a_look_that_fails_is_told_and_done_again() -> None:
    """A fault of ours, or a ledger that is away: the others go on, the job is due again after its lease."""
    scene = Scene(one=Lane(together_max=5, per_second_max=1000), other=Lane(together_max=5, per_second_max=1000))
    scene.faults |= {"one": ValueError("x"), "other": LedgerUnavailable("y")}
    await scene.accept(one=2, other=1)
    await scene.rounds(3)
    assert scene.looks == {"one": 2, "other": 1}
    assert Counter(scene.events) == {"look_failed": 2, "ledger_error": 1}
    scene.faults.clear()
    scene.seconds += 60
    await scene.rounds(1)
    assert scene.looks == {"one": 4, "other": 2}
    assert not await scene.ledger.jobs("a")


async def test_how_late_looks_are_is_measured() -> None:
    """The lag is that of the job which waited longest; with nothing due there is none."""
    scene = Scene(one=Lane(together_max=5, per_second_max=1000))
    await scene.accept(one=1)
    scene.seconds += 7
    await scene.rounds(1)
    assert scene.reconciler.lag_seconds == pytest.approx(7)
    await scene.rounds(1)
    assert scene.reconciler.lag_seconds == 0


async def test_where_no_product_has_jobs_nothing_is_asked() -> None:
    """Without an upstream there is no look."""
    scene = Scene()
    await scene.rounds(1)
    assert len(scene.reconciler) == 0
