"""What customers upload: streamed, bounded, refused, cut short."""

import asyncio
import gc
import gzip
import hashlib
import io
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.edge.patience import Patience
from tests.fakes.upstream import Line, RawClient, ScriptedUpstream, chunk, message
from tests.harness import Running, running
from tests.upstream.proxying import (
    CHAT,
    CHAT_PATH,
    JSON,
    PRICE,
    before,
    chat_bytes,
    chat_upstream,
    metric,
    nothing_held,
    until,
)

UPLOAD_PATH = "/v2/upload"


def upload_head(key: str, *fields: str) -> bytes:
    """The head of an upload."""
    return message(f"POST {UPLOAD_PATH} HTTP/1.1", "Host: gw", f"Authorization: {key}", *fields, length=False)


def rss_bytes() -> int:
    """Memory of this process now, which is also the gateway's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def pieces(count: int, size: int = 2**20) -> AsyncIterator[bytes]:
    """So many MiB."""
    block = bytes(range(256)) * (size // 256)
    for _ in range(count):
        yield block


def patient() -> int:
    """How many waits for bodies are kept by something."""
    gc.collect()
    return sum(isinstance(each, Patience) for each in gc.get_objects())


# ---- streamed


@pytest.mark.parametrize("declared", [True, False], ids=["by length", "by chunks"])
async def test_a_large_upload_passes_by_in_little_memory(gw: Running, declared: bool) -> None:
    """100 MiB arrive to the byte, framed as they were sent, and are never all here."""
    key = await gw.open_account("a")
    size = 100 * 2**20
    digest = hashlib.sha256()
    async for block in pieces(100):
        digest.update(block)
    rss, highest = rss_bytes(), 0

    async def watched() -> AsyncIterator[bytes]:
        nonlocal highest
        async for block in pieces(100):
            highest = max(highest, rss_bytes() - rss)
            yield block

    headers = {"Content-Length": str(size)} if declared else {}
    got = await gw.call("POST", UPLOAD_PATH, key, data=watched(), headers=headers)
    assert got.status == 200
    (seen,) = await gw.seen()
    assert (seen["body_bytes"], seen["body_sha256"]) == (size, digest.hexdigest())
    assert seen["headers"].get("content-length") == (str(size) if declared else None)
    assert seen["headers"].get("transfer-encoding") == (None if declared else "chunked")
    assert highest < 30 * 2**20


async def test_nothing_is_left_of_an_upload_that_is_over(gw: Running) -> None:
    """A body that had to be waited for leaves no timer behind, which would be kept for as long as one may wait."""
    had = patient()
    key = await gw.open_account("a")
    async with await RawClient.open(gw.gateway.customers_port) as client:
        for _ in range(3):
            await client.send(upload_head(key, "Content-Length: 6"))
            await asyncio.sleep(0.02)
            await client.send(b"abc")
            await asyncio.sleep(0.02)
            await client.send(b"def")
            assert (await client.reply(b"POST")).status == 200
    assert patient() <= had


async def test_an_upload_waits_for_a_slow_upstream(tmp_path: Path, empty_redis: str) -> None:
    """What the upstream does not take, the client cannot send."""
    go = asyncio.Event()

    async def script(line: Line) -> None:
        await line.head()
        await go.wait()
        while await line.reader.read(2**16):
            pass

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.send(upload_head(key, f"Content-Length: {2**30}"))
            sent = 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    while True:
                        await client.send(b"x" * 2**18)
                        sent += 2**18
            assert sent < 30 * 2**20  # what the kernel's buffers on both sides hold
            go.set()
            client.cut()


async def test_the_first_bytes_of_an_upload_do_not_wait_for_the_last(tmp_path: Path, empty_redis: str) -> None:
    """Nothing is gathered."""
    came = asyncio.Event()

    async def script(line: Line) -> None:
        await line.head()
        assert await line.reader.readexactly(8) == b"3\r\nabc\r\n"
        came.set()
        assert await line.rest() == b""

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.send(upload_head(key, "Transfer-Encoding: chunked") + chunk(b"abc"))
            async with asyncio.timeout(5):
                await came.wait()


async def test_empty_bodies(gw: Running) -> None:
    """By length, by chunks, or none at all: forwarded as nothing, and answered by the upstream."""
    key = await gw.open_account("a")
    for framing, rest in [("Content-Length: 0", b""), ("Transfer-Encoding: chunked", b"0\r\n\r\n"), ("X-None: 1", b"")]:
        async with await RawClient.open(gw.gateway.customers_port) as client:
            got = await client.ask(upload_head(key, framing) + rest)
        assert (got.status, got.one("X-Gateway-Error")) == (422, None)
    assert [request["body_bytes"] for request in await gw.seen()] == [0, 0, 0]


# ---- too large, too slow, not all


def small_bodies(data: dict[str, Any]) -> None:
    """1000 bytes for uploads and chats."""
    for route in data["routes"]:
        if route["name"] in ("upload.create", "chat.completions"):
            route["body_bytes_max"] = 1000


SMALL = {"config/products/speech-to-text.yaml": small_bodies, "config/products/llm-gateway.yaml": small_bodies}


@pytest.mark.parametrize("path", [UPLOAD_PATH, CHAT_PATH])
async def test_a_body_that_says_it_is_too_large_is_not_read(tmp_path: Path, empty_redis: str, path: str) -> None:
    """413 before a byte of it is sent, and nothing is forwarded."""
    async with running(tmp_path, empty_redis, changes=SMALL) as gw:
        key = await gw.open_account("a")
        head = message(
            f"POST {path} HTTP/1.1", "Host: h", f"Authorization: {key}", "Content-Length: 1001", length=False
        )
        async with await RawClient.open(gw.gateway.customers_port) as client:
            got = await client.ask(head)
        assert (got.status, got.one("X-Gateway-Error")) == (413, b"body_too_large")
        assert got.one("Connection") == b"close"
        assert not await gw.seen()


async def test_a_json_body_that_turns_out_too_large(tmp_path: Path, empty_redis: str) -> None:
    """413, nothing forwarded, nothing held."""
    async with running(tmp_path, empty_redis, changes=SMALL) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.send(chat_bytes(key, "Transfer-Encoding: chunked", body=b"", length=False))
            for _ in range(4):
                await client.send(chunk(b"x" * 300))
            got = await client.reply()
        assert (got.status, got.one("X-Gateway-Error")) == (413, b"body_too_large")
        assert not await gw.seen()
        await nothing_held(gw)


async def test_an_upload_that_turns_out_too_large(tmp_path: Path, empty_redis: str) -> None:
    """413, and the upstream does not see it end: it must not take the half for the whole."""
    async with running(tmp_path, empty_redis, changes=SMALL) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.send(upload_head(key, "Transfer-Encoding: chunked"))
            for _ in range(4):
                await client.send(chunk(b"x" * 300))
                await asyncio.sleep(0.01)
            got = await client.reply()
        assert (got.status, got.one("X-Gateway-Error")) == (413, b"body_too_large")
        await until(lambda: gw.sandbox.state.entries[-1].body_bytes >= 300)  # counted when the sandbox sees it cut
        assert not gw.sandbox.state.uploads


async def test_a_body_of_just_the_limit_passes(tmp_path: Path, empty_redis: str) -> None:
    """Both ways of framing it."""
    async with running(tmp_path, empty_redis, changes=SMALL) as gw:
        key = await gw.open_account("a")
        assert (await gw.call("POST", UPLOAD_PATH, key, data=b"x" * 1000)).status == 200
        assert (await gw.call("POST", UPLOAD_PATH, key, data=pieces(2, 512))).status == 413
        assert (await gw.call("POST", UPLOAD_PATH, key, data=pieces(1, 768))).status == 200


@pytest.mark.parametrize("path", [UPLOAD_PATH, CHAT_PATH])
@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_client_that_stops_sending_is_408(tmp_path: Path, empty_redis: str, path: str, framing: str) -> None:
    """After body_read_seconds_max; the connection ends with it, and nothing stays held."""

    def change(data: dict[str, Any]) -> None:
        data["limits"]["body_read_seconds_max"] = 0.2

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": change}) as gw:
        key = await gw.open_account("a")
        head = message(f"POST {path} HTTP/1.1", "Host: h", f"Authorization: {key}", framing, length=False)
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.send(head)
            await client.send(chunk(b"{") if "chunked" in framing else b"{")
            got = await client.reply()
        assert (got.status, got.one("X-Gateway-Error")) == (408, b"request_timeout")
        assert got.one("Connection") == b"close"
        await nothing_held(gw)


@pytest.mark.parametrize("path", [UPLOAD_PATH, CHAT_PATH])
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_client_that_leaves_in_the_middle_of_its_body(gw: Running, path: str, framing: str) -> None:
    """The upstream sees it too, nothing is held, nobody owns anything, and the departure is counted."""
    key = await gw.open_account("a")
    head = message(f"POST {path} HTTP/1.1", "Host: h", f"Authorization: {key}", framing, length=False)
    async with await RawClient.open(gw.gateway.customers_port) as client:
        await client.send(head + (chunk(b"{" * 1000) if "chunked" in framing else b"{" * 1000))
        await until(lambda: gw.sandbox.state.entries if path == UPLOAD_PATH else gw.gateway.pipeline.calls_open)
        await asyncio.sleep(0.1)
        client.cut()
        await until(lambda: gw.gateway.pipeline.calls_open == 0)
    if path == UPLOAD_PATH:
        await until(lambda: gw.sandbox.state.entries[-1].body_bytes == 1000)  # counted when the sandbox sees it cut
        assert not gw.sandbox.state.uploads
    await nothing_held(gw)
    assert await gw.balance("a") == 100 * 10**9
    assert sum((await metric(gw, "gateway_clients_gone_total")).values()) == 1


async def test_an_upload_whose_upstream_breaks_down(tmp_path: Path, empty_redis: str) -> None:
    """502 to the client, although its body was not all taken."""

    async def script(line: Line) -> None:
        await line.head()
        await line.reader.readexactly(1000)
        line.cut()

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.send(upload_head(key, "Content-Length: 2000") + b"x" * 1500)
            got = await client.reply()
        assert (got.status, got.one("X-Gateway-Error")) == (502, b"upstream_unreachable")


async def test_an_upstream_that_answers_before_it_has_the_body(tmp_path: Path, empty_redis: str) -> None:
    """Its answer is passed on while the upload is still going on."""

    async def script(line: Line) -> None:
        await line.head()
        await line.send(message("HTTP/1.1 413 Content Too Large", JSON, body=b'{"error":"too large"}'))
        await line.ended()

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.send(upload_head(key, f"Content-Length: {2**20}") + b"x" * 1000)
            got = await client.reply()
        assert (got.status, got.body, got.one("X-Gateway-Error")) == (413, b'{"error":"too large"}', None)


async def test_after_a_refusal_the_rest_of_the_body_is_not_the_next_request(gw: Running) -> None:
    """A refused upload's bytes are read and dropped, then the connection goes on with the next request."""
    inner = message("POST /v1/chat/completions HTTP/1.1", "Host: h", length=False)
    async with await RawClient.open(gw.gateway.customers_port) as client:
        await client.send(upload_head("wrong", f"Content-Length: {len(inner)}"))
        assert (await client.reply()).status == 401
        await client.send(inner)
        assert (await client.ask(message("GET /v1/models HTTP/1.1", "Host: h", length=False))).status == 200
    assert [request["path"] for request in await gw.seen()] == ["/v1/models"]


