"""What is needed of upstreams, as promises: one request is sent, and the reply's head is there.

Owns: the two protocols, the kinds of bodies. Does not know: connections.
"""

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.upstreams import Upstream

Body = bytes | AsyncIterator[bytes] | None


class Reply(Protocol):
    """An upstream's answer whose head has come. Reading may raise UpstreamUnreachable or UpstreamTimeout."""

    @property
    def status(self) -> int: ...
    @property
    def endpoint(self) -> str:
        """Which endpoint of its service has answered; empty where that has no names for them."""

    @property
    def reason(self) -> str: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def length(self) -> int | None:
        """The body's length if its head tells."""

    def at_hand(self) -> bytes | None:
        """What is left of the body, where all of it has come; else None."""

    async def chunk(self) -> bytes:
        """The next bytes of the body as they come; empty at its end."""

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        """Give what comes of the body to `take`, as it comes. Whether that was all, or else `take` wants to wait.

        What `take` raises is raised here.
        """

    def at_end(self) -> bool:
        """Whether the whole body has come and was read."""

    def pause(self) -> None:
        """From now on it is the client that is waited for: that is no time of the upstream's."""

    def resume(self) -> None:
        """The upstream's time goes on."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back, or close it if the body was not read to its end."""


class UpstreamClient(Protocol):
    """Sends one request and gives the reply once its head has come."""

    async def send(
        self, upstream: Upstream, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body
    ) -> Reply:
        """UpstreamUnreachable or UpstreamTimeout when no head came. A body iterator's own error passes through.

        Of a service with endpoints one is asked that `upstream` has; another, where nothing was begun at the first. The
        credential in `headers` is set to its own.
        """

    async def close(self) -> None:
        """Close every connection."""
