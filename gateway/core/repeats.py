"""JSON objects that have a name twice, which two parsers read differently.

Owns: finding them, at next to no cost where there are none.
Does not know: what is done about it.
"""

import json
from functools import lru_cache
from typing import Any, Final

_NAME_MAX: Final = 64  # longer names are not remembered


def repeats_a_name(body: bytes, data: dict[str, Any]) -> bool:
    """Whether a name that stands at the top of the body stands twice in an object: what we judged by it would not be
    what another parser reads.

    The count of each name at the top settles nearly every body; only a suspicion is looked into.
    """
    quote = _quoted if max(map(len, data), default=0) <= _NAME_MAX else _quoted.__wrapped__
    suspicious = b"\\u" in body or max(map(body.count, map(quote, data)), default=0) > 1
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


@lru_cache(maxsize=4096)
def _quoted(name: str) -> bytes:
    return b'"%b"' % name.encode()


class _RepeatedName(Exception):
    """An object has a name twice."""
