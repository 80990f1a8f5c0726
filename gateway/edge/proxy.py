"""The customers' listener: aiohttp's low-level server on one side, the pipeline on the other.

Owns: reading and writing the customer's bytes, noticing that the customer left, `Expect: 100-continue`.
Does not know: products, money.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import ERROR, _ErrInfo
from multidict import CIMultiDict

from gateway.core.errors import Code, Refused, place_of
from gateway.edge.heads import ambiguity, is_last
from gateway.edge.own import OwnRoutes
from gateway.edge.responses import StreamedResponse, WholeResponse
from gateway.edge.websocket import TakenOver, is_opening, take_over
from gateway.pipeline.call import Answer, BodyRefused, ClientGone
from gateway.pipeline.http import HttpPipeline
from gateway.settings.runtime import Limits
from gateway.sockets.ports import Relay, Watch, Watcher
from gateway.upstream.bodies import rest_of
from gateway.upstream.headers import end_to_end

_LOGGER: Final = logging.getLogger("gateway.customers")
_LOGGER.setLevel(logging.INFO)  # aiohttp's debug lines quote what clients sent
_BODY_FAILED: Final = (ConnectionError, web.RequestPayloadError, aiohttp.ClientError)
_READ_LATE: Final = web.PayloadAccessError()
_BROKEN: Final = web.RequestPayloadError("its framing is broken")
_CUT: Final = Refused(code=Code.INVALID_REQUEST, details={"reason": "its body breaks off"})
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
#: How long idle connections may take to close.
_CLOSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.02
_NEVER: Final = float("inf")
_DRAIN_SECONDS_DEFAULT: Final = 60.0


class CustomerConnection(web.RequestHandler):
    """aiohttp's connection, which also tells the call at hand that its client has left."""

    call: "RequestClient | None" = None
    connections_max = 0  # of the server, this one included
    closing = False  # no request is taken after the one at hand

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection; one too many is closed at once."""
        super().connection_made(transport)
        if self._manager is not None and len(self._manager._connections) > self.connections_max:
            self.force_close()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - as aiohttp has it
        """Nothing, where it was not paused: aiohttp would run its parser once more for every body that was read."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client. Where they break the framing of a body, whoever reads it is told at once."""
        super().data_received(data)
        if self._messages and type(self._messages[-1][0]) is _ErrInfo:
            self.closing = True
            if self.call is not None:
                self.call.broken()

    async def start(self) -> None:
        """Serve one request after another, as aiohttp's own loop does, but without a task and a writer for each.

        They cost a tenth of a call, and nothing here uses them.
        """
        while not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = self._messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            try:
                if not await self._served(message, payload):
                    break
            except ConnectionError:  # the client has left
                break
            except asyncio.CancelledError:
                self.force_close()
                raise
            except Exception as error:  # noqa: BLE001 - a fault of ours must end this connection, and no other
                self.log_exception("Unhandled exception", exc_info=error)
                self.force_close()
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _served(self, message: Any, payload: StreamReader) -> bool:
        """Serve a request; whether the connection may have another."""
        manager = self._manager
        assert manager is not None and self._request_factory is not None, "a lost connection serves nothing"
        manager.requests_count += 1
        handler = self._request_handler
        if isinstance(message, _ErrInfo):
            handler, message = manager.unread, ERROR  # type: ignore[attr-defined]
        task = self._task_handler or asyncio.current_task()
        request = self._request_factory(message, payload, self, None, task)  # type: ignore[arg-type]
        self._current_request = request
        self._request_in_progress = True
        try:
            response = await handler(request)  # type: ignore[misc]
        finally:
            self._current_request = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if type(response) is TakenOver:
            request._task = None  # type: ignore[assignment] # breaks a cycle
            return False
        if type(response) is WholeResponse and not self._upgraded:
            await response.prepare(request)
            if self.writing_paused:
                await response.write_eof()
        elif (await self.finish_response(request, response, None))[1]:
            return False
        request._task = None  # type: ignore[assignment] # breaks a cycle
        self._keepalive = bool(response.keep_alive)
        if not payload.is_eof() and payload.exception() is None:
            await self._linger(payload)
        payload.set_exception(_READ_LATE)
        if not self._keepalive or self._close or self._force_close:
            return False
        self._next_keepalive_close_time = closes_at = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(closes_at, self._process_keepalive)
        return True

    async def _linger(self, payload: StreamReader) -> None:
        """Read and drop the rest of a body for a while, so that the client reads its answer before we close."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof() and not self._force_close:
                    await payload.readany()
        except TimeoutError:
            self.close()

    def close(self) -> None:
        """Take no further request. The body of the one at hand still comes in: aiohttp would stop reading it."""
        self.closing = True
        if self._waiter is not None and not self._waiter.done():
            self.force_close()  # it is idle
        elif self.call is None or self.call.has_whole_body:
            super().close()

    def log_exception(self, *_args: Any, **facts: Any) -> None:
        """A fault that nobody expected: its type and where. Its text may hold what a client sent: a parser's does."""
        error = facts.get("exc_info")
        if not isinstance(error, BaseException) or isinstance(error, HttpProcessingError):
            return
        self.logger.error("%s", place_of(error))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport is gone: bound what the call may still do."""
        call = self.call
        super().connection_lost(exc)
        if call is not None:
            call.lost()


class CustomerServer(web.Server):
    """Makes `CustomerConnection`s; every option of aiohttp's server by name."""

    def __init__(self, pipeline: HttpPipeline, limits: Limits, own: OwnRoutes | None = None) -> None:
        super().__init__(self._handle, handler_cancellation=False)
        self._pipeline = pipeline
        self._own = own
        self._limits = limits
        self._calls: set[RequestClient] = set()
        self._ends_at: float | None = None
        self._lingers_to = 0.0
        self._options: dict[str, Any] = {
            "keepalive_timeout": 75.0,
            "tcp_keepalive": True,
            "access_log": None,
            "logger": _LOGGER,
            "max_line_size": limits.header_bytes_max,
            "max_field_size": limits.header_bytes_max,
            "max_headers": 128,
            "lingering_time": 10.0,
            "read_bufsize": 2**16,
            "auto_decompress": False,
        }

    def __call__(self) -> web.RequestHandler:
        """A new connection."""
        connection = CustomerConnection(self, loop=asyncio.get_running_loop(), **self._options)
        connection.closing = self._ends_at is not None
        connection.connections_max = self._limits.connections_max
        return connection

    def end_within(self, seconds: float | None, *, linger_seconds: float = 0.0) -> None:
        """How long calls under way may go on from now, once `shutdown` waits for them. It may be said again.

        For `linger_seconds` an idle connection may still have a call, its last: a client that sends one just now would
        otherwise find the connection closed. It is for a gateway that has a successor, who takes the client's next one.
        """
        now = asyncio.get_running_loop().time()
        self._ends_at = _NEVER if seconds is None else now + seconds
        self._lingers_to = min(now + linger_seconds, self._ends_at)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Let calls under way finish, then end sessions, then cut the others. None runs any more when this returns.

        They have what `end_within` gave them, else `timeout` seconds; those that were cut have `timeout` to be settled.
        """
        if self._ends_at is None:
            self.end_within(timeout)
        for connection in self.connections:
            connection.closing = True  # type: ignore[attr-defined]
        await self._poll(lambda: bool(self._connections) and self._now() < self._lingers_to)
        self.pre_shutdown()
        await self._calls_over()
        await self._pipeline.sessions.end_all()
        for client in self._calls:
            client.cut()
        self.end_within(timeout)
        await self._calls_over()
        await self._close_connections()

    async def _close_connections(self) -> None:
        """Close all, then cut those whose client does not do its part: take the rest, or say goodbye over TLS."""
        transports = [each.transport for each in self.connections if each.transport is not None]
        await asyncio.gather(*(each.shutdown(_CLOSE_SECONDS) for each in self.connections))
        await self._connections_over()
        for transport in transports:
            transport.abort()
        await self._connections_over()

    async def _connections_over(self) -> None:
        """Wait a moment until no connection is left."""
        closes_at = self._now() + _CLOSE_SECONDS
        await self._poll(lambda: bool(self._connections) and self._now() < closes_at)

    async def _calls_over(self) -> None:
        """Wait until no call is under way, at most until the time is up."""
        await self._poll(lambda: bool(self._calls) and self._now() < (self._ends_at or _NEVER))

    async def _poll(self, going_on: Callable[[], bool]) -> None:
        """Wait while something goes on."""
        while going_on():  # noqa: ASYNC110 - an event would cost every call
            await asyncio.sleep(_POLL_SECONDS)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def unread(self, request: web.BaseRequest) -> web.StreamResponse:
        """What aiohttp's parser takes for no request: no word of it is repeated, and its connection ends."""
        return self._refused(request, "this is no HTTP request")

    def _refused(self, request: web.BaseRequest, reason: str) -> web.StreamResponse:
        request.protocol.closing = True  # type: ignore[attr-defined]
        return cast("web.StreamResponse", WholeResponse(self._pipeline.unread(reason)))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        message = request._message
        if reason := ambiguity(message):
            return self._refused(request, reason)
        client = RequestClient(request, self._limits)
        connection = request.protocol
        if is_last(message):
            connection.closing = True  # type: ignore[attr-defined]
        connection.call = client  # type: ignore[attr-defined]
        self._calls.add(client)
        try:
            answer: Answer | None
            if self._own is not None and self._own.has(client.raw_path):
                answer = await self._own.answer(request)
            else:
                answer = await self._pipeline.serve(client)
        finally:
            self._calls.discard(client)
            connection.call = None  # type: ignore[attr-defined]
            client.done()
        if client.response is not None:
            if answer is not None:  # a fault after the head was sent
                client.abort()
            return cast("web.StreamResponse", client.response)
        if answer is None:
            raise ConnectionResetError("nobody is left to answer")
        return cast("web.StreamResponse", WholeResponse(answer))