# ---- Expect: 100-continue


EXPECT = "Expect: 100-continue"


async def test_a_refused_client_need_not_send_its_body(gw: Running) -> None:
    """It gets the refusal in place of 100 Continue, and the connection ends: it may not send the body any more."""
    async with await RawClient.open(gw.gateway.customers_port) as client:
        await client.send(upload_head("wrong", "Content-Length: 1000000", EXPECT))
        head = await client.head()
        assert head is not None
        assert head.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nConnection: close" in head


async def test_an_account_without_credit_need_not_send_its_body(gw: Running) -> None:
    """A chat is only read to see what it may cost; a job as well: but an upload is free, so it is taken."""
    key = await gw.open_account("a", credit="0")
    async with await RawClient.open(gw.gateway.customers_port) as client:
        body = orjson.dumps(CHAT)
        await client.send(chat_bytes(key, EXPECT, f"Content-Length: {len(body)}", body=b"", length=False))
        assert (await client.head() or b"").startswith(b"HTTP/1.1 100 ")
        await client.send(body)
        assert (await client.reply()).one("X-Gateway-Error") == b"insufficient_credit"


@pytest.mark.parametrize("expect", [EXPECT, "expect: 100-Continue"])
async def test_an_admitted_client_is_told_to_go_on(gw: Running, expect: str) -> None:
    """100 Continue, once, then the answer; the field itself is not forwarded."""
    key = await gw.open_account("a")
    async with await RawClient.open(gw.gateway.customers_port) as client:
        for _ in range(2):
            await client.send(upload_head(key, "Content-Length: 6", expect))
            assert await client.head() == b"HTTP/1.1 100 Continue"
            await client.send(b"abcdef")
            received = await client.message(of=b"POST")
            assert received is not None
            assert received.status == 200
    assert all("expect" not in request["headers"] for request in await gw.seen())
    assert len(await gw.seen()) == 2


