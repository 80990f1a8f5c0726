"""A lock file of requirements, read. Does not know: what is done with it."""

import re
from dataclasses import dataclass
from typing import Final

_PACKAGE: Final = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", re.IGNORECASE)
_HASH: Final = re.compile(r"^\s+--hash=sha256:([0-9a-f]{64})\b")


@dataclass(frozen=True)
class Locked:
    """A package: its version, and the SHA-256 of each of its files."""

    version: str
    hashes: tuple[str, ...]


def locked(text: str) -> dict[str, Locked]:
    """The packages by their normal names. ValueError for a line that is none of what such a file has."""
    found: dict[str, Locked] = {}
    name = ""
    for line in text.splitlines():
        if (package := _PACKAGE.match(line)) is not None:
            name = re.sub(r"[-_.]+", "-", package[1]).lower()
            found[name] = Locked(package[2], ())
        elif (digest := _HASH.match(line)) is not None and name:
            found[name] = Locked(found[name].version, (*found[name].hashes, digest[1]))
        elif line.strip() and not line.lstrip().startswith("#"):
            raise ValueError(f"no line of a lock: {line.strip()[:80]!r}")
    return found
