"""Fields of a request, a reply or a job's record, read by compiled paths.

Owns: the syntax of a field reference (`reply.usage.prompt_tokens`), and what "reported" means.
Does not know: what a field is used for. Never raises on what a client or an upstream sent.

A source is plain JSON data (or a mapping of headers). A path step is a key, or a list index, or `*` for every
element of a list. Null and absent are "not reported"; zero and false are reports.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SOURCES: Final = (
    "request",
    "request_header",
    "query",
    "path",
    "reply",
    "reply_header",
    "job",
    "frame",
    "resource",
    "part",
)
REPLY_SOURCES: Final = frozenset({"reply", "reply_header", "frame"})

#: Sources of plain JSON data: objects are dicts.
_JSON_SOURCES: Final = frozenset({"request", "reply", "job", "frame", "resource", "part"})
_NOTHING: Final[Mapping[str, Any]] = {}

#: What a call has shown so far: source name -> its data. A source that is missing reports nothing.
Sources = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A compiled reference: the source's name and the steps of the path within it."""

    source: str
    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> "Field":
        """Compile `source.step.step`; ValueError names what is wrong."""
        source, _, rest = text.partition(".")
        if source not in SOURCES:
            raise ValueError(f"a field starts with one of {', '.join(SOURCES)}, not with {source!r}")
        if not rest:
            raise ValueError(f"name the field of the {source}, like {source}.id")
        if source.endswith("_header") or source == "query":
            return cls(source, (rest.lower() if source.endswith("_header") else rest,))
        steps = rest.split(".")
        if not all(steps):
            raise ValueError(f"{text!r} has an empty step")
        return cls(source, tuple(int(step) if step.isascii() and step.isdigit() else step for step in steps))

    def read(self, sources: Sources) -> Any:
        """The value, or None where nothing is reported. `*` steps are for `read_all`."""
        value = sources.get(self.source)
        for step in self.steps:
            if type(value) is dict:
                value = value.get(step)
            elif value is None:
                return None
            elif isinstance(value, Mapping):
                value = value.get(step)
            elif type(value) is list and type(step) is int and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def read_all(self, sources: Sources) -> list[Any]:
        """Every value that the path leads to; a list at its end counts as its elements."""
        if "*" not in self.steps:
            value = first_reported((self,), sources)
            return [each for each in (value if type(value) is list else [value]) if each is not None]
        root = sources.get(self.source)
        if type(root) is dict and self.steps[0] != "*" and self.steps[0] not in root:
            return []
        values: list[Any] = [sources.get(self.source)]
        for step in (*self.steps, "*"):
            found: list[Any] = []
            for value in values:
                if step == "*":
                    found += value if type(value) is list else [value]
                elif isinstance(value, Mapping):
                    found.append(value.get(step))
                elif type(value) is list and type(step) is int and step < len(value):
                    found.append(value[step])
            values = found
        return [value for value in values if value is not None]

    def __str__(self) -> str:
        return ".".join((self.source, *map(str, self.steps)))


def first_reported(fields: Sequence[Field], sources: Sources) -> Any:
    """The value of the first field that is reported, or None."""
    for field in fields:
        value = sources.get(field.source)
        for step in field.steps:
            if type(value) is not dict:
                if value is not None:
                    value = field.read(sources)  # lists and headers are rarer: the long way
                break
            value = value.get(step)
        if value is not None:
            return value
    return None


def id_of(value: Any) -> str | None:
    """The id that a service gave something, as it stands in paths: text, or a whole number; None for what is none."""
    if type(value) is int:
        return str(value)
    return value if type(value) is str and value else None


class Places:
    """Where many fields stand, so that all are read at once: an object that several of them are in is found once.

    `of` takes groups of fields; `read` gives the first reported value of each group, as `first_reported` would.
    """

    __slots__ = ("_groups", "_objects")

    def __init__(self, objects: Sequence[tuple[int, str]], groups: Sequence[tuple[Any, ...]]) -> None:
        self._objects = tuple(objects)  # the index of the object that it is in, and its name there; 0 is the sources
        self._groups = tuple(groups)  # each: fields one by one, or (index of the object, name) pairs

    @classmethod
    def of(cls, groups: Sequence[Sequence[Field]]) -> "Places":
        """Work out the places of groups of fields."""
        indexes: dict[tuple[str, ...], int] = {(): 0}
        objects: list[tuple[int, str]] = []

        def index_of(path: tuple[str, ...]) -> int:
            if path not in indexes:
                objects.append((index_of(path[:-1]), path[-1]))
                indexes[path] = len(objects)
            return indexes[path]

        made: list[tuple[Any, ...]] = []
        for fields in groups:
            paths = [path for field in fields if (path := plain_path(field)) is not None]
            if len(paths) < len(fields):
                made.append(((None, tuple(fields)),))
            else:
                made.append(tuple((index_of(path[:-1]), path[-1]) for path in paths))
        return cls(objects, made)

    def read(self, sources: Sources) -> list[Any]:
        """The first reported value of each group, or None."""
        objects: list[Any] = [sources]
        for parent, name in self._objects:
            value = objects[parent].get(name)
            objects.append(value if type(value) is dict else _NOTHING)
        values: list[Any] = []
        for group in self._groups:
            value = None
            for index, name in group:
                if index is None:
                    value = first_reported(name, sources)
                elif (value := objects[index].get(name)) is None:
                    continue
                break
            values.append(value)
        return values


def plain_path(field: Field) -> tuple[str, ...] | None:
    """The names that lead to a field through JSON objects alone, its source first; None where the way is another."""
    if field.source not in _JSON_SOURCES or any(type(step) is not str or step == "*" for step in field.steps):
        return None
    return (field.source, *map(str, field.steps))


def fields_on(value: Any, known: Mapping[str, Any], prefix: str = "") -> str | None:
    """The dotted path of a field that is switched on but not known, or None.

    `known` is a tree of names: an empty branch knows everything below it, and `*` is every element of a list. Off is
    null, false, "" and an empty list; an empty object may switch something on with its defaults. What is neither object
    nor list, where only fields of one are known, is not known.
    """
    if type(value) is list:
        below = known.get("*", known)
        for number, each in enumerate(value):
            if type(each) is list:  # a list within a list may be of any depth, and nothing in it is known
                return f"{prefix}{number}"
            if below and (found := fields_on(each, below, f"{prefix}{number}.")) is not None:
                return found
        return None
    if type(value) is not dict:
        return None if is_off(value) else prefix[:-1] or None
    for name, below in value.items():
        branch = known.get(name)
        if branch is None:
            if is_off(below):
                continue
            return f"{prefix}{name}"
        if branch and (found := fields_on(below, branch, f"{prefix}{name}.")) is not None:
            return found
    return None


def is_off(value: Any) -> bool:
    """Whether a value switches nothing on."""
    return value is None or value is False or value in ("", [])


def known_tree(paths: Sequence[str]) -> dict[str, Any]:
    """Dotted paths as the tree that `fields_on` takes. Below a path only what other paths name is known, if any do."""
    tree: dict[str, Any] = {}
    for path in paths:
        branch = tree
        for name in path.split("."):
            branch = branch.setdefault(name, {})
    return tree
