"""What the sandbox sees, and how it can be made to misbehave."""

import asyncio
import hashlib
import time
from typing import Any

import aiohttp
import pytest

from gateway.sandbox import Knobs, Sandbox, SandboxSettings, start
from gateway.sandbox.knobs import KNOBS

CHAT = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Hello"}]}


async def chat(http: aiohttp.ClientSession, **knobs: str) -> aiohttp.ClientResponse:
    """A completion under these knobs, its body read."""
    headers = {f"X-Sandbox-{name.replace('_', '-')}": value for name, value in knobs.items()}
    async with http.post("/v1/chat/completions", json=CHAT, headers=headers, allow_redirects=False) as answer:
        await answer.read()
        return answer


async def raw(sandbox: Sandbox, *headers: str) -> bytes:
    """Everything that comes back to a GET of the models, byte for byte."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = ["GET /v1/models HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_requests_are_recorded_with_their_credential(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    """A foreign credential is counted wherever it arrives, even where none is needed."""
    await chat(http)
    async with aiohttp.ClientSession(sandbox.url) as other:
        for headers, path in (
            ({"Authorization": "Bearer customer"}, "/v1/models"),
            ({"Authorization": "customer"}, "/nowhere"),
            ({}, "/v2/transcript?token=customer"),
            ({}, "/v2/transcript"),
        ):
            async with other.get(path, headers=headers) as answer:
                assert answer.status in (200, 401), path
    async with http.get("/sandbox/state") as answer:
        state = await answer.json()
    assert (state["requests"], state["foreign_credentials"], state["missing_credentials"]) == (5, 3, 1)
    async with http.get("/sandbox/requests") as answer:
        *_, first = (await answer.json())["requests"]
    assert (first["method"], first["path"], first["credential"]) == ("POST", "/v1/chat/completions", "service")
    assert first["credential_right"] is True
    assert first["headers"]["content-type"] == "application/json"
    assert first["body_sha256"] == hashlib.sha256(aiohttp.JsonPayload(CHAT)._value).hexdigest()
    async with http.delete("/sandbox/requests"):
        assert not sandbox.state.entries


async def test_knobs_are_merged_checked_and_reset(http: aiohttp.ClientSession) -> None:
    """null gives a default back; one bad knob changes nothing."""
    async with http.put("/sandbox/knobs", json={"status": 503, "job_seconds": 3}) as answer:
        assert (await answer.json())["job_seconds"] == 3.0
    assert (await chat(http)).status == 503
    async with http.put("/sandbox/knobs", json={"status": None}) as answer:
        assert (await answer.json())["job_seconds"] == 3.0
    for wrong in ({"nonsense": 1, "status": 500}, {"status": "high"}, [1]):
        async with http.put("/sandbox/knobs", json=wrong) as answer:
            assert answer.status == 400
            assert (await answer.json())["knobs"] == sorted(KNOBS)
    assert (await chat(http)).status == 200
    assert (await chat(http, nonsense="1")).status == 400
    async with http.delete("/sandbox/knobs") as answer:
        assert (await answer.json())["job_seconds"] == 0.05
    async with http.get("/sandbox/knobs?describe=1") as answer:
        assert set(await answer.json()) == set(KNOBS)


@pytest.mark.parametrize("name", sorted(KNOBS))
def test_every_knob_has_a_default_that_it_takes(name: str) -> None:
    """A default is a value like any other."""
    default = getattr(Knobs(), name)
    assert default is None or KNOBS[name](default) == default


async def test_statuses_redirects_and_headers(http: aiohttp.ClientSession) -> None:
    """Forced answers."""
    forced = await chat(http, status="429")
    assert (forced.status, forced.headers["Retry-After"]) == (429, "1")
    own = await chat(http, status="500", status_body='{"error": "mine"}')
    assert await own.json() == {"error": "mine"}
    assert await (await chat(http, status="502", status_body="<html>")).text() == "<html>"
    for status in ("204", "304"):
        empty = await chat(http, status=status)
        assert (empty.status, await empty.text()) == (int(status), "")
    accepted = await chat(http, status="202")
    assert (accepted.status, "usage" in await accepted.json()) == (202, True)
    moved = await chat(http, redirect="https://example.com/")
    assert (moved.status, moved.headers["Location"]) == (307, "https://example.com/")
    dressed = await chat(http, set_cookie="a=1; Path=/", headers='{"Server-Timing": "x", "Connection": "close"}')
    assert (dressed.headers["Set-Cookie"], dressed.headers["Server-Timing"]) == ("a=1; Path=/", "x")


async def test_failures_are_evenly_spread(http: aiohttp.ClientSession) -> None:
    """Every fourth, not about a fourth."""
    statuses = [(await chat(http, fail_rate="0.25", fail_status="503")).status for _ in range(8)]
    assert statuses == [200, 200, 200, 503, 200, 200, 200, 503]


@pytest.mark.parametrize(
    ("mode", "header", "value"),
    [
        ("chunked", "Transfer-Encoding", "chunked"),
        ("gzip", "Content-Encoding", "gzip"),
        ("content-length", "Content-Length", None),
        ("slow", "Content-Length", None),
    ],
)
async def test_a_body_comes_whole_in_every_way(
    http: aiohttp.ClientSession, mode: str, header: str, value: str | None
) -> None:
    """Framing and coding change, the JSON does not."""
    answer = await chat(http, body=mode, chunk_bytes="200", chunk_seconds="0.01")
    assert "usage" in await answer.json()
    assert answer.headers[header] == value or value is None


@pytest.mark.parametrize("mode", ["content-length", "chunked", "gzip", "slow"])
async def test_events_come_whole_in_every_way(http: aiohttp.ClientSession, mode: str) -> None:
    """A stream stays a stream of events."""
    headers = {"X-Sandbox-Body": mode, "X-Sandbox-Chunk-Bytes": "999", "X-Sandbox-Chunk-Seconds": "0.01"}
    async with http.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=headers) as answer:
        assert (await answer.text()).endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("mode", ["truncated", "no_reply"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_broken_connection(sandbox: Sandbox, http: aiohttp.ClientSession, mode: str, *, stream: bool) -> None:
    """In the middle of the body, or before any answer; the work was done."""
    request: dict[str, Any] = {**CHAT, "stream": stream}
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
        async with http.post("/v1/chat/completions", json=request, headers={"X-Sandbox-Body": mode}) as answer:
            await answer.read()
    assert sandbox.state.counts["llm_calls"] >= 1


async def test_a_hanging_answer_ends_with_the_sandbox() -> None:
    """Nothing comes, and stopping does not wait for it."""
    sandbox = await start(SandboxSettings(body="hang"))
    async with aiohttp.ClientSession(sandbox.url) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), session.get("/v1/models"):
                pass
        waiting = asyncio.create_task(_get(session, "/v1/models"))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await sandbox.stop()
        assert time.monotonic() - started < 10
        with pytest.raises(aiohttp.ClientError):
            await waiting


async def _get(session: aiohttp.ClientSession, path: str) -> None:
    async with session.get(path):
        pass


async def test_large_bodies_stay_well_formed(http: aiohttp.ClientSession) -> None:
    """Padding comes before what matters."""
    answer = await chat(http, body_bytes="2000000")
    assert len(await answer.text()) > 2_000_000
    assert (await answer.json())["usage"]["output_tokens"] == 8


async def test_early_hints_and_trailers(sandbox: Sandbox) -> None:
    """Interim responses before, and fields after the body."""
    answer = await raw(sandbox, "X-Sandbox-Early-Hints: 2", 'X-Sandbox-Trailers: {"X-Sum": "abc"}')
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\n")
    assert answer.count(b"HTTP/1.1") == 3
    assert answer.endswith(b"\r\n0\r\nX-Sum: abc\r\n\r\n")


async def test_latency(http: aiohttp.ClientSession) -> None:
    """The answer waits."""
    started = time.monotonic()
    await chat(http, latency_seconds="0.1")
    assert time.monotonic() - started >= 0.1


async def test_a_handshake_can_be_refused(http: aiohttp.ClientSession) -> None:
    """Before the upgrade, as a proxy on the way would."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await http.ws_connect("/v3/ws?sample_rate=16000", headers={"X-Sandbox-Status": "503"})
    assert raised.value.status == 503
    async with http.get("/v3/ws?sample_rate=16000") as answer:
        assert answer.status == 426


