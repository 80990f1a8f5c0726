"""Connections to upstreams: reuse, limits, timeouts, and every way in which an upstream may answer or not."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from multidict import CIMultiDict

from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.core.upstreams import Upstream
from gateway.upstream.client import PooledUpstreamClient
from gateway.upstream.pool import Pool
from gateway.upstream.ports import Body, Reply
from tests.fakes.upstream import Line, ScriptedUpstream, answering, chunk, message
from tests.upstream.proxying import until

OK = message("HTTP/1.1 200 OK", body=b"fine")


def upstream_at(url: str, **settings: object) -> Upstream:
    """An upstream's settings, with short times."""
    times: dict[str, object] = {"connect_seconds_max": 2.0, "reply_seconds_max": 2.0, "total_seconds_max": 10.0}
    return Upstream(name="u", base_url=url, credential="", **{**times, **settings})  # type: ignore[arg-type]


@pytest.fixture
async def client() -> AsyncIterator[PooledUpstreamClient]:
    """A client that is closed afterwards."""
    client = PooledUpstreamClient()
    yield client
    await client.close()


async def body_of(reply: Reply) -> bytes:
    """The whole body."""
    parts = []
    while part := await reply.chunk():
        parts.append(part)
    return b"".join(parts)


async def ask(
    client: PooledUpstreamClient, upstream: Upstream, method: str = "GET", path: str = "/x", body: Body = None
) -> tuple[int, bytes]:
    """One call, read to its end."""
    async with asyncio.timeout(15), await client.send(upstream, method, path, CIMultiDict(), body) as reply:
        return reply.status, await body_of(reply)


async def pieces(*parts: bytes, pause: float = 0.0) -> AsyncIterator[bytes]:
    """A body in pieces."""
    for part in parts:
        yield part
        if pause:
            await asyncio.sleep(pause)


@asynccontextmanager
async def scripted(script: object) -> AsyncIterator[ScriptedUpstream]:
    """An upstream that runs `script(upstream, line)` on each connection."""
    assert callable(script)

    async def bound(line: Line) -> None:
        await script(upstream, line)

    async with ScriptedUpstream(bound) as upstream:
        yield upstream


# ---- connections


async def test_one_connection_serves_many_calls(client: PooledUpstreamClient) -> None:
    """Of every kind of reply that ends by itself."""
    kinds = [
        ("GET", OK, b"fine"),
        ("GET", message("HTTP/1.1 204 No Content", length=False), b""),
        ("GET", message("HTTP/1.1 304 Not Modified", "Content-Length: 99", length=False), b""),
        ("HEAD", message("HTTP/1.1 200 OK", "Content-Length: 99", length=False), b""),
        ("GET", message("HTTP/1.1 205 Reset Content"), b""),
        ("GET", message("HTTP/1.1 200 OK"), b""),
        (
            "POST",
            message("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", length=False) + chunk(b"ab") + chunk(b""),
            b"ab",
        ),
        (
            "GET",
            message("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Trailer: X-End", length=False)
            + chunk(b"ab")
            + b"0\r\nX-End: 1\r\n\r\n",
            b"ab",
        ),
        ("GET", message("HTTP/1.1 103 Early Hints", "Link: </a>", length=False) * 3 + OK, b"fine"),
        ("GET", message("HTTP/1.1 100 Continue", length=False) + OK, b"fine"),
        ("GET", OK, b"fine"),
    ]

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        for _, reply, _ in kinds:
            await upstream.taken(line)
            await line.send(reply)
        await line.ended()

    async with scripted(script) as upstream:
        for method, _, body in kinds:
            assert (await ask(client, upstream_at(upstream.url), method))[1] == body
        assert upstream.lines == 1


@pytest.mark.parametrize(("length", "body", "found"), [(4, b"fine", b"fine"), (0, b"", b""), (9, b"half", None)])
async def test_a_body_is_at_hand_once_all_of_it_has_come(
    client: PooledUpstreamClient, length: int, body: bytes, found: bytes | None
) -> None:
    """A whole one, or an empty one, is had without a wait; half of one never is."""
    sent = message("HTTP/1.1 200 OK", f"Content-Length: {length}", body=body, length=False)
    async with (
        answering(sent) as upstream,
        await client.send(upstream_at(upstream.url), "GET", "/", CIMultiDict(), None) as reply,
    ):
        assert reply.at_hand() == found
        assert reply.at_end() is (found is not None)


