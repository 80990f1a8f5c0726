"""The opening handshakes: what customers may ask, what upstreams may answer, and what becomes of the connection."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from multidict import CIMultiDict

from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.core.frames import BINARY, CLOSE, TEXT
from gateway.core.upstreams import Upstream
from gateway.settings.runtime import Limits
from gateway.sockets.dial import SocketDialer
from gateway.sockets.handshake import accept_value
from gateway.sockets.ports import Watch
from tests.sockets.relaying import HOST, KEY, OPENING, Wire, accepted, relaying, until

FIN = 0x80

# ---- the customer's


async def answer_to(port: int, opening: str) -> str:
    wire = Wire(*await asyncio.open_connection(HOST, port), masks=True)
    wire.writer.write(opening.encode())
    head = await wire.head_read()
    wire.drop()
    await asyncio.sleep(0)
    return head


async def test_the_handshake_is_answered() -> None:
    """With the key's answer, the chosen subprotocol and our fields; compression is declined by silence."""
    async with relaying() as relay:
        offers = "Sec-WebSocket-Protocol: one, two\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        client = await relay.client(fields=offers)
        fields = dict(line.split(": ", 1) for line in client.head.strip().split("\r\n")[1:])
        assert fields.pop("Date")
        assert fields == {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",  # the example of RFC 6455
            "Sec-WebSocket-Protocol": "one",
            "X-Gateway-Call-Id": "1",
        }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("GET ", "POST "),
        ("HTTP/1.1", "HTTP/1.0"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n"),
        ("Version: 13", "Version: 8"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        (f"Sec-WebSocket-Key: {KEY}\r\n", ""),
        (KEY, "c2hvcnQ="),
        (KEY, "not base64 at all!!!!!!!"),
        (f"Sec-WebSocket-Key: {KEY}\r\n", f"Sec-WebSocket-Key: {KEY}\r\n" * 2),
        ("Host: gateway\r\n", "Host: gateway\r\nContent-Length: 2\r\n"),
    ],
)
async def test_what_is_no_handshake(old: str, new: str) -> None:
    """Is an HTTP request like others."""
    async with relaying() as relay:
        assert old in OPENING
        body = "{}" if "Content-Length" in new else ""
        head = await answer_to(relay.port, f"{OPENING.replace(old, new)}\r\n{body}")
        assert head.startswith(("HTTP/1.1 426 ", "HTTP/1.0 426 ")), head


@pytest.mark.parametrize(
    ("old", "new"), [("websocket", "WebSocket"), ("Connection: Upgrade", "connection: keep-alive, upgrade")]
)
async def test_names_are_compared_without_case(old: str, new: str) -> None:
    """As clients write them."""
    async with relaying() as relay:
        assert (await answer_to(relay.port, OPENING.replace(old, new) + "\r\n")).startswith("HTTP/1.1 101 ")


async def test_a_refused_handshake_leaves_the_connection_usable() -> None:
    """The next request on it is served."""
    async with relaying() as relay:
        wire = Wire(*await asyncio.open_connection(HOST, relay.port), masks=True)
        relay.wires.append(wire)
        wire.writer.write((OPENING.replace("13", "7") + "\r\n").encode())
        assert (await wire.head_read()).startswith("HTTP/1.1 426 ")
        assert await wire.reader.readexactly(2) == b"no"
        wire.writer.write((OPENING + "\r\n").encode())
        assert (await wire.head_read()).startswith("HTTP/1.1 101 ")
        upstream = await relay.upstream_wire()
        wire.send(TEXT, b"hello")
        assert await upstream.frame() == (FIN | TEXT, b"hello")


async def test_open_sockets_count_as_connections() -> None:
    """And make room when they are over."""
    async with relaying(limits=Limits(connections_max=2)) as relay:
        client, upstream = await relay.both()
        await relay.both()
        third = Wire(*await asyncio.open_connection(HOST, relay.port), masks=True)
        await third.gone()
        third.drop()
        client.drop()
        upstream.drop()
        await relay.ended()
        await until(lambda: len(relay.server.connections) == 1)
        await relay.both()


