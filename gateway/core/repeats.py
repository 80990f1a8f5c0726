"""JSON objects that have a name twice, or almost, which two parsers read differently.

Owns: finding them, at next to no cost where there are none.
Does not know: what is done about it.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

_ESCAPED: Final = re.compile(r'["/\\\x00-\x1f]')
_COUNTED_MAX: Final = 100  # a look through the whole body for each
_NAMES_MAX: Final = 1024  # characters of all names of an object; longer ones are not remembered


def repeats_a_name(body: bytes, data: dict[str, Any]) -> bool:
    """Whether a name that stands at the top of the body stands twice in an object: what we judged by it would not be
    what another parser reads.

    The count of each name at the top settles nearly every body; only a suspicion is looked into.
    """
    names = tuple(data)
    if len(names) > _COUNTED_MAX:
        return repeats_any_name(body)
    quoted = (_quoted if sum(map(len, names)) <= _NAMES_MAX else _quoted.__wrapped__)(names)
    suspicious = quoted is None or body.find(b"\\u") >= 0 or max(map(body.count, quoted), default=0) > 1
    return suspicious and repeats_any_name(body)


def repeats_any_name(body: bytes) -> bool:
    """Whether an object at any depth has a name twice. What cannot be read is taken for one that has."""

    def judge(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _RepeatedName
        return found

    try:
        json.loads(body, object_pairs_hook=judge)
    except (_RepeatedName, ValueError, RecursionError):
        return True
    return False


def lookalike(name: str, names: Iterable[str]) -> str | None:
    """One of the names that a parser which does not tell upper from lower case would read as `name`."""
    plain = name.islower()  # then one in small letters is itself, or another
    for other in names:
        if (
            other != name
            and not (plain and other.islower() and other.isascii())
            and other.casefold() == name.casefold()
        ):
            return other
    return None


@lru_cache(maxsize=4096)
def _quoted(names: tuple[str, ...]) -> tuple[bytes, ...] | None:
    """As they stand in a text; None where one may be written in several ways."""
    if any(_ESCAPED.search(name) for name in names):
        return None
    return tuple(b'"%b"' % name.encode() for name in names)


class _RepeatedName(Exception):
    """An object has a name twice."""