async def test_a_reply_that_is_not_read_to_its_end_costs_its_connection(client: PooledUpstreamClient) -> None:
    """The rest of one call's reply can never be taken for another's."""
    async with answering(message("HTTP/1.1 200 OK", "Content-Length: 100", length=False) + b"x" * 50) as upstream:
        async with await client.send(upstream_at(upstream.url), "GET", "/", CIMultiDict(), None) as reply:
            assert await reply.chunk() == b"x" * 50
        async with await client.send(upstream_at(upstream.url), "GET", "/", CIMultiDict(), None) as reply:
            assert await reply.chunk() == b"x" * 50
        assert upstream.lines == 2


async def test_more_than_was_asked_for_costs_the_connection(client: PooledUpstreamClient) -> None:
    """A second reply to one request is nobody's."""
    async with answering(OK + message("HTTP/1.1 200 OK", body=b"evil")) as upstream:
        for _ in range(3):
            assert await ask(client, upstream_at(upstream.url)) == (200, b"fine")
            await until(lambda: not upstream.lines_open)
        assert upstream.lines == 3


async def test_more_that_comes_later_costs_the_connection(client: PooledUpstreamClient) -> None:
    """Also when it comes while the connection is idle."""
    async with answering(OK, message("HTTP/1.1 200 OK", body=b"evil"), pause=0.05) as upstream:
        for _ in range(3):
            assert await ask(client, upstream_at(upstream.url)) == (200, b"fine")
            await until(lambda: not upstream.lines_open)
        assert upstream.lines == 3


async def test_a_part_of_a_reply_that_nobody_asked_for_costs_the_connection(client: PooledUpstreamClient) -> None:
    """Its rest would be the beginning of the next call's reply."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.send(OK)
        await asyncio.sleep(0.05)
        await line.send(b"HTTP/1.1 200 OK\r\nX-Planted: 1\r\n")
        await line.ended()

    async with scripted(script) as server:
        upstream = upstream_at(server.url)
        assert await ask(client, upstream) == (200, b"fine")
        await until(lambda: not server.lines_open)
        assert await ask(client, upstream) == (200, b"fine")
        assert server.lines == 2


async def test_a_body_whose_chunks_cannot_be_read_is_broken_at_once(client: PooledUpstreamClient) -> None:
    """Nobody waits for the rest until the upstream's time is over."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.send(message("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", length=False) + chunk(b"good"))
        await asyncio.sleep(0.05)
        await line.send(b"no size\r\n")
        await line.ended()

    async with scripted(script) as server, asyncio.timeout(5):
        with pytest.raises(UpstreamUnreachable):
            await ask(client, upstream_at(server.url))


@pytest.mark.parametrize("first", ["HTTP/1.1 200 OK\r\nConnection: close", "HTTP/1.0 200 OK"])
async def test_a_connection_that_the_upstream_ends_is_not_used_again(client: PooledUpstreamClient, first: str) -> None:
    """It said so."""
    async with answering(message(first, body=b"fine")) as upstream:
        for _ in range(2):
            assert await ask(client, upstream_at(upstream.url)) == (200, b"fine")
        assert upstream.lines == 2


