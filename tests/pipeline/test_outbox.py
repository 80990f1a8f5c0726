"""The outbox: what is due is carried by its channel's courier, tried again by its pauses, and given up in the end."""

import asyncio
from collections.abc import Sequence
from typing import Any

from gateway.core.errors import LedgerUnavailable
from gateway.edge.clock import SystemClock
from gateway.ledger.memory import MemoryLedger
from gateway.ports import Dead, Delivered, Delivery, DeliveryTried, Plan, Retry
from gateway.workers.outbox import ACCOUNT_MAX, TOGETHER_MAX, Outbox, decide


class Carrier:
    """A courier that does what it was told for each delivery, in turn, and remembers the order."""

    def __init__(self, *outcomes: Delivered | Retry | Dead | Exception) -> None:
        self.pauses: Sequence[float] = (5.0, 30.0)
        self.outcomes = list(outcomes)
        self.came: list[str] = []
        self.open = self.most_open = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, delivery: Delivery) -> Delivered | Retry | Dead:
        """The next outcome; once there are no more, everything arrives."""
        self.came.append(delivery.id)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await self.gate.wait()
        self.open -= 1
        outcome = self.outcomes.pop(0) if self.outcomes else Delivered()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Stage:
    """An outbox on a ledger in memory whose time the test moves, observed."""

    def __init__(self, **couriers: Carrier) -> None:
        self.now = 1_795_435_200_000
        self.ledger = MemoryLedger(lambda: self.now)
        self.outbox = self.worker(**couriers)
        self.tried: list[DeliveryTried] = []
        self.events: list[str] = []

    def worker(self, lease_seconds: float = 60.0, /, **couriers: Carrier) -> Outbox:
        """One more outbox on the same ledger."""
        return Outbox(
            ledger=self.ledger, couriers=couriers, observer=self, clock=SystemClock(), lease_seconds=lease_seconds
        )

    def call_finished(self, record: Any) -> None:
        """Nobody calls here."""

    session_finished = job_looked = queue_left = payment_told = export_tried = call_finished

    def delivery_tried(self, record: DeliveryTried) -> None:
        """Remember it."""
        self.tried.append(record)

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """Remember it."""
        self.events.append(name)

    async def post(self, *names: str, account: str = "a", channel: str = "hook") -> None:
        """Deliveries that are due."""
        await self.ledger.open_account(operation="open", account=account, plan=Plan(tier="free"))
        for name in names:
            await self.ledger.post(account=account, delivery_id=name, channel=channel, payload={})

    async def turn(self, seconds: float = 0.0, *workers: Outbox) -> None:
        """Let time pass, then a round of each worker and all that it began."""
        self.now += round(seconds * 1000)
        for worker in workers or (self.outbox,):
            await worker.round()
            await asyncio.gather(*worker._attempts)

    @property
    def outcomes(self) -> list[str]:
        """What became of the attempts."""
        return [record.outcome for record in self.tried]


def test_what_becomes_of_an_attempt_is_decided_by_its_outcome_and_the_pauses() -> None:
    """The courier's own time goes before the pauses; when they are used up, the delivery is given up."""
    assert decide(Delivered(), 5, ()) == Delivered()
    assert decide(Dead(why="x"), 0, (5.0,)) == Dead(why="x")
    assert decide(Retry(why="x"), 1, (5.0, 30.0)) == Retry(why="x", seconds=30.0)
    assert decide(Retry(why="x", seconds=0.0), 0, (5.0,)) == Retry(why="x", seconds=0.0)
    assert decide(Retry(why="x", seconds=1.0), 1, (5.0,)) == Dead(why="x")


async def test_a_delivery_is_tried_until_it_arrives() -> None:
    """With the pauses between, a fault of the courier counting as an attempt, told by its class alone."""
    carrier = Carrier(Retry(why="answered 500"), ValueError("a secret"), Delivered())
    stage = Stage(hook=carrier)
    await stage.post("d")
    await stage.turn()
    await stage.turn(3)
    assert carrier.came == ["d"]
    await stage.turn(4)
    (waits,) = await stage.ledger.deliveries("a")
    assert (waits.attempts, waits.why) == (2, "ValueError")
    await stage.turn(40)
    assert stage.outcomes == ["retry", "retry", "delivered"]
    assert stage.events == ["courier_failed"]
    assert await stage.ledger.deliveries("a") == []


