"""What a call, and what is written for it, may use of its connection.

Owns: writing to a client that may have left, waiting for one that is slow.
Does not know: requests, answers, when a connection ends (connection).
"""

import asyncio
from typing import Final

from aiohttp import web

_TAKES_NOTHING_SECONDS: Final = 60.0


class Carrier(web.RequestHandler):
    """aiohttp's connection of a client."""

    closing = False  # no request is taken after the one at hand

    address = ""  # the peer's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection."""
        super().connection_made(transport)
        peer = self.peername
        self.address = str(peer[0] if isinstance(peer, tuple) else peer or "")

    @property
    def host(self) -> str:
        """Where we listen."""
        name = self.sockname
        return str(name[0] if isinstance(name, tuple) else name or "")

    def send(self, data: bytes) -> None:
        """Write. ConnectionResetError if the client has left."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        transport.write(data)

    async def drained(self) -> None:
        """Wait while the client is slow. ConnectionError if it leaves."""
        await self._drain_helper()

    async def drained_or_cut(self) -> None:
        """The same, but one that takes nothing at all for a while is cut: what it was sent would stay in memory.

        ConnectionResetError then.
        """
        transport = self.transport
        if not self.writing_paused or transport is None:
            return
        # Of its own: one that was cancelled cannot be awaited again.
        drained = asyncio.ensure_future(self._drain_helper())
        try:
            while True:
                left = transport.get_write_buffer_size()
                await asyncio.wait({drained}, timeout=_TAKES_NOTHING_SECONDS)
                if drained.done():
                    drained.result()
                    return
                if transport.get_write_buffer_size() >= left:
                    transport.abort()
                    raise ConnectionResetError("the client takes nothing")
        finally:
            drained.cancel()
