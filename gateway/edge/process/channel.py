"""The channel between the supervisor and a worker: messages both ways over a pair of sockets.

Owns: what may be said, where one message ends and the next begins. Does not know: what either side makes of it.
"""

import asyncio
import socket
from enum import StrEnum
from typing import Any, Final, Self

import orjson

_LENGTH_BYTES: Final = 4
#: Much more than the largest config.
_MESSAGE_BYTES_MAX: Final = 256 * 1024 * 1024


class Says(StrEnum):
    """What is said. The supervisor's first message is another: the config, pickled."""

    # by the worker
    READY = "ready"  # it takes calls
    FIGURES = "figures"  # all of its metrics
    SHOWN = "shown"  # new connections are shown the certificate
    ENDING = "ending"  # it has heard that it is to end, and takes no more connections
    FAILED = "failed"  # why it ends before it was ready
    # by the supervisor
    REPORT = "report"  # say your figures now
    SHOW = "show"  # show new connections this certificate and its key (or none)
    END_WITHIN = "end_within"  # take no more calls, end; seconds for those under way, seconds for idle connections


class Channel:
    """One end. When the other end closes, or its process dies, `receive` answers None."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connected: socket.socket) -> Self:
        """The end that this connected socket is."""
        return cls(*await asyncio.open_unix_connection(sock=connected))

    def send(self, message: bytes) -> None:
        """Send it, soon. To an other end that is gone, nothing is sent."""
        if not self._writer.is_closing():
            self._writer.write(len(message).to_bytes(_LENGTH_BYTES) + message)

    def say(self, what: Says, fact: object = None) -> None:
        """Send what `hear` hears."""
        self.send(orjson.dumps([what, fact]))

    async def receive(self) -> bytes | None:
        """The next message; None: there will be no other."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
            assert length <= _MESSAGE_BYTES_MAX, "both ends are ours"
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def hear(self) -> tuple[Says, Any] | None:
        """What the other end says next; None: nothing more."""
        message = await self.receive()
        if message is None:
            return None
        what, fact = orjson.loads(message)
        return Says(what), fact

    async def close(self) -> None:
        """Once what was sent is on its way."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
