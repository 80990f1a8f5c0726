"""The customer's side of a relay: what comes of it goes to the upstream, if the watcher lets it.

Owns: which of its frames pass as they are and which texts are judged first, its pings, its silence when it is muted.
Does not know: what a judgement is about, the upstream's side.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp._websocket.helpers import websocket_mask

from gateway.core.frames import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Closing,
    Frame,
    Piece,
    Run,
    Scanner,
    Violation,
    frames_of,
)
from gateway.core.kinds import Seen, kinds_of
from gateway.sockets.ports import Watch, Watcher
from gateway.sockets.side import Side

#: What a ping of ours carries: a pong with it is for us.
_OUR_PING: Final = b"gateway"

Lost = Callable[[Exception | None], None]


def _unmasked(frame: Frame) -> bytes:
    """What a client's frame carries. aiohttp's helper is C, and thirty times as fast as what the core has."""
    body = bytearray(frame.raw)
    del body[: frame.head_bytes]
    websocket_mask(frame.key, body)
    return bytes(body)


class ClientSide(Side):
    """The customer's side. What comes of it goes to the upstream, if the watcher lets it."""

    __slots__ = (
        "_kinds",
        "_lost",
        "_muted",
        "_pinged",
        "_pings_at",
        "_raw",
        "_read_at_ping",
        "_text",
        "asking",
        "failed",
    )

    def __init__(
        self, watch: Watch, watcher: Watcher, ended: Callable[[], None], lost: Callable[[Exception | None], None]
    ) -> None:
        self._kinds = kinds_of(watch.type_field, watch.from_client)
        apart = {opcode for opcode, is_apart in ((TEXT, bool(self._kinds)), (PONG, watch.ping_seconds > 0)) if is_apart}
        scanner = Scanner(
            from_client=True,
            message_bytes_max=watch.message_bytes_max,
            apart=frozenset(apart),
            binary=watch.client_binary,
        )
        super().__init__(watch, watcher, scanner, ended, masks=False)
        self._lost = lost
        #: A text message in fragments, so far: its frames, and what they carry. A list of a million bytes takes ninety.
        self._raw = bytearray()
        self._text = bytearray()
        #: The watcher's judgement under way, and what it raised.
        self.asking: asyncio.Task[None] | None = None
        self.failed: Exception | None = None
        self._read_at_ping = 0
        self._pinged = False
        self._pings_at = self._loop.call_later(watch.ping_seconds, self._ping) if watch.ping_seconds else None

    def data_received(self, data: bytes) -> None:
        """Bytes of the client's."""
        messages = 0 if self.behind or self.muted else self.scanner.whole(data)
        if messages:
            self.pass_on(data, messages)
        else:
            self.take_in(data)

    def take(self, piece: Piece) -> None:
        """See `Side`."""
        if isinstance(piece, Run) and not self.muted:
            self.pass_on(piece.raw, piece.messages)
        elif isinstance(piece, Run):
            for frame in frames_of(piece.raw):
                self._take_frame(frame)
        elif isinstance(piece, Frame):
            self._take_frame(piece)
        elif isinstance(piece, Closing):
            self.leave(piece.code, piece.reason)
        else:
            self._break(piece)

    def _take_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode > CLOSE:
            if opcode == PING or frame.payload() != _OUR_PING:
                self.pass_on(frame.raw, 0)
            else:
                self.bytes_read += len(frame.raw)
        elif self.muted:
            return
        elif opcode == TEXT and frame.final and self._kinds:
            self._judge(frame.raw, _unmasked(frame))
        elif self._raw or (opcode == TEXT and self._kinds):
            self._raw += frame.raw
            self._text += _unmasked(frame)
            if frame.final:
                raw, text = bytes(self._raw), bytes(self._text)
                self._raw, self._text = bytearray(), bytearray()
                self._judge(raw, text)
        else:
            self.pass_fragment(frame)

    def _judge(self, raw: bytes, text: bytes) -> None:
        """Pass a text message on, break off, or have the watcher decide."""
        seen = self._kinds.of_stranger(text) if self._kinds.may_be_in(text) else None
        if seen is None:
            self.pass_on(raw, 1)
        elif isinstance(seen, Violation):
            self.scanner.end()
            self._break(seen)
        else:
            self.suspend()
            self.asking = self._loop.create_task(self._ask(seen, raw))

    async def _ask(self, seen: Seen, raw: bytes) -> None:
        passes = False
        try:
            passes = await self.watcher.client_says(seen.kind, seen.message) is None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for whoever waits for the relay
            self.failed = error
            self.mute()
            self.cut()
            self.peer.cut()
        finally:
            self.asking = None
            if passes and not self.muted:
                self.pass_on(raw, 1)
            self.resume()

    def mute(self) -> None:
        """No message of its passes any more. One that was begun is completed: others are to follow it."""
        if self.muted:
            return
        super().mute()
        if self.peer.midway:
            self.peer.write(self.peer.framed(CONTINUATION, b""))
            self.peer.fragment_written(final=True)

    def close(self, code: int | None, reason: bytes) -> None:
        """See `Side`. What the client sends after our Close is for nobody."""
        self.mute()
        super().close(code, reason)

    def leave(self, code: int | None, reason: bytes) -> None:
        """See `Side`."""
        if self.left:
            return
        self.left = True
        self.mute()
        self.watcher.client_left(code, reason)
        self.end()

    def _break(self, violation: Violation) -> None:
        self.mute()
        self.watcher.broken("client", violation.code, violation.why)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `Side`. Whoever had the connection before is told first."""
        if self._pings_at is not None:
            self._pings_at.cancel()
        if not self.lost:
            self._lost(exc)
        super().connection_lost(exc)

    def _ping(self) -> None:
        """An idle client is pinged; one from which nothing at all has come since is gone."""
        if self.closing:
            return
        idle = self.bytes_read == self._read_at_ping and self.is_read
        if idle and self._pinged:
            self.cut()
            return
        if idle:
            self.write(self.framed(PING, _OUR_PING))
        self._pinged, self._read_at_ping = idle, self.bytes_read
        self._pings_at = self._loop.call_later(self.watch.ping_seconds, self._ping)
