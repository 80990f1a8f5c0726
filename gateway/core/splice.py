"""One field of a JSON text set or taken out, and every other byte left as it was.

Owns: where the members of an object stand in its text.
Does not know: whether the text is JSON: only texts that a parser has taken, and in which no name stands twice.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import orjson

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{}:,]', re.DOTALL)
_SPACE: Final = b" \t\r\n"


def with_field(text: bytes, data: Any, path: Sequence[str], value: Any) -> bytes | None:
    """The object's text with the field at `path` set. `data` is what the text says.

    Objects on the way that are absent or null are made. None where something else is in the way: there is no such
    field then.
    """
    if type(data) is not dict:
        return None
    name, *below = path
    old = data.get(name)
    if below and type(old) is dict:
        start, end = _span(text, name)
        inner = with_field(text[start:end], old, below, value)
        return None if inner is None else text[:start] + inner + text[end:]
    if below and old is not None:
        return None
    for step in reversed(below):
        value = {step: value}
    if name in data:
        start, end = _span(text, name)
        return text[:start] + orjson.dumps(value) + text[end:]
    at = text.rindex(b"}")
    comma = b"," if data else b""
    return text[:at] + comma + orjson.dumps(name) + b":" + orjson.dumps(value) + text[at:]


def without_field(text: bytes, data: Any, name: str) -> bytes:
    """The object's text without one of its members, if it has it. `data` is what the text says."""
    if type(data) is not dict or name not in data:
        return text
    start, end = _span(text, name, whole=True)
    before, after = text[:start].rstrip(_SPACE), text[end:].lstrip(_SPACE)
    if after.startswith(b","):
        return text[:start] + after[1:].lstrip(_SPACE)
    return (before[:-1] if before.endswith(b",") else before) + text[end:]


def _span(text: bytes, name: str, *, whole: bool = False) -> tuple[int, int]:
    """Where the value of a member of the object stands; `whole`: where its name stands with it."""
    depth, start, key, named = 0, -1, b"", 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if depth == 1 and start >= 0 and sign in (b",", b"}"):
            return named if whole else start, start + len(text[start : token.start()].rstrip(_SPACE))
        if sign in (b"{", b"["):
            depth += 1
        elif sign in (b"}", b"]"):
            depth -= 1
        elif depth != 1:
            continue
        elif sign == b":":
            if orjson.loads(key) == name:
                rest = text[token.end() :]
                start = token.end() + len(rest) - len(rest.lstrip(_SPACE))
        elif start < 0:
            key, named = sign, token.start()
    raise AssertionError(f"the object has no member {name!r}")
