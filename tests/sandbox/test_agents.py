"""Voice agent sessions, and their REST API."""

import asyncio
import base64
from typing import Any

import aiohttp
import pytest

from gateway.sandbox import Sandbox

from .conftest import KEY, eventually

SECOND = base64.b64encode(bytes(48_000)).decode()


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    """Frames up to one of this type, which is returned."""
    async with asyncio.timeout(20):
        while True:
            frame: dict[str, Any] = await socket.receive_json()
            assert isinstance(frame["timestamp"], float)
            if frame["type"] == kind:
                return frame


async def test_a_conversation(http: aiohttp.ClientSession) -> None:
    """Greeting, a turn with a tool, an update, the end, and the same duration over REST."""
    config = {"greeting": "Hello", "output": {"voice": "alba"}, "tools": [{"type": "function", "name": "look"}]}
    async with http.ws_connect("/v1/ws", headers={"Authorization": f"Bearer {KEY}"}) as socket:
        await socket.send_json({"type": "session.update", "session": config})
        ready = await until(socket, "session.ready")
        assert (await until(socket, "transcript.agent"))["text"] == "Hello"
        await until(socket, "reply.done")
        await socket.send_json({"type": "input.audio", "audio": SECOND})
        call = await until(socket, "tool.call")
        await socket.send_json({"type": "tool.result", "call_id": call["call_id"], "result": "{}"})
        assert base64.b64decode((await until(socket, "reply.audio"))["data"])
        await until(socket, "reply.done")
        await socket.send_json({"type": "session.update", "session": {"system_prompt": "Be brief."}})
        assert (await until(socket, "session.updated"))["config"]["system_prompt"] == "Be brief."
        await socket.send_json({"type": "session.end"})
        ended = await until(socket, "session.ended")
        await socket.receive()
        assert socket.close_code == 1000
    assert isinstance(ended["session_duration_seconds"], float)
    assert ended["audio_duration_seconds"] is None
    async with http.get(f"/v1/sessions/{ready['session_id']}") as answer:
        session = await answer.json()
    assert (session["status"], session["public_close_reason"]) == ("completed", "client_end")
    assert session["duration_seconds"] == pytest.approx(ended["session_duration_seconds"], abs=0.4)


@pytest.mark.parametrize(
    ("key", "first", "code"),
    [
        ("customer-key", {"type": "session.update", "session": {}}, "unauthorized"),
        (KEY, {"type": "input.audio", "audio": ""}, "invalid_value"),
        (KEY, {"type": "session.update", "session": {"output": {"voice": "nobody"}}}, "invalid_value"),
        (KEY, {"type": "session.update", "session": {"agent_id": "agent_x"}}, "agent_not_found"),
        (KEY, {"type": "session.resume", "session_id": "sess_x"}, "session_not_found"),
    ],
)
async def test_a_bad_start_is_fatal(sandbox: Sandbox, key: str, first: dict[str, Any], code: str) -> None:
    """An error in band, and 1008."""
    headers = {"Authorization": key}
    async with aiohttp.ClientSession(sandbox.url) as session, session.ws_connect("/v1/ws", headers=headers) as socket:
        await socket.send_json(first)
        assert (await until(socket, "session.error"))["code"] == code
        await socket.receive()
        assert socket.close_code == 1008


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_format"),
        ('{"type": "sing"}', "invalid_value"),
        ('{"type": "input.audio", "audio": "!"}', "invalid_audio"),
        ('{"type": "session.update", "session": {"agent_id": "x"}}', "agent_id_not_first"),
        ('{"type": "session.update", "session": {"input": {"format": {}}}}', "immutable_field"),
    ],
)
async def test_later_errors_keep_the_session_open(http: aiohttp.ClientSession, message: str, code: str) -> None:
    """The client is told, and goes on."""
    async with http.ws_connect("/v1/ws") as socket:
        await socket.send_json({"type": "session.update", "session": {}})
        await until(socket, "session.ready")
        await socket.send_str(message)
        assert (await until(socket, "session.error"))["code"] == code
        await socket.send_json({"type": "reply.create"})
        await until(socket, "reply.done")


