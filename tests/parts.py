"""`make test`: every test, in three parts at a time, and what failed among others once more by itself.

Owns: which folders run beside each other, and what is said of a test that fails only then. Whole processes and sockets
mostly wait, those of the edges do now and then, so three parts keep two cores busy. Many promises are of time, and a
machine that is short of it breaks them for reasons of its own: a test that failed is run again when all others have
ended. What fails twice, and more than `AGAIN_MAX` tests at once, fails the run; what passes then is named at the end.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
#: One or two that the machine was too slow for; more are a fault.
AGAIN_MAX: Final = 3
WAITING: Final = ("tests/system", "tests/sockets")
EDGES: Final = ("tests/cli", "tests/edge", "tests/pipeline", "tests/exports", "tests/dialects", "tests/payments")
PARTS: Final = {
    "waiting": WAITING,
    "edges": EDGES,
    "rest": tuple(f"--ignore={folder}" for folder in (*WAITING, *EDGES)),
}


@dataclass(frozen=True)
class Run:
    """One run of all parts: from which directory, and where it keeps what pytest remembers and says."""

    root: Path
    kept: Path
    parts: Mapping[str, Sequence[str]]

    def passed(self) -> bool:
        """Whether every test passed, some of them perhaps at the second attempt."""
        shutil.rmtree(self.kept, ignore_errors=True)
        self.kept.mkdir(parents=True)
        running = {part: self._start(part, asked) for part, asked in self.parts.items()}
        broken = {part: code for part, process in running.items() if (code := process.wait())}
        for part in self.parts:
            print(f"\n==== {part}\n{self._log(part).read_text(errors='replace')}", flush=True)
        failed = [self._failed(part) for part in broken]
        names = sorted({name for part in failed for name in part})
        if any(code != 1 for code in broken.values()) or not all(failed) or len(names) > AGAIN_MAX:
            print(f"==== failed: {', '.join(broken)}", flush=True)
            return False
        if not names:
            return True
        print(f"==== failed beside others, and run once more by themselves: {len(names)}", flush=True)
        passed = not subprocess.run(self._pytest("again", names), cwd=self.root, check=False).returncode
        print(*(f"{'FAILED ONCE' if passed else 'FAILED'} {name}" for name in names), sep="\n", flush=True)
        return passed

    def _start(self, part: str, asked: Sequence[str]) -> "subprocess.Popen[bytes]":
        with self._log(part).open("wb") as log:
            return subprocess.Popen(self._pytest(part, asked), cwd=self.root, stdout=log, stderr=subprocess.STDOUT)

    def _pytest(self, part: str, asked: Sequence[str]) -> Sequence[str]:
        cache = f"cache_dir={self.kept / part}"
        return (sys.executable, "-m", "pytest", "-q", "-m", "not soak", "-o", cache, *asked)

    def _failed(self, part: str) -> Sequence[str]:
        """What failed in it; nothing where it broke off before it could say."""
        remembered = self.kept / part / "v" / "cache" / "lastfailed"
        return sorted(json.loads(remembered.read_bytes())) if remembered.exists() else ()

    def _log(self, part: str) -> Path:
        return self.kept / f"{part}.log"


if __name__ == "__main__":
    sys.exit(not Run(ROOT, ROOT / "build" / "tests", PARTS).passed())
