"""One of the two connections of a relay: what is written to it, whether it is read, and how it ends.

Owns: its transport, its bounds (unsent bytes, a peer that takes nothing), our frames between its messages, its Close.
Does not know: what its frames are to the other side (see `client_side`, `upstream_side`).
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain
from secrets import token_bytes
from typing import Final, cast

from gateway.core.frames import CLOSE, TEXT, Frame, Piece, Scanner, close_payload, encoded
from gateway.sockets.ports import Watch, Watcher
from gateway.sockets.progress import bytes_taken

#: How long a peer has for its part of the closing handshake, and to take what it was sent before.
_CLOSE_SECONDS: Final = 2.0
_GOING_AWAY: Final = 1001
#: Pieces of one read that are looked at before others have their turn.
_PIECES_MAX: Final = 256

#: Why a side is not read: bits of `Side._unread`.
_OTHER_IS_FULL, NOT_JOINED, _SUSPENDED = 1, 2, 4


class Side(asyncio.Protocol):
    """A connection, or, until `attach`, what waits for it. `masks`: whether we are the client on it.

    Its counterpart is `peer`, set by whoever makes the two. `ended` is called when it is lost and that was told.
    """

    __slots__ = (
        "_between", "_closes_at", "_loop", "_masks", "_pieces", "_stalls_at", "_unread", "_waiting", "active_at",
        "bytes_read", "closing", "ended", "left", "lost", "midway", "muted", "peer", "scanner", "transport",
        "waiting_bytes", "watch", "watcher",
    )  # fmt: skip

    peer: "Side"

    def __init__(
        self, watch: Watch, watcher: Watcher, scanner: Scanner, ended: Callable[[], None], *, masks: bool
    ) -> None:
        self.watch = watch
        self.watcher = watcher
        self.scanner = scanner
        self.ended = ended
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        #: What came of it and passed: bytes of frames, and when the last message did (the loop's time).
        self.bytes_read = 0
        self.active_at = self._loop.time()
        #: A message is begun towards it, and its next fragment is awaited.
        self.midway = False
        #: Our Close was sent, or it is cut: nothing more is written.
        self.closing = False
        #: Its own Close has come, or its loss was noticed, and that was told.
        self.left = False
        self.lost = False
        #: No message of its passes any more.
        self.muted = False
        #: How much waits until it is attached.
        self.waiting_bytes = 0
        self._waiting: list[bytes] = []
        self._between: list[bytes] = []  # frames of ours that wait for the end of a message
        self._pieces: Iterator[Piece] | None = None  # of what was read, not taken yet
        self._masks = masks
        self._unread = 0
        self._closes_at: asyncio.TimerHandle | None = None
        self._stalls_at: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "lost" if self.lost else "closing" if self.closing else "open" if self.transport else "awaited"
        return f"<{type(self).__name__} {state} bytes={self.bytes_read}>"

    def attach(self, transport: asyncio.Transport, early: bytes) -> None:
        """The connection is here; `early` came of it before. What waited for it is sent.

        What came is looked at a moment later: whoever calls this is not called back before it returns.
        """
        waiting, self._waiting, self.waiting_bytes = self._waiting, [], 0
        self._unread |= _SUSPENDED
        self._loop.call_soon(self._begin, early)
        if transport.is_closing():
            return  # it was lost before it was ours
        self.transport = transport
        transport.pause_reading()
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=self.watch.buffer_bytes_max)
        if waiting:
            transport.write(b"".join(waiting))

    def _begin(self, early: bytes) -> None:
        self._pieces = self.scanner.feed(early) if early else None
        if self.transport is None:
            self.connection_lost(None)
        self.resume()

    # ---- what comes

    def take(self, piece: Piece) -> None:
        """The next of what came."""
        raise NotImplementedError

    def leave(self, code: int | None, reason: bytes) -> None:
        """Its Close has come, or None: it is lost. Told once."""
        raise NotImplementedError

    def take_in(self, data: bytes) -> None:
        """Take what was read piece by piece."""
        pieces = self.scanner.feed(data)
        self._pieces = pieces if self._pieces is None else chain(self._pieces, pieces)
        self._go_on()

    @property
    def behind(self) -> bool:
        """Whether something that was read before is not taken yet."""
        return self._pieces is not None

    def suspend(self) -> None:
        """Take nothing more, and read nothing, until `resume`."""
        self._hold(_SUSPENDED)

    def resume(self) -> None:
        """Go on where it was suspended."""
        self.release(_SUSPENDED)
        self._go_on()

    def _go_on(self) -> None:
        if self._unread & _SUSPENDED:
            return
        if self._pieces is not None:
            for count, piece in enumerate(self._pieces, 1):
                self.take(piece)
                if count == _PIECES_MAX and not self._unread & _SUSPENDED:
                    self.suspend()
                    self._loop.call_soon(self.resume)
                if self._unread & _SUSPENDED:
                    return
            self._pieces = None
        if self.lost:
            self._depart()

    def pass_on(self, raw: bytes, messages: int) -> None:
        """These whole frames of its, so many messages, go to the peer."""
        self.bytes_read += len(raw)
        if messages:
            self.active_at = self._loop.time()
        peer = self.peer
        peer.write(raw)
        if peer.waiting_bytes > self.watch.buffer_bytes_max:
            self._hold(NOT_JOINED)

    def mute(self) -> None:
        """Its messages go nowhere any more: nothing has to wait for room. Its Close is still awaited."""
        self.muted = True
        self.release(_OTHER_IS_FULL | NOT_JOINED)

    def pass_fragment(self, frame: Frame) -> None:
        """This data frame of its goes to the peer."""
        self.pass_on(frame.raw, int(frame.final))
        self.peer.fragment_written(final=frame.final)

    # ---- writing

    def write(self, raw: bytes) -> None:
        """Whole frames. Nothing, once it is closing."""
        if self.closing:
            return
        if self.transport is not None:
            self.transport.write(raw)
        else:
            self._waiting.append(raw)
            self.waiting_bytes += len(raw)

    def fragment_written(self, *, final: bool) -> None:
        """That was a frame of a message that may have several."""
        self.midway = not final
        if final and self._between:
            between, self._between = self._between, []
            self.write(b"".join(between))

    def say(self, text: bytes) -> None:
        """A text message of ours, between two others."""
        raw = self.framed(TEXT, text)
        if self.midway:
            self._between.append(raw)
        else:
            self.write(raw)

    def framed(self, opcode: int, payload: bytes) -> bytes:
        """A frame of ours."""
        return encoded(opcode, payload, token_bytes(4) if self._masks else b"")

    # ---- reading

    def _hold(self, why: int) -> None:
        if not self._unread and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._unread |= why

    @property
    def is_read(self) -> bool:
        """Whether what it sends is read."""
        return not self._unread

    def release(self, why: int) -> None:
        """This is no reason not to read it any more."""
        if not self._unread & why:
            return
        self._unread &= ~why
        if not self._unread and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # ---- a slow reader

    def pause_writing(self) -> None:
        """Too much waits for it: what comes from the peer must wait, and it has some time to take any."""
        if not self.peer.muted:
            self.peer._hold(_OTHER_IS_FULL)
        self._watch_stall()

    def resume_writing(self) -> None:
        """It has taken enough."""
        self.peer.release(_OTHER_IS_FULL)
        if self._stalls_at is not None:
            self._stalls_at.cancel()
            self._stalls_at = None

    def _watch_stall(self) -> None:
        transport = cast("asyncio.Transport", self.transport)
        before = transport.get_write_buffer_size(), bytes_taken(transport)
        self._stalls_at = self._loop.call_later(self.watch.stalled_seconds_max, self._judge_stall, *before)

    def _judge_stall(self, unsent_before: int, taken_before: int) -> None:
        """It is cut if it took nothing in all that time."""
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() >= unsent_before and bytes_taken(self.transport) == taken_before:
            self.cut()
        else:
            self._watch_stall()

    # ---- its end

    def close(self, code: int | None, reason: bytes) -> None:
        """Send our Close, after all that was sent before, and give the peer its time. None: cut the connection."""
        if code is None:
            self.cut()
        elif not self.closing:
            if self.transport is not None:
                self.write(self.framed(CLOSE, close_payload(code, reason)))
                self._closes_at = self._loop.call_later(_CLOSE_SECONDS, self.cut)
            self.closing = True
            if self.left:
                self.end()

    def end(self) -> None:
        """Both Closes were exchanged. The server goes first; as the client, we wait for it."""
        if self.closing and self.transport is not None and not self._masks:
            self.transport.close()

    def go_away(self) -> None:
        """We go, at once: our Close is sent if it was not, and nothing is awaited."""
        self.close(_GOING_AWAY, b"")
        if self.transport is not None:
            self.transport.close()

    def cut(self) -> None:
        """Close at once; what was not sent is dropped."""
        self.closing = True
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter: it is gone
        """Nothing more comes or goes. What it sent before is taken first."""
        if self.lost:
            return
        self.closing = self.lost = True
        self.transport = None
        for timer in (self._closes_at, self._stalls_at):
            if timer is not None:
                timer.cancel()
        self.peer.release(_OTHER_IS_FULL)
        self._go_on()

    def _depart(self) -> None:
        self.leave(None, b"")
        self.ended()

    @property
    def departed(self) -> bool:
        """Whether it is lost, and all that it sent was taken."""
        return self.lost and self.left

    def part(self) -> None:
        """Both sides are over: let go of what would keep them in memory."""
        del self.peer, self.ended, self.watcher