@pytest.mark.parametrize("broken", [False, True], ids=["closed", "a line that breaks"])
async def test_a_dropped_session_can_be_resumed_for_a_while(
    http: aiohttp.ClientSession, sandbox: Sandbox, broken: bool
) -> None:
    """And is billed for the grace when nobody comes back."""
    token = await _token(http)
    headers = {"X-Sandbox-Session-Rate": "100", "X-Sandbox-Resume-Seconds": "30"}
    async with http.ws_connect("/v1/ws", headers={**headers, "Authorization": token}) as socket:
        await socket.send_json({"type": "session.update", "session": {}})
        ready = await until(socket, "session.ready")
        if broken:
            socket._writer.transport.abort()
    record = sandbox.state.agent_sessions[ready["session_id"]]
    await eventually(lambda: not record.connected)
    async with http.ws_connect("/v1/ws", headers=headers) as socket:
        await socket.send_json({"type": "session.resume", "session_id": record.id})
        assert (await until(socket, "session.ready"))["session_id"] == record.id
    await asyncio.sleep(0.5)
    async with http.get(f"/v1/sessions/{record.id}") as answer:
        session = await answer.json()
    assert session["public_close_reason"] == "client_disconnect"
    assert session["duration_seconds"] >= 30
    async with http.get("/v1/sessions") as answer:
        assert len((await answer.json())["sessions"]) == 1
    async with http.delete(f"/v1/sessions/{record.id}") as answer:
        assert answer.status == 204


async def _token(http: aiohttp.ClientSession) -> str:
    async with http.get("/v1/token", params={"expires_in_seconds": 60}) as answer:
        return str((await answer.json())["token"])


async def test_the_maximum_duration_ends_a_session(http: aiohttp.ClientSession) -> None:
    """An hour of session seconds."""
    async with http.ws_connect("/v1/ws", headers={"X-Sandbox-Session-Rate": "20000"}) as socket:
        await socket.send_json({"type": "session.update", "session": {}})
        assert (await until(socket, "session.ended"))["session_duration_seconds"] >= 3600


async def test_agents_are_stored_and_used(http: aiohttp.ClientSession) -> None:
    """Create, list, replace, run, delete."""
    async with http.post("/v1/agents", json={"name": "Ann", "greeting": "Good day"}) as answer:
        assert answer.status == 201
        agent = await answer.json()
    path = f"/v1/agents/{agent['id']}"
    async with http.put(path, json={"name": "Ann", "greeting": "Hi"}) as answer:
        assert (await answer.json())["greeting"] == "Hi"
    async with http.get("/v1/agents") as answer:
        assert [each["id"] for each in (await answer.json())["agents"]] == [agent["id"]]
    async with http.ws_connect("/v1/ws") as socket:
        await socket.send_json({"type": "session.update", "session": {"agent_id": agent["id"]}})
        assert (await until(socket, "transcript.agent"))["text"] == "Hi"
    async with http.delete(path) as answer:
        assert answer.status == 204
    async with http.get(path) as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, "expires_in_seconds=60", 422),
        ({"Authorization": "wrong"}, "expires_in_seconds=60", 404),
        ({"Authorization": KEY}, "", 422),
        ({"Authorization": KEY}, "expires_in_seconds=601", 422),
        ({"Authorization": KEY}, "expires_in_seconds=60&max_session_duration_seconds=3", 422),
    ],
)
async def test_token_refusals(sandbox: Sandbox, headers: dict[str, str], query: str, status: int) -> None:
    """In the agents host's own way."""
    async with (
        aiohttp.ClientSession(sandbox.url) as session,
        session.get(f"/v1/token?{query}", headers=headers) as answer,
    ):
        assert answer.status == status
        assert "detail" in await answer.json()
