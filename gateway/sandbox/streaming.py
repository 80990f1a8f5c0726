"""Streaming speech-to-text: /v3/ws and its temporary tokens.

Owns: the session's messages, its clocks (cap, inactivity), its errors with their codes, and what it reports at its
end. A session's seconds are real seconds times the knob `session_rate`; so an hour can be a second.
Does not know: what is said: turns come at every so many seconds of audio.
"""

import math
import time
from typing import Any, Final
from uuid import uuid4

import orjson
from aiohttp import WSMsgType, web

from gateway.sandbox.errors import Product, refusal
from gateway.sandbox.knobs import adjusted
from gateway.sandbox.replies import Reply, json_reply
from gateway.sandbox.routes import Call, Route, SocketRoute
from gateway.sandbox.state import Carried, StreamRecord
from gateway.sandbox.stream_parameters import InvalidParameter, Parameters

CLOSE_REASON: Final = b"See Error message for details"
SESSION_SECONDS_MAX: Final = 10_800
CHUNK_MS: Final = (50, 1000)
_ERRORS: Final = {
    1008: "Unauthorized Connection: account disabled",
    3005: "Session Cancelled: An error occurred",
    3008: "Session Expired: Maximum session duration exceeded",
    3009: "Too many concurrent sessions",
}
_WORDS: Final = ("the", "quick", "brown", "fox", "keeps", "the", "books")


