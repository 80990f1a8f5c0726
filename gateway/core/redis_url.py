"""What the URL of one Redis (or Valkey) server says, as text.

Owns: the grammar, and what is said of a mistake, never naming the password.
Does not know: files, connections, what clusters and sentinels add.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

DEFAULT_PORT: Final = 6379
_FILES: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """The parts. `path` is a unix socket's path and empty over TCP; `files` are those in PEM, by their options."""

    host: str
    port: int
    path: str
    db: int
    username: str
    password: str = field(repr=False)
    tls: bool
    files: Mapping[str, str]


def read_redis_url(url: str) -> RedisUrl:
    """The URL, read; ValueError says why it cannot be."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"redis url: scheme {parts.scheme!r} is not one of redis, rediss, unix")
    options = _options(parts)
    return RedisUrl(
        host="" if parts.scheme == "unix" else parts.hostname or "localhost",
        port=_port(parts),
        path=_socket_path(parts) if parts.scheme == "unix" else "",
        db=_db(parts, options.get("db", "")),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
        files={name: path for name, path in options.items() if name in _FILES},
    )


def _options(parts: SplitResult) -> dict[str, str]:
    """The query, refusing what we would otherwise silently not do."""
    known = {"db", *_FILES} if parts.scheme == "rediss" else {"db"}
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - known:
        raise ValueError(f"redis url: {parts.scheme} does not take {', '.join(sorted(unknown))}")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("redis url: ssl_keyfile goes with ssl_certfile")
    return options


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