async def test_a_reply_without_length_ends_with_its_connection(client: PooledUpstreamClient) -> None:
    """As HTTP/1.0 servers do it."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.send(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1000)
        await asyncio.sleep(0.05)
        await line.send(b"y" * 1000)

    async with scripted(script) as upstream:
        assert await ask(client, upstream_at(upstream.url)) == (200, b"x" * 1000 + b"y" * 1000)


async def closing_once_reused(upstream: ScriptedUpstream, line: Line) -> None:
    """Serves one call on the first connection, then takes a second one and closes; later connections are good."""
    while True:
        request = await upstream.taken(line)
        await line.send(OK if not request.first.startswith(b"HEAD") else OK.removesuffix(b"fine"))
        if line.number == 1:
            break
    await upstream.taken(line)
    line.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_a_kept_connection_that_proves_closed_is_replaced(client: PooledUpstreamClient, method: str) -> None:
    """Once, for methods that may be repeated."""
    async with scripted(closing_once_reused) as upstream:
        address = upstream_at(upstream.url)
        assert await ask(client, address) == (200, b"fine")
        assert (await ask(client, address, method, "/again", b"b" if method == "PUT" else None))[0] == 200
        assert [request.target for request in upstream.requests] == [b"/x", b"/again", b"/again"]


async def test_a_post_is_never_sent_twice(client: PooledUpstreamClient) -> None:
    """It may have been done."""
    async with scripted(closing_once_reused) as upstream:
        address = upstream_at(upstream.url)
        assert await ask(client, address) == (200, b"fine")
        with pytest.raises(UpstreamUnreachable):
            await ask(client, address, "POST", "/again", b"body")
        assert [request.target for request in upstream.requests] == [b"/x", b"/again"]


async def test_a_streamed_body_is_never_sent_twice(client: PooledUpstreamClient) -> None:
    """Its beginning is gone."""
    async with scripted(closing_once_reused) as upstream:
        address = upstream_at(upstream.url)
        assert await ask(client, address) == (200, b"fine")
        with pytest.raises(UpstreamUnreachable):
            await ask(client, address, "PUT", "/again", pieces(b"body"))
        assert len(upstream.requests) == 2


async def test_a_fresh_connection_that_is_closed_is_not_tried_again(client: PooledUpstreamClient) -> None:
    """The upstream does not want it."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)

    async with scripted(script) as upstream:
        with pytest.raises(UpstreamUnreachable):
            await ask(client, upstream_at(upstream.url))
        assert upstream.lines == 1


async def test_an_idle_connection_that_is_closed_is_not_used(client: PooledUpstreamClient) -> None:
    """It is noticed while idle, so even a POST gets a new one."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.send(OK)

    async with scripted(script) as upstream:
        for _ in range(3):
            assert await ask(client, upstream_at(upstream.url), "POST", "/x", b"body") == (200, b"fine")
            await asyncio.sleep(0.02)
        assert upstream.lines == 3


async def test_connections_of_a_busier_time_are_closed() -> None:
    """After a crowd one call follows the other on one connection: the others are closed soon, and then that one too."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        while True:
            await upstream.taken(line)
            await asyncio.sleep(0.02)
            await line.send(OK)

    async with scripted(script) as upstream:
        pool = Pool(upstream_at(upstream.url), idle_seconds_max=0.2)

        async def call() -> None:
            async with await pool.send("GET", "/x", CIMultiDict(), None) as reply:
                assert await body_of(reply) == b"fine"

        await asyncio.gather(*(call() for _ in range(5)))
        assert len(pool) == 5
        async with asyncio.timeout(10):
            while len(pool) > 1:
                await call()
            await call()
            assert upstream.lines == 5
            while len(pool):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        pool.close()


async def test_connections_max_makes_calls_wait(client: PooledUpstreamClient) -> None:
    """Never more than that many, and everybody gets their turn."""
    most = 0

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        nonlocal most
        while True:
            await upstream.taken(line)
            most = max(most, upstream.lines_open)
            await asyncio.sleep(0.02)
            await line.send(OK)

    async with scripted(script) as upstream:
        address = upstream_at(upstream.url, connections_max=2)
        assert await asyncio.gather(*(ask(client, address) for _ in range(10))) == [(200, b"fine")] * 10
        assert most == 2
        assert upstream.lines == 2


