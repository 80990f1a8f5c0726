"""Calls to upstreams over our own keep-alive connections, each with aiohttp's C parser.

Owns: the reuse of connections, the request's head, timeouts, the mapping of aiohttp's errors to ours.
Does not know: customers, money. Bodies pass as they are: nothing is decompressed, redirected, or kept as a cookie.

`aiohttp.ClientSession` would do the same at twice the cost of everything else on the path of a call (see
docs/adr/0006).
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Protocol, Self, cast

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.core.upstreams import Upstream
from gateway.upstream.bodies import is_to_come, rest_of
from gateway.upstream.connection import Connection, Head
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.fleet import Fleet, Tries

#: An idle connection is not used after this: the other side may be about to close it.
_IDLE_SECONDS_MAX: Final = 15.0
_IDLE_MAX: Final = 1024
#: How often calls under way are looked at: timeouts are late by no more than this.
_WATCH_SECONDS: Final = 0.25
_NEVER: Final = float("inf")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
#: More interim replies than these are nobody's in good faith.
_INTERIM_MAX: Final = 32
#: Safe to send once more when a kept connection turns out to have been closed (RFC 9110 9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
#: Safe to send to another one when what became of it is not known (RFC 9110 9.2.1).
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_DISCONNECTED: Final = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)

Body = bytes | AsyncIterator[bytes] | None


class Reply(Protocol):
    """An upstream's answer whose head has come. Reading may raise UpstreamUnreachable or UpstreamTimeout."""

    @property
    def status(self) -> int: ...
    @property
    def endpoint(self) -> str:
        """Which endpoint of its service has answered; empty where that has no names for them."""

    @property
    def reason(self) -> str: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def length(self) -> int | None:
        """The body's length if its head tells."""

    async def chunk(self) -> bytes:
        """The next bytes of the body as they come; empty at its end."""

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        """Give what comes of the body to `take`, as it comes. Whether that was all, or else `take` wants to wait.

        What `take` raises is raised here.
        """

    def at_end(self) -> bool:
        """Whether the whole body has come and was read."""

    def pause(self) -> None:
        """From now on it is the client that is waited for: that is no time of the upstream's."""

    def resume(self) -> None:
        """The upstream's time goes on."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back, or close it if the body was not read to its end."""


class UpstreamClient(Protocol):
    """Sends one request and gives the reply once its head has come."""

    async def send(
        self, upstream: Upstream, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body
    ) -> Reply:
        """UpstreamUnreachable or UpstreamTimeout when no head came. A body iterator's own error passes through.

        Of a service with endpoints one is asked that `upstream` has; another, where nothing was begun at the first. The
        credential in `headers` is set to its own.
        """

    async def close(self) -> None:
        """Close every connection."""


_FAULTS: Final = (aiohttp.ClientError, HttpProcessingError, ssl.SSLError, OSError)


def _mapped(error: BaseException, *, unsent: bool = False) -> UpstreamTimeout | UpstreamUnreachable:
    """A foreign error as ours, at the door."""
    name = type(error).__name__
    fault = UpstreamTimeout(name) if isinstance(error, TimeoutError) else UpstreamUnreachable(name)
    fault.unsent = unsent
    return fault


