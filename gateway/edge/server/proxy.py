"""Our listeners: aiohttp's low-level server on one side, on the other the pipeline, or whatever else answers.

Owns: the options of connections, who answers a request, how all connections end.
Does not know: products, money, what happens on a connection (connection).
"""

import asyncio
import logging
import select
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, Protocol, cast

from aiohttp import web

from gateway.edge.server.client import RequestClient
from gateway.edge.server.connection import CustomerConnection
from gateway.edge.server.door import Door
from gateway.edge.server.own import OwnRoutes
from gateway.pipeline.call import Answer, Client
from gateway.ports import Observer
from gateway.settings.runtime import Limits

_LOGGER: Final = logging.getLogger("gateway.customers")
_LOGGER.setLevel(logging.INFO)  # aiohttp's debug lines quote what clients sent
#: How long idle connections may take to close.
_CLOSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.02
#: A connection that had no call for so long has none on its way either, but by a rare chance.
_QUIET_SECONDS: Final = 5.0
_NEVER: Final = float("inf")


class Answering(Protocol):
    """Who answers what is not at one of our own routes: the pipeline, where there is one."""

    def unread(self, reason: str) -> Answer:
        """The answer to what is no request, or could be read as two."""
        ...

    def serve(self, client: Client) -> Coroutine[Any, Any, Answer | None]:
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
        observer: Observer | None = None,
        end_sessions: Callable[[], Awaitable[None]] | None = None,
        quiet_seconds: float = _QUIET_SECONDS,
    ) -> None:
        super().__init__(_not_asked, handler_cancellation=False)
        self._pipeline = pipeline
        self._end_sessions = end_sessions
        self._quiet_seconds = quiet_seconds
        self._own = own
        self.limits = limits
        self.door = Door(limits, of_address_max=of_address_max, observer=observer)
        self.calls: set[RequestClient] = set()
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
        connection.server = self
        return connection

    def end_within(self, seconds: float | None, *, linger_seconds: float = 0.0) -> None:
        """How long calls under way may go on from now, once `shutdown` waits for them. It may be said again.

        For `linger_seconds` an idle connection may still have a call, its last: a client that sends one just now would
        otherwise find the connection closed. It is for a gateway that has a successor, who takes the client's next one:
        also of those that were quiet, which are closed at once, unless a call has come that nobody has read yet.
        """
        now = asyncio.get_running_loop().time()
        self._ends_at = _NEVER if seconds is None else now + seconds
        self._lingers_to = min(now + linger_seconds, self._ends_at)
        connections = cast("list[CustomerConnection]", self.connections)
        for connection in _unasked(each for each in connections if each.quiet_since <= now - self._quiet_seconds):
            connection.close()

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
        for client in self.calls:
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
        self.door.close()

    async def _connections_over(self) -> None:
        """Wait a moment until no connection is left."""
        closes_at = self._now() + _CLOSE_SECONDS
        await self._poll(lambda: bool(self._connections) and self._now() < closes_at)

    async def _calls_over(self) -> None:
        """Wait until no call is under way, at most until the time is up."""
        await self._poll(lambda: bool(self.calls) and self._now() < (self._ends_at or _NEVER))

    async def _poll(self, going_on: Callable[[], bool]) -> None:
        """Wait while something goes on."""
        while going_on():  # noqa: ASYNC110 - an event would cost every call
            await asyncio.sleep(_POLL_SECONDS)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def unread(self, reason: str) -> Answer:
        """See `Host`. No word of what is no request is repeated."""
        return self._pipeline.unread(reason)

    def answering(self, client: RequestClient) -> Coroutine[Any, Any, Answer | None]:
        """See `Host`."""
        if self._own is not None and self._own.has(client.raw_path):
            return self._own.answer(client)
        return self._pipeline.serve(client)


def _unasked(connections: Iterable[CustomerConnection]) -> list[CustomerConnection]:
    """Those of them whose sockets have nothing to read: the event loop knows only what it has read already."""
    found, poll = {}, select.poll()
    for connection in connections:
        transport = connection.transport
        if transport is not None and not transport.is_closing():
            fileno = transport.get_extra_info("socket").fileno()
            found[fileno] = connection
            poll.register(fileno, select.POLLIN)
    for fileno, _ in poll.poll(0):
        del found[fileno]
    return list(found.values())


async def _not_asked(_request: web.BaseRequest) -> web.StreamResponse:
    """aiohttp's server wants a handler; our connections ask the server itself."""
    raise AssertionError("connections of ours have their own loop")