async def test_a_call_waits_for_a_place_only_so_long(client: PooledUpstreamClient) -> None:
    """And a call that failed gives its place back, however it failed."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        request = await upstream.taken(line)
        if request.target == b"/slow":
            await asyncio.sleep(0.6)
            await line.send(OK)

    async with scripted(script) as upstream:
        address = upstream_at(upstream.url, connections_max=1, connect_seconds_max=0.2)
        slow = asyncio.create_task(ask(client, address, path="/slow"))
        await asyncio.sleep(0.05)
        with pytest.raises(UpstreamTimeout):
            await ask(client, address)
        assert await slow == (200, b"fine")
        for _ in range(3):
            with pytest.raises(UpstreamUnreachable):
                await ask(client, address)
        cut = asyncio.create_task(ask(client, address, path="/slow"))
        await asyncio.sleep(0.05)
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
        assert await ask(client, address, path="/slow") == (200, b"fine")


async def test_a_base_url_may_have_a_path(client: PooledUpstreamClient) -> None:
    """What is asked for is below it, to the byte; Host is the authority."""
    async with answering(OK) as upstream:
        await ask(client, upstream_at(f"{upstream.url}/pre%20fix/v9"), path="/v2/%7Ex?a=%20b&c=+%2B")
        assert upstream.requests[0].first == b"GET /pre%20fix/v9/v2/%7Ex?a=%20b&c=+%2B HTTP/1.1"
        assert upstream.requests[0].one("Host") == upstream.url.removeprefix("http://").encode()


# ---- times


async def test_a_refused_connection_is_unreachable(client: PooledUpstreamClient) -> None:
    """Nobody listens."""
    async with answering(OK) as upstream:
        address = upstream_at(upstream.url)
    with pytest.raises(UpstreamUnreachable):
        await ask(client, address)


async def test_no_reply_is_a_timeout(client: PooledUpstreamClient) -> None:
    """After reply_seconds_max, and the connection is closed."""
    gone = asyncio.Event()

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.ended()
        gone.set()

    async with scripted(script) as upstream:
        with pytest.raises(UpstreamTimeout):
            await ask(client, upstream_at(upstream.url, reply_seconds_max=0.1))
        async with asyncio.timeout(2):
            await gone.wait()


async def test_interim_replies_do_not_stop_the_clock(client: PooledUpstreamClient) -> None:
    """An upstream that hints and then hangs is still a timeout."""
    async with answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") as upstream, asyncio.timeout(3):
        with pytest.raises(UpstreamTimeout):
            await ask(client, upstream_at(upstream.url, reply_seconds_max=0.2))


async def test_a_pause_in_a_body_is_a_timeout(client: PooledUpstreamClient) -> None:
    """Each pause by itself."""
    head = message("HTTP/1.1 200 OK", "Content-Length: 9", length=False)
    async with answering(head, b"x", b"y", b"z", pause=0.15) as upstream:
        with pytest.raises(UpstreamTimeout):
            await ask(client, upstream_at(upstream.url, reply_seconds_max=0.3))
        assert len(upstream.requests) == 1


# ---- bodies that are passed on


@pytest.mark.parametrize("chunked", [True, False])
async def test_each_piece_is_passed_on_as_it_comes(client: PooledUpstreamClient, chunked: bool) -> None:
    """Until `take` wants to wait: then no more is taken than the reader's bounds, and nothing is lost, for any end."""
    framed = chunk if chunked else bytes
    rest, slow, sent = b"0123456789abcdef" * 4096, asyncio.Event(), 0

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        nonlocal sent
        for _ in range(2):
            await upstream.taken(line)
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {6 + 500 * len(rest)}"
            await line.send(message("HTTP/1.1 200 OK", framing, length=False) + framed(b"one"))
            await slow.wait()
            await line.send(framed(b"two"))
            for _ in range(500):
                await line.send(framed(rest))
                sent += 1
            if chunked:
                await line.send(chunk(b""))

    async with scripted(script) as server, asyncio.timeout(20):
        upstream = upstream_at(server.url, total_seconds_max=30.0)
        for number in range(2):
            slow.clear()
            sent = 0
            got: list[bytes] = []

            def take(piece: bytes, got: list[bytes] = got) -> bool:
                got.append(piece)
                slow.set()
                return sum(map(len, got)) > 3

            async with await client.send(upstream, "GET", "/x", CIMultiDict(), None) as reply:
                assert not await reply.each(take)
                assert got[0] == b"one"
                before = len(got)
                await asyncio.sleep(0.2)
                assert len(got) == before and sent < 500, "nothing is given where nobody takes"
                while not await reply.each(take):
                    pass
                assert b"".join(got) == b"onetwo" + rest * 500, number
        assert server.lines == 1, "the connection is good for another call"


