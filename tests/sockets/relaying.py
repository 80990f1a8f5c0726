"""A relay on real sockets: the customers' listener, an upstream that does what a test says, a client of raw frames.

The watcher here does what a session does at least: it passes on each side's end.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from multidict import CIMultiDict

from gateway.core.errors import GatewayError, Refused
from gateway.core.frames import CLOSE, encoded, masked
from gateway.core.upstreams import Upstream
from gateway.edge.server.client import RequestClient
from gateway.edge.server.proxy import CustomerServer
from gateway.pipeline.call import Answer, Client
from gateway.pipeline.http import HttpPipeline
from gateway.settings.runtime import Limits
from gateway.sockets.dial import SocketDialer
from gateway.sockets.handshake import accept_value
from gateway.sockets.ports import Relay, Watch
from tests.certificates import Certificates

HOST = "127.0.0.1"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
OPENING = (
    f"GET /v3/ws?a=b HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
)
MASK = b"\x01\x02\x03\x04"
SECONDS = 30.0


@dataclass
class Secured:
    """Whether both connections of every relay are TLS; the upstream's certificate is looked up where `dial` does."""

    by: Certificates | None = None

    def server(self) -> dict[str, Any]:
        """Options of a server."""
        return {} if self.by is None else {"ssl": self.by.server}

    def client(self) -> dict[str, Any]:
        """Options of a connection."""
        return {} if self.by is None else {"ssl": self.by.client, "server_hostname": "localhost"}


SECURED = Secured()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


class Wire:
    """One end of a socket, frame by frame; `masks` if it is a client's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, masks: bool) -> None:
        self.reader, self.writer = reader, writer
        self.mask = MASK if masks else b""
        self.head = ""

    async def head_read(self) -> str:
        """The head of a request or an answer."""
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return self.head

    def send(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
        """Send a frame; its bytes."""
        raw = encoded(opcode, payload, self.mask)
        raw = raw if final else bytes((raw[0] & 0x7F,)) + raw[1:]
        self.writer.write(raw)
        return raw

    def close(self, code: int | None, reason: bytes = b"") -> None:
        """Send a Close frame."""
        self.send(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte and what it carries, unmasked."""
        async with asyncio.timeout(SECONDS):
            first, second = await self.reader.readexactly(2)
            length = second & 0x7F
            if length > 125:
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
            key = await self.reader.readexactly(4) if second & 0x80 else b""
            assert bool(key) is not bool(self.mask), "clients mask, and nobody else"
            payload = await self.reader.readexactly(length)
        return first, masked(payload, key) if key else payload

    async def ended(self) -> None:
        """The other end closes, and sends nothing before."""
        async with asyncio.timeout(SECONDS):
            assert await self.reader.read(1) == b""

    async def gone(self) -> None:
        """The connection is over, however it was ended."""
        async with asyncio.timeout(SECONDS):
            with suppress(ConnectionError):
                await self.reader.read()

    def drop(self) -> None:
        """Vanish without a word."""
        self.writer.transport.abort()


class Observed:
    """A watcher that passes on each side's end, and notes all that it is told."""

    def __init__(self) -> None:
        self.relay: Relay | None = None
        self.told: list[tuple[Any, ...]] = []
        self.judge: Callable[[str, Mapping[str, Any]], Awaitable[Refused | None]] | None = None
        self.hears: Callable[[str, Mapping[str, Any]], None] | None = None
        self.follows = True
        self.drops: frozenset[str] = frozenset()  # kinds of the upstream's that are not passed on
        self.changes: Mapping[str, bytes] = {}  # kinds of the upstream's with what is passed on in their place

    @property
    def joined(self) -> Relay:
        """The relay."""
        assert self.relay is not None
        return self.relay

    def upstream_said(self, kind: str, message: Mapping[str, Any]) -> bool | bytes:
        """See `Watcher`."""
        self.told.append(("said", kind, message))
        if self.hears is not None:
            self.hears(kind, message)
        return self.changes.get(kind, kind not in self.drops)

    async def client_says(self, kind: str, message: Mapping[str, Any]) -> Refused | None:
        """See `Watcher`."""
        self.told.append(("says", kind, message))
        return None if self.judge is None else await self.judge(kind, message)

    def client_left(self, code: int | None, reason: bytes) -> None:
        """See `Watcher`."""
        self.told.append(("client left", code, reason))
        if self.follows:
            self.joined.close_client(code, reason)
            self.joined.close_upstream(1001 if code is None else code, reason)

    def upstream_left(self, code: int | None, reason: bytes) -> None:
        """See `Watcher`."""
        self.told.append(("upstream left", code, reason))
        if self.follows:
            self.joined.close_client(1011 if code is None else code, reason)
            self.joined.close_upstream(code, reason)

    def broken(self, side: str, code: int, why: str) -> None:
        """See `Watcher`."""
        self.told.append(("broken", side, code))
        assert why
        if self.follows:
            self.joined.close_client(code if side == "client" else 1011)
            self.joined.close_upstream(code if side == "upstream" else 1001)


