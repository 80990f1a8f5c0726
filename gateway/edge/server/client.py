"""A customer's call as the pipeline sees it: one request on its connection.

Owns: reading its body within its time, writing its answer, `Expect: 100-continue`, what becomes of it when its client
leaves. Does not know: connections (proxy), products, money.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict

from gateway.core.errors import Code, Refused
from gateway.edge.patience import Patience
from gateway.edge.server.carrier import Carrier
from gateway.edge.server.responses import StreamedResponse
from gateway.edge.server.websocket import is_opening, take_over, without_head
from gateway.pipeline.call import BodyRefused, ClientGone
from gateway.settings.runtime import Limits
from gateway.sockets.ports import Relay, Watch, Watcher
from gateway.upstream.bodies import at_hand
from gateway.upstream.headers import end_to_end

_BODY_FAILED: Final = (ConnectionError, web.RequestPayloadError, aiohttp.ClientError)
_CUT: Final = Refused(code=Code.INVALID_REQUEST, details={"reason": "its body breaks off"})
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_DRAIN_SECONDS_DEFAULT: Final = 60.0


class BrokenBody(web.RequestPayloadError):
    """The framing of a body cannot be read any further; its client may still be there."""


class RequestClient:
    """A `pipeline.call.Client`: one request on its connection. `task` is the one that serves it."""

    __slots__ = (
        "_arriving", "_drain_seconds", "_leaving", "_limits", "_lost_timer", "connection", "gone", "headers", "host",
        "message", "method", "payload", "query_string", "raw_path", "streamed", "taken_over", "task",
    )  # fmt: skip

    def __init__(
        self,
        connection: Carrier,
        message: RawRequestMessage,
        payload: StreamReader,
        limits: Limits,
        task: asyncio.Task[None],
    ) -> None:
        self.connection = connection
        self.message = message
        self.payload = payload
        self._limits = limits
        self.task = task
        self._drain_seconds = _DRAIN_SECONDS_DEFAULT
        self._lost_timer: asyncio.TimerHandle | None = None
        self._leaving: Callable[[], None] | None = None
        self._arriving: _Arriving | None = None
        self.streamed: StreamedResponse | None = None
        self.taken_over = False  # a relay has the connection
        self.gone = False
        self.method: str = message.method
        self.headers = end_to_end(message.headers)
        host: str | None = message.headers.get("Host")
        self.host = connection.host if host is None else host  # the field, or where we listen
        #: As sent: percent-encoded path, and the query without its question mark.
        self.raw_path: str
        self.query_string: str
        self.raw_path, _, self.query_string = message.path.partition("?")

    # ---- what was asked

    @property
    def scheme(self) -> str:
        """http or https, as this listener saw it."""
        return "http" if self.connection.ssl_context is None else "https"

    @property
    def query(self) -> Mapping[str, str]:
        """The query's fields, the last one of a name."""
        query = self.query_string
        return dict(parse_qsl(query, keep_blank_values=True)) if query else {}  # `header_bytes_max` bounds it

    @property
    def address(self) -> str:
        """The peer's address."""
        return self.connection.address

    @property
    def content_length(self) -> int | None:
        """As declared."""
        length = self.message.headers.get("Content-Length")
        return None if length is None else int(length)

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        return self.payload is not EMPTY_PAYLOAD

    @property
    def has_whole_body(self) -> bool:
        """Whether all of the body has come in."""
        return self.payload.is_eof()

    # ---- its body

    async def read(self, bytes_max: int) -> bytes:
        """The whole body; BodyRefused if it is too large, too slow, or cut short."""
        if (body := at_hand(self.payload)) is not None:
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
            return body
        try:
            async with asyncio.timeout(self._limits.body_read_seconds_max):
                chunks = [chunk async for chunk in self.stream(bytes_max)]
        except TimeoutError:
            raise BodyRefused(Refused(code=Code.REQUEST_TIMEOUT)) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def stream(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it comes; a pause longer than `body_read_seconds_max` is BodyRefused."""
        self._arriving = _Arriving(self, bytes_max, self._limits.body_read_seconds_max)
        return self._arriving

    def invite(self) -> None:
        """Tell a client that waits for it to send its body; BodyRefused if it has left."""
        message = self.message
        if message.version >= aiohttp.HttpVersion11 and message.headers.get("Expect", "").lower() == "100-continue":
            try:
                self.connection.send(_CONTINUE)
            except ConnectionError:
                raise BodyRefused(None) from None

    # ---- the answer, where it is streamed

    async def start(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        """Send the head; ClientGone."""
        self.streamed = StreamedResponse(self)
        self._do(self.streamed.start, status, reason, headers, length)
        if self.connection.writing_paused:
            await self.drained()

    def write(self, chunk: bytes) -> bool:
        """Send a piece of the body; whether the client is slow. ClientGone."""
        assert self.streamed is not None, "the head goes first"
        try:
            self.streamed.write(chunk)
        except ConnectionError:
            self.gone = True
            raise ClientGone from None
        return self.connection.writing_paused

    async def finish(self) -> None:
        """The body is complete; ClientGone."""
        assert self.streamed is not None, "the head goes first"
        self._do(self.streamed.finish)
        if self.connection.writing_paused:
            await self.drained()

    def _do(self, write: Callable[..., None], *what: Any) -> None:
        try:
            write(*what)
        except ConnectionError:
            self.gone = True
            raise ClientGone from None

    async def drained(self) -> None:
        """Wait while the client is slow; one that takes nothing at all in this time is cut."""
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self.connection.drained()
        except (ConnectionError, aiohttp.ClientError):
            self.gone = True
            raise ClientGone from None
        except TimeoutError:
            self.abort()
            self.gone = True
            raise ClientGone from None

    def abort(self) -> None:
        """Cut the connection, so that an unfinished body does not look finished."""
        if self.connection.transport is not None:
            self.connection.transport.abort()

    # ---- a socket

    @property
    def wants_socket(self) -> bool:
        """Whether this is the opening handshake of a WebSocket that we can take."""
        return is_opening(self)

    def accept_socket(self, watch: Watch, watcher: Watcher, headers: CIMultiDict[str], subprotocol: str) -> Relay:
        """Answer 101, and take the connection over; ClientGone."""
        relay = take_over(self, watch, watcher, headers, subprotocol)
        if relay is None:
            self.gone = True
            raise ClientGone
        self.taken_over = True
        self.message = without_head(self.message, self.host)
        return relay

    # ---- the client leaves

    def drain_within(self, seconds: float) -> None:
        """How long the call may go on after its client left, or from now on if it has."""
        self._drain_seconds = seconds
        if self._lost_timer is not None:
            self._lost_timer.cancel()
            self._lost_timer = asyncio.get_running_loop().call_later(seconds, self.task.cancel)

    def when_leaving(self, told: Callable[[], None]) -> None:
        """Tell when the client has left; at once if it has."""
        self._leaving = told
        if self.gone:
            told()

    def lost(self) -> None:
        """The connection is gone. The call goes on for a while: what the upstream reports is still owed.

        A session knows itself how long: its watcher is told.
        """
        self.gone = True
        if self.taken_over:
            return
        if self._leaving is not None:
            self._leaving()
        if not self.task.done():
            self._lost_timer = asyncio.get_running_loop().call_later(self._drain_seconds, self.task.cancel)

    def broken(self) -> None:
        """The rest of the body cannot be read."""
        if not self.has_whole_body:
            self.payload.set_exception(BrokenBody())

    def cut(self) -> None:
        """The gateway stops, and the call has had its time."""
        self.task.cancel()

    def _cancel(self, error: BaseException) -> None:
        """aiohttp's word for a connection that is lost."""
        self.payload.set_exception(error)

    def done(self) -> None:
        """The call is over."""
        if self._lost_timer is not None:
            self._lost_timer.cancel()
        if self._arriving is not None:
            self._arriving.close()


class _Arriving:
    """A body as it comes, no more of it than so many bytes. Not a generator: a large body is many pieces."""

    __slots__ = ("_bytes_max", "_client", "_content", "_left", "_patience")

    def __init__(self, client: RequestClient, bytes_max: int, seconds_max: float) -> None:
        self._client: RequestClient | None = client  # until the body is begun
        self._content = client.payload
        self._bytes_max = self._left = bytes_max
        self._patience = Patience(seconds_max)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._client is not None:
            self._client.invite()
            self._client = None
        content = self._content
        try:
            chunk = at_hand(content)
            if chunk is None:
                with self._patience:
                    chunk = await content.readany()
        except TimeoutError:
            raise BodyRefused(Refused(code=Code.REQUEST_TIMEOUT)) from None
        except _BODY_FAILED as error:
            raise BodyRefused(_CUT if isinstance(error, BrokenBody) else None) from None
        if not chunk:
            raise StopAsyncIteration
        self._left -= len(chunk)
        if self._left < 0:
            raise _too_large(self._bytes_max)
        return chunk

    def close(self) -> None:
        """Nobody reads on: the call is over."""
        self._client = None  # breaks a cycle, where the body was never begun
        self._patience.close()


def _too_large(bytes_max: int) -> BodyRefused:
    return BodyRefused(Refused(code=Code.BODY_TOO_LARGE, details={"bytes_max": str(bytes_max)}))
