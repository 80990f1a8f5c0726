"""A customer's socket and an upstream's, spliced: frames pass from one transport to the other as they are.

Owns: the two sides of a session's sockets as one thing, and when both are over.
Does not know: money, products, how the sockets were opened.

Nothing here has a task for each session, or a timer for each frame. A read that is whole messages with nothing to look
at, as nearly all are, costs a scan of the heads and one write of the same bytes.
"""

import asyncio

from gateway.sockets.client_side import ClientSide, Lost
from gateway.sockets.dial import DialedSocket
from gateway.sockets.ports import Traffic, UpstreamSocket, Watch, Watcher
from gateway.sockets.side import NOT_JOINED
from gateway.sockets.signal import Signal
from gateway.sockets.upstream_side import UpstreamSide


class SplicedRelay:
    """See `ports.Relay`. Made with the customer's transport, after the 101; `early` came right behind its handshake.

    `lost` is told first when that transport is lost. The watcher is not called before the constructor has returned.
    """

    __slots__ = ("_client", "_joined", "_over", "_upstream")

    def __init__(
        self,
        watch: Watch,
        watcher: Watcher,
        transport: asyncio.Transport,
        early: bytes,
        *,
        lost: Lost,
    ) -> None:
        self._over = Signal()
        self._joined = False
        self._client = client = ClientSide(watch, watcher, self._ended, lost)
        self._upstream = upstream = UpstreamSide(watch, watcher, self._ended)
        client.peer, upstream.peer = upstream, client
        client.attach(transport, early)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._client} {self._upstream}>"

    def join(self, upstream: UpstreamSocket) -> None:
        """See `ports.Relay`."""
        assert isinstance(upstream, DialedSocket), "whoever dials for a relay is of this package"
        if self._upstream.closing or self._over.is_set():
            upstream.abort()
            return
        self._joined = True
        self._upstream.attach(*upstream.handed_over())
        self._client.release(NOT_JOINED)

    def tell_client(self, text: bytes) -> None:
        """See `ports.Relay`."""
        self._client.say(text)

    def tell_upstream(self, text: bytes) -> None:
        """See `ports.Relay`."""
        self._upstream.say(text)

    def mute_client(self) -> None:
        """See `ports.Relay`."""
        self._client.mute()

    def close_client(self, code: int | None, reason: bytes = b"") -> None:
        """See `ports.Relay`."""
        self._client.close(code, reason)

    def close_upstream(self, code: int | None, reason: bytes = b"") -> None:
        """See `ports.Relay`."""
        self._upstream.close(code, reason)

    @property
    def traffic(self) -> Traffic:
        """See `ports.Relay`."""
        return Traffic(client_bytes=self._client.bytes_read, upstream_bytes=self._upstream.bytes_read)

    @property
    def active_at(self) -> float:
        """See `ports.Relay`."""
        return max(self._client.active_at, self._upstream.active_at)

    @property
    def client_gone(self) -> bool:
        """See `ports.Relay`."""
        return self._client.lost

    async def over(self) -> None:
        """See `ports.Relay`. Raises what `client_says` raised."""
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            if self._client.asking is not None:
                self._client.asking.cancel()
            self._client.go_away()
            self._upstream.go_away()
            raise
        if self._client.failed is not None:
            raise self._client.failed

    def _ended(self) -> None:
        if self._client.departed and (self._upstream.departed or not self._joined):
            self._over.set()
            self._client.part()
            self._upstream.part()
