"""What passes through a relay, byte for byte, and how its two ends come to an end."""

import asyncio
import gc
import struct
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from websockets.asyncio.client import connect

from gateway.core.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Scanner, encoded
from gateway.core.upstreams import Upstream
from gateway.edge.server.client import RequestClient
from gateway.edge.server.connection import CustomerConnection
from gateway.sockets.dial import DialedSocket
from gateway.sockets.relay import SplicedRelay
from gateway.sockets.side import Side
from tests.sockets.relaying import HOST, MASK, Relaying, Wire, accepted, alone, relaying, until

MIB = 1024 * 1024
FIN = 0x80


@pytest.fixture
async def relay() -> AsyncIterator[Relaying]:
    """A relay with nothing special."""
    async with relaying() as made:
        yield made


@pytest.fixture
async def echo(relay: Relaying) -> AsyncIterator[Relaying]:
    """A relay to aiohttp's own WebSocket server, which says everything back."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("b", "a"), max_msg_size=4 * MIB)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data == "bye":
                await socket.close(code=4321, message="so long £".encode())
            else:
                await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/base/v3/ws", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    port = runner.addresses[0][1]
    relay.upstream = Upstream(name="echo", base_url=f"http://{HOST}:{port}/base", credential="")
    yield relay
    await runner.cleanup()


# ---- real clients


async def test_aiohttp_through_and_through(echo: Relaying) -> None:
    """Text, binary, a large message, pings, and the server's close with its code and reason."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{HOST}:{echo.port}/v3/ws", max_msg_size=4 * MIB) as socket,
    ):
        await socket.send_str("grüß")
        assert await socket.receive_str() == "grüß"
        large = bytes(range(256)) * 4096
        await socket.send_bytes(large)
        assert await socket.receive_bytes() == large
        await socket.ping(b"are you there")
        await socket.send_str("bye")
        closed = await socket.receive()
        assert (closed.type, closed.data, closed.extra) == (WSMsgType.CLOSE, 4321, "so long £")
    await echo.ended()
    assert echo.watchers[0].told[0] == ("upstream left", 4321, "so long £".encode())
    assert echo.faults == []


async def test_a_websockets_client(echo: Relaying) -> None:
    """Its pings are answered by the upstream, its offer of compression is declined, its close code arrives."""
    async with connect(f"ws://{HOST}:{echo.port}/v3/ws", subprotocols=["a", "b"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "a"
        assert "Sec-WebSocket-Extensions" not in (socket.response.headers if socket.response else {})
        await socket.send([b"one ", b"two ", b"three"])
        assert await socket.recv() == b"one two three"
        latency = await asyncio.wait_for(await socket.ping(), 30)
        assert latency < 5
        await socket.close(code=3333, reason="enough")
        assert socket.close_code == 3333
    await echo.ended()
    assert echo.watchers[0].told[0] == ("client left", 3333, b"enough")


async def test_many_at_once_and_none_is_left(echo: Relaying) -> None:
    """Fifty sockets that come and go leave nothing in the server."""

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with session.ws_connect(f"http://{HOST}:{echo.port}/v3/ws") as socket:
            for count in range(5):
                await socket.send_str(f"{number} {count}")
                assert await socket.receive_str() == f"{number} {count}"

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, number) for number in range(50)))
    await echo.ended(50)
    await asyncio.sleep(0.05)
    assert echo.server.connections == []
    assert echo.faults == []


# ---- byte for byte


async def test_frames_pass_as_they_are(relay: Relaying) -> None:
    """Fragments with pings between them, empty messages, pongs: the same bytes, in the same order."""
    client, upstream = await relay.both()
    sent = b"".join(
        [
            client.send(TEXT, b"a"), client.send(TEXT, b""), client.send(BINARY, b"one", final=False),
            client.send(PING, b"p"), client.send(CONTINUATION, b"", final=False), client.send(PONG, b"q"),
            client.send(CONTINUATION, b"two"), client.send(BINARY, bytes(200)), client.send(BINARY, bytes(70_000)),
        ]
    )  # fmt: skip
    assert await upstream.reader.readexactly(len(sent)) == sent
    back = b"".join(
        [
            upstream.send(TEXT, b"x", final=False), upstream.send(PONG, b"p"), upstream.send(CONTINUATION, b"y"),
            upstream.send(PING, b"z"), upstream.send(BINARY, bytes(66_000)),
        ]
    )  # fmt: skip
    assert await client.reader.readexactly(len(back)) == back
    traffic = relay.watchers[0].joined.traffic
    assert (traffic.client_bytes, traffic.upstream_bytes) == (len(sent), len(back))


