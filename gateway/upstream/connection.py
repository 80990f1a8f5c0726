"""One connection to an upstream: heads and bodies of its replies, by aiohttp's C parser.

Owns: the parser and its errors, replies that nobody asked for, whether the connection is good for another request.
Does not know: requests, timeouts, who waits for a reply.

aiohttp's own protocol (`ResponseHandler`) does the same with a queue, timers and callbacks that nothing here uses, at
twice the cost.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.upstream.bodies import Passing

_HEAD_BYTES_MAX: Final = 32 * 1024
_READ_BYTES: Final = 2**16
_HEADERS_MAX: Final = 128
_WITHOUT_BODY: Final = frozenset({*range(100, 200), 204, 304})

Head = tuple[RawResponseMessage, StreamReader]


class Connection(BaseProtocol):
    """A parser serves one reply after another as long as they are of one kind."""

    _bodiless: bool | None = None
    _waiter: asyncio.Future[None] | None = None
    _error: BaseException | None = None
    #: Of the last reply whose head has come.
    _payload: StreamReader = EMPTY_PAYLOAD
    #: The body at hand, while its pieces are passed on as they come.
    _passing: Passing | None = None
    #: Nothing is asked of it now, so nothing may come.
    _idle = True
    #: Not used again: it is closing, broken, or nobody knows any more whose reply comes next.
    _last = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._heads: deque[Head] = deque()

    # ---- for whoever has the connection

    @property
    def is_open(self) -> bool:
        """Whether something can be asked on it. `idle` and `expect` take turns."""
        transport = self.transport
        return not self._last and transport is not None and not transport.is_closing()

    def idle(self) -> bool:
        """Nothing is asked any more. Whether the connection is good for another request, if it stays open."""
        self._idle = True
        return not self._last and not self._heads and self._payload.is_eof()

    def expect(self, *, bodiless: bool) -> None:
        """The next reply answers HEAD, or it does not. A parser is made only when that changes, or one is forgotten."""
        self._idle = False
        if self._bodiless is bodiless:
            return
        self._bodiless = bodiless
        self._parser = HttpResponseParser(
            self,
            self._loop,
            _READ_BYTES,
            payload_exception=aiohttp.ClientPayloadError,
            response_with_body=not bodiless,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_HEAD_BYTES_MAX,
            max_field_size=_HEAD_BYTES_MAX,
            max_headers=_HEADERS_MAX,
        )

    def forget(self) -> None:
        """The reply at hand may have trailers: the parser would take the last for a field of the next reply."""
        self._bodiless = None

    async def read(self) -> Head:
        """The next head, and the reader of its body. Raises what ended the connection."""
        if not self._heads:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._heads.popleft()

    async def pass_on(self, body: StreamReader, take: Callable[[bytes], bool]) -> None:
        """Give the pieces of the body at hand to `take`, see `Passing`, until that or the body is over.

        Raises what breaks the body off, or what `take` raised.
        """
        self._passing = passing = Passing(body, take, self._loop)
        try:
            await passing.over
        finally:
            self._passing = None
            passing.end()
        if passing.fault is not None:
            raise passing.fault

    def fail(self, error: BaseException) -> None:
        """No further head comes: whoever waits for one, or will, gets the error."""
        self._last = True
        if self._error is None:
            self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        """Close it. May be called more than once."""
        self._last = True
        self._error = None  # breaks a cycle
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.close()

    # ---- for the transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the upstream."""
        if self._idle and data:
            self._break(aiohttp.ClientError("the upstream speaks unasked"))
        if self._parser is None or self._upgraded or self._error is not None:
            return
        try:
            heads, self._upgraded, _ = self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - a parser's; what it quotes is for nobody's eyes
            if self._passing is not None:
                self._passing.hand_over()  # what came before it has come
            self._break(HttpProcessingError(code=error.code if isinstance(error, HttpProcessingError) else None))
            return
        for message, payload in heads:
            if message.should_close or self._upgraded:
                self._last = True
            self._payload = payload
            bodiless = self._bodiless or message.code in _WITHOUT_BODY
            self._heads.append((message, EMPTY_PAYLOAD if bodiless else payload))
        if heads and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._passing is not None and not self._passing.hand_over():
            self._passing = None

    def _break(self, error: Exception) -> None:
        """What came is no reply."""
        if not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError(type(error).__name__))
        if self.transport is not None:
            self.transport.close()
        self.fail(error)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport is gone: a body without a length is complete, one with a length is cut."""
        parser, self._parser = self._parser, None
        payload, self._payload = self._payload, EMPTY_PAYLOAD
        self._reading_paused = False
        try:
            if parser is not None:
                parser.feed_eof()
        except Exception as error:  # noqa: BLE001 - a parser's
            if not payload.is_eof():
                payload.set_exception(aiohttp.ClientPayloadError(type(error).__name__))
        if exc is None:
            self.fail(aiohttp.ServerDisconnectedError())
        else:
            self.fail(aiohttp.ClientOSError(*exc.args) if isinstance(exc, OSError) else exc)
        super().connection_lost(exc)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - as aiohttp has it
        """Nothing, where it was not paused: aiohttp would run its parser once more for every body that was read."""
        if self._reading_paused:
            super().resume_reading(resume_parser)
