"""Commands on their way into a cluster: to their slot's owner, or to the server that is taking the slot over.

Owns: how each kind is sent to one server, and that a script meets a whole slot.
Does not know: who owns a slot, or where a redirection leads (cluster).

While a slot moves key by key, a server checks only the keys that a script names: one that writes others would find them
gone, and make them anew beside those that have left. So each script also names a key that never exists. A server that
has not all of the keys named answers TRYAGAIN while the slot moves, and asks nothing of the sort at any other time.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.ledger.connection import Packed, Part
from gateway.ledger.link import Reply, Script
from gateway.ledger.single import SingleLink


class Request(Protocol):
    """A command on its way: to its slot's owner, or with ASKING to the server that is taking the slot over."""

    @property
    def slot(self) -> int | None: ...

    def send(self, node: SingleLink) -> Awaitable[Reply]: ...

    def ask(self, node: SingleLink) -> Awaitable[Reply]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A command of Redis's own."""

    slot: int | None
    parts: tuple[Part, ...]

    def send(self, node: SingleLink) -> Awaitable[Reply]:
        return node.call(*self.parts)

    def ask(self, node: SingleLink) -> Awaitable[Reply]:
        return node.call(*self.parts)


@dataclass(frozen=True, slots=True)
class Run:
    """A script."""

    slot: int | None
    script: Script
    keys: Sequence[str]
    args: Sequence[Part]
    first_keys: Packed
    last_args: Packed

    def send(self, node: SingleLink) -> Awaitable[Reply]:
        return self._run(node, by_source=False)

    def ask(self, node: SingleLink) -> Awaitable[Reply]:
        # By source: ASKING holds for one command, and NOSCRIPT would use it up.
        return self._run(node, by_source=True)

    def _run(self, node: SingleLink, *, by_source: bool) -> Awaitable[Reply]:
        return node.run(
            self.script, self.keys, self.args,
            first_keys=self.first_keys, last_args=self.last_args, by_source=by_source,
        )  # fmt: skip


def whole(script: Script) -> Script:
    """The script as it is sent to a cluster: it does not see the last of its keys."""
    flags, body = "", script.source
    if body.startswith("#!"):
        flags, _, body = body.partition("\n")
        flags += "\n"
    return Script(script.name, f"{flags}KEYS[#KEYS] = nil {body}")


async def ask(request: Request, node: SingleLink) -> Reply:
    """ASKING and the command, side by side on one connection."""
    _, reply = await asyncio.gather(node.call("ASKING"), request.ask(node))
    return reply