def alone(watcher: Observed) -> None:
    """A watcher that does nothing when a side has left."""
    watcher.follows = False


@dataclass
class Relaying:
    """What a test holds in hand."""

    port: int
    server: CustomerServer
    dialer: SocketDialer
    watch: Watch
    upstream: Upstream
    watchers: list[Observed] = field(default_factory=list)
    clients: list[RequestClient] = field(default_factory=list)
    dials: asyncio.Event = field(default_factory=asyncio.Event)
    prepare: Callable[[Observed], None] = lambda _watcher: None
    upstream_wires: "asyncio.Queue[Wire]" = field(default_factory=asyncio.Queue)
    wires: list[Wire] = field(default_factory=list)
    joined: int = 0
    over: int = 0
    faults: list[BaseException] = field(default_factory=list)

    @property
    def sessions(self) -> "Relaying":
        """As the pipeline has them."""
        return self

    async def end_all(self) -> None:
        """They end when their calls are cut."""

    async def serve(self, client: Client) -> Answer | None:
        """As the pipeline of a session: accept, dial, join, wait."""
        self.clients.append(cast("RequestClient", client))
        if not client.wants_socket:
            return Answer(status=426, reason="", headers=CIMultiDict({"Sec-WebSocket-Version": "13"}), body=b"no")
        watcher = Observed()
        self.prepare(watcher)
        self.watchers.append(watcher)
        offered = client.headers.get("Sec-WebSocket-Protocol", "")
        chosen = offered.split(",", maxsplit=1)[0].strip()
        relay = client.accept_socket(self.watch, watcher, CIMultiDict({"X-Gateway-Call-Id": "1"}), chosen)
        watcher.relay = relay
        try:
            await self.dials.wait()
            try:
                target = f"{client.raw_path}?{client.query_string}"
                headers = CIMultiDict(client.headers)
                headers.pop("Host", None)
                upstream = await self.dialer.dial(self.upstream, target, headers, self.watch)
            except GatewayError as error:
                relay.tell_client(f'{{"error":"{error}"}}'.encode())
                relay.close_client(1011, str(error).encode())
            else:
                relay.join(upstream)
                self.joined += 1
            await relay.over()
        except Exception as error:
            self.faults.append(error)
            raise
        finally:
            self.over += 1
        return None

    async def client(self, *, fields: str = "", behind: bytes = b"", limit: int = 2**16) -> Wire:
        """A client whose handshake is done."""
        wire = Wire(*await asyncio.open_connection(HOST, self.port, limit=limit, **SECURED.client()), masks=True)
        wire.writer.write((OPENING + fields + "\r\n").encode() + behind)
        self.wires.append(wire)
        assert (await wire.head_read()).startswith("HTTP/1.1 101 "), wire.head
        return wire

    async def both(self) -> tuple[Wire, Wire]:
        """A client and its upstream, joined."""
        before = self.joined
        client = await self.client()
        upstream = await self.upstream_wire()
        await until(lambda: self.joined > before)
        return client, upstream

    async def upstream_wire(self) -> Wire:
        """The next socket that the upstream accepted."""
        async with asyncio.timeout(SECONDS):
            return await self.upstream_wires.get()

    async def ended(self, count: int = 1) -> None:
        """So many sockets are over."""
        await until(lambda: self.over >= count)


Answering = Callable[[Wire, str], Awaitable[bytes]]


async def accepted(_wire: Wire, key: str) -> bytes:
    """The right answer to a handshake."""
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_value(key)}\r\n\r\n"
    ).encode()


@asynccontextmanager
async def relaying(*, answer: Answering = accepted, **options: Any) -> AsyncIterator[Relaying]:
    """A listener whose sockets are relayed to an upstream of ours. `options` are those of `Watch`."""
    limits = options.pop("limits", Limits())
    prepared = options.pop("prepare", None)
    connect_seconds_max = options.pop("connect_seconds_max", 10.0)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer, masks=False)
        relay.wires.append(wire)
        head = await wire.head_read()
        key = next(line for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key: ")).partition(": ")[2]
        writer.write(await answer(wire, key))
        relay.upstream_wires.put_nowait(wire)

    listener = await asyncio.start_server(take, HOST, 0, **SECURED.server())
    scheme, port = "https" if SECURED.by else "http", listener.sockets[0].getsockname()[1]
    url = f"{scheme}://{HOST}:{port}/base"
    upstream = Upstream(name="upstream", base_url=url, credential="", connect_seconds_max=connect_seconds_max)
    watch = Watch(**options)
    relay = Relaying(0, cast("CustomerServer", None), SocketDialer(), watch, upstream)
    relay.dials.set()
    if prepared is not None:
        relay.prepare = prepared
    relay.server = CustomerServer(cast("HttpPipeline", relay), limits)
    customers = await asyncio.get_running_loop().create_server(relay.server, HOST, 0, **SECURED.server())
    relay.port = customers.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        customers.close()
        relay.server.pre_shutdown()
        await relay.server.shutdown(0.1)
        await relay.dialer.close()
        listener.close()
        for wire in relay.wires:
            wire.drop()
        await asyncio.sleep(0.02)
