"""What upstreams answer: every framing, every failure, every pace, and what the customer and the ledger make of it."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.core.money import parse_usd
from tests.fakes.upstream import Line, ScriptedUpstream, answering, chunk, message
from tests.harness import Running
from tests.upstream.proxying import (
    CHARGED,
    CHAT,
    CHAT_PATH,
    FREE_PATH,
    JSON,
    PRICE,
    before,
    charged_body,
    chat_bytes,
    get_bytes,
    nothing_held,
    opened,
)

CHUNKED = "Transfer-Encoding: chunked"


async def uncharged(gw: Running, account: str = "a") -> None:
    """Nothing is held, and nothing was taken."""
    await nothing_held(gw, account)
    assert await gw.balance(account) == parse_usd("100")


def in_chunks(body: bytes, size: int) -> bytes:
    """A chunked body."""
    return b"".join(chunk(body[start : start + size]) for start in range(0, len(body), size)) + chunk(b"")


# ---- framings


@pytest.mark.parametrize("size", [0, 1000, 300_000, 3_000_000], ids=["small", "whole", "streamed", "large"])
@pytest.mark.parametrize("framing", ["length", "chunks", "end of connection", "trailers", "hints"])
async def test_a_charged_reply_arrives_to_the_byte(tmp_path: Path, empty_redis: str, framing: str, size: int) -> None:
    """However it is framed and however large it is; the charge comes with the head where the body is whole by then."""
    body = charged_body(size) if size else CHARGED
    first = "HTTP/1.0 200 OK" if framing == "end of connection" else "HTTP/1.1 200 OK"
    replies = {
        "length": message(first, JSON, body=body),
        "chunks": message(first, JSON, CHUNKED, length=False) + in_chunks(body, 7000),
        "end of connection": message(first, JSON, length=False) + body,
        "trailers": message(first, JSON, CHUNKED, "Trailer: X-T", length=False)
        + in_chunks(body, 10**6).removesuffix(b"\r\n")
        + b"X-T: 1\r\n\r\n",
        "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + message(first, JSON, body=body),
    }

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.send(replies[framing])
            if framing == "end of connection":
                return

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            for _ in range(2):  # the client's connection outlives all of them
                got = await client.ask(chat_bytes(key))
                assert (got.status, got.body) == (200, body)
                streamed = got.one("Transfer-Encoding") is not None or size > 256 * 1024
                assert got.one("X-Gateway-Charge") == (None if streamed else PRICE.encode())
                assert got.one("Trailer") is None
        await nothing_held(gw)
        assert await gw.balance("a") == parse_usd("100") - 2 * parse_usd(PRICE)


@pytest.mark.parametrize(
    ("method", "reply", "length"),
    [
        ("HEAD", message("HTTP/1.1 200 OK", "Content-Length: 99", length=False), b"99"),
        ("HEAD", message("HTTP/1.1 200 OK", CHUNKED, length=False), None),
        ("HEAD", message("HTTP/1.1 404 Not Found", "Content-Length: 99", length=False), b"99"),
        ("GET", message("HTTP/1.1 204 No Content", length=False), None),
        ("GET", message("HTTP/1.1 304 Not Modified", 'ETag: "x"', length=False), None),
        ("GET", message("HTTP/1.1 304 Not Modified", "Content-Length: 99", length=False), b"99"),
        ("GET", message("HTTP/1.1 205 Reset Content"), b"0"),
        ("GET", message("HTTP/1.1 200 OK"), b"0"),
        ("GET", message("HTTP/1.1 200 OK", CHUNKED, length=False) + chunk(b""), b"0"),
        ("GET", message("HTTP/1.1 404 Not Found"), b"0"),
    ],
    ids=["HEAD", "HEAD chunked", "HEAD 404", "204", "304", "304 length", "205", "empty", "empty chunked", "404"],
)
async def test_replies_without_a_body(
    tmp_path: Path, empty_redis: str, method: str, reply: bytes, length: bytes | None
) -> None:
    """The client's connection stays in step, and what is said of a body that is not sent is what the upstream said."""
    async with before(answering(reply), tmp_path, empty_redis) as gw, await opened(gw) as client:
        for _ in range(2):
            got = await client.ask(get_bytes(FREE_PATH, method=method))
            assert got.first.split()[1] == reply.split()[1]
            assert (got.body, got.one("Content-Length")) == (b"", length)
            assert got.one("Transfer-Encoding") is None


