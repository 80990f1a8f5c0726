"""The upstream's side of a relay: what comes of it goes to the client, and the watcher sees what it asked for.

Owns: finding the watched texts among what passes as it is.
Does not know: what the watcher makes of them, the client's side.
"""

from collections.abc import Callable

from gateway.core.frames import CLOSE, TEXT, Closing, Frame, Piece, Run, Scanner, frames_of
from gateway.core.kinds import kinds_of
from gateway.sockets.ports import Watch, Watcher
from gateway.sockets.side import Side


class UpstreamSide(Side):
    """The upstream's side. All that comes of it goes to the client, and the watcher sees what it asked for."""

    __slots__ = ("_kinds", "_text")

    def __init__(self, watch: Watch, watcher: Watcher, ended: Callable[[], None]) -> None:
        scanner = Scanner(from_client=False, message_bytes_max=watch.message_bytes_max)
        super().__init__(watch, watcher, scanner, ended, masks=True)
        self._kinds = kinds_of(watch.type_field, watch.from_upstream)
        self._text: bytearray | None = None  # of a message in fragments, so far

    def data_received(self, data: bytes) -> None:
        """Bytes of the upstream's."""
        messages = 0 if self.behind else self.scanner.whole(data)
        if messages and not self._kinds.may_be_in(data):
            self.pass_on(data, messages)
        else:
            self.take_in(data)

    def take(self, piece: Piece) -> None:
        """See `Side`."""
        if isinstance(piece, Run):
            if not self._kinds.may_be_in(piece.raw):
                self.pass_on(piece.raw, piece.messages)
                return
            for frame in frames_of(piece.raw):
                passes = frame.opcode != TEXT or self._passes(frame.payload())
                if passes is True:
                    self.pass_on(frame.raw, int(frame.opcode < CLOSE))
                else:
                    self.bytes_read += len(frame.raw)
                    if passes:
                        self.peer.say(passes)
        elif isinstance(piece, Frame):
            if self._text is None and piece.opcode == TEXT and self._kinds:
                self._text = bytearray()
            if self._text is not None:
                self._text += piece.payload()
                if piece.final:
                    text, self._text = bytes(self._text), None
                    self._passes(text)  # it has passed
            self.pass_fragment(piece)
        elif isinstance(piece, Closing):
            self.leave(piece.code, piece.reason)
        else:
            self.watcher.broken("upstream", piece.code, piece.why)

    def _passes(self, text: bytes) -> bool | bytes:
        seen = self._kinds.of_trusted(text) if self._kinds.may_be_in(text) else None
        return seen is None or self.watcher.upstream_said(seen.kind, seen.message)

    def leave(self, code: int | None, reason: bytes) -> None:
        """See `Side`."""
        if not self.left:
            self.left = True
            self.watcher.upstream_left(code, reason)
