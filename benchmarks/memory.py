"""Connections without sockets: an event loop on which customers and upstreams are in this process.

Owns: transports in memory, a customer that sends its next request when the answer has come, an upstream that answers
at once. Does not know: what serves, or what is measured. Whatever listens on this loop listens on real sockets as
well; its connections are made by `Customers`. The ledger's server is a real one, on a real socket.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import uvloop

from benchmarks.load import BODY
from benchmarks.upstream import REPLY

UPSTREAM_PORT: Final = 1
UPSTREAM_PATH: Final = "/upstream"
SECRET: Final = "bench-key-0000000000000000"
REQUEST: Final = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, deflate\r\nUser-Agent: bench/1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (SECRET.encode(), len(BODY), BODY)
)

_END_BYTES_MAX: Final = 16


class Wire(asyncio.Transport):
    """One end of a connection in memory: what the protocol writes goes to `take`."""

    def __init__(self, protocol: asyncio.BaseProtocol, take: Callable[[bytes], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.protocol = cast("asyncio.Protocol", protocol)
        self.take = take
        self.closed = False
        self.protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.take(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        """Nothing is sent but answers."""

    def resume_reading(self) -> None:
        """Nothing is sent but answers."""

    def get_write_buffer_size(self) -> int:
        return 0


class MemoryLoop(uvloop.Loop):
    """uvloop, where the upstream is in memory, and which knows what listens."""

    def __init__(self) -> None:
        super().__init__()
        self.served: list[Callable[[], asyncio.Protocol]] = []
        self.answer: Callable[[asyncio.Protocol], object] = self._reply  # what the upstream does with a request

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        self.served.append(protocol_factory)
        return await super().create_server(protocol_factory, *args, **options)

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:  # type: ignore[override]
        if port == UPSTREAM_PORT:
            return self._upstream(factory())
        return await super().create_connection(factory, host, port, **options)

    async def create_unix_connection(self, factory: Any, path: Any = None, **options: Any) -> Any:  # type: ignore[override]
        if path == UPSTREAM_PATH:
            return self._upstream(factory())
        return await super().create_unix_connection(factory, path, **options)

    def _upstream(self, protocol: asyncio.Protocol) -> tuple[Wire, asyncio.Protocol]:
        """A service that answers whatever ends a JSON document, as the benchmark's requests do."""

        def take(data: bytes) -> None:
            if data.endswith((b"}", b"0\r\n\r\n")):
                self.answer(protocol)

        return Wire(protocol, take), protocol

    def _reply(self, protocol: asyncio.Protocol) -> None:
        self.call_soon(protocol.data_received, REPLY)


class Customers:
    """So many connections to what serves, each with one request under way."""

    def __init__(
        self, factory: Callable[[], asyncio.Protocol], connections: int,
        request: bytes = REQUEST, ends: tuple[bytes, ...] = (b"}", b"}\r\n0\r\n\r\n"),
    ) -> None:  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._ends = ends
        self._wires = [self._connected(factory()) for _ in range(connections)]
        self._left = 0
        self._under_way = 0
        self._over: asyncio.Future[None] = self._loop.create_future()

    def _connected(self, protocol: asyncio.Protocol) -> Wire:
        received = b""

        def take(data: bytes) -> None:
            nonlocal received
            assert received or data.startswith(b"HTTP/1.1 200"), data[:300]
            received = received[-_END_BYTES_MAX:] + data if received else data
            if received.endswith(self._ends):
                received = b""
                self._answered(protocol)

        return Wire(protocol, take)

    async def call(self, count: int) -> None:
        """So many calls, as many at once as there are connections."""
        self._left, self._over = count, self._loop.create_future()
        for wire in self._wires[:count]:
            self._send(wire.protocol)
        await self._over

    def _send(self, protocol: asyncio.Protocol) -> None:
        self._left -= 1
        self._under_way += 1
        self._loop.call_soon(protocol.data_received, self._request)

    def _answered(self, protocol: asyncio.Protocol) -> None:
        self._under_way -= 1
        if self._left:
            self._send(protocol)
        elif not self._under_way:
            self._over.set_result(None)

    def close(self) -> None:
        """Leave."""
        for wire in self._wires:
            wire.close()