async def test_a_gateway_that_stops_waits_for_its_sockets() -> None:
    """For as long as it is told to; then they read that it goes away."""
    async with relaying() as relay:
        client, upstream = await relay.both()
        relay.server.pre_shutdown()
        stopping = asyncio.create_task(relay.server.shutdown(0.5))
        await asyncio.sleep(0.1)
        client.send(BINARY, b"still open")
        assert await upstream.frame() == (FIN | BINARY, b"still open")
        assert not stopping.done()
        assert await client.frame() == (FIN | CLOSE, b"\x03\xe9")
        assert await upstream.frame() == (FIN | CLOSE, b"\x03\xe9")
        await stopping
        assert relay.over == 1


# ---- the upstream's


async def test_what_an_upstream_is_asked() -> None:
    """Our own handshake at its own path and host, with the headers that are given, and none of the customer's key."""
    async with relaying() as relay:
        await relay.client(fields="X-Some: thing\r\nSec-WebSocket-Protocol: one\r\nSec-WebSocket-Extensions: x\r\n")
        upstream = await relay.upstream_wire()
        line, *fields = upstream.head.strip().split("\r\n")
        assert line == "GET /base/v3/ws?a=b HTTP/1.1"
        port = upstream.writer.get_extra_info("sockname")[1]
        names = [field.split(": ")[0] for field in fields]
        assert fields[0] == f"Host: {HOST}:{port}"
        assert sorted(names) == [
            "Connection", "Host", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "Upgrade",
            "X-Some",
        ]  # fmt: skip
        assert KEY not in upstream.head


