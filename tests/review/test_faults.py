"""What one bad record, one bad line or one broken pipe may not do: stop a loop, a start, or everybody's charges."""

import asyncio
import io
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.errors import LedgerRefused, LedgerUnavailable
from gateway.core.extract import Field
from gateway.core.money import Nanos
from gateway.core.pricing import Charge, LineItem
from gateway.ledger.rules import CHARGE_MAX, check_delivery, check_settlement
from gateway.ledger.spool import Spool
from gateway.observe.logs import Logs
from gateway.pipeline.books import Books
from gateway.pipeline.objections import asked_models
from gateway.ports import Settlement
from gateway.settings.products import Models
from gateway.workers.loops import forever


class Told:
    """An observer that remembers the names of events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def call_finished(self, record: Any) -> None:
        """Nobody calls here."""

    def session_finished(self, record: Any) -> None:
        """Nor opens a session."""

    def job_looked(self, record: Any) -> None:
        """Nor is a job looked at."""

    def queue_left(self, record: Any) -> None:
        """Nor does a job wait."""

    def delivery_tried(self, record: Any) -> None:
        """Nor is anything delivered."""

    def payment_told(self, record: Any) -> None:
        """Nor paid."""

    def export_tried(self, record: Any) -> None:
        """Nor exported."""

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """Remember it."""
        self.events.append(name)


class Time:
    """It is always the year 2026."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return 1_790_000_000.0

    def monotonic(self) -> float:
        """Seconds."""
        return 0.0


class Done:
    """A ledger that notes what is released."""

    def __init__(self) -> None:
        self.released: list[str] = []

    def server_of(self, account: str) -> None:
        """There is one."""

    async def release(self, *, account: str, hold_id: str, resource: Any = None) -> bool:
        """Note it."""
        self.released.append(hold_id)
        return True

    async def post(self, *, account: str, delivery_id: str, channel: str, payload: Any, seconds: float) -> bool:
        """Nobody is told."""
        raise AssertionError

    async def correct(self, *, operation: str, account: str, key_id: str, amount: int, data: Any) -> None:
        """Nothing is corrected."""
        raise AssertionError


async def test_a_loop_outlives_any_fault_of_a_round() -> None:
    """Leases, sweeper and replay go on after a fault that nobody expected; it is told."""
    told, rounds = Told(), []

    async def work() -> None:
        rounds.append(1)
        raise OSError("the disk")

    task = asyncio.create_task(forever("test", 0.001, work, told))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(rounds) > 2
    assert "loop_failed" in told.events


RELEASE = {"v": 1, "operation": "release", "at": 1_790_000_000}
GOOD = {**RELEASE, "arguments": {"account": "a", "hold_id": "good", "resource": None}}


POST = {"account": "a", "delivery_id": "d", "channel": "c", "payload": {}, "seconds": 0}


@pytest.mark.parametrize(
    "line",
    [
        {},
        {**RELEASE, "arguments": {}},
        {**RELEASE, "arguments": {"account": "a", "hold_id": "x", "resource": {"kind": "t"}}},
        {**RELEASE, "operation": "settle", "arguments": {"charge": None}},
        {**RELEASE, "operation": "accept", "arguments": {"resource": {"ref": {}}}},
        {**RELEASE, "operation": "post", "arguments": {**POST, "novel": 1}},
        {**RELEASE, "operation": "correct", "arguments": {"operation": "o", "account": "a", "amount": 1}},
        {**GOOD, "at": "today"},
        [],
        b"\0\0\0\0\n",
        b"{half\n",
    ],
    ids=str,
)
async def test_a_record_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path, line: Any) -> None:
    """Another version's record, or bytes that a crash left: kept for people to look at; what follows is done."""
    bad = line if isinstance(line, bytes) else orjson.dumps(line) + b"\n"
    (tmp_path / "old.spool").write_bytes(bad + orjson.dumps(GOOD) + b"\n")
    spool, ledger = Spool(tmp_path, bytes_max=10_000), Done()
    spool.open("new")
    books = Books(ledger=ledger, spool=spool, observer=Told(), clock=Time(), operation_seconds=1000)  # type: ignore[arg-type]
    await books.replay()
    assert ledger.released == ["good"]
    assert len(spool) == 0
    assert (tmp_path / "rejected.jsonl").read_bytes().count(b"\n") == 1
    spool.close()


