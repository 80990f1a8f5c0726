"""Bodies as they are read: those that are in hand, and those that pass.

Owns: taking them out of aiohttp's readers, also while they come. Does not know: whose they are.
"""

import asyncio
from collections.abc import Callable

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader


def at_hand(reader: StreamReader) -> bytes | None:
    """What is left of a body that has come to its end, and no error can come of it; None of any other.

    In one piece it is taken out of the reader's buffer: there is nothing left for the reader to keep count of.
    """
    if reader is EMPTY_PAYLOAD:
        return b""
    if not reader._eof or reader._exception is not None:
        return None
    buffer = reader._buffer
    if len(buffer) == 1 and not reader._buffer_offset:
        return buffer.popleft()
    return reader.read_nowait(-1) if buffer else b""


def is_to_come(reader: StreamReader) -> bool:
    """Whether nothing is known of the body that was not read: neither bytes nor its end."""
    return not reader._buffer and not reader.is_eof() and reader.exception() is None


class Passing:
    """A body whose pieces go to `take` in the very turn of the loop that they come in, without a task between.

    `take` says whether it wants no more for now; then, as after an `end`, the reader keeps what comes, within its
    bounds. Only for a body that is still to come.
    """

    __slots__ = ("_reader", "_take", "fault", "over")

    def __init__(self, reader: StreamReader, take: Callable[[bytes], bool], loop: asyncio.AbstractEventLoop) -> None:
        self._reader = reader
        self._take = take
        self.fault: Exception | None = None  # of `take`
        #: Done when `take` wants no more, or the body has ended: with an error if it breaks off.
        self.over: asyncio.Future[None] = loop.create_future()
        reader._waiter = self.over
        reader.__class__ = _Passed

    def hand_over(self) -> bool:
        """Give what has come; whether `take` is to have what comes next."""
        buffer = self._reader._buffer
        if not buffer:
            return True
        piece = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        try:
            if not self._take(piece):
                return True
        except Exception as error:  # noqa: BLE001 - it is for whoever waits for the end
            self.fault = error
        self.end()
        if not self.over.done():
            self.over.set_result(None)
        return False

    def end(self) -> None:
        """From now on the reader keeps what comes. May be called more than once."""
        self._reader.__class__ = StreamReader
        if self._reader._waiter is self.over:
            self._reader._waiter = None


class _Passed(StreamReader):
    """A reader that keeps nothing beyond a turn of the loop, and so counts nothing and wakes nobody."""

    __slots__ = ()

    def feed_data(self, data: bytes, _size: int = 0) -> bool:
        """By the parser: bytes of a piece."""
        self._buffer.append(data)
        return False

    def end_http_chunk_receiving(self) -> None:
        """By the parser. Nobody asks where chunks end."""
