"""Replies that mean no good: heads that would be two, lengths that differ, beginnings without end, words of the next.

What the customer gets is one answer, and nothing of one customer's reply is in another's.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.upstream import Line, Received, ScriptedUpstream, chunk
from tests.harness import Running
from tests.upstream.proxying import FREE_PATH, before, get_bytes, opened

OK = b"Content-Length: 2\r\n\r\nok"
LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKS = LINE + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"ok")


@asynccontextmanager
async def replying(tmp_path: Path, redis_url: str) -> AsyncIterator[tuple[Running, list[bytes], ScriptedUpstream]]:
    """A gateway, and an upstream that takes its replies from a list, the last one again and again."""
    replies: list[bytes] = []

    async def script(line: Line) -> None:
        while True:
            await upstream.taken(line)
            await line.send(replies.pop(0) if len(replies) > 1 else replies[0])

    upstream = ScriptedUpstream(script)
    async with before(upstream, tmp_path, redis_url, service={"reply_seconds_max": 2.0}) as gw:
        yield gw, replies, upstream


async def answers(gw: Running, count: int = 1) -> list[Received]:
    """The answers to so many calls on one connection."""
    async with await opened(gw) as client:
        got = [await client.ask(get_bytes(FREE_PATH)) for _ in range(count)]
        await client.send(get_bytes("/nowhere", "Connection: close"))
        assert re.findall(rb"HTTP/1.1 (\d+)", await client.rest()) == [b"404"]  # nothing else was in between
    return got


async def test_a_head_that_would_be_two(tmp_path: Path, empty_redis: str) -> None:
    """A CR, NUL or space where none may be: 502, and no word of it arrives. What only ends a line becomes a line."""
    async with replying(tmp_path, empty_redis) as (gw, replies, _):
        for reply in (
            LINE + b"X: a\rSet-Cookie: evil=1\r\n" + OK,
            LINE + b"X: a\r\r\nSet-Cookie: evil=1\r\n" + OK,
            LINE + b"X: a\x00evil\r\n" + OK,
            LINE + b"Evil : a\r\n" + OK,
            LINE + b"Ev\x01il: a\r\n" + OK,
            LINE + b"Evil\r\n" + OK,
            b"HTTP/1.1 200 O\rSet-Cookie: evil=1\r\n" + OK,
            b"HTTP/1.1 99 Evil\r\n" + OK,
            b"HTTP/1.1 099 Evil\r\n" + OK,
            b"HTTP/1.1 2000 Evil\r\n" + OK,
            b"HTTP/1.1 -20 Evil\r\n" + OK,
            b"ICY 200 Evil\r\n" + OK,
        ):
            replies[:] = [reply]
            (got,) = await answers(gw)
            assert (got.status, got.one("X-Gateway-Error")) == (502, b"upstream_unreachable"), reply
            assert b"evil" not in (got.head + got.body).lower(), reply
        for reply, field in ((b"X: a\nY: b\r\n", b"b"), (b"X: a\r\n b\r\nY: b\r\n", b"b")):
            replies[:] = [LINE + reply + OK]
            (got,) = await answers(gw)
            assert (got.status, got.one("Y"), got.body) == (200, field, b"ok"), reply
        for reason in (b"O\x1b[2JK", b"O\x00K", b"O\x7fK", b"O\tK"):
            replies[:] = [b"HTTP/1.1 200 " + reason + b"\r\n" + OK]
            (got,) = await answers(gw)
            assert (got.first, got.body) == (b"HTTP/1.1 200 OK", b"ok")


async def test_a_reply_of_two_lengths(tmp_path: Path, empty_redis: str) -> None:
    """Is nobody's: 502, and the connection that it came on is not used again."""
    async with replying(tmp_path, empty_redis) as (gw, replies, upstream):
        for fields in (
            b"Content-Length: 2\r\nContent-Length: 5\r\n\r\nok",
            b"Content-Length: 2, 5\r\n\r\nok",
            b"Content-Length: -2\r\n\r\nok",
            b"Content-Length: 0x2\r\n\r\nok",
            b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
        ):
            replies[:] = [LINE + fields]
            lines = upstream.lines
            got = await answers(gw, 2)
            assert [each.status for each in got] == [502, 502], fields
            assert upstream.lines >= lines + 1, fields


