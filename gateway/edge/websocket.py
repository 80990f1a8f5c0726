"""Customers' WebSockets: the opening handshake on aiohttp's connection, and taking that connection over.

Owns: what of aiohttp's connection is a relay's from then on, and what stays: it is still counted, and its call goes on.
Does not know: frames (`sockets`), products, money.
"""

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from gateway.edge.responses import answer_head
from gateway.sockets import handshake
from gateway.sockets.ports import Relay, Watch, Watcher
from gateway.sockets.relay import SplicedRelay


class TakenOver:
    """In place of a response: the connection is a relay's, and nothing is left to write.

    It has what aiohttp's connection asks of a response: `prepare`, `write_eof`, `keep_alive`.
    """

    keep_alive = False

    async def prepare(self, _request: web.BaseRequest) -> None:
        """The 101 was sent."""

    async def write_eof(self) -> None:
        """The relay has closed the connection."""


def is_opening(request: web.BaseRequest) -> bool:
    """Whether this is an opening handshake that may be answered with 101 (RFC 6455 4.2.1)."""
    return (
        request.version == aiohttp.HttpVersion11
        and not request.body_exists
        and request._message.upgrade  # the parser has stopped: what follows is no HTTP
        and handshake.asks_for_socket(request.method, request.headers)
    )


def take_over(
    request: web.BaseRequest, watch: Watch, watcher: Watcher, headers: CIMultiDict[str], subprotocol: str
) -> Relay | None:
    """Answer 101 with these headers, and hand the connection to a relay. None if the client has left.

    aiohttp's connection stays known to its server, which counts it and waits for its call; it is told when the
    transport is lost. Of its timers, the one for idle connections looks at idle ones only.
    """
    connection = request.protocol
    transport = connection.transport
    if transport is None or transport.is_closing():
        return None
    own = handshake.accepting(request.headers["Sec-WebSocket-Key"], subprotocol)
    framing = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    transport.write(answer_head(request, 101, "", headers, framing, keep_alive=True))
    early, connection._message_tail = connection._message_tail, b""
    return SplicedRelay(watch, watcher, transport, early, lost=connection.connection_lost)
