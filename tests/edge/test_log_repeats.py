"""Lines that say the same again and again are not written again and again, and nothing of their count is lost."""

import io
import time
from typing import Any

import orjson

from gateway.core.money import Nanos
from gateway.observe.logs import Logs
from gateway.observe.repeats import AGAIN_SECONDS, Repeats
from gateway.ports import ExportTried, PaymentTold, QueueLeft


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    """What was written."""
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_flood_is_one_line_at_once_and_one_at_the_end() -> None:
    """A thousand alike, and one that differs in a fact: each first one is written; the sum comes with how often."""
    stream = io.BytesIO()
    logs = Logs(stream=stream)
    for _ in range(1000):
        logs.event("spooled", value=2, operation="settle")
    logs.event("spooled", operation="release")
    logs.tell_repeats()
    logs.flush()
    assert [line["operation"] for line in lines(stream)] == ["settle", "release"]
    logs.tell_repeats(ending=True)
    logs.flush()
    last = lines(stream)[-1]
    assert (len(lines(stream)), last["value"], last["times"], last["level"]) == (3, 1998, 999, "warning")


def test_every_line_says_when() -> None:
    """Records that are told to observers have no time of their own: their lines do, beside the fields of the record."""
    stream = io.BytesIO()
    logs = Logs(stream=stream)
    before = time.time()
    logs.queue_left(QueueLeft(account="a", key_id="k", call_id="c", product="p", outcome="submitted", seconds=1.5))
    logs.payment_told(PaymentTold(account="a", provider="stripe", outcome="paid", amount=Nanos(5), why=""))
    logs.export_tried(
        ExportTried(sink="s", outcome="failed", accounts=1, entries=2, why="w", lag_seconds=3.0, seconds=0.5)
    )
    logs.flush()
    said = lines(stream)
    assert [line["event"] for line in said] == ["queue", "payment", "export"]
    assert all(before <= line["time"] <= time.time() for line in said)
    assert (said[0]["account"], said[0]["seconds"]) == ("a", 1.5)


def test_what_goes_on_has_a_line_every_while_and_what_has_ended_none() -> None:
    """After its time the count is due, and again a while later if it went on; later it is new again."""
    repeats, facts = Repeats(), (("operation", "settle"),)
    assert repeats.is_new("spooled", facts, 1, 0.0)
    assert not repeats.is_new("spooled", facts, 1, 1.0)
    assert not list(repeats.due(AGAIN_SECONDS - 0.1))
    assert list(repeats.due(AGAIN_SECONDS)) == [("spooled", facts, 1, 1)]
    assert not repeats.is_new("spooled", facts, 5, AGAIN_SECONDS + 1)
    assert list(repeats.due(2 * AGAIN_SECONDS)) == [("spooled", facts, 5, 1)]
    assert not list(repeats.due(3 * AGAIN_SECONDS))
    assert repeats.is_new("spooled", facts, 1, 3 * AGAIN_SECONDS)


def test_what_is_remembered_is_bounded() -> None:
    """Facts that never come again are forgotten, the oldest first, and their counts are told before."""
    repeats = Repeats()
    for number in range(3000):
        assert repeats.is_new("worker_lost", (("pid", str(number)),), 1, 0.0)
        assert number < 5 or not repeats.is_new("worker_lost", (("pid", str(number)),), 1, 0.0)
    assert sum(times for *_, times in repeats.due(1.0)) == 1995
    assert sum(times for *_, times in repeats.due(AGAIN_SECONDS)) == 1000