async def test_what_came_before_a_break_is_passed_on(client: PooledUpstreamClient) -> None:
    """Also in the same bytes as the break; who takes hears of it as an error, and a silence is a timeout."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.send(message("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", length=False) + chunk(b"good"))
        await asyncio.sleep(0.05)
        await line.send(chunk(b"better") + (b"no size\r\n" if server.lines == 1 else b""))
        await line.ended()

    async with scripted(script) as server, asyncio.timeout(5):
        upstream = upstream_at(server.url, reply_seconds_max=0.4)
        for error in (UpstreamUnreachable, UpstreamTimeout):
            got: list[bytes] = []
            async with await client.send(upstream, "GET", "/x", CIMultiDict(), None) as reply:
                with pytest.raises(error):
                    await reply.each(got.append)  # type: ignore[arg-type]  # None is no wish to wait
            assert b"".join(got) == b"goodbetter"


async def test_who_takes_may_fail_or_be_cancelled(client: PooledUpstreamClient) -> None:
    """Its own error comes out of it; the connection, whose body was not read, is closed."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.send(message("HTTP/1.1 200 OK", "Content-Length: 99", length=False))
        await asyncio.sleep(0.05)
        await line.send(b"some")
        await line.ended()

    def fail(piece: bytes) -> bool:
        raise LookupError(piece)

    async with scripted(script) as server, asyncio.timeout(5):
        upstream = upstream_at(server.url)
        async with await client.send(upstream, "GET", "/x", CIMultiDict(), None) as reply:
            with pytest.raises(LookupError):
                await reply.each(fail)
        assert len(client) == 0
        async with await client.send(upstream, "GET", "/x", CIMultiDict(), None) as reply:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reply.each(lambda _: False)
        assert len(client) == 0


async def test_the_whole_call_has_a_time(client: PooledUpstreamClient) -> None:
    """Even where bytes keep coming."""
    head = message("HTTP/1.1 200 OK", "Content-Length: 100", length=False)
    async with answering(head, *[b"x"] * 100, pause=0.02) as upstream, asyncio.timeout(3):
        with pytest.raises(UpstreamTimeout):
            await ask(client, upstream_at(upstream.url, total_seconds_max=0.3))


async def test_the_whole_call_has_a_time_before_its_head(client: PooledUpstreamClient) -> None:
    """Also while the upstream does not take the body."""

    async def script(_upstream: ScriptedUpstream, line: Line) -> None:
        await line.head()
        await asyncio.sleep(5)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 2**16

    async with scripted(script) as upstream, asyncio.timeout(3):
        with pytest.raises(UpstreamTimeout):
            await ask(client, upstream_at(upstream.url, total_seconds_max=0.3), "POST", "/x", endless())


async def test_a_long_upload_is_no_late_reply(client: PooledUpstreamClient) -> None:
    """The reply's time begins when the request is complete, whatever interim replies come before."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        head = await line.head()
        assert head is not None
        await line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await line._chunked()
        await line.send(OK)

    async with scripted(script) as upstream:
        address = upstream_at(upstream.url, reply_seconds_max=0.5)
        assert await ask(client, address, "POST", "/x", pieces(*[b"x"] * 10, pause=0.06)) == (200, b"fine")


# ---- broken replies


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
    ],
    ids=["bytes", "status", "negative length", "two lengths", "long field", "many fields", "upgrade", "ssh"],
)
async def test_garbage_is_unreachable(client: PooledUpstreamClient, garbage: bytes) -> None:
    """Whatever it is, and the connection is closed."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.send(garbage)
        if not garbage.endswith(b"\r\n\r\n") or b"101" in garbage:
            await line.ended()

    async with scripted(script) as upstream:
        with pytest.raises((UpstreamUnreachable, UpstreamTimeout)) as caught:
            await ask(client, upstream_at(upstream.url, reply_seconds_max=10.0))
        assert caught.type is UpstreamUnreachable


@pytest.mark.parametrize("head", ["Content-Length: 100", "Transfer-Encoding: chunked"], ids=["by length", "by chunks"])
async def test_a_cut_body_is_an_error(client: PooledUpstreamClient, head: str) -> None:
    """It never looks complete."""

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await upstream.taken(line)
        await line.send(message("HTTP/1.1 200 OK", head, length=False) + chunk(b"x" * 20))

    async with scripted(script) as upstream:
        with pytest.raises(UpstreamUnreachable):
            await ask(client, upstream_at(upstream.url))