async def test_memory_is_bounded() -> None:
    """The oldest goes first."""
    sandbox = await start(SandboxSettings(requests_kept=3, transcripts_kept=2))
    headers = {"Authorization": sandbox.state.settings.credential}
    async with aiohttp.ClientSession(sandbox.url, headers=headers) as session:
        for _ in range(5):
            async with session.post("/v2/transcript", json={"audio_url": "https://example.com/a"}) as answer:
                assert answer.status == 200
        async with session.get("/v2/transcript") as answer:
            assert (await answer.json())["page_details"]["result_count"] == 2
    assert len(sandbox.state.entries) == 3
    await sandbox.stop()


async def test_streams_take_the_form_that_is_wanted(http: aiohttp.ClientSession) -> None:
    """Line ends, comments, usage on every chunk, an error in the middle, and a line that drops."""

    async def streamed(**knobs: str) -> bytes:
        headers = {f"X-Sandbox-{name.replace('_', '-')}": value for name, value in knobs.items()}
        async with http.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=headers) as answer:
            return await answer.read()

    plain = await streamed()
    assert (await streamed(event_lines="crlf")).count(b"\r\n\r\n") == plain.count(b"\n\n")
    assert b"\n" not in await streamed(event_lines="cr")
    assert (await streamed(event_comments="true")).count(b": keep-alive\n\n") == plain.count(b"data: ")
    assert (await streamed(running_usage="true")).count(b'"usage":{') == plain.count(b"data: {")
    failed = await streamed(event_error="2")
    assert failed.count(b"data: ") == 3 and b'"error":{' in failed and b"[DONE]" not in failed
    with pytest.raises(aiohttp.ClientPayloadError):
        await streamed(events_max="2")
