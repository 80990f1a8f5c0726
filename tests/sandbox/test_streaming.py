"""Streaming speech-to-text sessions."""

import asyncio
from typing import Any

import aiohttp
import pytest
from assemblyai.streaming.v3 import (
    StreamingClient,
    StreamingClientOptions,
    StreamingEvents,
    StreamingParameters,
)

from gateway.sandbox import Sandbox

from .conftest import KEY, eventually

PATH = "/v3/ws?sample_rate=16000"
TENTH = bytes(3200)


async def closing(socket: aiohttp.ClientWebSocketResponse) -> tuple[dict[str, Any], int | None]:
    """The last text frame before the close, and the close's code."""
    last: dict[str, Any] = {}
    async for message in socket:
        last = message.json()
    return last, socket.close_code


async def test_a_session_from_begin_to_termination(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """Partial and final turns with `type` last, then the durations and a normal close."""
    async with http.ws_connect(f"{PATH}&format_turns=true") as socket:
        begin = await socket.receive_json()
        assert begin["type"] == "Begin"
        assert begin["configuration"]["model"] == "universal-streaming-english"
        for _ in range(10):
            await socket.send_bytes(TENTH)
        partial, final = await socket.receive_json(), await socket.receive_json()
        assert list(partial)[-1] == "type"
        assert (partial["end_of_turn"], final["end_of_turn"]) == (False, True)
        assert final["turn_is_formatted"]
        await socket.send_json({"type": "UpdateConfiguration", "keyterms_prompt": ["ledger"]})
        await socket.send_bytes(TENTH)
        await socket.send_json({"type": "ForceEndpoint"})
        assert (await socket.receive_json())["turn_order"] == 1
        await socket.send_json({"type": "Terminate"})
        last, code = await closing(socket)
    assert last == {"type": "Termination", "audio_duration_seconds": 2, "session_duration_seconds": 1}
    assert code == 1000
    record = sandbox.state.streams[begin["id"]].view()
    assert record["ended"] == "terminated"
    assert record["updates"][0]["keyterms_prompt"] == ["ledger"]


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")  # the client's
async def test_the_official_client_streams_with_a_token(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """It sends the temporary token in the header."""
    async with http.get("/v3/token", params={"expires_in_seconds": 60}) as answer:
        token = (await answer.json())["token"]
    seen: list[Any] = []

    def work() -> None:
        client = StreamingClient(StreamingClientOptions(api_host=sandbox.url.replace("http", "ws"), token=token))
        for kind in (
            StreamingEvents.Begin,
            StreamingEvents.Turn,
            StreamingEvents.Termination,
            StreamingEvents.Error,
        ):
            client.on(kind, lambda _, event: seen.append(event))
        client.connect(StreamingParameters(sample_rate=16000, speaker_labels_revision_interval_ms=None))
        for _ in range(10):
            client.stream(TENTH)
        client.disconnect(terminate=True)

    await asyncio.to_thread(work)
    assert [type(event).__name__ for event in seen] == ["BeginEvent", "TurnEvent", "TurnEvent", "TerminationEvent"]
    assert sandbox.state.counts["foreign_credentials"] == 0


@pytest.mark.parametrize(
    ("path", "key", "code", "text"),
    [
        (PATH, None, 1008, "Unauthorized Connection: Missing Authorization header"),
        (PATH, "customer-key", 1008, "Unauthorized Connection: Invalid API key"),
        (f"{PATH}&token=forged", None, 1008, "Unauthorized Connection: Invalid API key"),
        ("/v3/ws", KEY, 3006, "User Input Validation Error: sample_rate is required"),
        (f"{PATH}&speech_model=nova", KEY, 3006, "User Input Validation Error: speech_model"),
    ],
)
async def test_refusals_are_in_band(sandbox: Sandbox, path: str, key: str | None, code: int, text: str) -> None:
    """The handshake succeeds; an Error frame tells, and the close has its code."""
    headers = {"Authorization": key} if key else {}
    async with aiohttp.ClientSession(sandbox.url) as session, session.ws_connect(path, headers=headers) as socket:
        error, closed = await closing(socket)
    assert (error["type"], error["error_code"], closed) == ("Error", code, code)
    assert error["error"].startswith(text)


@pytest.mark.parametrize(
    ("frame", "code", "text"),
    [
        (b"x" * 100, 3007, "Input duration violation: 3.1 ms. Expected between 50 and 1000 ms"),
        ("{", 3006, "Invalid JSON"),
        ('{"type": "Sing"}', 3006, "Invalid Message Type: Sing"),
        ("{}", 3006, "Invalid Message: "),
    ],
)
async def test_bad_frames_end_the_session(
    http: aiohttp.ClientSession, frame: str | bytes, code: int, text: str
) -> None:
    """With the code of the vendor's table."""
    async with http.ws_connect(PATH) as socket:
        await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        error, closed = await closing(socket)
    assert (error["error_code"], closed) == (code, code)
    assert error["error"].startswith(text)


async def test_a_tokens_cap_ends_the_session(http: aiohttp.ClientSession) -> None:
    """With session seconds that pass faster than real ones."""
    params = {"expires_in_seconds": 60, "max_session_duration_seconds": 60}
    async with http.get("/v3/token", params=params) as answer:
        token = (await answer.json())["token"]
    headers = {"X-Sandbox-Session-Rate": "300", "Authorization": token}
    async with http.ws_connect(PATH, headers=headers) as socket:
        begin = await socket.receive_json()
        error, code = await closing(socket)
    assert error["error"] == "Session Expired: Maximum session duration exceeded"
    assert code == 3008
    assert begin["id"]


async def test_idle_sessions_terminate_when_they_asked_for_it(http: aiohttp.ClientSession) -> None:
    """And report their duration."""
    headers = {"X-Sandbox-Session-Rate": "50"}
    async with http.ws_connect(f"{PATH}&inactivity_timeout=5", headers=headers) as socket:
        last, code = await closing(socket)
    assert (last["type"], code) == ("Termination", 1000)
    assert last["session_duration_seconds"] >= 5


async def test_a_vanished_client_is_noted(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """So a test can see that a gateway did not say goodbye."""
    async with http.ws_connect(PATH) as socket:
        begin = await socket.receive_json()
    record = sandbox.state.streams[begin["id"]]
    await eventually(lambda: record.ended is not None)
    assert record.ended == "client_gone"


@pytest.mark.parametrize(("code", "seen"), [("3005", 3005), ("1006", 1006)])
async def test_the_upstream_can_break_off(http: aiohttp.ClientSession, code: str, seen: int) -> None:
    """With an error, or without a word."""
    async with http.ws_connect(PATH, headers={"X-Sandbox-Close-Code": code}) as socket:
        await closing(socket)
        assert socket.close_code == seen


async def test_an_llm_runs_inside_the_session(http: aiohttp.ClientSession) -> None:
    """Where the llm_gateway parameter asks for it, after each finished turn."""
    async with http.ws_connect(PATH, params={"sample_rate": "16000", "llm_gateway": '{"model":"gpt-5.2"}'}) as socket:
        await socket.receive_json()
        await socket.send_bytes(TENTH)
        await socket.send_json({"type": "ForceEndpoint"})
        assert (await socket.receive_json())["type"] == "Turn"
        assert (await socket.receive_json())["type"] == "LLMGatewayResponse"


@pytest.mark.parametrize(
    "query", ["", "?expires_in_seconds=0", "?expires_in_seconds=60&max_session_duration_seconds=5"]
)
async def test_token_limits(http: aiohttp.ClientSession, query: str) -> None:
    """Out of range is refused."""
    async with http.get(f"/v3/token{query}") as answer:
        assert answer.status == 400
