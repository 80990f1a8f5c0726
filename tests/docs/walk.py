"""Pages that are walked through: their commands are run in one shell, in their order, and must print what they say.

Owns: what of a page is a command, what is its output, and when the two agree. `...` in an output stands for anything.
Does not know: any page; where `gateway` comes from, or whether one runs already.

`make walks` runs each page as it stands, in a copy of the project and on the ports that it names.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("docs/start.md", "docs/operating/from-litellm.md", "docs/operating/from-invoices.md")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OVER = "walk: over"
_FAILED = "walk: failed"


@dataclass(frozen=True)
class Step:
    """Lines for a shell, and what they print; None: whatever they like."""

    lines: str
    printed: str | None

    def agrees(self, said: str) -> bool:
        """Whether that is what the page says."""
        said = _even(said)
        if self.printed is None:
            return _FAILED not in said
        pattern = ".*?".join(map(re.escape, _even(self.printed).split("...")))
        return re.fullmatch(pattern, said, re.DOTALL) is not None and _FAILED not in said


def _even(text: str) -> str:
    """The text without what tables and protocols put between words and lines."""
    return re.sub(r"[ \t]+", " ", text.replace("\r", "")).strip()


def steps(page: str) -> list[Step]:
    """What a page has one do."""
    found: list[Step] = []
    for kind, text in _BLOCK.findall((ROOT / page).read_text()):
        if kind == "sh":
            found.append(Step(text, None))
        elif kind == "text":
            assert found and found[-1].printed is None, f"{page}: an output without its command"
            found[-1] = Step(found[-1].lines, text)
    return found


class Shell:
    """One shell from the first step to the last: what a step sets is there for the next."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def does(self, lines: str) -> str:
        """What the lines print, on standard error too."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{lines}\necho '{_OVER}'\n")
        self._process.stdin.flush()
        said = []
        for line in self._process.stdout:
            if line.rstrip("\n").endswith(_OVER):
                said.append(line.rstrip("\n").removesuffix(_OVER))
                return "".join(said)
            said.append(line)
        raise AssertionError(f"the shell is gone: {''.join(said)}")


@contextmanager
def shell(directory: Path, environment: Mapping[str, str]) -> Iterator[Shell]:
    """A shell in a directory. A command that fails says so among what is printed."""
    process = subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        made = Shell(process)
        made.does(f"set -o pipefail; trap 'echo \"{_FAILED}\"' ERR")
        yield made
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def walked(page: str, at: Shell, *, altered: Callable[[str], str], left_out: tuple[str, ...] = ()) -> int:
    """Do what a page says, but for steps with any of these words in them; how many steps that were."""
    done = 0
    for step in steps(page):
        if not any(words in step.lines for words in left_out):
            said = at.does(altered(step.lines))
            assert step.agrees(said), f"{page}:\n{step.lines}\nprinted:\n{said}\nand not:\n{step.printed}"
            done += 1
    return done


def main() -> None:
    """Every page as it stands: the first one installs and starts what the others need, and stops it."""
    start, *others = PAGES
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "project")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
        path = f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin"
        with shell(copy, {"PATH": path, "HOME": directory, "LANG": "C.UTF-8"}) as at:
            first = steps(start)
            for step in [*first[:-1], *(step for page in others for step in steps(page)), first[-1]]:
                said = at.does(step.lines)
                if not step.agrees(said):
                    raise SystemExit(f"{step.lines}\nprinted:\n{said}\nand not:\n{step.printed}")
                print(step.lines, end="", flush=True)
        shutil.rmtree(copy)


if __name__ == "__main__":
    main()
