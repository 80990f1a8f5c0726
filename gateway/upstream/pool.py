"""The connections to one upstream: kept open, lent for one call each, and watched over.

Owns: the reuse of connections and their number, the sending of a request, the timer behind all timeouts.
Does not know: customers, money, other upstreams (client), or how a body is read (reply).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

import aiohttp
from aiohttp.http_parser import RawResponseMessage
from multidict import CIMultiDict

from gateway.core.upstreams import Upstream
from gateway.upstream.connection import Connection, Head
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.ports import Body
from gateway.upstream.reply import FAULTS, NEVER, PooledReply, mapped

#: An idle connection is not used after this: the other side may be about to close it.
_IDLE_SECONDS_MAX: Final = 15.0
_IDLE_MAX: Final = 1024
#: How often calls under way are looked at: timeouts are late by no more than this.
_WATCH_SECONDS: Final = 0.25
#: More interim replies than these are nobody's in good faith.
_INTERIM_MAX: Final = 32
#: Safe to send once more when a kept connection turns out to have been closed (RFC 9110 9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_DISCONNECTED: Final = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)


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
        except FAULTS as error:
            raise mapped(error, unsent=unsent) from error

    def _head(self, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body) -> bytes:
        framing = ""
        if isinstance(body, bytes):
            framing = f"Content-Length: {len(body)}\r\n"
        elif body is not None:
            if "Content-Length" not in headers:
                framing = "Transfer-Encoding: chunked\r\n"
        elif method not in _WITHOUT_BODY:
            framing = "Content-Length: 0\r\n"
        return self._endpoint.head(method, path_and_query, headers.items(), framing)

    async def _exchange(
        self, connection: Connection, method: str, head: bytes, headers: CIMultiDict[str], body: Body
    ) -> PooledReply:
        connection.expect(bodiless=method == "HEAD")
        transport, now = connection.transport, self._loop.time()
        assert transport is not None, "only a connection that is open is acquired"
        # A service that does not read the body of such a request takes it for the next one: there must be none.
        last = body is not None and method in _WITHOUT_BODY
        reply = PooledReply(self, connection, now + self.upstream.total_seconds_max, last=last)
        self._active.add(reply)
        if self._watch is None:
            self._go_on_watching()
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
        reply.silent_until = NEVER
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