async def test_a_body_that_does_not_wait_for_100(gw: Running) -> None:
    """A client may send it at once."""
    key = await gw.open_account("a")
    async with await RawClient.open(gw.gateway.customers_port) as client:
        assert (await client.ask(chat_bytes(key, EXPECT))).status == 200
        assert (await client.ask(chat_bytes(key, EXPECT))).status == 200


# ---- JSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"12",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "gpt-5.2", "messages": [], "n": ' + b"9" * 100_000 + b"}",
        b'{"model": "\\ud800", "messages": []}',
        orjson.dumps({**CHAT, "model": {"a": 1}}),
        orjson.dumps({**CHAT, "model": 5}),
    ],
    ids=lambda body: body[:20].decode("latin-1") + str(len(body)),
)
async def test_what_is_no_request_is_refused_here(gw: Running, body: bytes) -> None:
    """400 in the product's dialect, nothing forwarded, nothing held."""
    key = await gw.open_account("a")
    got = await gw.call("POST", CHAT_PATH, key, data=body)
    assert got.status == 400
    assert got.code in ("invalid_request", "unknown_model")
    assert got.json["error"]["message"]
    assert not await gw.seen()
    assert (await gw.ledger.account("a")).held == 0


async def test_deep_json_is_no_fault(gw: Running) -> None:
    """As deep as a parser allows, in the request, in places that are looked at and that are not."""
    key = await gw.open_account("a")
    deep = b"[" * 900 + b"]" * 900
    for field in (b"extra", b"fallbacks", b"max_tokens", b"transcript_id", b"n", b"web_search_options"):
        body = b'{"model":"gpt-5.2","messages":[{"role":"user","content":"x"}],"%b":%b}' % (field, deep)
        got = await gw.call("POST", CHAT_PATH, key, data=body)
        assert got.status in (200, 400), field
    for field in (b"audio_url", b"speaker_labels", b"custom_spelling", b"speaker_options", b"speech_understanding"):
        body = b'{"%b":%b}' % (field, deep)
        got = await gw.call("POST", "/v2/transcript", key, data=body)
        assert got.status in (200, 400), field
    await nothing_held(gw)