async def test_a_head_of_a_refusal(gw: Running) -> None:
    """It has the length that GET's would have, and no body."""
    async with await opened(gw) as client:
        for _ in range(2):
            got = await client.ask(get_bytes("/v2/transcript/x", "Authorization: wrong", method="HEAD"))
            assert got.status == 401
            assert got.one("X-Gateway-Error") == b"unauthorized"
            same = await client.ask(get_bytes("/v2/transcript/x", "Authorization: wrong"))
            assert got.one("Content-Length") == str(len(same.body)).encode()


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503, 529])
async def test_upstream_errors_pass_uncharged(gw: Running, status: int) -> None:
    """To the byte, and they are no refusal of ours."""
    key = await gw.open_account("a")
    knobs = {"X-Sandbox-Status": str(status), "X-Sandbox-Status-Body": "odd body"}
    got = await gw.call("POST", CHAT_PATH, key, json=CHAT, headers=knobs)
    assert (got.status, got.body, got.code, got.charge) == (status, b"odd body", "", None)
    await uncharged(gw)


# ---- pace


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("path", [CHAT_PATH, FREE_PATH])
async def test_the_first_byte_does_not_wait_for_the_last(
    tmp_path: Path, empty_redis: str, framing: str, path: str
) -> None:
    """The client has the beginning of a large or endless reply while the upstream still holds back the rest."""
    go = asyncio.Event()
    body = charged_body(400_000)
    fields = CHUNKED if framing == "chunked" else f"Content-Length: {len(body)}"

    async def script(line: Line) -> None:
        await line.request()
        wrap = chunk if framing == "chunked" else bytes
        await line.send(message("HTTP/1.1 200 OK", JSON, fields, length=False) + wrap(body[:100]))
        await go.wait()
        await line.send(wrap(body[100:]) + (chunk(b"") if framing == "chunked" else b""))
        await line.ended()

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key) if path == CHAT_PATH else get_bytes(path))
            head = await client.head()
            assert head is not None
            first = await client.reader.read(2**16)
            assert body[:100] in first
            assert (await gw.ledger.account("a")).held == 0 or path == CHAT_PATH
            go.set()
            got = first
            while len(got) < len(body):
                got += await client.reader.read(2**16)
        await nothing_held(gw)
        assert await gw.balance("a") == parse_usd("100") - (parse_usd(PRICE) if path == CHAT_PATH else 0)


async def test_a_slow_reader_slows_the_upstream(tmp_path: Path, empty_redis: str) -> None:
    """What it does not take is not gathered here, and in the end it has everything."""
    sent, size = 0, 200 * 2**20

    async def script(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.send(message("HTTP/1.1 200 OK", f"Content-Length: {size}", length=False))
        for _ in range(size // 2**18):
            await line.send(b"x" * 2**18)
            sent += 2**18
        await line.ended()

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw, await opened(gw) as client:
        await client.send(get_bytes(FREE_PATH))
        assert await client.head()
        await asyncio.sleep(0.5)
        assert sent < 40 * 2**20  # what the kernel's buffers hold
        left = size
        while left:
            left -= len(await client.reader.read(2**20))
        assert sent == size


async def test_a_reader_that_stops_for_good_is_gone(tmp_path: Path, empty_redis: str) -> None:
    """It does not keep its hold for ever: after drain_seconds_max it counts as gone, and pays for what was reported."""
    body = charged_body(30 * 2**20)
    llm = {"drain_seconds_max": 1, "drain_bytes_max": 2**26}
    async with before(answering(message("HTTP/1.1 200 OK", JSON, body=body)), tmp_path, empty_redis, llm=llm) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key))
            assert await client.head()
            await nothing_held(gw)
        assert await gw.balance("a") == parse_usd("100") - parse_usd(PRICE)


# ---- failures


def failing(*parts: bytes) -> ScriptedUpstream:
    """Takes a request, sends these bytes, and closes."""

    async def script(line: Line) -> None:
        await upstream.taken(line)
        for part in parts:
            await line.send(part)

    upstream = ScriptedUpstream(script)
    return upstream


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"HTTP/1.1 2"],
        [b"garbage\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
        [b"HTTP/1.1 103 Early Hints\r\n\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"],
        [message("HTTP/1.1 200 OK", "Content-Length: 100", length=False) + b"x" * 99],
    ],
    ids=["nothing", "half a line", "garbage", "bad length", "only hints", "upgrade", "short body"],
)
async def test_no_answer_is_502_and_uncharged(tmp_path: Path, empty_redis: str, parts: list[bytes]) -> None:
    """In the product's dialect; and the request was sent once."""
    upstream = failing(*parts)
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
        assert (got.status, got.code) == (502, "upstream_unreachable")
        assert got.json["error"]["code"] == "upstream_unreachable"
        assert got.headers["X-Gateway-Call-Id"]
        assert len(upstream.requests) == 1
        await uncharged(gw)


