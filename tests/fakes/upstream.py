"""Both ends of a call as raw sockets: an upstream that does what a script says, and a client that writes bytes.

Owns: the server, what it was sent, byte-exact requests and replies. Does not know: the gateway.
For what no well-behaved server or client does: broken, early, slow and endless replies; half requests.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

WAIT_SECONDS = 20.0
_BROKEN = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came: its head to the byte, and its body without the transfer encoding."""

    head: bytes
    body: bytes
    line: int

    @property
    def first(self) -> bytes:
        """The request line or status line."""
        return self.head.split(b"\r\n", 1)[0]

    @property
    def target(self) -> bytes:
        """The request's target."""
        return self.first.split(b" ")[1]

    @property
    def status(self) -> int:
        """The reply's status."""
        return int(self.first.split(b" ")[1])

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case and values, as often as they were sent."""
        lines = self.head.split(b"\r\n")[1:]
        pairs = [line.partition(b":") for line in lines if line]
        return [(name.lower(), value.strip()) for name, _, value in pairs]

    def all(self, name: str) -> list[bytes]:
        """Every value of a field."""
        return [value for field, value in self.fields if field == name.lower().encode()]

    def one(self, name: str) -> bytes | None:
        """The only value of a field, None if it was not sent."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None


class Line:
    """One connection, with messages on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int = 0) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def message(self, *, of: bytes | None = None) -> Received | None:
        """The next message; None at the end. `of` is the method that is answered, for replies."""
        head = await self.head()
        if head is None:
            return None
        received = Received(head, b"", self.number)
        if of is not None and (of == b"HEAD" or received.status in (204, 304) or received.status < 200):
            return received
        if (received.one("Transfer-Encoding") or b"").lower() == b"chunked":
            body = await self._chunked()
        elif (length := received.one("Content-Length")) is not None:
            body = await self._within(self.reader.readexactly(int(length)))
        elif of is not None:
            body = await self.rest()
        else:
            body = b""
        return Received(head, body, self.number)

    async def request(self) -> Received:
        """The next request, whole."""
        received = await self.message()
        if received is None:
            raise ConnectionResetError("no request came")
        return received

    async def head(self) -> bytes | None:
        """The next head, without its blank line; None at the end."""
        try:
            return (await self._within(self.reader.readuntil(b"\r\n\r\n")))[:-4]
        except asyncio.IncompleteReadError as error:
            assert not error.partial.strip(), f"half a head: {error.partial[:200]!r}"
            return None

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        return await self._within(self.reader.read(-1))

    async def send(self, data: bytes) -> None:
        """Write, waiting while the other side is slow."""
        self.writer.write(data)
        await self.writer.drain()

    async def ended(self) -> bool:
        """Wait until the other side is gone, reading whatever still comes."""
        try:
            while await self._within(self.reader.read(2**16)):
                pass
        except _BROKEN:
            pass
        return True

    def close(self) -> None:
        """Close politely."""
        self.writer.close()

    def cut(self) -> None:
        """Drop what is not sent yet, and close."""
        self.writer.transport.abort()

    async def _chunked(self) -> bytes:
        parts: list[bytes] = []
        while size := int((await self._within(self.reader.readuntil(b"\r\n"))).split(b";")[0], 16):
            parts.append(await self._within(self.reader.readexactly(size)))
            await self._within(self.reader.readexactly(2))
        while (await self._within(self.reader.readuntil(b"\r\n"))) != b"\r\n":
            pass
        return b"".join(parts)

    @staticmethod
    async def _within(reading: Awaitable[bytes]) -> bytes:
        async with asyncio.timeout(WAIT_SECONDS):
            return await reading


Script = Callable[[Line], Awaitable[None]]


class ScriptedUpstream:
    """Runs `script` on every connection. `lines` counts connections, `requests` holds what scripts noted."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.lines = 0
        self.lines_open = 0
        self.requests: list[Received] = []
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://localhost:{self._port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None, "it was not started"
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this in a task"
        self._tasks.add(task)
        self.lines += 1
        self.lines_open += 1
        line = Line(reader, writer, self.lines)
        try:
            with suppress(*_BROKEN):
                await self.script(line)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self.lines_open -= 1
            self._tasks.discard(task)

    async def taken(self, line: Line) -> Received:
        """The next request on a line, noted in `requests`."""
        received = await line.request()
        self.requests.append(received)
        return received


def answering(*parts: bytes, pause: float = 0.0) -> ScriptedUpstream:
    """An upstream that answers every request with these bytes, pausing between the parts, and keeps its lines."""

    async def script(line: Line) -> None:
        while True:
            await upstream.taken(line)
            for index, part in enumerate(parts):
                if index and pause:
                    await asyncio.sleep(pause)
                await line.send(part)

    upstream = ScriptedUpstream(script)
    return upstream


def message(first: str, *fields: str, body: bytes = b"", length: bool = True) -> bytes:
    """A message's bytes; its Content-Length is that of the body unless it shall have none."""
    lines = [first, *fields]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class RawClient(Line):
    """A customer's connection."""

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to 127.0.0.1."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.writer.close()
        with suppress(*_BROKEN):
            await self.writer.wait_closed()

    async def reply(self, of: bytes = b"GET") -> Received:
        """The final reply; interim ones are passed over."""
        while True:
            received = await self.message(of=of)
            assert received is not None, "the gateway closed the connection without an answer"
            if received.status >= 200:
                return received

    async def ask(self, data: bytes) -> Received:
        """Write a whole request, and read its reply."""
        await self.send(data)
        return await self.reply(data.split(b" ", 1)[0])
