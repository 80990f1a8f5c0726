"""One transport to a Redis server: greets, then hands every reply to its owner, in order.

Owns: the transport, the reply parser, the greeting and the server's answer to it.
Does not know: commands, waiters, deadlines, whether and when to connect again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol, TypeAlias, cast

import hiredis

Part: TypeAlias = bytes | str | int

pack = cast("Callable[[tuple[Part, ...]], bytes]", hiredis.pack_command)


def pack_parts(parts: tuple[Part, ...]) -> bytes:
    """Some parts of a command, without the count that a command begins with."""
    packed = pack(parts)
    return packed[packed.index(b"$") :] if parts else b""


@lru_cache(maxsize=256)
def pack_count(count: int) -> bytes:
    """What a command of so many parts begins with."""
    return b"*%d\r\n" % count


@lru_cache(maxsize=256)
def pack_number(number: int) -> bytes:
    """A small number, packed."""
    return pack_parts((number,))


class Packed:
    """Parts that many commands have in common, packed once. `first` is the first of them."""

    __slots__ = ("count", "data", "first")

    def __init__(self, parts: Sequence[str]) -> None:
        self.count = len(parts)
        self.data = pack_parts(tuple(parts))
        self.first = parts[0] if parts else None


NOTHING: Final = Packed(())


class Owner(Protocol):
    """Who holds a connection."""

    def settle(self, connection: "Connection", reply: object) -> None:
        """The next reply, an exception for an error. Raises hiredis.ProtocolError when none was due."""
        ...

    def lost(self, connection: "Connection", why: str) -> None:
        """The connection is of no more use."""
        ...


class Gate(Protocol):
    """Asks a server something before anything else is asked of it, and may refuse it for its answers."""

    def questions(self) -> Sequence[tuple[str, ...]]:
        """The commands that are sent with the greeting."""
        ...

    def refusal(self, answers: Sequence[object]) -> str:
        """Why the server is refused; empty if it is not. Errors are answered as exceptions."""
        ...


class Connection(asyncio.Protocol):
    """One transport. `served` once a command was answered; `gone` once the transport has closed."""

    def __init__(self, owner: Owner, greeting: list[tuple[str, ...]], gate: Gate | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.refusal: asyncio.Future[str] = loop.create_future()
        """Why the server would not have us; empty when it greeted back."""
        self.gone: asyncio.Future[None] = loop.create_future()
        self.served = False
        self.transport: asyncio.Transport | None = None
        self._owner = owner
        self._reader = hiredis.Reader()
        self._gate = gate
        self._asked = () if gate is None else gate.questions()
        self._answers: list[object] = []
        self._greeting = [*greeting, *self._asked]
        self._unanswered = len(self._greeting)
        self._aborted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.write(pack(command) for command in self._greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        why = f"connection lost: {exc}" if exc else "connection closed by the server"
        self._refuse(why)
        self._owner.lost(self, why)

    def data_received(self, data: bytes) -> None:
        reader, owner = self._reader, self._owner
        try:
            reader.feed(data)
            while not self._aborted and (reply := reader.gets()) is not False:
                if self._unanswered:
                    self._greeted(reply)
                else:
                    self.served = True
                    owner.settle(self, reply)
        except hiredis.ProtocolError as error:
            why = f"not a Redis reply: {error}"
            self._refuse(why)
            owner.lost(self, why)

    def write(self, packed: Iterable[bytes]) -> None:
        assert self.transport is not None
        self.transport.write(b"".join(packed))

    def abort(self) -> None:
        self._aborted = True
        if self.transport is not None and not self.gone.done():  # asyncio's is then of no loop any more, and would fail
            self.transport.abort()

    def _greeted(self, reply: object) -> None:
        self._unanswered -= 1
        asked = self._greeting[-1 - self._unanswered]
        if self._gate is not None and self._unanswered < len(self._asked):
            self._answers.append(reply)
            if not self._unanswered:
                self._refuse(self._gate.refusal(self._answers))
        elif isinstance(reply, Exception) and not (asked[0] == "CLIENT" and str(reply).startswith("NOPERM")):
            self._refuse(f"{asked[0]} refused: {reply}")  # a name may be forbidden
        if not self._unanswered:
            self._refuse("")

    def _refuse(self, why: str) -> None:
        if not self.refusal.done():
            self.refusal.set_result(why)