async def test_what_the_outbox_does_not_take_stops_nothing_else(tmp_path: Path) -> None:
    """What somebody was to be told of goes on, and is counted: a job ends, its charge is made."""

    class Strict:
        """A ledger with an outbox that looks at what is posted."""

        async def post(self, **delivery: Any) -> bool:
            check_delivery(delivery["delivery_id"], delivery["channel"], b"", delivery["seconds"])
            return True

    spool, told = Spool(tmp_path, bytes_max=10_000), Told()
    spool.open("new")
    books = Books(ledger=Strict(), spool=spool, observer=told, clock=Time(), operation_seconds=1000)  # type: ignore[arg-type]
    await books.post("a", "no id", "webhook", {}, 60.0)
    assert (told.events, len(spool)) == (["post_refused"], 0)
    spool.close()


async def test_what_a_client_is_to_be_told_outlives_an_outage_of_the_ledger(tmp_path: Path) -> None:
    """A webhook that cannot be posted waits in the spool with the charge, and is posted when the ledger is back."""

    class Away:
        """A ledger that is away at first, and then notes what is posted."""

        def server_of(self, account: str) -> None:
            """There is one."""

        def __init__(self) -> None:
            self.posted: list[dict[str, Any]] = []
            self.away = True

        async def post(self, **delivery: Any) -> bool:
            if self.away:
                raise LedgerUnavailable("away")
            self.posted.append(delivery)
            return True

    ledger, spool = Away(), Spool(tmp_path, bytes_max=10_000)
    spool.open("new")
    books = Books(ledger=ledger, spool=spool, observer=Told(), clock=Time(), operation_seconds=1000)  # type: ignore[arg-type]
    await books.post("a", "transcript:t:completed", "webhook", {"url": "https://example.com/"}, 60.0)
    assert await books.replay() == (0, 0)
    ledger.away = False
    assert await books.replay() == (1, 0)
    assert ledger.posted == [
        {
            "account": "a",
            "delivery_id": "transcript:t:completed",
            "channel": "webhook",
            "payload": {"url": "https://example.com/"},
            "seconds": 60.0,
        }
    ]
    spool.close()


def test_a_log_that_cannot_be_written_fails_no_call() -> None:
    """Standard output is gone: lines are dropped, and nobody who is told of a call raises."""

    class Broken(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise BrokenPipeError

    logs = Logs(stream=Broken())
    for _ in range(2000):
        logs.event("something", value=1, fact="x" * 100)
    logs.flush()


def test_models_named_again_are_one_model() -> None:
    """A request that names one model a thousand times is the same to the settings as one that names it once."""
    models = Models(
        asked=(Field.parse("request.models"),), ran=(), default="m", unknown="m", known={"m": "m", "n": "n"}
    )
    assert asked_models(models, {"request": {"models": ["n", "m"] * 1000}}) == ("n", "m")


def test_a_charge_beyond_what_the_store_can_count_is_refused_before_it_is_written() -> None:
    """It would overflow the store's numbers in the middle of a script, and wait in the spool for ever."""
    amount = Nanos(CHARGE_MAX + 1)
    charge = Charge(
        amount=amount,
        items=(LineItem(sku="s", quantity="1", unit="call", unit_price="1", amount=amount),),
        price_version="1",
        rate_card="standard",
    )
    settlement = Settlement(
        account="a", hold_id="h", key_id="k", product="p", route="r", call_id="h", charge=charge
    )  # fmt: skip
    with pytest.raises(LedgerRefused):
        check_settlement(settlement)
