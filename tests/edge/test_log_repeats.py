"""Lines that say the same again and again are not written again and again, and nothing of their count is lost."""

import io
from typing import Any

import orjson

from gateway.observe.logs import Logs
from gateway.observe.repeats import AGAIN_SECONDS, Repeats


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