class RequestClient:
    """A `pipeline.call.Client` over one aiohttp request."""

    __slots__ = (
        "_drain_seconds", "_leaving", "_limits", "_lost_timer", "_request", "_streamed", "_task", "gone", "headers",
        "method", "query_string", "raw_path", "response",
    )  # fmt: skip

    def __init__(self, request: web.BaseRequest, limits: Limits) -> None:
        self._request = request
        self._limits = limits
        self._task = request.task
        self._drain_seconds = _DRAIN_SECONDS_DEFAULT
        self._lost_timer: asyncio.TimerHandle | None = None
        self._streamed: StreamedResponse | None = None
        self._leaving: Callable[[], None] | None = None
        self.gone = False
        self.response: StreamedResponse | TakenOver | None = None
        self.method = request.method
        self.headers = end_to_end(request.headers)
        #: As sent: percent-encoded path, and the query without its question mark.
        self.raw_path, _, self.query_string = request.raw_path.partition("?")

    # ---- what was asked

    @property
    def host(self) -> str:
        """The `Host` field, or where we listen."""
        return self._request.host

    @property
    def scheme(self) -> str:
        """http or https, as this listener saw it."""
        return self._request.scheme

    @property
    def query(self) -> Mapping[str, str]:
        """The query's fields, the last one of a name."""
        query = self.query_string
        return dict(parse_qsl(query, keep_blank_values=True)) if query else {}  # `header_bytes_max` bounds it

    @property
    def address(self) -> str:
        """The peer's address."""
        return self._request.remote or ""

    @property
    def content_length(self) -> int | None:
        """As declared."""
        return self._request.content_length

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        return self._request.body_exists

    @property
    def has_whole_body(self) -> bool:
        """Whether all of the body has come in."""
        return self._request.content.is_eof()

    # ---- its body

    async def read(self, bytes_max: int) -> bytes:
        """The whole body; BodyRefused if it is too large, too slow, or cut short."""
        if not self._request.body_exists:
            return b""
        content = self._request.content
        if content.is_eof() and content.exception() is None:  # in hand already: nothing to wait for
            body = rest_of(content)
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
            return body
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_read_seconds_max):
                async for chunk in self._chunks():
                    size += len(chunk)
                    if size > bytes_max:
                        raise _too_large(bytes_max)
                    chunks.append(chunk)
        except TimeoutError:
            raise BodyRefused(Refused(code=Code.REQUEST_TIMEOUT)) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def stream(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it comes; a pause longer than `body_read_seconds_max` is BodyRefused."""
        size = 0
        async for chunk in self._chunks():
            size += len(chunk)
            if size > bytes_max:
                raise _too_large(bytes_max)
            yield chunk

    async def _chunks(self) -> AsyncIterator[bytes]:
        request = self._request
        if request.version >= aiohttp.HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
            if request.transport is None:
                raise BodyRefused(None)
            request.transport.write(_CONTINUE)
        content = request.content
        while True:
            try:
                async with asyncio.timeout(self._limits.body_read_seconds_max):
                    chunk = await content.readany()
            except TimeoutError:
                raise BodyRefused(Refused(code=Code.REQUEST_TIMEOUT)) from None
            except _BODY_FAILED as error:
                raise BodyRefused(_CUT if error is _BROKEN else None) from None
            if not chunk:
                return
            yield chunk

    # ---- the answer, where it is streamed

    async def start(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        """Send the head; ClientGone."""
        self.response = self._streamed = StreamedResponse(self._request)
        await self._written(self._streamed.start(status, reason, headers, length))

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the body; ClientGone."""
        assert self._streamed is not None, "the head goes first"
        await self._written(self._streamed.write(chunk))

    async def finish(self) -> None:
        """The body is complete; ClientGone."""
        assert self._streamed is not None, "the head goes first"
        await self._written(self._streamed.finish())

    async def _written(self, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._drain_seconds):  # for one that takes nothing at all in this time
                await writing
        except (ConnectionError, aiohttp.ClientError):
            self.gone = True
            raise ClientGone from None
        except TimeoutError:
            self.abort()
            self.gone = True
            raise ClientGone from None

    def abort(self) -> None:
        """Cut the connection, so that an unfinished body does not look finished."""
        if self._request.transport is not None:
            self._request.transport.abort()

    # ---- a socket

    @property
    def wants_socket(self) -> bool:
        """Whether this is the opening handshake of a WebSocket that we can take."""
        return is_opening(self._request)

    def accept_socket(self, watch: Watch, watcher: Watcher, headers: CIMultiDict[str], subprotocol: str) -> Relay:
        """Answer 101, and take the connection over; ClientGone."""
        relay = take_over(self._request, watch, watcher, headers, subprotocol)
        if relay is None:
            self.gone = True
            raise ClientGone
        self.response = TakenOver()
        return relay

    # ---- the client leaves

    def drain_within(self, seconds: float) -> None:
        """How long the call may go on after its client left, or from now on if it has."""
        self._drain_seconds = seconds
        if self._lost_timer is not None:
            self._lost_timer.cancel()
            self._lost_timer = asyncio.get_running_loop().call_later(seconds, self._task.cancel)

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
        if type(self.response) is TakenOver:
            return
        if self._leaving is not None:
            self._leaving()
        if not self._task.done():
            self._lost_timer = asyncio.get_running_loop().call_later(self._drain_seconds, self._task.cancel)

    def broken(self) -> None:
        """The rest of the body cannot be read."""
        if not self.has_whole_body:
            self._request.content.set_exception(_BROKEN)

    def cut(self) -> None:
        """The gateway stops, and the call has had its time."""
        self._task.cancel()

    def done(self) -> None:
        """The call is over."""
        if self._lost_timer is not None:
            self._lost_timer.cancel()


def _too_large(bytes_max: int) -> BodyRefused:
    return BodyRefused(Refused(code=Code.BODY_TOO_LARGE, details={"bytes_max": str(bytes_max)}))
