"""The voice agent's socket: /v1/ws.

Owns: the session's messages in both directions, its errors, its maximum duration, resumption, and what it reports at
its end (`session_duration_seconds`, a float).
Does not know: what is said; agents and finished sessions over REST are in `agents_rest`. A temporary token's session
cap is not enforced here, as measured upstream.
"""

import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

import orjson
from aiohttp import WSMsgType, web

from gateway.sandbox.agent_config import Problem, check, sound_of
from gateway.sandbox.agent_sessions import AgentRecord
from gateway.sandbox.audio import silence
from gateway.sandbox.errors import Product
from gateway.sandbox.knobs import adjusted
from gateway.sandbox.routes import Call, SocketRoute
from gateway.sandbox.state import Carried

SESSION_SECONDS_MAX: Final = 3600
_CHUNK_SECONDS: Final = 0.05
_REPLY_CHUNKS: Final = 4
_REPLY_TEXT: Final = "Noted. What else?"


class _Fatal(Exception):
    """The session ends with this close code."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(reason)
        self.close_code = close_code


class _Ended(Exception):
    """The client asked for the end."""


class _Gone(Exception):
    """The client left without a word."""


async def session(call: Call, socket: web.WebSocketResponse) -> None:
    """Serve one connection."""
    await _Connection(call, socket).run()


class _Connection:
    """One connection, which has a session once the first message was good."""

    def __init__(self, call: Call, socket: web.WebSocketResponse) -> None:
        self._call, self._knobs, self._socket = call, call.knobs, socket
        self._record: AgentRecord | None = None
        self._opened = time.monotonic()
        self._turn_audio = 0.0
        self._call_due: str | None = None
        self._handlers: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "session.update": self._update,
            "session.resume": self._resume_again,
            "session.end": self._end,
            "input.audio": self._hear,
            "tool.result": self._take_result,
            "reply.create": self._reply_now,
        }

    def __repr__(self) -> str:
        return f"<_Connection of {self._record.id if self._record else 'no session'}>"

    async def run(self) -> None:
        """Until the end, an error, or the client's disappearance."""
        try:
            if self._call.entry.carried in (Carried.MISSING, Carried.FOREIGN):
                await self._send_problem(Problem("unauthorized", "Authentication failed"))
                raise _Fatal(1008, "unauthorized")
            await self._first()
            while True:
                await self._next()
        except _Ended:
            await self._finish("client_end", 1000)
        except _Fatal as fatal:
            await self._finish(str(fatal), fatal.close_code)
        except (ConnectionError, _Gone):
            pass
        finally:  # a line that drops cancels this: then, too, the client is gone
            if self._record is not None and self._record.connected:
                self._record.leave(time.monotonic())

    async def _send(self, kind: str, **fields: Any) -> None:
        frame = {"type": kind, **fields, "timestamp": time.time()}
        await self._socket.send_str(orjson.dumps(frame).decode())

    async def _send_problem(self, problem: Problem) -> None:
        await self._send(
            "session.error",
            code=problem.code,
            message=str(problem),
            param=problem.param,
            session_id=self._record.id if self._record else None,
        )

    async def _receive(self) -> dict[str, Any]:
        """The next message; raises when a clock strikes first."""
        while True:
            try:
                message = await self._socket.receive(timeout=self._wait_seconds())
            except TimeoutError:
                continue
            if message.type is not WSMsgType.TEXT:
                if message.type is WSMsgType.BINARY:
                    raise Problem("invalid_format", "Binary frames are not supported")
                raise _Gone
            try:
                value = orjson.loads(message.data)
            except orjson.JSONDecodeError:
                raise Problem("invalid_format", "The message is not JSON") from None
            if not isinstance(value, dict) or not isinstance(value.get("type"), str):
                raise Problem("invalid_format", "The message has no type", "type")
            return value

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        born = self._record.born if self._record else self._opened
        waits = [born + SESSION_SECONDS_MAX / self._knobs.session_rate - now]
        if waits[0] <= 0:
            raise _Fatal(1000, "max_duration")
        if self._knobs.close_code is not None and self._record is not None:
            waits.append(self._opened + self._knobs.close_after_seconds - now)
            if waits[-1] <= 0:
                raise _Fatal(self._knobs.close_code, "server_error")
        return max(0.0, min(waits))

    async def _first(self) -> None:
        """The first message configures or resumes; when it is wrong there is no session."""
        try:
            message = await self._receive()
            if message["type"] == "session.resume":
                self._record = self._resumed(message)
            elif message["type"] == "session.update":
                config = self._configured(message)
                self._record = AgentRecord(
                    rate=self._knobs.session_rate, grace_seconds=self._knobs.resume_seconds, config=config
                )
                self._call.state.agent_sessions.keep(self._record.id, self._record)
            else:
                raise Problem("invalid_value", "The first message must be session.update", "type")
        except Problem as problem:
            await self._send_problem(problem)
            raise _Fatal(1008, problem.code) from None
        record = self._record
        await self._send(
            "session.ready",
            session_id=record.id,
            expires_at=int(record.created_at) + SESSION_SECONDS_MAX,
            resume_token=record.resume_token,
            config=record.config,
        )
        if record.config.get("greeting") and message["type"] == "session.update":
            await self._reply(str(record.config["greeting"]))

    async def _next(self) -> None:
        try:
            message = await self._receive()
            handler = self._handlers.get(message["type"])
            if handler is None:
                raise Problem("invalid_value", f"Unknown message type {message['type']}", "type")
            await handler(message)
        except Problem as problem:
            await self._send_problem(problem)

    def _configured(self, message: dict[str, Any]) -> dict[str, Any]:
        """The session's configuration, with a stored agent's where one is named."""
        config = message.get("session")
        if not isinstance(config, dict):
            raise Problem("invalid_value", "session must be an object", "session")
        agent_id = config.get("agent_id")
        if agent_id is not None:
            agent = self._call.state.agents.get(str(agent_id))
            if agent is None:
                raise Problem("agent_not_found", f"No agent {agent_id}", "agent_id")
            return {**agent, "agent_id": agent_id}
        check(config)
        return config

    def _resumed(self, message: dict[str, Any]) -> AgentRecord:
        record = self._call.state.agent_sessions.get(str(message.get("session_id")))
        if record is None or not record.resume(time.monotonic()):
            raise Problem("session_not_found", "There is no such session to resume", "session_id")
        return record

    async def _update(self, message: dict[str, Any]) -> None:
        record = self._session()
        changes = message.get("session")
        if isinstance(changes, dict) and "agent_id" in changes:
            raise Problem("agent_id_not_first", "agent_id is only for the first session.update", "agent_id")
        if isinstance(changes, dict) and "input" in changes and changes["input"] != record.config.get("input"):
            raise Problem("immutable_field", "input cannot be changed", "input")
        record.config = {**record.config, **self._configured(message)}
        await self._send("session.updated", config=record.config)

    async def _resume_again(self, message: dict[str, Any]) -> None:  # noqa: ARG002 - a handler
        raise Problem("invalid_value", "session.resume is only for the first message", "type")

    async def _end(self, message: dict[str, Any]) -> None:  # noqa: ARG002 - a handler
        raise _Ended

    async def _hear(self, message: dict[str, Any]) -> None:
        try:
            sound = base64.b64decode(message.get("audio", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Problem("invalid_audio", "audio must be base64", "audio") from None
        record = self._session()
        record.audio_bytes += len(sound)
        sample_bytes, rate = sound_of(record.config, "input")
        if not self._turn_audio and sound:
            await self._send("input.speech.started")
        self._turn_audio = round(self._turn_audio + len(sound) / (sample_bytes * rate), 6)
        if self._turn_audio < self._knobs.turn_seconds:
            return
        self._turn_audio = 0.0
        item = f"item_{uuid4().hex}"
        await self._send("transcript.user.delta", item_id=item, text="please keep")
        await self._send("input.speech.stopped")
        await self._send("transcript.user", item_id=item, text="Please keep the books.")
        tools = record.config.get("tools") or []
        if tools:
            self._call_due = f"call_{uuid4().hex}"
            await self._send("tool.call", call_id=self._call_due, name=tools[0]["name"], arguments={})
        else:
            await self._reply(_REPLY_TEXT)

    async def _take_result(self, message: dict[str, Any]) -> None:
        if self._call_due is None or message.get("call_id") != self._call_due:
            raise Problem("invalid_value", "There is no such tool call", "call_id")
        self._call_due = None
        await self._reply(_REPLY_TEXT)

    async def _reply_now(self, message: dict[str, Any]) -> None:
        await self._reply(str(message.get("instructions") or _REPLY_TEXT))

    async def _reply(self, text: str) -> None:
        reply = f"reply_{uuid4().hex}"
        sample_bytes, rate = sound_of(self._session().config, "output")
        sound = base64.b64encode(silence(_CHUNK_SECONDS, rate, sample_bytes=sample_bytes)).decode()
        await self._send("reply.started", reply_id=reply)
        await self._send("transcript.agent.delta", reply_id=reply, delta=text)
        for _ in range(_REPLY_CHUNKS):
            await self._send("reply.audio", reply_id=reply, data=sound)
        await self._send("transcript.agent", reply_id=reply, text=text, interrupted=False)
        await self._send("reply.done", reply_id=reply, status="completed")

    def _session(self) -> AgentRecord:
        assert self._record is not None, "messages are handled after the first one made a session"
        return self._record

    async def _finish(self, reason: str, close_code: int) -> None:
        """Tell the duration, and close; a dropped line is told nothing."""
        now = time.monotonic()
        if self._record is not None:
            self._record.end(now, reason)
        try:
            if close_code == 1006:
                if self._call.request.transport is not None:
                    self._call.request.transport.abort()
            elif self._record is not None:
                reported = {"session_duration_seconds": self._record.seconds(now)}
                told = {**adjusted(reported, self._knobs.usage), "audio_duration_seconds": None}
                await self._send("session.ended", **told)
            if close_code != 1006:
                await self._socket.close(code=close_code, message=reason.encode())
        except ConnectionError:
            return


SOCKET: Final = SocketRoute("/v1/ws", Product.AGENTS, session, lambda state: state.agent_tokens)