async def test_what_follows_a_reply_is_nobodys(tmp_path: Path, empty_redis: str) -> None:
    """A second reply to one request, and a body where there is none: the next customer gets his own."""
    async with replying(tmp_path, empty_redis) as (gw, replies, _):
        for evil in (
            LINE + OK + LINE + b"X-Evil: 1\r\nContent-Length: 4\r\n\r\nevil",
            LINE + OK + b"evil",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 evil\r\nX-Evil: 1\r\n" + OK,
        ):
            replies[:] = [evil, LINE + b"X-Mine: 1\r\n" + OK]
            first, second = await answers(gw, 2)
            assert first.status in (200, 304, 502)
            assert (second.one("X-Mine"), second.all("X-Evil"), second.body) == (b"1", [], b"ok"), evil


async def test_a_trailer_is_no_field_of_the_next_reply(tmp_path: Path, empty_redis: str) -> None:
    """What one customer's reply ended with is not said to the next, who gets the same connection."""
    async with replying(tmp_path, empty_redis) as (gw, replies, upstream):
        for trailer in (b"X-Secret: mine", b"Set-Cookie: session=mine", b"X-First: 1\r\nX-Secret: mine"):
            lines = upstream.lines
            replies[:] = [CHUNKS + b"0\r\n" + trailer + b"\r\n\r\n", LINE + OK]
            first, second = (*await answers(gw), *await answers(gw))
            assert (first.body, second.body) == (b"ok", b"ok")
            for got in (first, second):
                assert b"mine" not in got.head and b"X-First" not in got.head
            assert upstream.lines <= lines + 1  # it is used again all the same


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints", b"199 Soon"])
async def test_beginnings_without_end(tmp_path: Path, empty_redis: str, status: bytes) -> None:
    """A few interim replies are passed over; a hundred thousand of them are 502 before they are read."""
    interim = b"HTTP/1.1 " + status + b"\r\nX: y\r\n\r\n"
    async with replying(tmp_path, empty_redis) as (gw, replies, _):
        replies[:] = [interim * 10 + LINE + OK]
        assert (await answers(gw))[0].status == 200
        replies[:] = [interim * 100_000 + LINE + OK]
        began = time.process_time()
        assert (await answers(gw))[0].status == 502
        assert time.process_time() - began < 1.0


async def test_heads_too_large(tmp_path: Path, empty_redis: str) -> None:
    """A field, or a number of fields, that is beyond its limit: 502, without waiting for the end."""

    async def endless(line: Line) -> None:
        await line.request()
        await line.send(LINE)
        while True:
            await line.send(b"X: y\r\n" * 1000)

    async with before(ScriptedUpstream(endless), tmp_path, empty_redis) as gw:
        assert (await answers(gw))[0].status == 502
    async with replying(tmp_path / "other", empty_redis) as (gw, replies, _):
        for fields, status in (
            (b"X: y\r\n" * 120, 200), (b"X: y\r\n" * 200, 502), (b"X: " + b"y" * 30_000 + b"\r\n", 200),
            (b"X: " + b"y" * 40_000 + b"\r\n", 502), (b"x" * 40_000 + b": y\r\n", 502),
        ):  # fmt: skip
            replies[:] = [LINE + fields + OK]
            assert (await answers(gw))[0].status == status, fields[:9]


async def test_no_word_of_the_gateway_comes_from_an_upstream(tmp_path: Path, empty_redis: str) -> None:
    """Charges, codes and limits are ours to tell, whatever `Connection` says; who answered whom is not mixed up."""
    async with replying(tmp_path, empty_redis) as (gw, replies, _):
        said = b"X-Gateway-Charge: 5\r\nX_Gateway_Error: evil\r\nX-RateLimit-Limit: 1\r\n"
        replies[:] = [LINE + said + b"Connection: X-Gateway-Call-Id, Date, Content-Length\r\n" + OK]
        (got,) = await answers(gw)
        assert (got.body, got.all("X-Gateway-Charge"), got.all("X_Gateway_Error")) == (b"ok", [], [])
        assert got.one("X-Gateway-Call-Id") and got.one("Content-Length") == b"2" and got.one("Date")
        assert not got.all("X-RateLimit-Limit")
        replies[:] = [LINE + b"X-Number: 1\r\n" + OK]
        many = await asyncio.gather(*(answers(gw, 5) for _ in range(10)))
        assert all(each.one("X-Number") == b"1" for some in many for each in some)
