"""Sockets as the pipeline of a session sees them: the customer's and the upstream's, joined.

Owns: the records and the promises that cross between the bytes of two sockets and the session that pays for them.
Does not know: money, products, JSON dialects. No method blocks; none raises because a peer has gone.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from multidict import CIMultiDict

from gateway.core.errors import Refused
from gateway.core.record import record
from gateway.core.upstreams import Upstream


@record
class Watch:
    """What of the traffic is looked at, and its limits. Bytes and seconds as named.

    A text message is parsed only if one of the types stands in it as a JSON string, or if it has a `\\u` escape (which
    could spell one). `kinds` are values of its field `type_field`. A client's text message is passed on whole where
    `from_client` is not empty; everything else passes frame by frame as it comes.
    """

    type_field: str = "type"
    from_client: frozenset[str] = frozenset()
    from_upstream: frozenset[str] = frozenset()
    client_binary: bool = True  # whether clients may send binary messages: else closed with 1003
    message_bytes_max: int = 1024 * 1024  # of one message, either direction: else closed with 1009
    buffer_bytes_max: int = 256 * 1024  # unsent towards one side, after which the other side is not read any more
    stalled_seconds_max: float = 30.0  # a side that takes nothing for so long while bytes wait for it is cut
    ping_seconds: float = 0.0  # how often an idle customer is pinged by us, and cut if it stays silent; 0: never


class Watcher(Protocol):
    """Who is told of what happens in a relay. Calls come from the event loop, in the order of the frames; none comes
    before the call that made the relay, or joined the upstream, has returned."""

    def upstream_said(self, kind: str, message: Mapping[str, Any]) -> bool | bytes:
        """A watched text message of the upstream's: whether it is passed on, or the text that is in its place (in
        fragments, it was passed on as it is). Must not raise."""

    async def client_says(self, kind: str, message: Mapping[str, Any]) -> "Refused | None":
        """A watched text message of the client's, not passed on yet: None lets it pass, a refusal drops it (what the
        client is told is the watcher's business). The client is not read meanwhile. What this raises ends the relay."""

    def client_left(self, code: int | None, reason: bytes) -> None:
        """The client's Close frame came (its code, 1005 without one), or None: its connection is lost.

        The relay passes on nothing of it: the watcher decides when the upstream is closed. Told once.
        """

    def upstream_left(self, code: int | None, reason: bytes) -> None:
        """The same of the upstream. Everything that it sent before has been passed on. Told once."""

    def broken(self, side: str, code: int, why: str) -> None:
        """A side (`client`, `upstream`) broke RFC 6455 or a limit: nothing more of it is read. `code` is the close code
        for it (1002, 1003, 1007, 1008, 1009), `why` a few fixed words. The watcher closes."""


@record
class Traffic:
    """What has passed so far by sender, in bytes of frames, headers included."""

    client_bytes: int
    upstream_bytes: int


class UpstreamSocket(Protocol):
    """A socket to an upstream whose handshake is done and whose frames wait until a relay is joined to it."""

    @property
    def endpoint(self) -> str:
        """Which endpoint of its service it is at; empty where that has no names for them."""

    @property
    def subprotocol(self) -> str:
        """The chosen subprotocol; empty is none."""

    def abort(self) -> None:
        """Cut it: it will not be joined."""

    def dismiss(self, text: bytes) -> None:
        """It will not be joined: send it a last text message (empty: none) and our Close, then cut it in time."""


class Relay(Protocol):
    """A customer's socket after its handshake, to which an upstream's is joined. Both ends are spliced: frames pass as
    they are (the client's stay masked with its own key), fragments, pings, pongs and their order included."""

    def join(self, upstream: UpstreamSocket) -> None:
        """From now on frames pass both ways. What the client sent before was kept, within `buffer_bytes_max`."""

    def tell_client(self, text: bytes) -> None:
        """A text message of ours to the client, placed between two messages. Nothing, once its Close was sent; a Close
        does not wait for the end of a message, or for ours after it."""

    def tell_upstream(self, text: bytes) -> None:
        """A text message of ours to the upstream, placed between two messages. Nothing, once its Close was sent."""

    def mute_client(self) -> None:
        """From now on no data message of the client's is passed on. Its control frames are. One that was begun is ended
        with an empty fragment, so that ours can follow."""

    def close_client(self, code: int | None, reason: bytes = b"") -> None:
        """Send the client a Close frame (1005: one without a code), after what was sent before, then close orderly
        within a second or two. None: cut the connection. Closing again does nothing."""

    def close_upstream(self, code: int | None, reason: bytes = b"") -> None:
        """The same towards the upstream, or nothing if none is joined."""

    @property
    def traffic(self) -> Traffic: ...
    @property
    def active_at(self) -> float:
        """The event loop's time of the last data frame, either direction."""

    @property
    def client_gone(self) -> bool:
        """Whether the client's connection is lost."""

    async def over(self) -> None:
        """Until both connections are closed. Raises what `client_says` raised. Whoever cancels this closes both with
        1001, without waiting for anything."""


class Dialer(Protocol):
    """Opens sockets to upstreams."""

    async def dial(
        self, upstream: Upstream, path_and_query: str, headers: CIMultiDict[str], watch: Watch
    ) -> UpstreamSocket:
        """The opening handshake (RFC 6455 4.1), without extensions. `headers` are complete but for `Host` and those of
        the handshake itself, and may hold `Sec-WebSocket-Protocol`. Of a service with endpoints one is dialed that
        `upstream` has, or another where no session has begun. UpstreamUnreachable (also for an answer that is
        not 101: its status is in the message), UpstreamTimeout after `connect_seconds_max` for all of it."""

    async def close(self) -> None:
        """Cut what no relay was joined to."""
