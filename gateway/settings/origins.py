"""What a config was read from: its files as they were then, and what stood in them.

Owns: whether a file has changed since, and what one config says that another does not, without any secret.
Does not know: what the keys mean, or when anybody looks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from glob import glob
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from gateway.settings.problems import Document, Step

#: A file at a moment: device, inode, size, time of the last change; None: it was not there.
Stamp = tuple[int, int, int, int] | None
Look = Mapping[Path, Stamp]

#: Of a secret, or of a certificate with those that vouch for it.
FILE_BYTES_MAX: Final = 64 * 1024
#: What a mapping in a list is called by, where it has a name.
_NAMES: Final = ("name", "version", "sku")
_SHOWN_MAX: Final = 80
#: Begins what stands for a secret among the facts. No text of a config has it.
_HIDDEN: Final = "\0"


def stamp_of(path: Path) -> Stamp:
    """The file as it is now, whatever leads to it: a link that leads elsewhere makes it another."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read_text(path: Path, what: str) -> str:
    """What is in a file, without white space around it. ValueError says why it cannot be had, and calls it `what`."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{what} {path} cannot be read: {error.strerror or error}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{what} {path} is too large: at most {FILE_BYTES_MAX} bytes")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{what} {path} is not UTF-8 text") from None
    if not text:
        raise ValueError(f"{what} {path} is empty")
    return text


@dataclass(frozen=True, slots=True)
class Pattern:
    """Files below a directory that are read, those that come to be there too."""

    root: Path
    text: str

    def files(self) -> list[Path]:
        """Those that are there now, as a shell finds them: what editors hide beside a file is none of them, and a link
        that leads nowhere, or a directory, is one that cannot be read.
        """
        try:
            names = glob(self.text, root_dir=self.root)  # noqa: PTH207 - that of paths finds hidden ones
        except ValueError:  # no file has such a name
            names = []
        return sorted(self.root / name for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Where a config came from. `facts` are what it says, by file and path; a secret is there as a digest."""

    read: Look = field(default_factory=dict)
    certificates: frozenset[Path] = frozenset()
    patterns: tuple[Pattern, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)

    def holding(self, contents: Mapping[Path, str]) -> "Origins":
        """The same, with these files as they are now, which hold this."""
        read = {**self.read, **{path: stamp_of(path) for path in contents}}
        facts = {**self.facts, **{str(path): _hidden(text) for path, text in contents.items()}}
        return replace(self, read=read, facts=facts)

    def look(self) -> Look:
        """The files as they are now."""
        matched = (path for pattern in self.patterns for path in pattern.files())
        return {path: stamp_of(path) for path in (*self.read, *matched)}


def changed(one: Look, other: Look) -> set[Path]:
    """The files that were not the same."""
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


def changes(old: Origins, new: Origins) -> list[str]:
    """What the new one says that the old one did not, a line for each value, as people write it."""
    found = []
    for place in sorted(old.facts.keys() | new.facts.keys()):
        was, now = old.facts.get(place), new.facts.get(place)
        if was != now:
            found.append(f"{place}: {_shown(was, now)}")
    return found


def _shown(was: str | None, now: str | None) -> str:
    if any(value is not None and value.startswith(_HIDDEN) for value in (was, now)):
        return "is new" if was is None else "is gone" if now is None else "is another"
    return f"{_short(was)} -> {_short(now)}"


def _short(value: str | None) -> str:
    if value is None:
        return "nothing"
    return value if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]}..."


class Reading:
    """The origins of a config that is being read."""

    def __init__(self) -> None:
        self._read: dict[Path, Stamp] = {}
        self._certificates: set[Path] = set()
        self._patterns: list[Pattern] = []
        self._facts: dict[str, str] = {}

    def opens(self, path: Path) -> None:
        """A file is about to be read: a change from now on is one."""
        self._read.setdefault(path, stamp_of(path))

    def held(self, path: Path, content: str, *, certificate: bool) -> None:
        """A file has held this secret, or something of a certificate's."""
        if certificate:
            self._certificates.add(path)
        self._facts[str(path)] = _hidden(content)

    def matches(self, pattern: Pattern) -> list[Path]:
        """The files that are read for a pattern."""
        self._patterns.append(pattern)
        return pattern.files()

    def says(self, document: Document) -> None:
        """A file has said this."""
        for path, secret, value in _leaves(document.data, (), document.secrets):
            self._facts[f"{document.file}: {path}"] = _hidden(value) if secret else value

    def origins(self) -> Origins:
        """All of them."""
        return Origins(
            read=dict(self._read),
            certificates=frozenset(self._certificates),
            patterns=tuple(self._patterns),
            facts=dict(self._facts),
        )


def _hidden(content: str) -> str:
    return _HIDDEN + blake2b(content.encode("utf-8", "surrogateescape")).hexdigest()


def _leaves(
    data: Any, steps: tuple[Step, ...], secrets: frozenset[str], above: str = ""
) -> Iterator[tuple[str, bool, str]]:
    """The values of a document: where each is, whether it is a secret, and as text."""
    named: Iterable[tuple[Step, str, Any]]
    if isinstance(data, dict) and data:
        named = [(key, f"{above}.{key}" if above else str(key), value) for key, value in data.items()]
    elif isinstance(data, list) and data:
        named = [(at, f"{above}[{_called(value, at)}]", value) for at, value in enumerate(data)]
    else:
        yield above, any(step in secrets for step in steps), "nothing" if data is None else str(data)
        return
    for step, text, value in named:
        yield from _leaves(value, (*steps, step), secrets, text)


def _called(value: Any, at: int) -> str:
    """A mapping in a list by its name, so that one that is put in before it changes nothing of it."""
    names = [value[key] for key in _NAMES if isinstance(value.get(key), str)] if isinstance(value, dict) else []
    return str(names[0]) if names else str(at)
