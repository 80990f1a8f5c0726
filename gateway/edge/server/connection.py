"""A customer's connection: aiohttp's, whose requests are served one after another.

Owns: which request is served and which ends the connection, noticing that the customer left, idle connections.
Does not know: who answers (proxy), products, money, what a call does with its request (client).
"""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, _ErrInfo

from gateway.core.errors import place_of
from gateway.edge.server.carrier import Carrier
from gateway.edge.server.client import BrokenBody, RequestClient
from gateway.edge.server.door import Door
from gateway.edge.server.heads import ambiguity, in_origin_form, is_last
from gateway.edge.server.responses import write_whole
from gateway.pipeline.call import Answer
from gateway.settings.runtime import Limits

_READ_LATE: Final = web.PayloadAccessError()
#: In place of what could not be read. The answer to it is one of HTTP/1.1, as all of ours.
_NO_REQUEST: Final = ERROR._replace(version=HttpVersion11)


class Host(Protocol):
    """The server, as its connections see it."""

    @property
    def limits(self) -> Limits: ...
    @property
    def door(self) -> Door: ...
    @property
    def calls(self) -> set[RequestClient]:
        """Those under way."""

    def unread(self, reason: str) -> Answer:
        """The answer to what is no request, or could be read as two."""

    def answering(self, client: RequestClient) -> Coroutine[Any, Any, Answer | None]:
        """The answer to a call; None: it was written already, or nobody is left to have it."""


class CustomerConnection(Carrier):
    """aiohttp's connection, which also tells the call at hand that its client has left."""

    call: RequestClient | None = None
    head_began = 0.0  # see `door.Guest`
    server: Host

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection; one too many is closed at once."""
        super().connection_made(transport)
        if not self.server.door.enter(self, self.address):
            self.force_close()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - as aiohttp has it
        """Nothing, where it was not paused: aiohttp would run its parser once more for every body that was read."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client. Where they break the framing of a body, whoever reads it is told at once."""
        if self._force_close or self._close:
            return
        if self._upgraded:
            super().data_received(data)
            return
        assert self._parser is not None, "a lost connection is closed"
        try:
            messages, self._upgraded, tail = self._parser.feed_data(data)
        except HttpProcessingError as error:
            messages, tail = [(_ErrInfo(400, error, error.message), EMPTY_PAYLOAD)], b""
            self.closing = True
            self._tell_whose_body_breaks()
        waiter = self._waiter
        if messages:
            self._messages += messages
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            if len(self._messages) >= self._max_msg_queue_size and not self._buffer_paused:
                self._pause_reading_for_buffer()
        elif waiter is not None and not waiter.done():
            self.head_began = self.head_began or self._loop.time()  # and it has not ended
        if tail:
            self._message_tail = tail

    def _tell_whose_body_breaks(self) -> None:
        """The call at hand, or where others wait behind it, the last of them: it would wait for the rest in vain."""
        if self._messages:
            payload = self._messages[-1][1]
            if not payload.is_eof():
                payload.set_exception(BrokenBody())
        elif self.call is not None:
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
            try:
                if not await self._served():
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

    async def _served(self) -> bool:
        """Serve the next request; whether the connection may have another."""
        message, payload = self._messages.popleft()
        self.head_began = 0.0
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        server, why = self.server, "this is no HTTP request"
        if isinstance(message, _ErrInfo):
            message = _NO_REQUEST
        else:
            if message.path[0] != "/":
                message = in_origin_form(message)
            why = ambiguity(message)
        task = self._task_handler or asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        client = RequestClient(self, message, payload, server.limits, task)
        answer: Answer | None
        if why:
            self.closing = True
            answer = server.unread(why)
        else:
            self.closing = self.closing or is_last(message)
            del message  # the call's; a session lets go of it
            self._begin(client)
            try:
                answer = await server.answering(client)
            finally:
                self._end(client)
        if client.taken_over:
            return False
        if self._upgraded and not self._messages:
            self._decline_upgrade()
        if not self._written(client, answer):
            return False
        if self.writing_paused:
            await self.drained_or_cut()
        if not payload.is_eof():
            await self._leave(payload)
        return self._goes_on()

    def _begin(self, client: RequestClient) -> None:
        self.call = client
        self.server.calls.add(client)
        self._current_request = client  # type: ignore[assignment] # aiohttp cancels it when the connection is lost
        self._request_in_progress = True

    def _end(self, client: RequestClient) -> None:
        self.call = self._current_request = None
        self.server.calls.discard(client)
        client.done()
        self._request_in_progress = False
        if self._handler_waiter is not None:
            self._handler_waiter.set_result(None)

    def _written(self, client: RequestClient, answer: Answer | None) -> bool:
        """Whether the answer was, or is now, written whole. ConnectionResetError if nobody is left to have it."""
        streamed = client.streamed
        if streamed is None:
            if answer is None:
                raise ConnectionResetError("nobody is left to answer")
            self._keepalive = write_whole(client, answer)
            return True
        if answer is not None:  # a fault after the head was sent
            client.abort()
        self._keepalive = streamed.keep_alive
        return streamed.complete and answer is None

    def _goes_on(self) -> bool:
        """Whether another request may come, and then only for so long."""
        if not self._keepalive or self._close or self._force_close:
            return False
        self._next_keepalive_close_time = closes_at = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(closes_at, self._process_keepalive)
        return True

    @property
    def quiet_since(self) -> float:
        """When its last call was over; never, where none was, or one is under way."""
        if self._waiter is None or self._waiter.done() or not self._next_keepalive_close_time or self.head_began:
            return math.inf
        return self._next_keepalive_close_time - self._keepalive_timeout

    def _decline_upgrade(self) -> None:
        """The connection stays what it is: what came after the request is HTTP, and was kept unread."""
        assert self._parser is not None, "the connection is there"
        self._parser.set_upgraded(False)
        self._upgraded = False
        tail, self._message_tail = self._message_tail, b""
        self.data_received(tail)
        if self._buffer_paused and len(self._messages) < self._max_msg_queue_size:
            self._resume_reading_if_drained()

    async def _leave(self, payload: StreamReader) -> None:
        """Read and drop the rest of a body for a while, so that the client reads its answer before we close."""
        if payload.exception() is None:
            try:
                async with asyncio.timeout(self._lingering_time):
                    while not payload.is_eof() and not self._force_close:
                        await payload.readany()
            except TimeoutError:
                self.close()
        payload.set_exception(_READ_LATE)

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
        self.server.door.leave(self)
        super().connection_lost(exc)
        if call is not None:
            call.lost()
