"""Calls to upstreams: one aiohttp session for each, every default of a browser switched off by name.

Owns: sessions, timeouts, the mapping of aiohttp's errors to ours.
Does not know: customers, money. Bodies pass as they are: nothing is decompressed, redirected, or kept as a cookie.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator


class UpstreamAddress(Protocol):
    """What a client needs to know of an upstream (see `settings.runtime.Upstream`). Seconds and counts as named."""

    @property
    def name(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def connect_seconds_max(self) -> float: ...
    @property
    def reply_seconds_max(self) -> float: ...
    @property
    def total_seconds_max(self) -> float: ...
    @property
    def connections_max(self) -> int: ...
    @property
    def verify_tls(self) -> bool: ...


class Reply(Protocol):
    """An upstream's answer whose head has come. Reading may raise UpstreamUnreachable or UpstreamTimeout."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def length(self) -> int | None:
        """The body's length if its head tells."""

    async def chunk(self) -> bytes:
        """The next bytes of the body as they come; empty at its end."""

    def at_end(self) -> bool:
        """Whether the whole body has come and was read."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back, or close it if the body was not read to its end."""


class UpstreamClient(Protocol):
    """Sends one request and gives the reply once its head has come."""

    async def send(
        self,
        upstream: UpstreamAddress,
        method: str,
        path_and_query: str,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> Reply:
        """UpstreamUnreachable or UpstreamTimeout when no head came. A body iterator's own error passes through."""

    async def close(self) -> None:
        """Close every connection."""


@contextmanager
def mapped_errors() -> "Iterator[None]":
    """aiohttp's errors as ours, at the door."""
    try:
        yield
    except TimeoutError as error:
        raise UpstreamTimeout(type(error).__name__) from error
    except (aiohttp.ClientError, ConnectionError, ssl.SSLError, OSError) as error:
        raise UpstreamUnreachable(type(error).__name__) from error


@lru_cache(maxsize=4096)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


class AiohttpReply:
    """A `Reply` over aiohttp's response."""

    __slots__ = ("_response", "headers", "length", "reason", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.reason = response.reason or ""
        self.headers = response.headers
        self.length = response.content_length

    async def chunk(self) -> bytes:
        """See `Reply`."""
        with mapped_errors():
            return await self._response.content.readany()

    def at_end(self) -> bool:
        """See `Reply`."""
        return self._response.content.at_eof()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()


class AiohttpUpstreamClient:
    """An `UpstreamClient` with one session for each upstream, made when it is first called."""

    def __init__(self) -> None:
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sessions={sorted(self._sessions)}>"

    async def send(
        self,
        upstream: UpstreamAddress,
        method: str,
        path_and_query: str,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> Reply:
        """See `UpstreamClient`."""
        session = self._sessions.get(upstream.name) or self._open(upstream)
        with mapped_errors():
            response = await session.request(
                method, _url(upstream.base_url + path_and_query), headers=headers, data=body, allow_redirects=False
            )
        return AiohttpReply(response)

    def _open(self, upstream: UpstreamAddress) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=upstream.connections_max,
                limit_per_host=0,
                keepalive_timeout=30.0,
                ttl_dns_cache=30,
                ssl=True if upstream.verify_tls else False,  # noqa: SIM210 - aiohttp means two different things
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            raise_for_status=False,
            timeout=aiohttp.ClientTimeout(
                total=upstream.total_seconds_max,
                connect=None,
                sock_connect=upstream.connect_seconds_max,
                sock_read=upstream.reply_seconds_max,
            ),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            read_bufsize=2**16,
            max_line_size=32 * 1024,
            max_field_size=32 * 1024,
        )
        self._sessions[upstream.name] = session
        return session

    async def close(self) -> None:
        """See `UpstreamClient`."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()
