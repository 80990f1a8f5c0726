"""A copy of the shipped config in a directory of its own, to break or to extend."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from gateway.settings.load import SettingsError, load
from gateway.settings.runtime import Runtime

ROOT = Path(__file__).resolve().parents[2]


class Project:
    """`gateway.yaml` and `config/` below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copy(ROOT / "gateway.yaml", directory)
        shutil.copytree(ROOT / "config", directory / "config")

    def path(self, name: str) -> Path:
        """A file; products are named by their product."""
        found = self.directory / "config" / "products" / f"{name}.yaml"
        return found if found.exists() else self.directory / name

    def write(self, name: str, text: str) -> None:
        """Write a file anew."""
        (self.directory / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> int:
        """Replace a text that is there once; the line where it was."""
        path = self.path(name)
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new))
        return text[: text.index(old)].count("\n") + 1

    def load(self, environ: Mapping[str, str] | None = None) -> Runtime:
        """The runtime."""
        return load(self.directory / "gateway.yaml", environ or {})

    def error(self, environ: Mapping[str, str] | None = None) -> SettingsError:
        """The error that loading raises."""
        try:
            self.load(environ)
        except SettingsError as error:
            return error
        raise AssertionError("the config has no problems")

    def rendered(self, environ: Mapping[str, str] | None = None) -> str:
        """The error's rendering, with paths as from the project's directory."""
        return self.error(environ).render().replace(f"{self.directory}/", "")

    def problems(self, environ: Mapping[str, str] | None = None) -> list[str]:
        """Each problem as `file «what stands there»: path: message`; it stands whatever lines are above it."""
        prefix = f"{self.directory}/"
        found: list[str] = []
        for problem in self.error(environ).problems:
            there = re.split(r"[\s,\]}]", problem.source[problem.column - 1 :], maxsplit=1)[0]
            file = problem.file.removeprefix(prefix)
            message = problem.message.replace(str(self.directory), "DIRECTORY")
            found.append(f"{file} «{there}»: {problem.path}: {message}")
        return found
