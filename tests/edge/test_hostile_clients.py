"""Connections that mean no good: smuggled requests, heads without end, handshakes, frames that lie of their size.

Each is answered or ended within its limits, costs nobody anything, and the next customer is served.
"""

import asyncio
import base64
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.core.frames import CLOSE, PING, PONG, TEXT, encoded
from gateway.core.money import parse_usd
from tests.fakes.upstream import Line, RawClient, chunk
from tests.harness import Running, running
from tests.pipeline.sockets import PRO
from tests.pipeline.streaming import charged, listening, serving, streaming, word
from tests.upstream.proxying import FREE_PATH, chat_bytes, get_bytes, nothing_held, opened

MASK = b"\x11\x22\x33\x44"
KEY = base64.b64encode(os.urandom(16)).decode()
SMUGGLED = get_bytes("/v1/models?smuggled=1")


def opening(secret: str, *, changes: Callable[[str], str] = lambda head: head) -> bytes:
    """An opening handshake of a streaming session."""
    head = (
        f"GET {PRO} HTTP/1.1\r\nHost: gw.example\r\nAuthorization: {secret}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return changes(head).encode()


async def socket_of(gw: Running, secret: str, behind: bytes = b"") -> RawClient:
    """A connection that has been upgraded."""
    client = await opened(gw)
    await client.send(opening(secret) + behind)
    assert (await client.head() or b"").startswith(b"HTTP/1.1 101 ")
    return client


async def closed_with(client: RawClient) -> int:
    """The code of the Close that comes, at the end of what else comes."""
    async with asyncio.timeout(10):
        while True:
            first, length = await client.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await client.reader.readexactly(2), "big")
            payload = await client.reader.readexactly(length)
            if first & 0x0F == CLOSE:
                return int.from_bytes(payload[:2], "big")


# ---- requests in requests


