"""Requests to addresses that customers name: webhooks, and whatever else we tell them about.

Owns: that such a request reaches nobody whom its sender could not reach by himself, and that it ends: no address of
ours or of our network, the address that was checked is the one that is called, no redirect is followed, nothing is
read of a reply but its status.
Does not know: what is told, or how often it is tried.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway import __version__
from gateway.core.addresses import Allowed, address_of, is_public
from gateway.core.errors import OutwardFailed, OutwardRefused
from gateway.core.record import record

#: The addresses of a name, with ports; raises OSError if it has none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

URL_LENGTH_MAX: Final = 2048
HEADER_LENGTH_MAX: Final = 4096
SECONDS_MAX: Final = 10.0
_CONNECTIONS_MAX: Final = 100
_CONNECTIONS_PER_HOST_MAX: Final = 10
#: Names are resolved in threads of their own: one that takes for ever must not hold up those of the services.
_RESOLVING_MAX: Final = 64
_ADDRESSES_MAX: Final = 16
_HEAD_LINE_BYTES_MAX: Final = 8190
_HEAD_LINES_MAX: Final = 100
#: Ports below 1024 are mail, databases' neighbours and the like, which must not be spoken to in HTTP.
_WEB_PORTS: Final = frozenset({80, 443})
#: Fields that say how a request is sent, and so are ours.
_OURS: Final = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


@record
class OutwardReply:
    """What came back."""

    status: int


class Outward:
    """POSTs to the world outside. `allow` are networks and hosts that may be called although they are not public."""

    def __init__(
        self,
        *,
        allow: Sequence[str] = (),
        plain_http: bool = False,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = Allowed.of(allow)
        self._plain_http = plain_http
        self._threads: ThreadPoolExecutor | None = None
        self._resolve = resolve or self._ask_system
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Nothing is opened before it is needed."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """See `close`."""
        await self.close()

    async def close(self) -> None:
        """Cut what is under way."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def objection(self, url: str, headers: Mapping[str, str] | None = None) -> str:
        """Why such a URL is not called with these headers, in words for who wrote it; empty if it is, as far as can be
        told without resolving its host.
        """
        try:
            parsed = _parsed(url)
        except ValueError:
            return "it is not a URL"
        return self._objection_to_url(parsed) or _objection_to_headers(headers or {})

    def _objection_to_url(self, parsed: URL) -> str:
        host = parsed.raw_host or ""
        if parsed.scheme not in ("http", "https") or not host:
            return "it must start with https://"
        if parsed.user is not None or parsed.password is not None:
            return "it must not contain a user or password"
        address = address_of(host)
        if address is None and (":" in host or host.replace(".", "").isdigit()):
            return "its host is not an address"
        if self._allowed.has_name(host) or (address is not None and self._allowed.has(address)):
            return ""
        if address is not None and not is_public(address):
            return "its address is not a public one"
        if parsed.scheme == "http" and not self._plain_http:
            return "it must start with https://"
        if (parsed.port or 0) < 1024 and parsed.port not in _WEB_PORTS:
            return "its port must be 443, 80 or above 1023"
        return ""

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, seconds_max: float = SECONDS_MAX
    ) -> OutwardReply:
        """POST, and the reply's status, whatever it is.

        OutwardRefused: this is not called, and trying again does not help. OutwardFailed: no reply in time, this time.
        """
        if objection := self.objection(url, headers):
            raise OutwardRefused(objection)
        target = _as_written(_parsed(url), url)
        try:
            async with (
                asyncio.timeout(seconds_max),
                self._open().post(target, data=body, headers=headers, allow_redirects=False) as reply,
            ):
                reply.close()  # its body is nothing to us, however long it is
                return OutwardReply(status=reply.status)
        except aiohttp.InvalidURL:
            raise OutwardRefused("it is not a URL") from None
        except TimeoutError:
            raise OutwardFailed("no answer in time") from None
        except aiohttp.ClientConnectorDNSError:
            raise OutwardFailed("its host has no address") from None
        except (aiohttp.ClientSSLError, ssl.SSLError):
            raise OutwardFailed("its certificate was not accepted, or it does not speak TLS") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise OutwardFailed("no answer: it was not reached, or did not speak HTTP") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=_CONNECTIONS_MAX,
                limit_per_host=_CONNECTIONS_PER_HOST_MAX,
                resolver=_Checking(self._addresses),
                use_dns_cache=False,
                force_close=True,
                ssl=self._tls if self._tls is not None else True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"credit-gateway/{__version__}"},
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
                max_line_size=_HEAD_LINE_BYTES_MAX,
                max_field_size=_HEAD_LINE_BYTES_MAX,
                max_headers=_HEAD_LINES_MAX,
            )
        return self._session

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name, every one of which may be called: a name that leads inside is refused."""
        texts = (await self._resolve(host, port))[:_ADDRESSES_MAX]
        if self._allowed.has_name(host):
            return texts
        for text in texts:
            address = address_of(text)
            if address is None or not (is_public(address) or self._allowed.has(address)):
                raise OutwardRefused("its host's address is not a public one")
        return texts

    async def _ask_system(self, host: str, port: int) -> Sequence[str]:
        self._threads = self._threads or ThreadPoolExecutor(_RESOLVING_MAX, thread_name_prefix="outward")
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for _, _, _, _, address in found]


class _Checking(AbstractResolver):
    """What the connections are made from: addresses that were checked, and nothing else."""

    def __init__(self, addresses: Resolve) -> None:
        self._addresses = addresses

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's
    ) -> list[ResolveResult]:
        """See `Outward._addresses`."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._addresses(host, port)
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _parsed(url: str) -> URL:
    if len(url) > URL_LENGTH_MAX or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("not a URL")
    return URL(url)


def _as_written(parsed: URL, url: str) -> URL:
    """The URL with path and query as they were written: who wrote it may have signed it."""
    written = urlsplit(url)
    if not (written.path + written.query).isascii():
        return parsed
    host = parsed.raw_host or ""
    return URL.build(
        scheme=parsed.scheme,
        host=f"[{host}]" if ":" in host else host,
        port=parsed.explicit_port,
        path=written.path or "/",
        query_string=written.query,
        encoded=True,
    )


def _objection_to_headers(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if not name or not _TOKEN.issuperset(name.lower()) or name.lower() in _OURS:
            return "a header of it cannot be sent"
        if any((character < " " and character != "\t") or character == "\x7f" for character in value):
            return "the value of a header of it cannot be sent"
        if len(name) + len(value) > HEADER_LENGTH_MAX:
            return f"a header of it has more than {HEADER_LENGTH_MAX} characters"
    return ""
