"""What the tests of the command line share: a way to call it, and a server that runs meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.ledger.embedded import EmbeddedRedis

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "gateway.yaml"


@dataclass(frozen=True)
class Shell:
    """Calls commands with the repository's config and a data directory of the test's own."""

    data: Path

    def call(self, *words: str, stdin: str | None = None) -> Result:
        """The command's output and exit code. Exceptions that are no exit are raised."""
        common = [] if "--help" in words else ["-c", str(CONFIG), "--data", str(self.data)]
        arguments = [*words, *common]
        return CliRunner().invoke(main, arguments, input=stdin, catch_exceptions=False, prog_name="gateway")

    def ok(self, *words: str, stdin: str | None = None) -> str:
        """The output of a command that succeeds."""
        result = self.call(*words, stdin=stdin)
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        return result.stdout

    def json(self, *words: str) -> Any:
        """The data of a command that succeeds."""
        return orjson.loads(self.ok(*words, "--json"))

    def refused(self, *words: str, code: int = 1) -> str:
        """The message of a command that does not succeed; nothing else is printed."""
        result = self.call(*words)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        return result.stderr

    def row(self, name: str, *words: str) -> list[str]:
        """The cells of the line that begins with a name."""
        lines = [line.split() for line in self.ok(*words).splitlines()]
        return next(line for line in lines if line and line[0] == name)


@pytest.fixture
def offline(tmp_path: Path) -> Shell:
    """No server runs; each command starts its own."""
    return Shell(tmp_path)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A server runs, as beside a running gateway."""
    server = EmbeddedRedis(tmp_path / "redis")
    server.start_sync()
    yield Shell(tmp_path)
    server.stop_sync()
