"""Kept connections of a server that has a successor: which are closed at once, and which have one more call."""

import asyncio
import math
import select
from typing import Any, cast

import pytest
from aiohttp import web

from gateway.edge.server.connection import CustomerConnection
from gateway.edge.server.own import OwnRoutes
from gateway.edge.server.proxy import CustomerServer
from gateway.pipeline.http import HttpPipeline
from gateway.settings.runtime import Limits
from tests.certificates import Certificates
from tests.fakes.upstream import RawClient
from tests.upstream.proxying import get_bytes, until

HOST = "127.0.0.1"
#: None of a test's connections is quiet for so long.
LONG_SECONDS = 600.0


async def _here(_request: web.Request) -> web.Response:
    return web.Response(text="here")


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
async def test_a_call_that_nobody_has_read_yet_is_answered(certificates: Certificates, secured: bool) -> None:
    """Of three kept connections the quiet one is closed; the one with bytes in its socket, and that in use, end with an
    answer.
    """
    theirs: dict[str, Any] = {"ssl": certificates.server} if secured else {}
    ours: dict[str, Any] = {"ssl": certificates.client} if secured else {}
    app = web.Application()
    app.router.add_get("/own/here", _here)
    ask = get_bytes("/own/here")
    async with OwnRoutes(app, ["/own"]) as own:
        server = CustomerServer(cast("HttpPipeline", None), Limits(), own, quiet_seconds=0)
        listening = await asyncio.get_running_loop().create_server(server, HOST, 0, **theirs)
        port = listening.sockets[0].getsockname()[1]
        async with (
            RawClient(*await asyncio.open_connection(HOST, port, **ours)) as quiet,
            RawClient(*await asyncio.open_connection(HOST, port, **ours)) as asking,
            RawClient(*await asyncio.open_connection(HOST, port, **ours)) as using,
        ):
            for client in (quiet, asking, using):
                assert (await client.ask(ask)).status == 200
            connections = cast("list[CustomerConnection]", server.connections)

            async def are_quiet() -> bool:
                return all(each.quiet_since < math.inf for each in connections)

            await until(are_quiet)
            using.writer.write(ask[:9])

            async def one_is_read() -> bool:
                return sum(each.quiet_since < math.inf for each in connections) == 2

            await until(one_is_read)
            asking.writer.write(ask)
            (unread,) = _readable(connections)  # without a turn of the event loop, which would read it
            assert unread.quiet_since < math.inf
            server.end_within(LONG_SECONDS, linger_seconds=LONG_SECONDS)
            ending = asyncio.create_task(server.shutdown(LONG_SECONDS))
            assert await quiet.ended()
            assert (await asking.reply()).one("Connection") == b"close"
            assert (await using.ask(ask[9:])).one("Connection") == b"close"
            listening.close()
            await asyncio.wait_for(ending, 30)


async def test_a_connection_that_had_a_call_lately_has_its_last_one() -> None:
    """Its answer says that the connection ends."""
    app = web.Application()
    app.router.add_get("/own/here", _here)
    async with OwnRoutes(app, ["/own"]) as own:
        server = CustomerServer(cast("HttpPipeline", None), Limits(), own, quiet_seconds=LONG_SECONDS)
        listening = await asyncio.get_running_loop().create_server(server, HOST, 0)
        async with await RawClient.open(listening.sockets[0].getsockname()[1]) as client:
            assert (await client.ask(get_bytes("/own/here"))).one("Connection") is None
            server.end_within(LONG_SECONDS, linger_seconds=LONG_SECONDS)
            ending = asyncio.create_task(server.shutdown(LONG_SECONDS))
            assert (await client.ask(get_bytes("/own/here"))).one("Connection") == b"close"
            listening.close()
            await asyncio.wait_for(ending, 30)


def _readable(connections: list[CustomerConnection]) -> list[CustomerConnection]:
    """Those with something in their sockets, once there is one."""
    sockets = {}
    for each in connections:
        assert each.transport is not None, "it is kept"
        sockets[each.transport.get_extra_info("socket").fileno()] = each
    return [sockets[fileno] for fileno in select.select(list(sockets), [], [], 30)[0]]
