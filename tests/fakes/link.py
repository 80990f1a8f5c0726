"""A line to a Redis server that can be cut: a TCP relay that loses replies or requests, or falls silent.

Owns: the relay and its knobs. Does not know: what the commands do. Greetings (AUTH, SELECT, CLIENT) always pass,
so that a knob is spent on the commands that a test is about.
"""

import asyncio
import ssl
from collections import deque
from typing import Self

import hiredis

from gateway.ledger.address import Address
from tests.ports import free_port

_GREETINGS = frozenset({b"AUTH", b"CLIENT", b"HELLO", b"SELECT"})
_CHUNK_BYTES = 1 << 20
#: Between two chunks that are passed on later.
_ORDER_SECONDS = 0.00001


class _Line:
    """One client's connection through the relay."""

    def __init__(self, relay: "CuttingRelay", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.relay = relay
        self.client = (reader, writer)
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.unanswered: deque[bytes] = deque()
        self.answered_at = 0.0

    async def carry(self) -> None:
        """Until either side ends, or a knob cuts the line."""
        try:
            await self.relay.running.wait()
            self.server = await self.relay.dial()
            async with asyncio.TaskGroup() as group:
                pumps = [group.create_task(self._requests(self.server)), group.create_task(self._replies(self.server))]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
        finally:
            self.cut()

    def cut(self) -> None:
        for _, writer in (self.client, self.server or self.client):
            writer.transport.abort()

    async def _requests(self, server: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        parser = hiredis.Reader()
        while data := await self._read(self.client[0]):
            parser.feed(data)
            words = []
            while (command := parser.gets()) is not False:
                words.append(command[0].upper())
            commands = [word for word in words if word not in _GREETINGS]
            if commands:
                self.relay.writes.append(len(commands))
            if commands and self.relay.requests_to_drop:
                self.relay.requests_to_drop -= 1
                return
            self.unanswered.extend(words)
            server[1].write(data)

    async def _replies(self, server: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        parser = hiredis.Reader()
        while data := await self._read(server[0]):
            parser.feed(data)
            answered = []
            while parser.gets() is not False:
                answered.append(self.unanswered.popleft())
            if self.relay.replies_to_drop and any(word not in _GREETINGS for word in answered):
                self.relay.replies_to_drop -= 1
                return
            said, told = self.relay.disguise
            self._answer(data.replace(said, told) if said else data)

    def _answer(self, data: bytes) -> None:
        """Pass a chunk on, now or later, and never before one that came earlier."""
        loop, (_, writer) = asyncio.get_running_loop(), self.client
        at = max(loop.time() + self.relay.reply_delay_seconds, self.answered_at + _ORDER_SECONDS)
        if at <= loop.time() + _ORDER_SECONDS:
            writer.write(data)
            return
        self.answered_at = at
        loop.call_at(at, writer.write, data)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            data = await reader.read(_CHUNK_BYTES)
        except ConnectionError:
            return b""  # the other end of the line was cut
        await self.relay.running.wait()
        return data


class CuttingRelay:
    """Listens on a free TCP port of 127.0.0.1 and relays to `upstream_url` (`redis://` or `unix://`).
    With `tls` its own clients speak TLS to it, as "localhost".

    A `disguise` is what the server says, and what its clients are told instead, of the same length.
    `writes` holds how many commands each chunk received from a client carried; `connections` counts clients so far.
    """

    def __init__(self, upstream_url: str, *, tls: ssl.SSLContext | None = None) -> None:
        self._upstream = Address.parse(upstream_url)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._port = free_port()
        self._lines: dict[asyncio.Task[None], _Line] = {}
        self.running = asyncio.Event()
        self.running.set()
        self.replies_to_drop = 0
        self.requests_to_drop = 0
        self.reply_delay_seconds = 0.0
        self.disguise = (b"", b"")
        self.writes: list[int] = []
        self.connections = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The relay's own URL, on the upstream's database. It stays the same over stop and start."""
        if self._tls is not None:
            return f"rediss://localhost:{self._port}/{self._upstream.db}"
        return f"redis://127.0.0.1:{self._port}/{self._upstream.db}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, ssl=self._tls)

    async def stop(self) -> None:
        """Listen no more and cut every line."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut_all()
        while self._lines:
            await asyncio.wait(list(self._lines))

    def drop_replies(self, n: int) -> None:
        """Do the next `n` chunks of commands, but cut the line before their replies reach the client."""
        self.replies_to_drop = n

    def drop_requests(self, n: int) -> None:
        """Cut the line before the next `n` chunks of commands reach the server."""
        self.requests_to_drop = n

    def pause(self) -> None:
        """Fall silent: connections are neither served nor refused, and nothing is carried either way."""
        self.running.clear()

    def resume(self) -> None:
        """Carry again, what came meanwhile first."""
        self.running.set()

    def cut_all(self) -> None:
        """Cut every line now."""
        for task, line in self._lines.items():
            line.cut()
            task.cancel()

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection to the upstream."""
        if self._upstream.path:
            return await asyncio.open_unix_connection(self._upstream.path)
        return await asyncio.open_connection(self._upstream.host, self._upstream.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        line = _Line(self, reader, writer)
        task = asyncio.create_task(line.carry())
        self._lines[task] = line
        try:
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) and not isinstance(error, OSError):
                raise error
        finally:
            del self._lines[task]