async def test_a_refused_connection_is_502_and_uncharged(tmp_path: Path, empty_redis: str) -> None:
    """Nobody listens."""
    nowhere = {"base_url": "http://127.0.0.1:1"}
    async with before(answering(), tmp_path, empty_redis, service=nowhere) as gw:
        key = await gw.open_account("a")
        got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
        assert (got.status, got.code) == (502, "upstream_unreachable")
        await uncharged(gw)


@pytest.mark.parametrize("framing", [CHUNKED, "Content-Length: 900000"])
@pytest.mark.parametrize("path", [CHAT_PATH, FREE_PATH])
async def test_a_body_that_breaks_off_never_looks_complete(
    tmp_path: Path, empty_redis: str, framing: str, path: str
) -> None:
    """The client sees its connection break, and pays nothing."""
    body = b"x" * 400_000
    upstream = failing(
        message("HTTP/1.1 200 OK", framing, length=False) + (chunk(body) if framing == CHUNKED else body)
    )
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key) if path == CHAT_PATH else get_bytes(path))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.reply()
        await uncharged(gw)


@pytest.mark.parametrize(
    "parts",
    [[], [b"HTTP/1.1 103 Early Hints\r\n\r\n"], [message("HTTP/1.1 200 OK", "Content-Length: 9", length=False), b"x"]],
    ids=["nothing", "only hints", "half a body"],
)
async def test_an_upstream_that_hangs_is_504_and_uncharged(
    tmp_path: Path, empty_redis: str, parts: list[bytes]
) -> None:
    """Within the upstream's reply_seconds_max."""

    async def script(line: Line) -> None:
        await line.request()
        for part in parts:
            await line.send(part)
        await line.ended()

    upstream = ScriptedUpstream(script)
    async with before(upstream, tmp_path, empty_redis, service={"reply_seconds_max": 0.3}) as gw:
        key = await gw.open_account("a")
        async with asyncio.timeout(20):
            got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
        assert (got.status, got.code) == (504, "upstream_timeout")
        await uncharged(gw)


async def test_a_reply_that_drips_has_a_total_time(tmp_path: Path, empty_redis: str) -> None:
    """After total_seconds_max a streamed reply is cut, and uncharged."""
    upstream = answering(message("HTTP/1.1 200 OK", CHUNKED, length=False), *[chunk(b"x")] * 1000, pause=0.02)
    async with before(upstream, tmp_path, empty_redis, service={"total_seconds_max": 0.5}) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            async with asyncio.timeout(5):
                await client.send(chat_bytes(key))
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await client.reply()
        await uncharged(gw)


async def test_upstream_connections_are_shared_and_bounded(tmp_path: Path, empty_redis: str) -> None:
    """One connection for calls one after the other, at most connections_max at once."""

    async def script(line: Line) -> None:
        while True:
            await upstream.taken(line)
            await asyncio.sleep(0.02)
            await line.send(message("HTTP/1.1 200 OK", JSON, body=CHARGED))

    upstream = ScriptedUpstream(script)
    async with before(upstream, tmp_path, empty_redis, service={"connections_max": 3}) as gw:
        for _ in range(5):
            await gw.call("GET", FREE_PATH, None)
        assert upstream.lines == 1
        got = await asyncio.gather(*(gw.call("GET", FREE_PATH, None) for _ in range(12)))
        assert {each.status for each in got} == {200}
        assert upstream.lines == 3


@pytest.mark.parametrize(("verify", "status"), [(True, 502), (False, 200)])
async def test_a_service_behind_tls(tmp_path: Path, empty_redis: str, verify: bool, status: int) -> None:
    """A certificate that nobody signed is only taken where checking is left out."""
    key_file, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key_file} -out {cert} -days 1 -subj /CN=localhost"
    await asyncio.to_thread(subprocess.run, command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key_file)

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.send(message("HTTP/1.1 200 OK", JSON, body=CHARGED))

    upstream = ScriptedUpstream(script, tls=context)
    async with before(upstream, tmp_path / "gw", empty_redis, service={"verify_tls": verify}) as gw:
        key = await gw.open_account("a")
        assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == status
        await nothing_held(gw)


async def test_a_service_below_a_path(tmp_path: Path, empty_redis: str) -> None:
    """The base URL's path comes first."""
    upstream = answering(message("HTTP/1.1 200 OK", JSON, body=CHARGED))
    async with before(upstream, tmp_path, empty_redis, below="/below/this") as gw:
        assert (await gw.call("GET", f"{FREE_PATH}?a=b", None)).status == 200
        assert upstream.requests[0].target == b"/below/this/v1/models?a=b"
