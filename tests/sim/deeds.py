"""What the server does and what it stores then, as the auditor sees them.

Owns: a command, a deed (a command that was done, at its time), an entry, what stands after a deed, a violation, the
shape of a law. Does not know: the scripts, or the ledger's own records.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.ledger.connection import Part
from gateway.ledger.link import RedisLink, Reply

SEP = "\x1f"


@dataclass(frozen=True, eq=False)
class Command:
    """What is asked of the server; `send` asks. KEYS 7 on and ARGV 2 on are called as in the scripts' headers."""

    verb: str
    account: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    send: Callable[[RedisLink], Awaitable[Reply]] = field(repr=False)

    def key(self, number: int) -> str:
        """A script's KEYS[number]."""
        return self.keys[number - 7]

    def arg(self, number: int) -> str:
        """A script's ARGV[number]."""
        return self.args[number - 2]

    def names(self, name: str) -> bool:
        """Whether it is about this hold, operation or job."""
        return any(name in text for text in (*self.keys, *self.args))

    def __str__(self) -> str:
        words = " ".join(word if len(word) <= 40 else f"{word[:37]}..." for word in self.args if word)
        return f"{self.verb} {self.account} {words}".replace(SEP, "|")


@dataclass(frozen=True, eq=False)
class Deed:
    """A command that the server did, and when."""

    at_ms: int
    command: Command


@dataclass(frozen=True)
class Entry:
    """One line of an account's ledger."""

    id: str
    kind: str
    amount: int
    balance: int
    operation: str
    at_ms: int
    late: bool
    data: dict[str, Any]


@dataclass(frozen=True)
class Hold:
    """One open hold."""

    amount: int
    key_id: str
    place: str
    price_version: str
    job: str  # kind:id, or nothing


@dataclass(frozen=True)
class Seen:
    """What the server stores of one account after a deed."""

    now_ms: int
    facts: dict[str, str]
    holds: dict[str, Hold]
    grants: dict[str, str]
    key: dict[str, str]
    usage: dict[str, str]
    volume: dict[str, str]
    autopay: dict[str, str]
    posts: set[str]
    outbox: dict[str, int]
    dead: dict[str, int]
    queue: dict[str, int]
    submitting: dict[str, int]
    entries: list[Entry]


class Violation(AssertionError):
    """Something that must always hold does not. `rule` says what, without the figures; `about` names a hold or such."""

    def __init__(self, account: str, rule: str, figures: object = "", *, about: str = "") -> None:
        super().__init__(f"{account}: {rule}: {figures}")
        self.account, self.rule, self.about = account, rule, about


class Broken(Exception):
    """A law's word for a violation: the rule, and the figures."""


class Law:
    """Something that must hold of one account. It learns of each deed in this order."""

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """A deed was done and answered so; the tag and the number of ended holds are left out of the reply."""

    def entered(self, entry: Entry) -> None:
        """The deed wrote this entry."""

    def stands(self, seen: Seen) -> None:
        """So everything stands after it. Raises Broken."""

    def reckon(self) -> None:
        """The history is over, and whole. Raises Broken."""


def words(parts: Sequence[Part]) -> tuple[str, ...]:
    """Parts of a command as text."""
    return tuple(part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in parts)


def pairs(flat: Sequence[bytes]) -> dict[str, str]:
    """Names and values in turn, as text."""
    return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}


def entry(line: Sequence[Any]) -> Entry:
    """An entry as XRANGE answers it."""
    its = pairs(line[1])
    return Entry(
        id=line[0].decode(), kind=its["kind"], amount=int(its["amount"]), balance=int(its["balance"]),
        operation=its["operation"], at_ms=int(its["at"]), late=its["late"] == "1", data=json.loads(its["data"]),
    )  # fmt: skip


def hold(record: str) -> Hold:
    """A hold's record."""
    _, amount, key_id, place, _, _, _, _, _, _, version, *job = record.split(SEP)
    return Hold(amount=int(amount), key_id=key_id, place=place, price_version=version, job=":".join(job))
