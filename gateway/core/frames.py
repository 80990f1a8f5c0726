"""WebSocket frames (RFC 6455 5): where they begin and end, whether they keep the rules, how ours are written.

Owns: the syntax of frames, the order of fragments, the limit of a message, close codes, masking.
Does not know: sockets, what a message says. Nothing that a peer sent raises: a broken rule is a value.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from gateway.core.record import record

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

#: Close codes. Without a code in its frame, a Close is told as 1005.
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
NO_CODE: Final = 1005
INVALID_DATA: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009

_OPCODES: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_FINAL, _RESERVED, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
_CONTROL_BYTES_MAX: Final = 125
_REASON_BYTES_MAX: Final = 123
#: A run is cut here, so that one read of tiny messages does not keep the others waiting.
_RUN_MESSAGES_MAX: Final = 1024


@record
class Run:
    """Whole frames one after another that may pass as they are: unfragmented messages, pings and pongs."""

    raw: bytes
    messages: int


@record
class Frame:
    """One whole frame that is no Close, and was not put into a run."""

    raw: bytes
    head_bytes: int

    @property
    def opcode(self) -> int:
        """What kind of frame it is."""
        return self.raw[0] & _OPCODE

    @property
    def final(self) -> bool:
        """Whether its message ends with it."""
        return self.raw[0] >= _FINAL

    @property
    def key(self) -> bytes:
        """What it is masked with; empty if it is not."""
        return self.raw[self.head_bytes - 4 : self.head_bytes] if self.raw[1] & _MASKED else b""

    def payload(self) -> bytes:
        """What it carries, unmasked."""
        body, key = self.raw[self.head_bytes :], self.key
        return masked(body, key) if key else body


@record
class Closing:
    """A Close frame: its code (1005 without one) and reason. Nothing of what follows is read."""

    code: int
    reason: bytes


@record
class Violation:
    """A rule of the protocol, or a limit, is broken: `code` is the close code for it. Nothing that follows is read."""

    code: int
    why: str


Piece = Run | Frame | Closing | Violation


@lru_cache(maxsize=64)
def _plain(apart: frozenset[int], *, binary: bool) -> frozenset[int]:
    """First bytes of the frames that are put into runs: one set for all scanners of a kind."""
    passing = {TEXT, BINARY, PING, PONG} if binary else {TEXT, PING, PONG}
    return frozenset(_FINAL | opcode for opcode in passing - apart)


class Scanner:
    """The frames of one direction, found in what comes of it in any pieces.

    `from_client`: the sender must mask, else it must not. `apart`: opcodes whose frames are not put into runs.
    """

    __slots__ = ("_binary", "_ended", "_mask", "_message_bytes_max", "_need", "_partial", "_plain", "_size", "opened")

    def __init__(
        self, *, from_client: bool, message_bytes_max: int, apart: frozenset[int] = frozenset(), binary: bool = True
    ) -> None:
        self._mask = _MASKED if from_client else 0
        self._message_bytes_max = message_bytes_max
        self._binary = binary
        self._plain = _plain(apart, binary=binary)
        self._partial: bytes | bytearray = b""  # the beginning of a frame
        self._need = 0  # how long it must be before it is worth a look
        self._ended = False
        self._size = 0  # of the message in fragments, so far
        #: The opcode of the message that was begun and is not complete; 0 is none.
        self.opened = 0

    def whole(self, data: bytes) -> int:
        """How many messages `data` is, if it is a run and nothing came before that waits for it. 0: `feed` it."""
        if self._partial or self.opened or self._ended:
            return 0
        at, end, messages, mask, most = 0, len(data), 0, self._mask, self._message_bytes_max
        key_bytes = 4 if mask else 0
        try:
            while at < end:
                first = data[at]
                length = data[at + 1] - mask  # negative: not masked; above 127: masked
                if first not in self._plain or not 0 <= length <= _LENGTH:
                    return 0
                if length < 126:
                    at += 2 + key_bytes + length
                else:
                    if length == 127 or first > _FINAL + CLOSE:
                        return 0
                    length = data[at + 2] << 8 | data[at + 3]
                    if length < 126:
                        return 0
                    at += 4 + key_bytes + length
                if first < _FINAL + CLOSE:
                    messages += 1
                if length > most:
                    return 0
        except IndexError:  # a head is cut
            return 0
        return messages if at == end and messages <= _RUN_MESSAGES_MAX else 0

    def feed(self, data: bytes) -> Iterator[Piece]:
        """What these bytes complete, in order. Take all of it before the next call."""
        if self._partial:
            self._partial += data
            if len(self._partial) < self._need:
                return
            data, self._partial = bytes(self._partial), b""
        at = run = messages = 0
        need = 1
        while not self._ended and at < len(data):
            lengths = _lengths(data, at)
            if lengths is None:
                need = len(data) - at + 1
                break
            head, length = lengths
            violation = self._judged(data[at], data[at + 1], length)
            stop = at + head + length
            if violation is None and stop > len(data):
                need = stop - at
                break
            plain = violation is None and data[at] in self._plain and messages < _RUN_MESSAGES_MAX
            if not plain and run < at:
                yield Run(raw=data[run:at], messages=messages)
            if plain:
                messages += data[at] < _FINAL + CLOSE
            else:
                yield violation or self._taken(data[at:stop], head)
                run, messages = stop, 0
            at = stop
        if self._ended:
            return
        if run < at:
            yield Run(raw=data[run:at], messages=messages)
        if at < len(data):
            self._partial, self._need = bytearray(data[at:]), need

    def end(self) -> None:
        """Nothing more is taken: who reads the messages has found one that it cannot bear."""
        self._ended = True

    def _judged(self, first: int, second: int, length: int) -> Violation | None:
        """Whether a frame with this head may come now."""
        opcode, short = first & _OPCODE, second & _LENGTH
        why, code = "", PROTOCOL_ERROR
        if first & _RESERVED:
            why = "a reserved bit is set"
        elif opcode not in _OPCODES:
            why = "an unknown opcode"
        elif second & _MASKED != self._mask:
            why = "a frame that is not masked" if self._mask else "a frame that is masked"
        elif (short == 126 and length < 126) or (short == 127 and not 1 << 16 <= length < 1 << 63):
            why = "a length in another form than its shortest"
        elif opcode >= CLOSE:
            if first < _FINAL or length > _CONTROL_BYTES_MAX:
                why = "a control frame that is fragmented or too long"
        elif (opcode == CONTINUATION) is not bool(self.opened):
            why = "a fragment out of order"
        elif opcode == BINARY and not self._binary:
            why, code = "a binary message", UNSUPPORTED
        elif length + self._size > self._message_bytes_max:
            why, code = "a message that is too long", TOO_BIG
        if not why:
            return None
        self._ended = True
        return Violation(code=code, why=why)

    def _taken(self, raw: bytes, head: int) -> Piece:
        """A frame that came whole and may come now."""
        frame = Frame(raw=raw, head_bytes=head)
        opcode = frame.opcode
        if opcode == CLOSE:
            self._ended = True
            return _closing(frame.payload())
        if opcode < CLOSE:
            if frame.final:
                self.opened = self._size = 0
            else:
                self.opened = self.opened or opcode
                self._size += len(raw) - head or 1  # an empty one is counted too: who puts them together needs a bound
        return frame


def frames_of(raw: bytes) -> Iterator[Frame]:
    """The frames of a run."""
    at = 0
    while at < len(raw):
        lengths = _lengths(raw, at)
        assert lengths is not None, "a run is whole frames"
        stop = at + sum(lengths)
        yield Frame(raw=raw[at:stop], head_bytes=lengths[0])
        at = stop


def _lengths(data: bytes, at: int) -> tuple[int, int] | None:
    """How long the head and the payload of the frame are that begins at `at`; None while the head is cut."""
    have = len(data) - at
    if have < 2:
        return None
    second = data[at + 1]
    head, length = 2, second & _LENGTH
    if length == 126:
        head, length = 4, int.from_bytes(data[at + 2 : at + 4], "big")
    elif length == 127:
        head, length = 10, int.from_bytes(data[at + 2 : at + 10], "big")
    if second & _MASKED:
        head += 4
    return (head, length) if have >= head else None


def _closing(payload: bytes) -> Closing | Violation:
    """What a Close frame says."""
    if not payload:
        return Closing(code=NO_CODE, reason=b"")
    code, reason = int.from_bytes(payload[:2], "big"), payload[2:]
    if len(payload) == 1 or not may_be_sent(code):
        return Violation(code=PROTOCOL_ERROR, why="a close code that may not be sent")
    try:
        reason.decode()
    except UnicodeDecodeError:
        return Violation(code=INVALID_DATA, why="a close reason that is not UTF-8")
    return Closing(code=code, reason=reason)


def may_be_sent(code: int) -> bool:
    """Whether a Close frame may carry this code (RFC 6455 7.4, and what is registered since)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, NO_CODE, 1006))


# ---- ours


def encoded(opcode: int, payload: bytes, key: bytes = b"") -> bytes:
    """A whole unfragmented frame; masked with `key`, four bytes, if there is one."""
    size, mask = len(payload), _MASKED if key else 0
    if size < 126:
        head = bytes((_FINAL | opcode, mask | size))
    elif size < 1 << 16:
        head = bytes((_FINAL | opcode, mask | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL | opcode, mask | 127)) + size.to_bytes(8, "big")
    return head + key + masked(payload, key) if key else head + payload


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """What a Close frame of ours carries: nothing for 1005; a reason is cut to its room, between two characters."""
    if code == NO_CODE:
        return b""
    assert may_be_sent(code), "a close code of ours is one that may be sent"
    return code.to_bytes(2, "big") + reason[:_REASON_BYTES_MAX].decode("utf-8", "ignore").encode()


def masked(data: bytes, key: bytes) -> bytes:
    """Data with its mask put on, or taken off."""
    size = len(data)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")
