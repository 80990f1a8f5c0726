"""What the gateway's sockets are measured beside, each a process of its own.

`python -m benchmarks.sockets_relays aiohttp|spliced PORT UPSTREAM_PORT`: a relay as one writes it with aiohttp's own
classes; and the gateway's relay alone, without a session that pays, watching what a session watches.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, cast

import uvloop
from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector, WSMsgType, web
from multidict import CIMultiDict

from gateway.core.errors import Refused
from gateway.core.upstreams import Upstream
from gateway.edge.server.proxy import CustomerServer
from gateway.pipeline.call import Answer, Client
from gateway.pipeline.http import HttpPipeline
from gateway.settings.runtime import Limits
from gateway.sockets.dial import SocketDialer
from gateway.sockets.ports import Relay, Watch

Socket = web.WebSocketResponse | ClientWebSocketResponse


async def aiohttp_relay(upstream_port: int) -> web.Server:
    """Messages are read, unmasked, and framed again."""
    session = ClientSession(connector=TCPConnector(limit=0))

    async def pump(source: Socket, sink: Socket) -> None:
        async for message in source:
            if message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)
        await sink.close()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        client = web.WebSocketResponse(compress=False)
        if not client.can_prepare(request):
            return web.Response(status=426)
        url = f"http://127.0.0.1:{upstream_port}{request.path_qs}"
        async with session.ws_connect(url, compress=0) as upstream:
            await client.prepare(request)
            down = asyncio.create_task(pump(upstream, client))
            await pump(client, upstream)
            await down
        return client

    return web.Server(handler, access_log=None)


class Through:
    """A watcher that only passes on each side's end."""

    relay: Relay

    def upstream_said(self, kind: str, message: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """See `Watcher`."""
        return True

    async def client_says(self, kind: str, message: Mapping[str, Any]) -> Refused | None:  # noqa: ARG002
        """See `Watcher`."""
        return None

    def client_left(self, code: int | None, reason: bytes) -> None:
        """See `Watcher`."""
        self.relay.close_client(code, reason)
        self.relay.close_upstream(code, reason)

    def upstream_left(self, code: int | None, reason: bytes) -> None:
        """See `Watcher`."""
        self.relay.close_client(code, reason)
        self.relay.close_upstream(code, reason)

    def broken(self, side: str, code: int, why: str) -> None:  # noqa: ARG002
        """See `Watcher`."""
        self.client_left(code, b"")


class Spliced:
    """In place of the pipeline: accept, dial, join, wait."""

    def __init__(self, upstream_port: int) -> None:
        self.dialer = SocketDialer()
        self.upstream = Upstream(name="upstream", base_url=f"http://127.0.0.1:{upstream_port}", credential="")
        self.watch = Watch(
            from_client=frozenset({"UpdateConfiguration"}), from_upstream=frozenset({"Begin", "Termination"})
        )

    async def serve(self, client: Client) -> Answer | None:
        """One session."""
        if not client.wants_socket:
            return Answer(status=426, reason="", headers=CIMultiDict(), body=b"")
        watcher = Through()
        watcher.relay = relay = client.accept_socket(self.watch, watcher, CIMultiDict(), "")
        target = f"{client.raw_path}?{client.query_string}"
        relay.join(await self.dialer.dial(self.upstream, target, CIMultiDict(), self.watch))
        await relay.over()
        return None


async def main(design: str, port: int, upstream_port: int) -> None:
    server: web.Server
    if design == "aiohttp":
        server = await aiohttp_relay(upstream_port)
    else:
        server = CustomerServer(cast("HttpPipeline", Spliced(upstream_port)), Limits(connections_max=100_000))
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, backlog=4096)
    await listener.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
