"""Which text messages of a socket are looked at: JSON objects whose type is one of a few.

Owns: telling them from all others, nearly always without parsing, and never by what a sender can bend.
Does not know: frames, sockets, what is done with a message.

A message that may be one is parsed: one in which a type stands as a JSON string, or which has an escape that could
spell it. All others cannot have such a type, whatever parser reads them.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from gateway.core.frames import INVALID_DATA, POLICY, TOO_BIG, Violation
from gateway.core.json_items import too_many_items
from gateway.core.record import record
from gateway.core.repeats import lookalike, repeats_any_name

_BACKSLASH: Final = ord("\\")
#: Of a message that is looked at. Those of four megabytes of brackets would stop everybody else for seconds.
_ITEMS_MAX: Final = 50_000


@record
class Seen:
    """A message that is looked at."""

    kind: str
    message: Mapping[str, Any]


class Kinds:
    """The messages whose field `type_field` is one of `kinds`."""

    __slots__ = ("_escapes", "_kinds", "_marks", "_type_field")

    def __init__(self, type_field: str, kinds: frozenset[str]) -> None:
        self._type_field = type_field
        self._kinds = kinds
        self._marks = tuple(map(orjson.dumps, sorted(kinds)))
        self._escapes = (b"\\u", b"\\/") if any("/" in kind for kind in kinds) else (b"\\u",)

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def may_be_in(self, text: bytes) -> bool:
        """Whether a message that is looked at may be in these bytes, of one message or of many."""
        for mark in self._marks:
            if mark in text:
                return True
        # A search for one byte costs next to nothing, and few texts have any escape.
        return _BACKSLASH in text and bool(self._kinds) and any(escape in text for escape in self._escapes)

    def of_trusted(self, text: bytes) -> Seen | None:
        """A message of a sender's that means us no harm; None if it is not looked at, or no JSON."""
        try:
            data = orjson.loads(text)
        except orjson.JSONDecodeError:
            data = _as_clients_read(text)
        return self._seen(data)

    def of_stranger(self, text: bytes) -> "Seen | Violation | None":
        """A message of anybody's that may be one: what we read in it must be what the receiver reads in it.

        So it is refused if it is no JSON to us (the receiver may be more lenient), has a name twice in an object, or
        its type under a name in another case (the receiver may not tell them apart).
        """
        if too_many_items(text, _ITEMS_MAX):
            return Violation(code=TOO_BIG, why="a JSON message with too many items")
        try:
            data = orjson.loads(text)
        except orjson.JSONDecodeError:
            return Violation(code=INVALID_DATA, why="a text message that is not JSON")
        if repeats_any_name(text):
            return Violation(code=POLICY, why="a name twice in a JSON object")
        if type(data) is dict and lookalike(self._type_field, data) is not None:
            return Violation(code=POLICY, why=f"{self._type_field} in another spelling")
        return self._seen(data)

    def _seen(self, data: Any) -> Seen | None:
        if type(data) is not dict:
            return None
        kind = data.get(self._type_field)
        return Seen(kind=kind, message=data) if type(kind) is str and kind in self._kinds else None


def _as_clients_read(text: bytes) -> Any:
    """What clients read in a text that is not quite JSON: Python's services write NaN, models half an emoji. It begins
    or ends a session all the same. None if there is nothing to read.
    """
    try:
        data = json.loads(text.decode("utf-8-sig", "replace"), strict=False, parse_constant=lambda _name: None)
        return orjson.loads(json.dumps(data, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None


@lru_cache(maxsize=64)
def kinds_of(type_field: str, kinds: frozenset[str]) -> Kinds:
    """The same as the constructor's: every session of a product shares one."""
    return Kinds(type_field, kinds)
