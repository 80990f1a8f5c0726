"""The way to Redis (or Valkey), as a promise: one command or one script, and its reply.

Owns: what is asked and answered, what may go wrong, the bounds of waiting.
Does not know: what the commands mean, how many servers there are (single, sentinel, cluster). It relies on one promise
of its callers: **every command is safe to repeat** (mutations carry operation ids), because a command whose reply was
lost is sent again.
"""

import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from gateway.ledger.connection import NOTHING, Packed, Part, pack_parts

Reply: TypeAlias = "bytes | int | list[Reply] | None"
State: TypeAlias = Literal["closed", "connecting", "up", "down"]


class LinkError(Exception):
    """A command was not done, or nobody knows. `code` is the server's own error word, empty when it said none."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class LinkDown(LinkError):
    """The server was not reached, did not answer by the deadline, or said that it cannot serve now."""


class CommandError(LinkError):
    """The server answered an error; its text is the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Where the server is, and the bounds of waiting for it. The URL may hold a password: it is not in `repr`."""

    url: str = field(repr=False)
    connect_seconds_max: float = 1.0
    command_seconds_max: float = 2.0
    """Deadline of one command, repeats included."""
    pending_max: int = 20_000
    """Commands in flight; one more is LinkDown at once."""
    down_seconds: float = 0.5
    """Pause between two attempts to connect. From a failed one to one that succeeds, commands are LinkDown at once."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, which servers keep under its SHA-1."""

    name: str
    source: str = field(repr=False)
    sha1: str = field(init=False)
    by_sha1: bytes = field(init=False, repr=False)
    """EVALSHA and the SHA-1, packed."""

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha1", digest)
        object.__setattr__(self, "by_sha1", pack_parts(("EVALSHA", digest)))


class RedisLink(Protocol):
    """A way to one server or to a cluster. Commands are sent in order of calls, at the latest when awaited."""

    @property
    def state(self) -> State:
        """`up` when every server needed is connected."""
        ...

    @property
    def nodes(self) -> Sequence["RedisLink"]:
        """One link per server that holds data, for what must be asked of each (SCAN, FLUSHALL, INFO)."""
        ...

    @property
    def is_cluster(self) -> bool:
        """Whether keys are on several servers."""
        ...

    def where_is(self, key: str) -> str | None:
        """The server that is asked for a key, as far as is known; None where there is only one."""
        ...

    async def open(self) -> None:
        """Connect. Raises LinkDown when that failed; the link then goes on trying until `close`."""
        ...

    async def close(self) -> None:
        """Disconnect; commands in flight are LinkDown."""
        ...

    async def confirm(self, *, within_seconds: float = 0.0) -> None:
        """Something is not there that was: ask whether this still is the server that it was. LinkDown if it is not.

        It need not be asked if that was found so lately.
        """
        ...

    def call(self, *parts: Part) -> Awaitable[Reply]:
        """Do one command. Awaiting raises CommandError or LinkDown."""
        ...

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Part],
        *,
        first_keys: Packed = NOTHING,
        last_args: Packed = NOTHING,
    ) -> Awaitable[Reply]:
        """Do one script by its SHA-1, by its source where the server does not have it. Raises as `call` does."""
        ...
