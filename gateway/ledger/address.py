"""Where a Redis (or Valkey) server is and how to introduce ourselves to it: the reading of a URL.

Owns: the URL's grammar, TLS contexts, the greeting (AUTH, SELECT, CLIENT SETNAME), opening a transport.
Does not know: replies, repeats, deadlines, clusters.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

DEFAULT_PORT: Final = 6379
CLIENT_NAME: Final = "gateway"
# A peer that vanished without a word (a NAT that forgot us, a machine that lost power) is noticed while idle.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One server. `path` is a unix socket's path and empty over TCP; the password never shows in `repr`."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    certificate: tuple[str, str | None] | None = field(default=None, repr=False)
    """The files with ours and its key, where the server asks for it."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `redis://[user:pass@]host[:port][/db]`, `rediss://...` or `unix:///path.sock`, each with `?db=0`.

        `rediss` takes `?ssl_ca_certs=path` (PEM file) in place of the system's authorities, and for a server that asks
        its clients who they are `ssl_certfile=path` and `ssl_keyfile=path`, or one file with both.
        Raises ValueError, never naming the password, when the URL cannot be read; OSError when a PEM cannot.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise ValueError(f"redis url: scheme {parts.scheme!r} is not one of redis, rediss, unix")
        options = _options(parts)
        return cls(
            host="" if parts.scheme == "unix" else parts.hostname or "localhost",
            port=_port(parts),
            path=_socket_path(parts) if parts.scheme == "unix" else "",
            db=_db(parts, options.get("db", "")),
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            tls=_tls(options) if parts.scheme == "rediss" else None,
            certificate=_certificate(options),
        )

    @property
    def where(self) -> str:
        """The address as a person may read it: no user, no password."""
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"

    def greeting(self) -> list[tuple[str, ...]]:
        """Commands to send first on a new connection. The last one is the name, which an ACL may forbid."""
        commands: list[tuple[str, ...]] = []
        if self.username:
            commands.append(("AUTH", self.username, self.password))
        elif self.password:
            commands.append(("AUTH", self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        commands.append(("CLIENT", "SETNAME", CLIENT_NAME))
        return commands

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Open a transport and give it to `protocol`. Raises OSError; bounded by the caller's timeout."""
        loop = asyncio.get_running_loop()
        if self.tls is not None and self.certificate is not None:
            self.tls.load_cert_chain(*self.certificate)  # it may have been renewed since the last connection
        if self.path:
            await loop.create_unix_connection(protocol, self.path)
            return
        transport, _ = await loop.create_connection(protocol, self.host, self.port, ssl=self.tls)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _options(parts: SplitResult) -> dict[str, str]:
    """The query, refusing what we would otherwise silently not do."""
    known = {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"} if parts.scheme == "rediss" else {"db"}
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - known:
        raise ValueError(f"redis url: {parts.scheme} does not take {', '.join(sorted(unknown))}")
    return options


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if (certificate := _certificate(options)) is not None:
        context.load_cert_chain(*certificate)  # a mistake is told at once, not with the first connection
    return context


def _certificate(options: dict[str, str]) -> tuple[str, str | None] | None:
    if "ssl_certfile" not in options and "ssl_keyfile" in options:
        raise ValueError("redis url: ssl_keyfile goes with ssl_certfile")
    return (options["ssl_certfile"], options.get("ssl_keyfile")) if "ssl_certfile" in options else None


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or DEFAULT_PORT
    except ValueError:
        # urllib's own message quotes what may be a piece of an unescaped password.
        raise ValueError("redis url: the port is not a number (escape / ? # @ : in a password)") from None


def _socket_path(parts: SplitResult) -> str:
    if not parts.path:
        raise ValueError("redis url: unix needs the path of a socket: unix:///run/redis.sock")
    return unquote(parts.path)


def _db(parts: SplitResult, option: str) -> int:
    text = option if parts.scheme == "unix" or option else parts.path.removeprefix("/")
    if not text:
        return 0
    if not text.isdecimal():
        raise ValueError("redis url: the database is not a number")
    return int(text)