async def test_half_frames(relay: Relaying) -> None:
    """Bytes that come one by one pass as whole frames."""
    client, upstream = await relay.both()
    raw = encoded(TEXT, b"hello", MASK) + encoded(BINARY, bytes(300), MASK)
    for byte in raw:
        client.writer.write(bytes((byte,)))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert await upstream.reader.readexactly(len(raw)) == raw
    answer = encoded(BINARY, bytes(300))
    for at in range(0, len(answer), 7):
        upstream.writer.write(answer[at : at + 7])
        await asyncio.sleep(0.001)
    assert await client.reader.readexactly(len(answer)) == answer


async def test_bytes_right_behind_the_handshakes() -> None:
    """What a side sends in one packet with its handshake belongs to its frames."""

    async def eager(wire: Wire, key: str) -> bytes:
        return await accepted(wire, key) + encoded(TEXT, b"hello") + encoded(BINARY, bytes(9))[:5]

    async with relaying(answer=eager) as relay:
        first, second = encoded(TEXT, b"early", MASK), encoded(TEXT, b"late", MASK)
        client = await relay.client(behind=first + second[:3])
        upstream = await relay.upstream_wire()
        client.writer.write(second[3:])
        assert await upstream.frame() == (FIN | TEXT, b"early")
        assert await upstream.frame() == (FIN | TEXT, b"late")
        assert await client.frame() == (FIN | TEXT, b"hello")
        upstream.writer.write(encoded(BINARY, bytes(9))[5:])
        assert await client.frame() == (FIN | BINARY, bytes(9))


async def test_what_came_before_the_upstream_is_kept(relay: Relaying) -> None:
    """In order, and no more than a bound: then the client is not read."""
    relay.dials.clear()
    client = await relay.client()
    count = 0
    async with asyncio.timeout(10):
        while client.writer.transport.get_write_buffer_size() < MIB:
            client.send(BINARY, count.to_bytes(4, "big") * 1000)
            count += 1
            if count % 100 == 0:
                await asyncio.sleep(0.01)
    relay_side = relay.watchers[0].joined._upstream  # type: ignore[attr-defined]
    assert relay_side.waiting_bytes <= relay.watch.buffer_bytes_max + 300_000
    relay.dials.set()
    upstream = await relay.upstream_wire()
    for number in range(count):
        assert await upstream.frame() == (FIN | BINARY, number.to_bytes(4, "big") * 1000)


async def test_a_client_that_had_to_wait_is_read_on_when_it_is_refused(relay: Relaying) -> None:
    """What it sent is dropped, and its Close is found behind it."""
    relay.dials.clear()
    client = await relay.client()
    for _ in range(2000):
        client.send(BINARY, bytes(3200))
    side = relay.watchers[0].joined._client  # type: ignore[attr-defined]
    await until(lambda: not side.is_read)
    relay.watchers[0].joined.close_client(1008, b"no credit")
    client.close(1008)
    assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1008) + b"no credit")
    await until(lambda: bool(relay.watchers[0].told))
    assert relay.watchers[0].told == [("client left", 1008, b"")]


async def test_a_client_that_leaves_before_the_upstream_is_there(relay: Relaying) -> None:
    """Is told at once, and the upstream that comes too late is cut."""
    relay.dials.clear()
    client = await relay.client()
    client.send(TEXT, b"never mind")
    client.close(1000, b"bye")
    assert await client.frame() == (FIN | CLOSE, b"\x03\xe8bye")
    await client.ended()
    assert relay.watchers[0].told == [("client left", 1000, b"bye")]
    relay.dials.set()
    await relay.ended()
    upstream = await relay.upstream_wire()
    await upstream.gone()