class PooledReply:
    """A `Reply` on a connection of a pool."""

    __slots__ = (
        "_closed", "_connection", "_payload", "_pool", "ends_at", "headers", "last", "left", "length", "reason",
        "silent_until", "status", "writer",
    )  # fmt: skip

    def __init__(self, pool: "Pool", connection: Connection, ends_at: float, *, last: bool) -> None:
        self._pool = pool
        self._connection = connection
        self.last = last  # its connection is not used again
        self._payload: StreamReader | None = None
        self._closed = False
        #: By the loop's clock: when the call must be over, and until when the upstream may be silent.
        self.ends_at = ends_at
        self.silent_until = _NEVER
        self.left: float | None = None  # what was left of its time when it was paused
        self.writer: asyncio.Task[None] | None = None
        self.status = 0
        self.reason = ""

    @property
    def endpoint(self) -> str:
        """See `Reply`."""
        return self._pool.upstream.endpoint

    def begin(self, message: RawResponseMessage, payload: StreamReader) -> None:
        """The head has come."""
        self._payload = payload
        self.status = message.code
        self.reason = reason = message.reason
        if not (reason.isascii() and reason.isprintable()) and _CONTROLS.search(reason) is not None:
            self.reason = ""
        if message.chunked:
            self._connection.forget()
        self.headers = headers = message.headers
        length = headers.get("Content-Length", "")
        self.length = int(length) if length.isascii() and length.isdigit() else None

    async def chunk(self) -> bytes:
        """See `Reply`."""
        assert self._payload is not None, "no head has come"
        if self._payload.is_eof() and self._payload.exception() is None:  # in hand: no error can come of it
            return rest_of(self._payload)
        self.silent_until = self._pool.silence_ends()
        try:
            return await self._payload.readany()
        except _FAULTS as error:
            raise _mapped(error) from error
        finally:
            self.silent_until = _NEVER  # from now on it is ours to read on

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        """See `Reply`."""
        payload = self._payload
        assert payload is not None, "no head has come"
        while not is_to_come(payload):
            if not (chunk := await self.chunk()):
                return True
            if take(chunk):
                return False

        def heard(piece: bytes) -> bool:
            self.silent_until = self._pool.silence_ends()
            return take(piece)

        self.silent_until = self._pool.silence_ends()
        try:
            await self._connection.pass_on(payload, heard)
        except _FAULTS as error:
            raise _mapped(error) from error
        finally:
            self.silent_until = _NEVER
        return payload.at_eof()

    def at_end(self) -> bool:
        """See `Reply`."""
        return self._payload is not None and self._payload.at_eof()

    def pause(self) -> None:
        """See `Reply`."""
        if self.left is None:
            self.left = self.ends_at - asyncio.get_running_loop().time()
            self.ends_at = _NEVER

    def resume(self) -> None:
        """See `Reply`."""
        if self.left is not None:
            self.ends_at = asyncio.get_running_loop().time() + self.left
            self.left = None

    def expire(self) -> None:
        """The upstream was silent for too long, or the whole time for this call is over."""
        error = aiohttp.ServerTimeoutError("the upstream took too long")
        self._connection.fail(error)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """See `Reply.__aexit__`. May be called more than once."""
        if self._closed:
            return
        self._closed = True
        reusable = not self.last and self._payload is not None  # without its head, the reply is still to come
        if self.writer is not None and not self.writer.done():
            self.writer.cancel()
            reusable = False
        self._pool.release(self, self._connection, reusable=reusable)