async def test_deep_replies_are_no_fault(tmp_path: Path, empty_redis: str) -> None:
    """What an upstream echoes may be deep as well, also where fields are taken out of it."""
    deep = b'{"id":"x","status":"queued","project_id":5,"a":' + b'{"a":' * 900 + b"1" + b"}" * 901

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.send(message("HTTP/1.1 200 OK", JSON, body=deep))

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        got = await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
        assert got.status == 200
        assert b"project_id" not in got.body


async def test_a_huge_request_is_forwarded_to_the_byte(gw: Running) -> None:
    """Spaces, order and escapes stay as they were."""
    key = await gw.open_account("a", credit="1000")
    text = "x" * 5_000_000
    body = b'{ "messages":[{"content":"%b\\u00e9","role":"user"}],\n"model" : "gpt-5.2" }' % text.encode()
    got = await gw.call("POST", CHAT_PATH, key, data=io.BytesIO(body))
    assert got.status == 200
    assert (await gw.seen())[0]["body_sha256"] == hashlib.sha256(body).hexdigest()


async def test_a_compressed_request_is_read_and_passed_as_it_is(tmp_path: Path, empty_redis: str) -> None:
    """The gateway looks into its own copy; a bomb, or what it cannot read, is refused."""
    upstream = chat_upstream()
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        packed = gzip.compress(orjson.dumps(CHAT), mtime=0)
        async with await RawClient.open(gw.gateway.customers_port) as client:
            got = await client.ask(chat_bytes(key, "Content-Encoding: gzip", body=packed))
            assert (got.status, got.one("X-Gateway-Charge")) == (200, PRICE.encode())
            bomb = gzip.compress(b'{"model":"gpt-5.2","x":"' + b"x" * 200_000_000 + b'"}')
            for encoding, body in [("gzip", bomb), ("br", packed), ("gzip", orjson.dumps(CHAT)), ("gzip", packed[:-9])]:
                got = await client.ask(chat_bytes(key, f"Content-Encoding: {encoding}", body=body))
                assert (got.status, got.one("X-Gateway-Error")) == (400, b"invalid_request")
        (request,) = upstream.requests
        assert (request.body, request.one("Content-Encoding")) == (packed, b"gzip")


@pytest.mark.parametrize(
    "fields",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: -1"],
        ["Content-Length: 1_0"],
        ["Content-Length: +5"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["X y: 1"],
        ["X\x00: 1"],
        [" folded: 1"],
    ],
)
async def test_ambiguous_heads_are_400_and_end_the_connection(gw: Running, fields: list[str]) -> None:
    """Two readers must not see two requests."""
    key = await gw.open_account("a")
    async with await RawClient.open(gw.gateway.customers_port) as client:
        await client.send(upload_head(key, *fields) + b"hello")
        assert (await client.reply()).status == 400
        assert await client.ended()
    assert not await gw.seen()


async def test_broken_chunks_are_no_body(tmp_path: Path, empty_redis: str) -> None:
    """The upload fails when its time is over, upstream sees no end of it, and the connection ends."""

    def change(data: dict[str, Any]) -> None:
        data["limits"]["body_read_seconds_max"] = 0.2

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": change}) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.send(upload_head(key, "Transfer-Encoding: chunked") + chunk(b"abc"))
            await asyncio.sleep(0.05)
            await client.send(b"xyz\r\n")
            assert (await client.reply()).status in (400, 408)
            assert await client.ended()
        await until(lambda: gw.sandbox.state.entries[-1].body_bytes == 3)
        assert not gw.sandbox.state.uploads
