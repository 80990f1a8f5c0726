"""Parts of a prompt that come to more than the bytes they have: pictures and files that stand elsewhere or are packed,
tools that the service runs, prompts that it is to keep.

Owns: how parts are named, and counting them in a request, at next to no cost where there are none.
Does not know: what they come to (usage).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.core.extract import Field

#: The source of fields that say how many parts a request has: `part.image_url`.
SOURCE: Final = "part"
_ESCAPES: Final = (rb"\u00",)


class Parts:
    """The parts that somebody asks for. A name is the `type` of an object in the request, at whatever depth; `x*` is
    every type that begins so, and `field=text` an object whose field says that.
    """

    __slots__ = ("_by_field", "_fields", "_texts")

    def __init__(self, names: Iterable[str]) -> None:
        self._by_field: dict[str, list[tuple[str, str]]] = {}
        texts = set()
        for name in sorted(set(names)):
            field, _, text = name.rpartition("=")
            self._by_field.setdefault(field or "type", []).append((text, name))
            texts.add(f'"{text[:-1]}' if text[-1] == "*" else f'"{text}"')
        #: What a text has that has one: a field's name and what it says, where they are not written with escapes.
        self._fields = tuple(f'"{field}"'.encode() for field in self._by_field) + _ESCAPES
        self._texts = tuple(text.encode() for text in texts) + _ESCAPES

    def in_text(self, body: bytes) -> bool:
        """Whether a JSON text may have one."""
        return any(map(body.__contains__, self._fields)) and any(map(body.__contains__, self._texts))

    def count(self, request: Any, sources: dict[str, Any]) -> None:
        """Put into the sources how many parts a request has of each; nothing, where it has none."""
        if found := self.counted(request):
            sources[SOURCE] = found

    def counted(self, request: Any) -> Mapping[str, int]:
        """How many objects there are of each, without those of which there are none."""
        found: dict[str, int] = {}
        waiting = [request]  # it may be too deep for recursion
        while waiting:
            value = waiting.pop()
            if type(value) is list:
                waiting += value
            elif type(value) is dict:
                waiting += value.values()
                for field, named in self._by_field.items():
                    if type(said := value.get(field)) is str:
                        for text, name in named:
                            if said == text or (text[-1] == "*" and said.startswith(text[:-1])):
                                found[name] = found.get(name, 0) + 1
        return found


def parts_of(names: Iterable[str], fields: Iterable[Field]) -> Parts | None:
    """What counts the parts of these names, and those that the fields read; None where there are none."""
    asked = {*names, *(".".join(map(str, field.steps)) for field in fields if field.source == SOURCE)}
    return Parts(asked) if asked else None