@pytest.mark.parametrize("gone", ["client", "upstream"])
async def test_an_upstream_that_comes_too_late_is_cut(gone: str) -> None:
    """Its client is lost, or it was closed before it was there."""
    async with relaying(prepare=alone) as relay:
        relay.dials.clear()
        client = await relay.client()
        watcher = relay.watchers[0]
        if gone == "client":
            client.drop()
            await until(lambda: watcher.told == [("client left", None, b"")])
        else:
            watcher.joined.close_upstream(1000)
        relay.dials.set()
        upstream = await relay.upstream_wire()
        await upstream.gone()
        assert watcher.joined.client_gone is (gone == "client")


# ---- limits and rules


async def test_a_message_that_is_too_long(relay: Relaying) -> None:
    """1 MiB passes either way; 3 MiB are refused with 1009, and the client reads that though it is still sending."""
    client, upstream = await relay.both()
    client.send(BINARY, bytes(MIB))
    assert await upstream.frame() == (FIN | BINARY, bytes(MIB))
    upstream.send(TEXT, b"x" * MIB)
    assert await client.frame() == (FIN | TEXT, b"x" * MIB)
    client.send(BINARY, bytes(3 * MIB))
    assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1009))
    client.close(1009)
    await client.ended()
    assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1001))
    assert relay.watchers[0].told[0] == ("broken", "client", 1009)


async def test_an_upstream_that_breaks_a_rule(relay: Relaying) -> None:
    """What it sent before has passed; then the client is closed with an error of the server's."""
    client, upstream = await relay.both()
    upstream.writer.write(encoded(TEXT, b"good") + encoded(TEXT, b"masked", MASK))
    assert await client.frame() == (FIN | TEXT, b"good")
    assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1011))
    client.close(1011)
    await client.ended()
    assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1002))
    upstream.drop()
    await relay.ended()
    assert relay.watchers[0].told[0] == ("broken", "upstream", 1002)


async def test_clients_that_may_not_send_binary() -> None:
    """Are closed with 1003."""
    async with relaying(client_binary=False) as relay:
        client, upstream = await relay.both()
        client.send(TEXT, b"fine")
        client.send(BINARY, b"not fine")
        assert await upstream.frame() == (FIN | TEXT, b"fine")
        assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1003))


# ---- the end


@pytest.mark.parametrize(("code", "reason"), [(1000, b"done"), (4003, "grüß".encode()), (None, b"")])
async def test_close_codes_pass_both_ways(relay: Relaying, code: int | None, reason: bytes) -> None:
    """With their reasons, and without a code as well; then both connections are closed, at once."""
    started = asyncio.get_running_loop().time()
    body = b"" if code is None else struct.pack("!H", code) + reason
    told = 1005 if code is None else code
    client, upstream = await relay.both()
    client.close(code, reason)
    assert await upstream.frame() == (FIN | CLOSE, body)
    upstream.close(code, reason)
    assert await client.frame() == (FIN | CLOSE, body)
    await client.ended()
    upstream.writer.close()
    await relay.ended()
    assert relay.watchers[0].told == [("client left", told, reason), ("upstream left", told, reason)]

    client, upstream = await relay.both()
    upstream.send(TEXT, b"last words")
    upstream.close(code, reason)
    assert await client.frame() == (FIN | TEXT, b"last words")
    assert await client.frame() == (FIN | CLOSE, body)
    assert await upstream.frame() == (FIN | CLOSE, body)
    upstream.writer.close()
    client.close(code, reason)
    await client.ended()
    await relay.ended(2)
    assert asyncio.get_running_loop().time() - started < 1.9  # nobody was waited for


async def test_a_close_that_is_answered_later() -> None:
    """Ends the connection at once all the same."""
    async with relaying(prepare=alone) as relay:
        client, _ = await relay.both()
        client.close(1000)
        await until(lambda: bool(relay.watchers[0].told))
        await asyncio.sleep(0.1)
        started = asyncio.get_running_loop().time()
        relay.watchers[0].joined.close_client(1000)
        assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1000))
        await client.ended()
        assert asyncio.get_running_loop().time() - started < 1.9