async def test_a_delivery_that_never_arrives_is_a_dead_letter_that_can_be_revived() -> None:
    """After the last pause, or at once where the courier says so; revived, it goes through all of it again."""
    carrier = Carrier(*[Retry(why="answered 500")] * 3, Dead(why="no such address"))
    stage = Stage(hook=carrier)
    await stage.post("d")
    for _ in range(5):
        await stage.turn(60)
    (dead,) = await stage.ledger.deliveries("a", dead=True)
    assert (dead.attempts, dead.why, len(carrier.came)) == (3, "answered 500", 3)
    await stage.ledger.revive(account="a", delivery_id="d")
    await stage.turn()
    (dead,) = await stage.ledger.deliveries("a", dead=True)
    assert (dead.attempts, dead.why) == (1, "no such address")
    assert stage.outcomes == ["retry", "retry", "dead", "dead"]


async def test_a_channel_without_a_courier_is_left_alone_and_told() -> None:
    """Another version's deliveries wait, uncounted, until a process with a courier for them comes."""
    stage = Stage()
    await stage.post("d")
    await stage.turn()
    (waits,) = await stage.ledger.deliveries("a")
    assert (stage.outcomes, waits.attempts) == (["left"], 0)
    carrier = Carrier()
    await stage.turn(301, stage.worker(hook=carrier))
    assert carrier.came == ["d"]


async def test_a_slow_target_takes_no_more_than_its_places() -> None:
    """An account has a few attempts under way, and the next account's deliveries go on beside them."""
    slow, quick = Carrier(), Carrier()
    slow.gate.clear()
    stage = Stage(slow=slow, quick=quick)
    await stage.post(*[f"s-{number:02}" for number in range(TOGETHER_MAX + 9)], channel="slow")
    await stage.post("q", account="b", channel="quick")
    await stage.outbox.round()
    await asyncio.sleep(0)
    assert (slow.open, quick.came) == (ACCOUNT_MAX, ["q"])
    assert all(waits.attempts == 0 for waits in await stage.ledger.deliveries("a")), "the others were not touched"
    slow.gate.set()
    for _ in range(20):
        await stage.turn(2)
    assert len(set(slow.came)) == len(slow.came) == TOGETHER_MAX + 9
    assert slow.most_open < 2 * ACCOUNT_MAX


async def test_two_workers_make_each_delivery_once_and_a_killed_one_is_replaced() -> None:
    """Within the lease a delivery is one worker's; what a killed one had under way is made again after the lease."""
    carrier = Carrier()
    stage = Stage(hook=carrier)
    other = stage.worker(hook=carrier)
    await stage.post("a", "b", "c")
    carrier.gate.clear()
    await stage.outbox.round()
    await other.round()
    await asyncio.sleep(0)
    assert sorted(carrier.came) == ["a", "b", "c"]
    await stage.outbox.close()
    carrier.gate.set()
    await stage.turn(59, other)
    assert len(carrier.came) == 3
    await stage.turn(2, other)
    assert sorted(carrier.came) == ["a", "a", "b", "b", "c", "c"]
    assert await stage.ledger.deliveries("a") == []


async def test_what_arrived_while_the_ledger_was_away_is_delivered_again() -> None:
    """At least once: the receiver tells a repeat by its id."""
    carrier = Carrier()
    stage = Stage(hook=carrier)
    await stage.post("d")

    class Away(MemoryLedger):
        """Claims, and then does not answer."""

        claim_deliveries = stage.ledger.claim_deliveries

        async def delivered(self, **_: Any) -> None:
            raise LedgerUnavailable("away")

    worker = Outbox(ledger=Away(lambda: 0), couriers={"hook": carrier}, observer=stage, clock=SystemClock())
    await stage.turn(0, worker)
    assert stage.events == ["delivery_unwritten"]
    await stage.turn(61)
    assert carrier.came == ["d", "d"]


async def test_an_attempt_without_an_end_has_failed() -> None:
    """The lease is never outlived: the attempt is cut at half of it."""
    carrier = Carrier()
    carrier.gate.clear()
    stage = Stage()
    await stage.post("d")
    await stage.turn(0, stage.worker(0.1, hook=carrier))
    (waits,) = await stage.ledger.deliveries("a")
    assert (waits.attempts, waits.why) == (1, "nothing within 0.05 s")
