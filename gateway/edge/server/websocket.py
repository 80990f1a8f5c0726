"""Customers' WebSockets: the opening handshake on aiohttp's connection, and taking that connection over.

Owns: what of aiohttp's connection is a relay's from then on, and what stays: it is still counted, and its call goes on.
Does not know: frames (`sockets`), products, money.
"""

from collections import deque
from typing import Any, Final

import aiohttp
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.edge.server.responses import Asked, answer_head
from gateway.sockets import handshake
from gateway.sockets.ports import Relay, Watch, Watcher
from gateway.sockets.relay import SplicedRelay

#: In place of what a connection gathers while it has requests.
_NO_MESSAGES: Final[deque[Any]] = deque(maxlen=0)


def is_opening(asked: Asked) -> bool:
    """Whether this is an opening handshake that may be answered with 101 (RFC 6455 4.2.1)."""
    message = asked.message
    return (
        bool(message.upgrade)  # the parser has stopped: what follows is no HTTP
        and message.version == aiohttp.HttpVersion11
        and asked.payload is EMPTY_PAYLOAD
        and handshake.asks_for_socket(message.method, message.headers)
    )


def without_head(message: RawRequestMessage, host: str) -> RawRequestMessage:
    """A request that was taken over, without its fields: the call has those that it needs, and lasts for hours."""
    return message._replace(headers=CIMultiDictProxy(CIMultiDict({"Host": host})), raw_headers=())


def take_over(
    asked: Asked, watch: Watch, watcher: Watcher, headers: CIMultiDict[str], subprotocol: str
) -> Relay | None:
    """Answer 101 with these headers, and hand the connection to a relay. None if the client has left.

    aiohttp's connection stays known to its server, which counts it and waits for its call; it is told when the
    transport is lost. What else it has is for requests, and goes: it would take two kilobytes for as long as the
    session lasts.
    """
    connection = asked.connection
    transport = connection.transport
    if transport is None or transport.is_closing():
        return None
    own = handshake.accepting(asked.message.headers["Sec-WebSocket-Key"], subprotocol)
    framing = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    transport.write(answer_head(asked.message, 101, "", headers, framing, keep_alive=True))
    early, connection._message_tail = connection._message_tail, b""
    connection._messages = _NO_MESSAGES
    connection._parser = None
    if connection._keepalive_handle is not None:
        connection._keepalive_handle.cancel()
        connection._keepalive_handle = None
    return SplicedRelay(watch, watcher, transport, early, lost=connection.connection_lost)
