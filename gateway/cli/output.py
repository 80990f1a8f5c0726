"""What the command line prints: tables for people, JSON for programs, failures for both.

Owns: layout, exit codes. Does not know: what the words mean.

Exit codes: 0 done; 1 not done, and the message says why; 2 the ledger cannot be reached, or the command was misspelt.
"""

from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

import click
import orjson

EXIT_REFUSED: Final = 1
EXIT_UNREACHABLE: Final = 2
_RIGHT: Final = frozenset(
    {"amount", "remaining", "balance", "held", "available", "spent", "budget", "priority", "debt"}
)


class Failure(click.ClickException):
    """A command that could not do its work. `facts` are told beside the message with `--json`."""

    exit_code = EXIT_REFUSED

    def __init__(self, message: str, *, code: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts or {}
        self.as_json = False

    def show(self, file: IO[Any] | None = None) -> None:
        """To standard error; as JSON if that was asked for."""
        if self.as_json:
            click.echo(json_text({"error": self.code, "detail": self.message, **self.facts}), file=file, err=True)
        else:
            click.echo(self.message, file=file, err=True)


class Unreachable(Failure):
    """The ledger cannot be reached: nothing was done, or nothing is known of the outcome."""

    exit_code = EXIT_UNREACHABLE


def json_text(data: Any) -> str:
    """Data as JSON, indented for people who look at it all the same."""
    return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()


def json_line(data: Any) -> str:
    """Data as JSON on one line."""
    return orjson.dumps(data).decode()


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str = "none") -> str:
    """Columns as wide as they need to be, amounts to the right."""
    if not rows:
        return empty
    lines = [[header.upper() for header in headers], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    aligned = [
        [
            text.rjust(width) if header in _RIGHT else text.ljust(width)
            for header, text, width in zip(headers, line, widths, strict=True)
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in aligned)


def facts(pairs: Sequence[tuple[str, Any]]) -> str:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name.ljust(width)}  {_cell(value)}".rstrip() for name, value in pairs)


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{name}={_cell(each)}" for name, each in value.items()) or "-"
    # What others wrote (names, notes) must not move the cursor of who reads it.
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value))