async def test_an_early_answer_comes_while_the_body_still_goes(client: PooledUpstreamClient) -> None:
    """The rest of the body is not asked for, and the connection is not used again."""
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"x" * 2**16
            await asyncio.sleep(0.001)

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await line.head()
        await line.send(message("HTTP/1.1 413 Content Too Large", body=b"no"))
        await line.ended()

    async with scripted(script) as upstream:
        address = upstream_at(upstream.url)
        assert await ask(client, address, "POST", "/x", endless()) == (413, b"no")
        before = asked
        await asyncio.sleep(0.05)
        assert asked == before
        assert await ask(client, address, "POST", "/x", endless()) == (413, b"no")
        assert upstream.lines == 2


async def test_what_a_body_raises_is_what_the_caller_gets(client: PooledUpstreamClient) -> None:
    """It is not the upstream's fault, and the upstream sees a broken request."""
    seen: list[bytes] = []

    async def broken() -> AsyncIterator[bytes]:
        yield b"part"
        await asyncio.sleep(0.02)
        raise LookupError("mine")

    async def script(upstream: ScriptedUpstream, line: Line) -> None:
        await line.head()
        seen.append(await line.rest())

    async with scripted(script) as upstream:
        with pytest.raises(LookupError, match="mine"):
            await ask(client, upstream_at(upstream.url), "POST", "/x", broken())
        await until(lambda: seen)
    assert seen == [b"4\r\npart\r\n"]


# ---- requests


async def test_how_bodies_are_framed(client: PooledUpstreamClient) -> None:
    """By length where it is known, in chunks where not; none at all has no length but where methods want one."""
    async with answering(OK) as upstream:
        address = upstream_at(upstream.url)
        for method, body in [("GET", None), ("DELETE", None), ("POST", None), ("POST", b""), ("POST", b"abc")]:
            await ask(client, address, method, body=body)
        await ask(client, address, "POST", body=pieces(b"a", b"bc"))
        await ask(client, address, "POST", body=pieces())
        async with await client.send(address, "POST", "/", CIMultiDict({"Content-Length": "3"}), pieces(b"abc")) as r:
            await body_of(r)
        framed = [(r.one("Content-Length"), r.one("Transfer-Encoding"), r.body) for r in upstream.requests]
        assert framed == [
            (None, None, b""),
            (None, None, b""),
            (b"0", None, b""),
            (b"0", None, b""),
            (b"3", None, b"abc"),
            (None, b"chunked", b"abc"),
            (None, b"chunked", b""),
            (b"3", None, b"abc"),
        ]


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's context with a certificate that nobody signed."""
    directory = tmp_path_factory.mktemp("tls")
    key, cert = directory / "key.pem", directory / "cert.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 1 -subj /CN=localhost"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def test_a_certificate_that_nobody_signed_is_refused(
    client: PooledUpstreamClient, certificate: ssl.SSLContext
) -> None:
    """The service's credential is not given to a stranger."""
    async with tls_upstream(certificate) as upstream:
        with pytest.raises(UpstreamUnreachable):
            await ask(client, upstream_at(upstream.url))
        assert not upstream.requests


async def test_checking_certificates_can_be_left_out(client: PooledUpstreamClient, certificate: ssl.SSLContext) -> None:
    """For upstreams in one's own network; connections are kept as well."""
    async with tls_upstream(certificate) as upstream:
        address = upstream_at(upstream.url, verify_tls=False)
        for _ in range(2):
            assert await ask(client, address, "POST", "/x", b"b" * 300_000) == (200, b"fine")
        assert upstream.lines == 1
        await client.close()


@asynccontextmanager
async def tls_upstream(context: ssl.SSLContext) -> AsyncIterator[ScriptedUpstream]:
    """An upstream behind TLS."""

    async def script(line: Line) -> None:
        while True:
            await upstream.taken(line)
            await line.send(OK)

    async with ScriptedUpstream(script, tls=context) as upstream:
        yield upstream