async def test_an_abrupt_loss_is_told_to_the_other(relay: Relaying) -> None:
    """A side whose connection is gone has no code of its own; what it sent before has passed."""
    client, upstream = await relay.both()
    client.send(TEXT, b"last words")
    await client.writer.drain()
    await asyncio.sleep(0.05)
    client.drop()
    assert await upstream.frame() == (FIN | TEXT, b"last words")
    assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1001))
    assert relay.watchers[0].joined.client_gone
    upstream.writer.close()
    await relay.ended()
    assert relay.watchers[0].told[0] == ("client left", None, b"")

    client, upstream = await relay.both()
    upstream.drop()
    assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1011))
    client.close(1011)
    await client.ended()
    await relay.ended(2)
    assert relay.watchers[1].told[0] == ("upstream left", None, b"")


async def test_peers_that_do_not_answer_our_close_are_cut(relay: Relaying) -> None:
    """They have two seconds."""
    client, upstream = await relay.both()
    started = asyncio.get_running_loop().time()
    relay.watchers[0].joined.close_client(1008, b"no credit")
    relay.watchers[0].joined.close_upstream(1000)
    relay.watchers[0].joined.close_client(1000)  # once is enough
    assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1008) + b"no credit")
    client.send(TEXT, b"I do not care")
    upstream.send(TEXT, b"nor do I")
    assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1000))
    await relay.ended()
    assert 1.5 < asyncio.get_running_loop().time() - started < 15
    await upstream.gone()


async def test_a_cut_is_at_once(relay: Relaying) -> None:
    """None for a code is no Close frame."""
    client, upstream = await relay.both()
    relay.watchers[0].joined.close_client(None)
    relay.watchers[0].joined.close_upstream(None)
    await relay.ended()
    for wire in (client, upstream):
        await wire.gone()


async def test_a_cancelled_relay_goes_away(relay: Relaying) -> None:
    """Both sides read 1001, and nobody is waited for."""
    client, upstream = await relay.both()
    relay.clients[0].cut()
    assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1001))
    assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1001))
    await client.ended()
    await upstream.ended()


async def test_nothing_of_a_socket_waits_for_the_garbage_collector(relay: Relaying) -> None:
    """When it is over, however it ended, its memory is free at once."""
    parts = (SplicedRelay, Side, Scanner, CustomerConnection, RequestClient, DialedSocket)
    gc.collect()
    gc.disable()
    try:
        for number, leaves in enumerate(("client", "upstream", "both")):
            client, upstream = await relay.both()
            client.send(BINARY, bytes(200))
            assert await upstream.frame() == (FIN | BINARY, bytes(200))
            if leaves != "upstream":
                client.close(1000)
                assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1000))
                upstream.writer.close()
            if leaves != "client":
                upstream.drop()
                client.drop()
            await relay.ended(number + 1)
        await asyncio.sleep(0.1)
        relay.watchers.clear()
        relay.clients.clear()
        assert [type(each) for each in gc.get_objects() if isinstance(each, parts)] == []
    finally:
        gc.enable()


# ---- slow readers


async def test_a_slow_client_holds_the_upstream_back() -> None:
    """What waits for it is bounded, nothing is lost, and it is not cut while it takes anything."""
    async with relaying(buffer_bytes_max=64 * 1024, stalled_seconds_max=5.0) as relay:
        client, upstream = await relay.both()
        side = relay.watchers[0].joined._client  # type: ignore[attr-defined]
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, side.transport.get_write_buffer_size())
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        sending = asyncio.create_task(flood(upstream, 24 * 1000))
        got = 0
        for number in range(24 * 1000):
            assert await client.frame() == (FIN | BINARY, number.to_bytes(4, "big") * 250)
            got += 1
            if number % 4000 == 0:
                await asyncio.sleep(0.5)
        await sending
        watching.cancel()
        assert got == 24 * 1000
        assert most <= 64 * 1024 + 300_000  # and one read


async def flood(wire: Wire, count: int) -> None:
    with suppress(ConnectionError):
        for number in range(count):
            wire.send(BINARY, number.to_bytes(4, "big") * 250)
            await wire.writer.drain()


@pytest.mark.parametrize("stalled", ["client", "upstream"])
async def test_a_side_that_takes_nothing_is_cut(stalled: str) -> None:
    """After `stalled_seconds_max`; the other one is told."""
    async with relaying(buffer_bytes_max=64 * 1024, stalled_seconds_max=0.3) as relay:
        client, upstream = await relay.both()
        sender = upstream if stalled == "client" else client
        sending = asyncio.create_task(flood(sender, 100_000))
        await until(lambda: bool(relay.watchers[0].told))
        assert relay.watchers[0].told[0] == (f"{stalled} left", None, b"")
        sending.cancel()