class Changed:
    """The right answer with something else in it."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    async def __call__(self, wire: Wire, key: str) -> bytes:
        right = (await accepted(wire, key)).decode()
        old = self.old or f"Sec-WebSocket-Accept: {accept_value(key)}"
        assert old in right
        return right.replace(old, self.new).encode()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("101 Switching Protocols", "401 Unauthorized", "HTTP 401"),
        ("101 Switching Protocols", "200", "HTTP 200"),
        ("HTTP/1.1", "SSH-2.0", "no HTTP/1.1"),
        ("Upgrade: WebSocket\r\n", "Upgrade: h2c\r\n", "upgrades to something else"),
        ("keep-alive, Upgrade", "keep-alive", "upgrades to something else"),
        ("", "Sec-WebSocket-Accept: AAAA", "no answer to our key"),
        ("", "X: y", "no answer to our key"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "an extension"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: one\r\n\r\n", "a subprotocol"),
        ("Upgrade: WebSocket\r\n", "Upgrade WebSocket\r\n", "cannot be read"),
        ("Upgrade: WebSocket\r\n", "Upgrade : WebSocket\r\n", "cannot be read"),
        ("Upgrade: WebSocket\r\n", f"X: {'x' * 40_000}", "too long"),
    ],
)
async def test_what_is_no_answer(old: str, new: str, why: str) -> None:
    """The upstream is unreachable for us, and the reason says why without quoting it."""
    async with relaying(answer=Changed(old, new)) as relay:
        with pytest.raises(UpstreamUnreachable, match=why):
            await relay.dialer.dial(relay.upstream, "/v3/ws", CIMultiDict(), relay.watch)
        upstream = await relay.upstream_wire()
        await upstream.gone()
        assert "waiting=0" in repr(relay.dialer)


async def test_an_upstream_that_says_nothing() -> None:
    """Is a timeout after `connect_seconds_max`; one that closes is not."""

    async def silent(wire: Wire, _key: str) -> bytes:
        await wire.gone()
        return b""

    async with relaying(answer=silent, connect_seconds_max=0.5) as relay:
        with pytest.raises(UpstreamTimeout):
            await relay.dialer.dial(relay.upstream, "/v3/ws", CIMultiDict(), relay.watch)

    async def closing(wire: Wire, _key: str) -> bytes:
        wire.drop()
        return b""

    async with relaying(answer=closing) as relay:
        with pytest.raises(UpstreamUnreachable):
            await relay.dialer.dial(relay.upstream, "/v3/ws", CIMultiDict(), relay.watch)


async def test_nobody_listens() -> None:
    """That is unreachable too."""
    listener = await asyncio.start_server(lambda _reader, _writer: None, HOST, 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    upstream = Upstream(name="nobody", base_url=f"http://{HOST}:{port}", credential="")
    with pytest.raises(UpstreamUnreachable):
        await SocketDialer().dial(upstream, "/", CIMultiDict(), Watch())


async def test_a_subprotocol_is_chosen_among_those_offered() -> None:
    """And known to whoever dialed."""
    async with relaying(answer=Changed("\r\n\r\n", "\r\nSec-WebSocket-Protocol: two\r\n\r\n")) as relay:
        offered = CIMultiDict({"Sec-WebSocket-Protocol": "one, two"})
        dialed = await relay.dialer.dial(relay.upstream, "/v3/ws", offered, relay.watch)
        assert dialed.subprotocol == "two"
        upstream = await relay.upstream_wire()
        await relay.dialer.close()
        await upstream.gone()


async def test_an_upstream_that_goes_before_it_is_joined() -> None:
    """What it said is passed on, and its end is told, once a relay is joined."""
    async with relaying() as relay:
        relay.dials.clear()
        client = await relay.client()
        relay.dials.set()
        upstream = await relay.upstream_wire()
        upstream.send(TEXT, b"no")
        upstream.close(1008, b"go away")
        upstream.writer.close()
        assert await client.frame() == (FIN | TEXT, b"no")
        assert await client.frame() == (FIN | CLOSE, b"\x03\xf0go away")


@pytest.mark.parametrize("ticks", [0, 3])
async def test_a_socket_that_was_cut_before_it_is_joined(ticks: int) -> None:
    """Is one that has left."""
    async with relaying() as relay:
        relay.dials.clear()
        client = await relay.client()
        dialed = await relay.dialer.dial(relay.upstream, "/v3/ws", CIMultiDict(), relay.watch)
        await relay.dialer.close()
        for _ in range(ticks):
            await asyncio.sleep(0)
        relay.watchers[0].joined.join(dialed)
        assert relay.watchers[0].told == []
        assert await client.frame() == (FIN | CLOSE, b"\x03\xf3")
        assert relay.watchers[0].told == [("upstream left", None, b"")]


async def test_upstreams_over_tls(tmp_path: Path) -> None:
    """Their certificates are checked, unless the config says otherwise."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    wires: list[Wire] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer, masks=False)
        wires.append(wire)
        head = await wire.head_read()
        offered = next(line for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key: "))
        writer.write(await accepted(wire, offered.partition(": ")[2]))

    listener = await asyncio.start_server(take, HOST, 0, ssl=context)
    url = f"https://localhost:{listener.sockets[0].getsockname()[1]}"
    async with relaying() as relay:
        trusting = Upstream(name="trusting", base_url=url, credential="", verify_tls=False)
        relay.upstream = Upstream(name="strict", base_url=url, credential="")
        with pytest.raises(UpstreamUnreachable):
            await relay.dialer.dial(relay.upstream, "/", CIMultiDict(), relay.watch)
        relay.upstream = trusting
        client = await relay.client()
        client.send(BINARY, bytes(100_000))
        await until(lambda: bool(wires and wires[-1].head))
        assert await wires[-1].frame() == (FIN | BINARY, bytes(100_000))
        wires[-1].send(TEXT, b"hello")
        assert await client.frame() == (FIN | TEXT, b"hello")
        wires[-1].drop()
        assert await client.frame() == (FIN | CLOSE, b"\x03\xf3")
    for wire in wires:
        wire.drop()
    listener.close()
    await asyncio.sleep(0.05)
