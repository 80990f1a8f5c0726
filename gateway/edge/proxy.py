"""Our listeners: aiohttp's low-level server on one side, on the other the pipeline, or whatever else answers.

Owns: connections, which request is served on one and which ends it, noticing that the customer left, how all end.
Does not know: products, money, what a call does with its request (client).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import ERROR, _ErrInfo

from gateway.core.errors import place_of
from gateway.edge.client import RequestClient
from gateway.edge.door import Door
from gateway.edge.heads import ambiguity, is_last
from gateway.edge.own import OwnRoutes
from gateway.edge.responses import WholeResponse
from gateway.edge.websocket import TakenOver
from gateway.pipeline.call import Answer, Client
from gateway.settings.runtime import Limits

_LOGGER: Final = logging.getLogger("gateway.customers")
_LOGGER.setLevel(logging.INFO)  # aiohttp's debug lines quote what clients sent
_READ_LATE: Final = web.PayloadAccessError()
#: How long idle connections may take to close.
_CLOSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.02
_NEVER: Final = float("inf")


class CustomerConnection(web.RequestHandler):
    """aiohttp's connection, which also tells the call at hand that its client has left."""

    call: RequestClient | None = None
    closing = False  # no request is taken after the one at hand
    head_began = 0.0  # see `door.Guest`
    door: Door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection; one too many is closed at once."""
        super().connection_made(transport)
        peer = self.peername
        if not self.door.enter(self, peer[0] if isinstance(peer, tuple) else ""):
            self.force_close()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - as aiohttp has it
        """Nothing, where it was not paused: aiohttp would run its parser once more for every body that was read."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client. Where they break the framing of a body, whoever reads it is told at once."""
        super().data_received(data)
        if self._waiter is not None and not self._waiter.done():
            self.head_began = self.head_began or self._loop.time()  # and it has not ended
        elif self._messages and type(self._messages[-1][0]) is _ErrInfo:
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
            self.head_began = 0.0
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
        self.door.leave(self)
        super().connection_lost(exc)
        if call is not None:
            call.lost()


class Answering(Protocol):
    """Who answers what is not at one of our own routes: the pipeline, where there is one."""

    def unread(self, reason: str) -> Answer:
        """The answer to what is no request, or could be read as two."""
        ...

    async def serve(self, client: Client) -> Answer | None:
        """The answer to a call; None: it was written already, or nobody is left to have it."""
        ...


class CustomerServer(web.Server):
    """Makes `CustomerConnection`s; every option of aiohttp's server by name."""

    def __init__(
        self,
        pipeline: Answering,
        limits: Limits,
        own: OwnRoutes | None = None,
        *,
        of_address_max: int = 0,
        end_sessions: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(self._handle, handler_cancellation=False)
        self._pipeline = pipeline
        self._end_sessions = end_sessions
        self._own = own
        self._limits = limits
        self._door = Door(limits, of_address_max=of_address_max)
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
        connection.door = self._door
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
        if self._end_sessions is not None:
            await self._end_sessions()
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
        self._door.close()

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
