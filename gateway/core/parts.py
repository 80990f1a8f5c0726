"""Parts of a prompt that come to more than the bytes they have: pictures and files that stand elsewhere or are packed,
tools that the service runs, prompts that it is to keep.

Owns: how parts are named, and counting them in a request, at next to no cost where there are none.
Does not know: what they come to (usage).
"""

from collections.abc import Iterable
from typing import Any, Final

from gateway.core.extract import Field, Sources

#: The source of fields that say how many parts a request has: `part.image_url`.
SOURCE: Final = "part"
#: The name under which is told how many bytes of a request are data of its parts.
DATA_BYTES: Final = "data_bytes"
#: What is shorter may be a name or an address.
_DATA_BYTES_MIN: Final = 256
_ESCAPES: Final = (rb"\u00",)


class Parts:
    """The parts that somebody asks for. A name is the `type` of an object in the request, at whatever depth; `x*` is
    every type that begins so, and `field=text` an object whose field says that. `data` is where parts stand whose data
    is told: elsewhere a client may write what looks like a part, and a model reads it as it stands.
    """

    __slots__ = ("_beginnings", "_data", "_fields", "_said", "_texts")

    def __init__(self, names: Iterable[str], data: Iterable[Field] = ()) -> None:
        self._data = tuple(dict.fromkeys(data))
        #: By field: what it says -> the name; and what it may begin with, each with the name.
        self._said: dict[str, dict[str, str]] = {"type": {}}
        self._beginnings: dict[str, list[tuple[str, str]]] = {"type": []}
        texts = set()
        for name in sorted(set(names)):
            field, _, text = name.rpartition("=")
            said = self._said.setdefault(field or "type", {})
            beginnings = self._beginnings.setdefault(field or "type", [])
            if text[-1] == "*":
                beginnings.append((text[:-1], name))
                texts.add(f'"{text[:-1]}')
            else:
                said[text] = name
                texts.add(f'"{text}"')
        #: What a text has that has one: a field's name and what it says, where they are not written with escapes.
        self._fields = tuple(f'"{field}"'.encode() for field in self._said) + _ESCAPES
        self._texts = tuple(text.encode() for text in texts) + _ESCAPES

    def in_text(self, body: bytes) -> bool:
        """Whether a JSON text may have one."""
        return any(map(body.__contains__, self._fields)) and any(map(body.__contains__, self._texts))

    def count(self, sources: dict[str, Any]) -> None:
        """Put into the sources how many parts their request has of each; nothing, where it has none."""
        if found := self.counted(sources.get("request")):
            sources[SOURCE] = found
            if size := sum(self._data_bytes(part) for field in self._data for part in field.read_all(sources)):
                found[DATA_BYTES] = size

    def counted(self, request: Any) -> dict[str, int]:
        """How many objects there are of each, without those of which there are none."""
        found: dict[str, int] = {}
        waiting = [request]  # it may be too deep for recursion
        while waiting:
            value = waiting.pop()
            if type(value) is list:
                waiting += value
            elif type(value) is dict:
                waiting += value.values()
                for field in self._said:
                    if field in value and (name := self._name(field, value[field])) is not None:
                        found[name] = found.get(name, 0) + 1
        return found

    def _name(self, field: str, said: Any) -> str | None:
        """The part that an object is whose field says this."""
        if type(said) is not str:
            return None
        name = self._said[field].get(said)
        if name is None:
            name = next((name for text, name in self._beginnings[field] if said.startswith(text)), None)
        return name

    def _data_bytes(self, part: Any) -> int:
        """How many bytes of a part are data; none where it is no part."""
        if type(part) is not dict or self._name("type", part.get("type")) is None:
            return 0
        below = (each for value in part.values() for each in (value.values() if type(value) is dict else (value,)))
        return sum(len(each) for each in below if type(each) is str and _is_data(each))


def _is_data(text: str) -> bool:
    """Whether a text is data, by itself or as a URL, and not words or an address."""
    return len(text) >= _DATA_BYTES_MIN and text.isascii() and " " not in text


def without_data(request_bytes: int, sources: Sources) -> int:
    """The bytes of a request without the data of its parts."""
    counts = sources.get(SOURCE) or {}
    return max(0, request_bytes - int(counts.get(DATA_BYTES, 0)))


def is_name(name: str) -> bool:
    """Whether something can be of that name."""
    field, told, text = name.rpartition("=")
    return bool(field or not told) and text.removesuffix("*") != ""


def part_of(field: Field) -> str:
    """The name of the part that a field of this source counts."""
    return ".".join(map(str, field.steps))


def parts_of(names: Iterable[str], fields: Iterable[Field], data: Iterable[Field]) -> Parts | None:
    """What counts the parts of these names, and those that the fields read; None where there are none."""
    asked = {*names, *(part_of(field) for field in fields if field.source == SOURCE)}
    return Parts(filter(is_name, asked), data) if asked else None
