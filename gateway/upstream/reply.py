"""A reply on a connection of a pool: its head, its body as it comes, and the time that both may take.

Owns: the reading of a body, when the call must be over and until when the upstream may be silent; the mapping of
aiohttp's errors to ours.
Does not know: how requests are sent, which connections there are (pool). Bodies pass as they are: nothing is
decompressed.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy

from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.core.upstreams import Upstream
from gateway.upstream.bodies import at_hand, is_to_come
from gateway.upstream.connection import Connection

NEVER: Final = float("inf")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
FAULTS: Final = (aiohttp.ClientError, HttpProcessingError, ssl.SSLError, OSError)


def mapped(error: BaseException, *, unsent: bool = False) -> UpstreamTimeout | UpstreamUnreachable:
    """A foreign error as ours, at the door."""
    name = type(error).__name__
    fault = UpstreamTimeout(name) if isinstance(error, TimeoutError) else UpstreamUnreachable(name)
    fault.unsent = unsent
    return fault


class Lender(Protocol):
    """Whose connection a reply comes on: a pool."""

    upstream: Upstream

    def silence_ends(self) -> float:
        """Until when the upstream may be silent from now on, by the loop's clock."""

    def release(self, reply: "PooledReply", connection: Connection, *, reusable: bool) -> None:
        """The call is over with this connection."""


class PooledReply:
    """A `Reply` on a connection of a pool."""

    __slots__ = (
        "_closed", "_connection", "_payload", "_pool", "ends_at", "headers", "last", "left", "reason", "silent_until",
        "status", "writer",
    )  # fmt: skip

    def __init__(self, pool: Lender, connection: Connection, ends_at: float, *, last: bool) -> None:
        self._pool = pool
        self._connection = connection
        self.last = last  # its connection is not used again
        self._payload: StreamReader | None = None
        self._closed = False
        #: By the loop's clock: when the call must be over, and until when the upstream may be silent.
        self.ends_at = ends_at
        self.silent_until = NEVER
        self.left: float | None = None  # what was left of its time when it was paused
        self.writer: asyncio.Task[None] | None = None
        self.status: int
        self.reason: str
        self.headers: CIMultiDictProxy[str]

    @property
    def endpoint(self) -> str:
        """See `Reply`."""
        return self._pool.upstream.endpoint

    def begin(self, message: RawResponseMessage, payload: StreamReader) -> None:
        """The head has come."""
        self._payload = payload
        self.status = message.code
        self.reason = reason = message.reason
        if not (reason.isascii() and reason.isprintable()) and _CONTROLS.search(reason) is not None:
            self.reason = ""
        if message.chunked:
            self._connection.forget()
        self.headers = message.headers

    @property
    def length(self) -> int | None:
        """See `Reply`."""
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isascii() and length.isdigit() else None

    def at_hand(self) -> bytes | None:
        """See `Reply`."""
        assert self._payload is not None, "no head has come"
        return at_hand(self._payload)

    async def chunk(self) -> bytes:
        """See `Reply`."""
        assert self._payload is not None, "no head has come"
        if (rest := at_hand(self._payload)) is not None:
            return rest
        self.silent_until = self._pool.silence_ends()
        try:
            return await self._payload.readany()
        except FAULTS as error:
            raise mapped(error) from error
        finally:
            self.silent_until = NEVER  # from now on it is ours to read on

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        """See `Reply`."""
        payload = self._payload
        assert payload is not None, "no head has come"
        while not is_to_come(payload):
            if not (chunk := await self.chunk()):
                return True
            if take(chunk):
                return False

        def heard(piece: bytes) -> bool:
            self.silent_until = self._pool.silence_ends()
            return take(piece)

        self.silent_until = self._pool.silence_ends()
        try:
            await self._connection.pass_on(payload, heard)
        except FAULTS as error:
            raise mapped(error) from error
        finally:
            self.silent_until = NEVER
        return payload.at_eof()

    def at_end(self) -> bool:
        """See `Reply`."""
        return self._payload is not None and self._payload.at_eof()

    def pause(self) -> None:
        """See `Reply`."""
        if self.left is None:
            self.left = self.ends_at - asyncio.get_running_loop().time()
            self.ends_at = NEVER

    def resume(self) -> None:
        """See `Reply`."""
        if self.left is not None:
            self.ends_at = asyncio.get_running_loop().time() + self.left
            self.left = None

    def expire(self) -> None:
        """The upstream was silent for too long, or the whole time for this call is over."""
        error = aiohttp.ServerTimeoutError("the upstream took too long")
        self._connection.fail(error)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """See `Reply.__aexit__`. May be called more than once."""
        if self._closed:
            return
        self._closed = True
        reusable = not self.last and self._payload is not None  # without its head, the reply is still to come
        if self.writer is not None and not self.writer.done():
            self.writer.cancel()
            reusable = False
        self._pool.release(self, self._connection, reusable=reusable)
