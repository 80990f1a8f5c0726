"""What is wrong with the config, as values: where, and what to do about it.

Owns: the shape and the rendering of problems, places in files, "did you mean".
Does not know: what is checked.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

#: So many valid names are listed where none is near.
NAMES_SHOWN_MAX: Final = 12
#: So much is shown of a source line: what does not fit into a terminal shows nothing.
_SOURCE_MAX: Final = 200

#: A URL with a password in it, at whatever key.
_PASSWORD: Final = re.compile(r"://[^/\s@]*:[^/\s]*@")

Step = str | int
Path = tuple[Step, ...]


class Position(NamedTuple):
    """A place in a text; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `path` is the dotted path of the key; `source` the file's line, if it may be shown."""

    file: str
    line: int
    column: int
    path: str
    message: str
    source: str = field(default="", compare=False)

    def render(self) -> str:
        """`file:line:column: path: message`, then the source line with a caret under the place."""
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        said = f"{self.path}: {self.message}" if self.path else self.message
        if not self.source.strip():
            return where + said
        first = max(0, self.column - _SOURCE_MAX) if len(self.source) > _SOURCE_MAX else 0
        shown = self.source[first : first + _SOURCE_MAX]
        blank = "".join("\t" if character == "\t" else " " for character in shown[: self.column - 1 - first])
        return f"{where}{said}\n    {shown}\n    {blank}^"


class SettingsError(Exception):
    """The config cannot be used. Carries every problem that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda found: (found.file, found.line, found.column)))
        super().__init__(self.render())

    def render(self) -> str:
        """Every problem, and how many there are."""
        count = len(self.problems)
        total = "1 problem" if count == 1 else f"{count} problems"
        return "\n".join([*(problem.render() for problem in self.problems), f"{total} in the config"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One YAML file as plain data, and where each key and value of it stands.

    `keys` and `values` have an entry for every path. Lines with one of the keys in `secrets` are never shown.
    """

    file: str
    lines: tuple[str, ...]
    data: Any
    keys: Mapping[Path, Position]
    values: Mapping[Path, Position]
    secrets: frozenset[str] = frozenset()

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """A problem at the value of a path, or at its key; at what is above it where the path is not in the file."""
        while path and path not in self.values and not (at_key and path in self.keys):
            path = path[:-1]
        found = (self.keys.get(path) if at_key else None) or self.values.get(path) or Position(1, 1)
        secret = any(step in self.secrets for step in path)
        source = "" if secret else shown_line(self.lines, found.line, self.secrets)
        return Problem(self.file, found.line, found.column, dotted(path), message, source)


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a document, to say where something is and to go on from there."""

    document: Document
    path: Path = ()

    def at(self, *steps: Step) -> "Place":
        """The place further down."""
        return Place(self.document, (*self.path, *steps))

    def __str__(self) -> str:
        position = self.document.values.get(self.path) or Position(1, 1)
        return f"{self.document.file}:{position.line}"


@dataclass(slots=True)
class Report:
    """Collects problems, each once."""

    problems: dict[Problem, None] = field(default_factory=dict)

    def add(self, place: Place, message: str, *, at_key: bool = False) -> None:
        """Note a problem."""
        self.problems[place.document.problem(place.path, message, at_key=at_key)] = None

    def has_below(self, place: Place) -> bool:
        """Whether there is a problem at the place or anywhere below it."""
        file, above = place.document.file, dotted(place.path)
        return any(
            found.file == file
            and (not above or found.path == above or found.path.startswith((f"{above}.", f"{above}[")))
            for found in self.problems
        )


def shown_line(lines: Sequence[str], line: int, secrets: Collection[str]) -> str:
    """A line of a file, or nothing where it has a secret in it."""
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    return "" if _PASSWORD.search(text) or any(re.search(rf"\b{name}\b\W*:", text) for name in secrets) else text


def dotted(path: Path) -> str:
    """A path for people: `routes[2].charges[0].sku`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: `; did you mean "x"?`, or what there is."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    if not names:
        return "; there are none"
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    return f"; there are: {shown}{', ...' if len(names) > NAMES_SHOWN_MAX else ''}"
