"""What sessions leave in memory when they are over: nothing."""

import asyncio
import gc

import pytest

from gateway.edge.server.client import RequestClient
from gateway.edge.server.connection import CustomerConnection
from gateway.pipeline.call import Call
from gateway.pipeline.open_session import OpenSession
from gateway.pipeline.session_watcher import SessionWatcher
from gateway.sockets.side import Side
from tests.harness import Running
from tests.pipeline.sockets import begun, connected, to_the_end
from tests.sockets.relaying import until

PARTS = (OpenSession, SessionWatcher, Call, CustomerConnection, RequestClient, Side)


@pytest.mark.parametrize("end", ["terminated", "closed", "lost", "refused"])
async def test_nothing_of_a_session_waits_for_the_garbage_collector(gw: Running, end: str) -> None:
    """A cycle would: at a thousand sessions hundreds of megabytes of them, before anybody looks."""
    key = await gw.open_account("a", credit="1", tier="payg")
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            if end == "refused":
                async with connected(gw, "nobody's key") as socket:
                    await to_the_end(socket)
                continue
            socket = await begun(gw, key)
            if end == "terminated":
                await socket.send_json({"type": "Terminate"})
                await to_the_end(socket)
            elif end == "closed":
                await socket.close()
            else:
                assert socket._writer.transport is not None
                socket._writer.transport.abort()
                await socket.close()
        await until(lambda: gw.gateway.pipeline.calls_open == 0)
        await asyncio.sleep(0.1)
        gw.gateway.observing.flush()
        assert [type(each).__name__ for each in gc.get_objects() if isinstance(each, PARTS)] == []
    finally:
        gc.enable()


async def test_an_open_session_keeps_nothing_that_only_requests_need(gw: Running) -> None:
    """No head, no HTTP parser, no timer of idle connections, and no room for attributes that nobody sets."""
    key = await gw.open_account("a", credit="1", tier="payg")
    socket = await begun(gw, key)
    found = {type(each): each for each in gc.get_objects() if isinstance(each, PARTS)}
    connection, client = found[CustomerConnection], found[RequestClient]
    assert isinstance(connection, CustomerConnection) and isinstance(client, RequestClient)
    assert (connection._parser, connection._keepalive_handle, connection._messages.maxlen) == (None, None, 0)
    assert (client.message.raw_headers, list(client.message.headers)) == ((), ["Host"])
    assert not any(hasattr(found[kind], "__dict__") for kind in (OpenSession, SessionWatcher, RequestClient))
    await socket.send_json({"type": "Terminate"})
    await to_the_end(socket)