class Pool:
    """The connections to one upstream."""

    def __init__(self, upstream: Upstream, *, idle_seconds_max: float = _IDLE_SECONDS_MAX) -> None:
        self.upstream = upstream
        self._idle_seconds_max = idle_seconds_max
        self._endpoint = Endpoint(upstream.base_url, verify_tls=upstream.verify_tls)
        self._idle: deque[tuple[float, Connection]] = deque()
        self._places = asyncio.Semaphore(upstream.connections_max) if upstream.connections_max else None
        self._open = 0
        self._active: set[PooledReply] = set()
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Pool {self._endpoint} open={self._open} idle={len(self._idle)}>"

    def __len__(self) -> int:
        return self._open

    async def send(self, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body) -> PooledReply:
        """One request, and its reply's head. A kept connection that proves closed is tried once more where safe."""
        head = self._head(method, path_and_query, headers, body)
        unsent = True
        try:
            if self._places is not None:
                await self._take_place(self._places)
            kept = self._kept()
            connection = kept or await self._connect()
            unsent = False
            try:
                return await self._exchange(connection, method, head, headers, body)
            except _DISCONNECTED as error:
                repeatable = kept is not None and method in _IDEMPOTENT and (body is None or isinstance(body, bytes))
                if not repeatable or isinstance(error, aiohttp.ServerTimeoutError):
                    raise
            if self._places is not None:
                await self._take_place(self._places)
            return await self._exchange(await self._connect(), method, head, headers, body)
        except _FAULTS as error:
            raise _mapped(error, unsent=unsent) from error

    def _head(self, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body) -> bytes:
        fields = list(headers.items())
        if isinstance(body, bytes):
            fields.append(("Content-Length", str(len(body))))
        elif body is not None:
            if "Content-Length" not in headers:
                fields.append(("Transfer-Encoding", "chunked"))
        elif method not in _WITHOUT_BODY:
            fields.append(("Content-Length", "0"))
        return self._endpoint.head(method, path_and_query, fields)

    async def _exchange(
        self, connection: Connection, method: str, head: bytes, headers: CIMultiDict[str], body: Body
    ) -> PooledReply:
        connection.expect(bodiless=method == "HEAD")
        transport, now = connection.transport, self._loop.time()
        assert transport is not None, "only a connection that is open is acquired"
        # A service that does not read the body of such a request takes it for the next one: there must be none.
        last = body is not None and method in _WITHOUT_BODY
        reply = PooledReply(self, connection, now + self.upstream.total_seconds_max, last=last)
        self._begin_watch(reply)
        if body is None or isinstance(body, bytes):
            transport.write(head + body if body else head)
            reply.silent_until = now + self.upstream.reply_seconds_max
        else:
            transport.write(head)
            chunked = "Content-Length" not in headers
            reply.writer = asyncio.create_task(_write(connection, reply, self.silence_ends, body, chunked=chunked))
        try:
            message, payload = await connection.read()
            if message.code < 200:
                message, payload = await self._final(connection, reply, message)
        except BaseException:
            reply.close()
            raise
        reply.silent_until = _NEVER
        reply.begin(message, payload)
        return reply

    async def _final(self, connection: Connection, reply: PooledReply, message: RawResponseMessage) -> Head:
        """The reply's head, after interim ones, which are not ours to pass on."""
        for _ in range(_INTERIM_MAX):
            if message.code <= 101 and message.code != 100:
                raise aiohttp.ClientError("the upstream switches protocols unasked, or its status is none")
            if reply.writer is None or reply.writer.done():
                reply.silent_until = self.silence_ends()
            message, payload = await connection.read()
            if message.code >= 200:
                return message, payload
        raise aiohttp.ClientError("the upstream begins to answer without end")

    # ---- time: one timer for all connections, because a timer for each costs more than a look at all of them

    def silence_ends(self) -> float:
        """Until when the upstream may be silent from now on, by the loop's clock."""
        return self._loop.time() + self.upstream.reply_seconds_max

    def _begin_watch(self, reply: PooledReply) -> None:
        self._active.add(reply)
        if self._watch is None:
            self._go_on_watching()

    def _go_on_watching(self) -> None:
        every = min(_WATCH_SECONDS, self.upstream.reply_seconds_max / 4, self.upstream.total_seconds_max / 4)
        self._watch = self._loop.call_later(every, self._look)

    def _look(self) -> None:
        self._watch = None
        now = self._loop.time()
        for reply in [reply for reply in self._active if now > reply.ends_at or now > reply.silent_until]:
            self._active.discard(reply)
            reply.expire()
        while self._idle and self._idle[0][0] < now - self._idle_seconds_max:  # of a busier time: not used any more
            _, connection = self._idle.popleft()
            connection.close()
            self._open -= 1
        if self._active or self._idle:
            self._go_on_watching()

    # ---- connections

    async def _take_place(self, places: asyncio.Semaphore) -> None:
        """Wait for one of the connections that there may be."""
        async with asyncio.timeout(self.upstream.connect_seconds_max):
            await places.acquire()

    def _kept(self) -> Connection | None:
        """A connection that was used before, and is ours alone now."""
        idle = self._idle
        while idle:
            since, connection = idle.pop()
            if since >= self._loop.time() - self._idle_seconds_max and connection.is_open:
                return connection
            connection.close()
            self._open -= 1
        return None

    async def _connect(self) -> Connection:
        """A new connection. The place that was taken for it is given back where there is none."""
        loop = self._loop
        try:
            async with asyncio.timeout(self.upstream.connect_seconds_max):
                _, connection = await self._endpoint.connect(lambda: Connection(loop))
        except BaseException:
            if self._places is not None:
                self._places.release()
            raise
        self._open += 1
        return connection

    def release(self, reply: PooledReply, connection: Connection, *, reusable: bool) -> None:
        """The call is over with this connection."""
        self._active.discard(reply)
        if reusable and connection.idle() and len(self._idle) < _IDLE_MAX:
            self._idle.append((self._loop.time(), connection))
        else:
            connection.close()
            self._open -= 1
        if self._places is not None:
            self._places.release()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is released."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._idle:
            _, connection = self._idle.pop()
            connection.close()
            self._open -= 1


