"""Where an upstream is: its address, its TLS, and the head of a request to it.

Owns: the reading of a `base_url`, opening a connection, a request's line and `Host`.
Does not know: what is said on a connection.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import TypeVar

from yarl import URL

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class Endpoint:
    """One upstream's address."""

    def __init__(self, base_url: str, *, verify_tls: bool) -> None:
        url = URL(base_url)
        assert url.host is not None, "the settings check that a base_url has a host"
        self._host, self._port = url.host, url.port or (443 if url.scheme == "https" else 80)
        self._tls: ssl.SSLContext | None = None
        if url.scheme == "https":
            self._tls = ssl.create_default_context()
            if not verify_tls:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE
        self._prefix = url.raw_path.rstrip("/")
        self._authority = url.authority

    def __repr__(self) -> str:
        return f"{self._host}:{self._port}"

    def head(self, method: str, path_and_query: str, fields: Iterable[tuple[str, str]], framing: str = "") -> bytes:
        """A request's head; `framing` are the fields about its body, each with its line's end."""
        line = f"{method} {self._prefix}{path_and_query} HTTP/1.1\r\nHost: {self._authority}"
        head = "\r\n".join((line, *map(": ".join, fields), framing))
        return f"{head}\r\n".encode("utf-8", "surrogateescape")

    async def connect(self, protocol: Callable[[], _P]) -> tuple[asyncio.Transport, _P]:
        """A new connection. OSError and its kind if there is none."""
        return await asyncio.get_running_loop().create_connection(protocol, self._host, self._port, ssl=self._tls)
