"""Sockets that listen, bound before anything else runs, so that a worker that ends takes no connection with it.

Owns: addresses, how workers share a port, what a new connection is shown over TLS. Does not know: who accepts.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from gateway.settings.runtime import Listener
from gateway.settings.tls import Tls, server_context

BACKLOG: Final = 4096
#: Linux spreads the connections of a port evenly over the sockets bound to it; others do not.
_SPREADS: Final = sys.platform == "linux"
#: For a client's part of the handshakes at the begin and the end of a connection over TLS.
_HANDSHAKE_SECONDS_MAX: Final = 10.0
_GOODBYE_SECONDS_MAX: Final = 5.0


class CannotListen(OSError):
    """Nothing can be listened to there. `filename` is where."""

    def __init__(self, place: Listener, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error), f"{place.host}:{place.port}")


def listen(place: Listener, *, shared: bool = False) -> socket.socket:
    """A socket that listens there. CannotListen if it cannot, or if another does that does not share as well."""
    made = _bound(place, shared=shared)
    try:
        made.listen(BACKLOG)
    except OSError as error:  # another bound it as we did, and listens
        made.close()
        raise CannotListen(place, error) from None
    return made


def _bound(place: Listener, *, shared: bool) -> socket.socket:
    """A socket that has the address, and no connections yet."""
    try:
        family, address = _resolved(place)
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise CannotListen(place, error) from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        made.setblocking(False)  # noqa: FBT003 - the library's
    except OSError as error:
        made.close()
        raise CannotListen(place, error) from None
    return made


def port_of(listener: socket.socket) -> int:
    """The port that it is bound to."""
    port: int = listener.getsockname()[1]
    return port


def _resolved(place: Listener) -> tuple[socket.AddressFamily, Any]:
    """The first address of the host, IPv4 before others: `localhost` is then where everybody looks for it."""
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


class SharedPort:
    """A port with a socket for each worker, who listens when it can accept.

    The socket outlives the worker: what waits in it when a worker ends waits for the next one.
    """

    def __init__(self, place: Listener) -> None:
        if place.port:
            listen(place).close()  # raises for another gateway on the port, which would share it with us unnoticed
        first = listen(place, shared=_SPREADS)
        self._place = replace(place, port=port_of(first))
        self._sockets = {0: first}

    @property
    def port(self) -> int:
        """Where it is."""
        return self._place.port

    def of(self, worker: int) -> socket.socket:
        """The worker's socket."""
        worker = worker if _SPREADS else 0
        if worker not in self._sockets:
            self._sockets[worker] = _bound(self._place, shared=True)
        return self._sockets[worker]

    def leave(self, worker: int) -> None:
        """Nobody accepts from the worker's socket for a while: new connections go to the others'."""
        if _SPREADS and (left := self._sockets.pop(worker, None)) is not None:
            left.close()

    def close(self) -> None:
        """Listen no more."""
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()


class Opening:
    """Who accepts from a listening socket: a server of asyncio's, over TLS or not.

    What new connections are shown can change; those that are open go on as they began.
    """

    def __init__(self, listener: socket.socket, accept: Callable[[], asyncio.BaseProtocol]) -> None:
        self._listener = listener
        self._accept = accept
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it is."""
        return port_of(self._listener)

    async def show(self, tls: Tls | None) -> None:
        """Accept, and show this certificate from now on: by a server of its own, before the last one ends.

        So nobody is refused meanwhile, and nothing of the last certificate, or of whom it let in, is left.
        """
        last = self._server
        self._server = await asyncio.get_running_loop().create_server(
            self._accept, sock=self._listener.dup(), backlog=BACKLOG, **_tls_options(tls)
        )
        if last is not None:
            last.close()

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()
        self._listener.close()


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    """How a server speaks TLS, with a limit on what a client may take its time for."""
    if tls is None:
        return {}
    return {
        "ssl": server_context(tls),
        "ssl_handshake_timeout": _HANDSHAKE_SECONDS_MAX,
        "ssl_shutdown_timeout": _GOODBYE_SECONDS_MAX,
    }