async def _write(
    connection: Connection,
    reply: PooledReply,
    silence_ends: Callable[[], float],
    body: AsyncIterator[bytes],
    *,
    chunked: bool,
) -> None:
    """Send a body as it comes, waiting while the upstream is slow. The body's own error becomes the reply's."""
    transport = cast("asyncio.Transport", connection.transport)
    try:
        async for chunk in body:
            if transport.is_closing():
                return  # the upstream has answered, or gone: the reply tells
            transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if connection.writing_paused:
                await connection._drain_helper()
        if chunked:
            transport.write(b"0\r\n\r\n")
        reply.silent_until = silence_ends()
    except _DISCONNECTED:
        return  # the reply tells: it may have come before the upstream closed
    except Exception as error:  # noqa: BLE001 - whatever the body raised is for whoever waits for the reply
        connection.fail(error)


class PooledUpstreamClient:
    """An `UpstreamClient` with one pool for each place, made when it is first called."""

    def __init__(self, fleet: Fleet | None = None) -> None:
        self._pools: dict[str, Pool] = {}
        self._fleet = fleet or Fleet()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self._pools.values())}>"

    def __len__(self) -> int:
        """Open connections, idle ones included."""
        return sum(map(len, self._pools.values()))

    def send(
        self, upstream: Upstream, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body
    ) -> Coroutine[Any, Any, Reply]:
        """See `UpstreamClient`. (A coroutine that only awaits another costs half a microsecond.)"""
        pool = self._pools.get(upstream.name)
        if pool is None:
            if upstream.endpoints:
                return self._send_to_one(upstream, method, path_and_query, headers, body)
            pool = self._pools[upstream.name] = Pool(upstream)
        return pool.send(method, path_and_query, headers, body)

    async def _send_to_one(
        self, upstream: Upstream, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body
    ) -> Reply:
        """Send to one endpoint, or another: at most to so many as `Tries` has."""
        whole = body is None or isinstance(body, bytes)
        tries = Tries(self._fleet, upstream, safe=whole and method in _SAFE)
        while True:
            endpoint = tries.next()
            headers[endpoint.credential_header] = endpoint.credential
            try:
                reply = await self.send(endpoint, method, path_and_query, headers, body)
            except (UpstreamUnreachable, UpstreamTimeout) as fault:
                if not tries.goes_on(endpoint, fault):
                    raise
                continue
            if not tries.passes_over(endpoint, reply.status, whole=whole):
                return reply
            async with reply:  # it has no more to say
                pass

    async def close(self) -> None:
        """See `UpstreamClient`."""
        for pool in self._pools.values():
            pool.close()