async def test_no_request_hides_in_another(gw: Running) -> None:
    """Whatever is said of a body's length: what another reader would take for its rest is not served as a request."""
    key = await gw.open_account("a")
    body = b"0\r\n\r\n" + SMUGGLED
    for lines in (
        [f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", f"Content-Length: {len(body)}"],
        ["Transfer-Encoding : chunked", f"Content-Length: {len(body)}"],
        ["Transfer-Encoding:\x0bchunked", f"Content-Length: {len(body)}"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked, chunked"],
        ['Transfer-Encoding: "chunked"'],
        ["Content-Length: 5, 5"],
        ["Content-Length: 0x5"],
        ["Content-Length: 5 5"],
        ["Content-Length: 99999999999999999999"],
    ):
        async with await opened(gw) as client:
            await client.send(chat_bytes(key, *lines, body=body, length=False))
            assert (await client.reply()).status == 400, lines
            assert await client.rest() == b"", lines
    for broken in (
        b"5;\x00\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhelloXX0\r\n\r\n",
    ):
        async with await opened(gw) as client:
            await client.send(chat_bytes(key, "Transfer-Encoding: chunked", body=broken + SMUGGLED, length=False))
            assert b"200 OK" not in await client.rest(), broken
    assert not await gw.seen()
    await nothing_held(gw)
    assert await gw.balance("a") == parse_usd("100")


async def test_a_bare_line_feed_ends_nothing(gw: Running) -> None:
    """Two requests for a reader that takes it for the end of a line are none for us."""
    async with await opened(gw) as client:
        await client.send(b"GET /v1/models HTTP/1.1\nHost: a\n\n" + SMUGGLED)
        assert (await client.reply()).status == 400
        assert await client.rest() == b""
    assert not await gw.seen()


# ---- heads


async def poured(gw: Running, begin: bytes, more: bytes) -> tuple[int, float]:
    """Send this and then that until the gateway ends the connection: how many bytes it took, and seconds."""
    began, sent = time.monotonic(), 0
    async with await opened(gw) as client:
        ended = asyncio.create_task(client.rest())
        with suppress(ConnectionError):
            await client.send(begin)
            while not ended.done():
                sending = asyncio.create_task(client.send(more))
                await asyncio.wait([sending, ended], return_when=asyncio.FIRST_COMPLETED)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                sent += len(more)
        await asyncio.gather(ended, return_exceptions=True)
    return sent, time.monotonic() - began


async def test_a_head_without_an_end(gw: Running) -> None:
    """It is refused at its limit: a field, many fields, a request line."""
    for begin, more in (
        (b"GET /v1/models HTTP/1.1\r\nX: ", b"x" * 8192),
        (b"GET /v1/models HTTP/1.1\r\n", b"X: y\r\n" * 100),
        (b"GET /", b"x" * 8192),
    ):
        sent, seconds = await poured(gw, begin, more)
        assert sent < 5_000_000 and seconds < 5, begin
    assert not await gw.seen()
    assert (await gw.call("GET", FREE_PATH, None)).status == 200


async def test_a_body_that_is_all_framing(tmp_path: Path, empty_redis: str) -> None:
    """Chunks' extensions and trailers without end are no body: its time runs out, and so does that of its rest."""

    def change(data: dict[str, Any]) -> None:
        data["limits"]["body_read_seconds_max"] = 0.3

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": change}) as gw:
        gw.gateway._customers._options["lingering_time"] = 0.3
        key = await gw.open_account("a")
        for body, more in ((b"", b"1;" + b"x" * 8192), (b"0\r\n", b"X: " + b"x" * 8192 + b"\r\n")):
            begin = chat_bytes(key, "Transfer-Encoding: chunked", body=body, length=False)
            _sent, seconds = await poured(gw, begin, more)
            assert seconds < 5, more[:2]
        assert not await gw.seen()
        await nothing_held(gw)


async def test_a_head_that_drips_in_is_not_waited_for_for_ever(gw: Running) -> None:
    """A byte now and then does not make more of the time that a request has to begin."""
    gw.gateway._customers._options["keepalive_timeout"] = 0.5
    async with await opened(gw) as client:
        began = time.monotonic()
        ended = asyncio.create_task(client.rest())
        for byte in b"GET /v1/models HTTP/1.1\r\nHost: gw.example\r\nX-Slow: " + b"x" * 500:
            if ended.done():
                break
            await client.send(bytes([byte]))
            await asyncio.sleep(0.02)
        with suppress(ConnectionResetError):  # a byte that was under way met a closed connection
            assert await ended == b""
        assert time.monotonic() - began < 5


# ---- handshakes


async def test_handshakes_that_are_none(gw: Running) -> None:
    """Are told what is understood here, are not upgraded, and what follows is another request."""
    key = await gw.open_account("a")
    for old, new in (
        ("Version: 13", "Version: 12"),
        ("Version: 13", "Version: 13, 8"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n"),
        (KEY, "c2hvcnQ="),
        ("Upgrade: websocket", "X-Upgrade: websocket"),
        ("Connection: Upgrade", "Connection: keep-alive"),
    ):
        async with await opened(gw) as client:
            await client.send(opening(key, changes=lambda head, old=old, new=new: head.replace(old, new)))  # type: ignore[misc]
            got = await client.reply()
            assert (got.status, got.one("Sec-WebSocket-Version")) == (426, b"13"), new
            assert (await client.ask(get_bytes(FREE_PATH))).status == 200, new
    async with await opened(gw) as client:
        await client.send(opening(key, changes=lambda head: head.replace("HTTP/1.1", "HTTP/1.0")))
        assert (await client.reply()).status == 426
    for body in ("Content-Length: 5", "Transfer-Encoding: chunked"):
        async with await opened(gw) as client:
            sent = opening(key, changes=lambda head, body=body: head.replace("Upgrade: w", f"{body}\r\nUpgrade: w"))  # type: ignore[misc]
            await client.send(sent + (b"hello" if "Length" in body else b"5\r\nhello\r\n0\r\n\r\n"))
            assert (await client.reply()).status == 426, body
    assert not any(each["path"] == "/v3/ws" for each in await gw.seen())
    await nothing_held(gw)


async def test_handshakes_as_others_write_them(gw: Running) -> None:
    """Lower case, several tokens, fields folded into one."""
    key = await gw.open_account("a")
    for changes in (
        str.lower,
        lambda head: head.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        lambda head: head.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: UPGRADE"),
        lambda head: head.replace("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
    ):

        def changed(head: str, changes: Callable[[str], str] = changes) -> str:
            line, rest = head.split("\r\n", 1)
            return f"{line}\r\n{changes(rest)}".replace(KEY.lower(), KEY)

        async with await opened(gw) as client:
            await client.send(opening(key, changes=changed))
            assert (await client.head() or b"").startswith(b"HTTP/1.1 101 "), changed("a\r\nb")
            await client.send(encoded(CLOSE, b"\x03\xe8", MASK))
            assert await closed_with(client) == 1000


async def test_a_request_behind_a_handshake(gw: Running) -> None:
    """Behind one that is taken there are frames, and this is none; behind one that is refused it is a request."""
    key = await gw.open_account("a")
    async with await socket_of(gw, key, SMUGGLED) as client:
        assert await closed_with(client) == 1002
    async with await opened(gw) as client:
        await client.send(opening(key, changes=lambda head: head.replace("13", "7")) + get_bytes(FREE_PATH))
        assert (await client.reply()).status == 426
        assert (await client.reply()).status == 200
    assert not any("smuggled" in str(each) for each in await gw.seen())


# ---- frames


async def test_frames_that_lie_about_their_size(gw: Running) -> None:
    """Known by their heads: nothing is waited for, and nothing is set aside for them."""
    key = await gw.open_account("a")
    for size, code in ((1 << 63, 1002), ((1 << 63) - 1, 1009), (1 << 40, 1009)):
        async with await socket_of(gw, key) as client:
            await client.send(b"\x82\xff" + size.to_bytes(8, "big") + MASK + b"only this")
            assert await closed_with(client) == code
    await nothing_held(gw)


async def test_every_close_code(gw: Running) -> None:
    """A client's Close is answered: with its own code, or with what is wrong with it."""
    key = await gw.open_account("a")
    for code in (0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1011, 1015, 1016, 2999, 3000, 4000, 4999, 5000, 65535):
        valid = code in (1000, 1001, 1007, 1011) or 3000 <= code < 5000
        async with await socket_of(gw, key) as client:
            await client.send(encoded(CLOSE, code.to_bytes(2, "big") + "grüß".encode(), MASK))
            assert await closed_with(client) == (code if valid else 1002), code
    await nothing_held(gw)


async def test_a_flood_of_tiny_frames(gw: Running) -> None:
    """Ten thousand pings in one go are answered, and others are served meanwhile."""
    key = await gw.open_account("a")
    async with await socket_of(gw, key) as client:
        await client.send(encoded(PING, b"", MASK) * 10_000)
        began = time.monotonic()
        assert (await gw.call("GET", FREE_PATH, None)).status == 200
        assert time.monotonic() - began < 5
        pongs = 0
        async with asyncio.timeout(20):
            while pongs < 10_000:
                first, length = await client.reader.readexactly(2)
                if length == 126:
                    length = int.from_bytes(await client.reader.readexactly(2), "big")
                await client.reader.readexactly(length)
                pongs += first & 0x0F == PONG
        await client.send(encoded(TEXT, b'{"type":"Terminate"}', MASK))
        assert await closed_with(client) == 1000


# ---- streams of events


async def test_a_reader_of_a_byte_now_and_then(tmp_path: Path, empty_redis: str) -> None:
    """Who takes an endless stream by single bytes is read ahead for within bounds, then cut and charged."""
    sent = 0

    async def flood(line: Line) -> None:
        nonlocal sent
        while True:
            await line.send(chunk(word("x" * 100_000)))
            sent += 100_000

    product: dict[str, Any] = {"drain_seconds_max": 0.5, "drain_bytes_max": 1_000_000}
    async with serving(streaming([flood]), tmp_path, empty_redis, product=product) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key) as response:

            async def sip() -> None:
                while await response.content.read(1):  # noqa: ASYNC110 - its pace
                    await asyncio.sleep(0.05)

            sipping = asyncio.create_task(sip())
            (charge,) = await charged(gw)
            assert charge["basis"] == "estimated"
            assert sent < 50_000_000
            sipping.cancel()
            await asyncio.gather(sipping, return_exceptions=True)
