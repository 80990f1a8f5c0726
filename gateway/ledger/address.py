"""Where a Redis (or Valkey) server is and how to introduce ourselves to it.

Owns: TLS contexts, the greeting (AUTH, SELECT, CLIENT SETNAME), opening a transport.
Does not know: the URL's grammar, replies, repeats, deadlines, clusters.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from gateway.core.redis_url import DEFAULT_PORT, RedisUrl, read_redis_url

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
        said = read_redis_url(url)
        return cls(
            host=said.host,
            port=said.port,
            path=said.path,
            db=said.db,
            username=said.username,
            password=said.password,
            tls=_tls(said) if said.tls else None,
            certificate=_certificate(said),
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


def _tls(said: RedisUrl) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=said.files.get("ssl_ca_certs"))
    if (certificate := _certificate(said)) is not None:
        context.load_cert_chain(*certificate)  # a mistake is told at once, not with the first connection
    return context


def _certificate(said: RedisUrl) -> tuple[str, str | None] | None:
    return (said.files["ssl_certfile"], said.files.get("ssl_keyfile")) if "ssl_certfile" in said.files else None