async def test_a_client_that_takes_little_at_a_time_is_not_cut() -> None:
    """As long as it takes anything, however long its peer has to wait."""
    async with relaying(buffer_bytes_max=16 * MIB, stalled_seconds_max=1.2) as relay:
        client, upstream = await relay.both()
        side = relay.watchers[0].joined._client  # type: ignore[attr-defined]
        sending = asyncio.create_task(flood(upstream, 100_000))
        await until(lambda: side.transport.get_write_buffer_size() > 16 * MIB)
        for _ in range(60):
            await client.reader.readexactly(100_000)
            await asyncio.sleep(0.03)
        assert side.transport.get_write_buffer_size() > 4 * MIB  # its peer was waiting all the time
        assert relay.watchers[0].told == []
        sending.cancel()


async def test_an_upstream_is_read_on_when_its_slow_client_is_lost() -> None:
    """Nothing is left to wait for, and its last words are wanted."""
    async with relaying(buffer_bytes_max=64 * 1024, prepare=alone) as relay:
        client, upstream = await relay.both()
        side = relay.watchers[0].joined._client  # type: ignore[attr-defined]
        sending = asyncio.create_task(flood(upstream, 30_000))
        await until(lambda: side.transport.get_write_buffer_size() > 64 * 1024)
        client.drop()
        side.cut()  # it is not read, so nobody else would notice
        async with asyncio.timeout(10):
            await sending
        upstream.close(1000)
        await until(lambda: len(relay.watchers[0].told) == 2)
        assert relay.watchers[0].told == [("client left", None, b""), ("upstream left", 1000, b"")]


async def test_a_slow_client_is_not_flooded_by_an_upstream_that_is_closing() -> None:
    """What still comes after our Close waits as before."""
    async with relaying(buffer_bytes_max=64 * 1024) as relay:
        client, upstream = await relay.both()
        sending = asyncio.create_task(flood(upstream, 100_000))
        joined = relay.watchers[0].joined
        side = joined._client  # type: ignore[attr-defined]
        await until(lambda: side.transport.get_write_buffer_size() > 64 * 1024)
        joined.close_upstream(1000)
        for _ in range(50):
            await asyncio.sleep(0.01)
            assert side.transport.get_write_buffer_size() <= 64 * 1024 + 300_000
        sending.cancel()
        client.drop()


# ---- idle clients


async def test_an_idle_client_is_pinged_and_missed() -> None:
    """Our pings and their pongs are between us and the client; one that is silent is cut."""
    async with relaying(ping_seconds=1.0) as relay:
        client, upstream = await relay.both()
        for _ in range(3):
            first, payload = await client.frame()
            assert first == FIN | PING
            client.send(PONG, payload)
        client.send(PONG, b"of its own")
        client.send(PING, b"mine")
        assert await upstream.frame() == (FIN | PONG, b"of its own")
        assert await upstream.frame() == (FIN | PING, b"mine")
        assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1001))
        assert relay.watchers[0].told == [("client left", None, b"")]


async def test_a_busy_client_is_not_pinged() -> None:
    """Its messages are sign enough."""
    async with relaying(ping_seconds=1.0) as relay:
        client, upstream = await relay.both()
        for _ in range(100):
            client.send(BINARY, bytes(100))
            assert await upstream.frame() == (FIN | BINARY, bytes(100))
            await asyncio.sleep(0.025)
        upstream.send(TEXT, b"nothing before this")
        assert await client.frame() == (FIN | TEXT, b"nothing before this")


async def test_a_client_that_is_not_read_is_not_missed() -> None:
    """Its upstream is slow: whatever it says waits."""
    async with relaying(ping_seconds=0.2, buffer_bytes_max=64 * 1024) as relay:
        client, _ = await relay.both()
        sending = asyncio.create_task(flood(client, 100_000))
        side = relay.watchers[0].joined._client  # type: ignore[attr-defined]
        await until(lambda: not side.is_read)
        await asyncio.sleep(1.0)
        assert relay.watchers[0].told == []
        sending.cancel()