class SessionError(Exception):
    """What ends a session early: the Error frame's code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def token(call: Call) -> Reply:
    """Mint a temporary token."""
    query = call.request.query
    seconds = _bounded(query.get("expires_in_seconds"), 1, 600)
    cap = query.get("max_session_duration_seconds")
    cap_seconds = None if cap is None else _bounded(cap, 60, SESSION_SECONDS_MAX)
    if seconds is None:
        return refusal(Product.STREAMING, 400, "expires_in_seconds must be a number from 1 to 600")
    if cap is not None and cap_seconds is None:
        return refusal(Product.STREAMING, 400, "max_session_duration_seconds must be a number from 60 to 10800")
    value = call.state.mint(call.state.streaming_tokens, seconds, cap_seconds)
    return json_reply({"token": value, "expires_in_seconds": seconds})


def _bounded(text: str | None, minimum: int, maximum: int) -> int | None:
    value = int(text) if text is not None and text.isdecimal() and len(text) < 10 else -1
    return value if minimum <= value <= maximum else None


async def session(call: Call, socket: web.WebSocketResponse) -> None:
    """Serve one session from its first frame to its close."""
    try:
        if call.entry.carried is Carried.MISSING:
            raise SessionError(1008, "Unauthorized Connection: Missing Authorization header")
        if call.entry.carried is Carried.FOREIGN:
            raise SessionError(1008, "Unauthorized Connection: Invalid API key")
        parameters = Parameters.of(call.request.query)
    except InvalidParameter as error:
        await _fail(socket, SessionError(3006, f"User Input Validation Error: {error}"))
    except SessionError as error:
        await _fail(socket, error)
    else:
        cap = call.state.session_seconds_max(call.request, call.state.streaming_tokens) or SESSION_SECONDS_MAX
        await _Session(call, socket, parameters, cap).run()


async def _fail(socket: web.WebSocketResponse, error: SessionError) -> None:
    if error.code != 1006:
        frame = {"type": "Error", "error_code": error.code, "error": str(error)}
        try:
            await socket.send_str(orjson.dumps(frame).decode())
            await socket.close(code=error.code, message=CLOSE_REASON)
        except ConnectionError:
            return


class _Session:
    """One open session."""

    def __init__(self, call: Call, socket: web.WebSocketResponse, parameters: Parameters, cap: int) -> None:
        self._call, self._knobs, self._socket = call, call.knobs, socket
        self._parameters = parameters
        self._cap = cap
        self._born = self._heard_at = time.monotonic()
        self._record = StreamRecord(str(uuid4()), time.time(), dict(call.request.query))
        self._turns = 0
        self._turn_audio = 0.0
        self._partials = 0

    def __repr__(self) -> str:
        return f"<_Session {self._record.id} {self._elapsed():.1f}/{self._cap} s, {self._turns} turns>"

    def _elapsed(self) -> float:
        return (time.monotonic() - self._born) * self._knobs.session_rate

    async def run(self) -> None:
        """Begin, listen, end; whatever happens, the record says how it ended."""
        self._call.state.streams.keep(self._record.id, self._record)
        try:
            await self._send(self._begin())
            await self._listen()
            await self._terminate()
        except SessionError as error:
            self._note(str(error.code))
            if error.code == 1006 and self._call.request.transport is not None:
                self._call.request.transport.abort()
            await _fail(self._socket, error)
        except (ConnectionError, _Gone):
            pass
        finally:
            self._note("client_gone")

    def _note(self, ended: str) -> None:
        """How and when the session ended; what is noted first holds, and it is noted before the client is told."""
        if self._record.ended is None:
            self._record.ended, self._record.session_seconds = ended, self._elapsed()

    async def _send(self, frame: dict[str, Any]) -> None:
        await self._socket.send_str(orjson.dumps(frame).decode())

    def _begin(self) -> dict[str, Any]:
        return {
            "type": "Begin",
            "id": self._record.id,
            "expires_at": int(time.time()) + self._cap,
            "configuration": self._parameters.configuration(self._call.request.headers.get("AssemblyAI-Version")),
        }

    def _wait_seconds(self) -> float:
        """Real seconds until the next clock strikes; raises when one has."""
        now, rate = time.monotonic(), self._knobs.session_rate
        waits = [self._born + self._cap / rate - now]
        if waits[0] <= 0:
            raise SessionError(3008, _ERRORS[3008])
        if self._knobs.close_code is not None:
            waits.append(self._born + self._knobs.close_after_seconds - now)
            if waits[-1] <= 0:
                code = self._knobs.close_code
                raise SessionError(code, _ERRORS.get(code, "Session Cancelled: An error occurred"))
        if self._parameters.inactivity_timeout is not None:
            waits.append(self._heard_at + self._parameters.inactivity_timeout / rate - now)
            if waits[-1] <= 0:
                raise _Idle
        return max(0.0, min(waits))

    async def _listen(self) -> None:
        """Until the client terminates, or is idle for longer than it allowed itself."""
        while True:
            try:
                message = await self._socket.receive(timeout=self._wait_seconds())
            except TimeoutError:
                continue
            except _Idle:
                return
            if message.type is WSMsgType.BINARY:
                await self._hear(message.data)
            elif message.type is WSMsgType.TEXT:
                if await self._obey(message.data):
                    return
            else:
                raise _Gone

    async def _hear(self, chunk: bytes) -> None:
        seconds = self._parameters.seconds(chunk)
        if seconds is None:
            seconds = 0.05  # compressed audio: a packet is taken for this much
        elif not CHUNK_MS[0] <= round(seconds * 1000) <= CHUNK_MS[1]:
            text = f"{seconds * 1000:.1f} ms. Expected between {CHUNK_MS[0]} and {CHUNK_MS[1]} ms"
            raise SessionError(3007, f"Input duration violation: {text}")
        record, elapsed = self._record, self._elapsed()
        record.audio_bytes += len(chunk)
        record.audio_seconds += seconds
        rate_max = self._knobs.audio_rate_max
        if rate_max and record.audio_seconds > elapsed * rate_max + 1.0:
            text = f"Received {record.audio_seconds:.1f} sec. audio in {elapsed:.1f} sec"
            raise SessionError(3007, f"Audio Transmission Rate Exceeded: {text}")
        self._heard_at = time.monotonic()
        if not self._turn_audio and self._parameters.announces_speech:
            start = record.audio_seconds - seconds
            await self._send({"type": "SpeechStarted", "timestamp": int(start * 1000), "confidence": 0.9})
        self._turn_audio = round(self._turn_audio + seconds, 6)
        if self._turn_audio >= self._knobs.turn_seconds:
            await self._end_turn()
        elif not self._partials and self._turn_audio >= self._knobs.turn_seconds / 2:
            self._partials += 1
            await self._send(self._turn(final=False))

    def _turn(self, *, final: bool) -> dict[str, Any]:
        """A Turn frame; `type` comes last, as upstream."""
        start = (self._record.audio_seconds - self._turn_audio) * 1000
        said = _WORDS if final else _WORDS[:2]
        step = self._turn_audio * 1000 / len(_WORDS)
        words = [
            {
                "start": int(start + number * step),
                "end": int(start + (number + 1) * step),
                "text": word,
                "confidence": 0.95,
                "word_is_final": final or number == 0,
            }
            for number, word in enumerate(said)
        ]
        text = " ".join(said)
        formatted = final and self._parameters.format_turns
        return {
            "turn_order": self._turns,
            "turn_is_formatted": formatted,
            "end_of_turn": final,
            "transcript": f"{text.capitalize()}." if formatted else text,
            "end_of_turn_confidence": 0.95 if final else 0.00004,
            "words": words,
            "utterance": text if final else "",
            "type": "Turn",
        }

    async def _end_turn(self) -> None:
        frame = self._turn(final=True)
        self._turns += 1
        self._turn_audio, self._partials = 0.0, 0
        await self._send(frame)
        if self._parameters.llm_gateway is not None:
            answer = {"choices": [{"message": {"role": "assistant", "content": "Noted."}}]}
            said = {"turn_order": frame["turn_order"], "transcript": frame["transcript"]}
            await self._send({"type": "LLMGatewayResponse", **said, "data": answer})

    async def _obey(self, text: str) -> bool:
        """Follow a control message; True when it ends the session."""
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise SessionError(3006, f"Invalid JSON: {error}") from None
        kind = message.get("type") if isinstance(message, dict) else None
        match kind:
            case "Terminate":
                return True
            case "ForceEndpoint":
                await self._end_turn()
            case "UpdateConfiguration":
                self._record.updates.append(message)
            case "KeepAlive":
                self._heard_at = time.monotonic()
            case None:
                raise SessionError(3006, "Invalid Message: type is required")
            case _:
                raise SessionError(3006, f"Invalid Message Type: {kind}")
        return False

    async def _terminate(self) -> None:
        if self._turn_audio:
            await self._end_turn()
        self._note("terminated")
        reported = {
            "audio_duration_seconds": math.ceil(self._record.audio_seconds),
            "session_duration_seconds": math.ceil(self._record.session_seconds or 0),
        }
        await self._send({"type": "Termination", **adjusted(reported, self._knobs.usage)})
        await self._socket.close(code=1000, message=b"Session Ended")


class _Gone(Exception):
    """The client left without a word."""


class _Idle(Exception):
    """The inactivity timeout that the client asked for has passed."""


ROUTES: Final = (Route("GET", "/v3/token", Product.STREAMING, token),)
SOCKET: Final = SocketRoute("/v3/ws", Product.STREAMING, session, lambda state: state.streaming_tokens)
