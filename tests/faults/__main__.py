"""`python -m tests.faults`: breaks real gateways in every way, and prints what it cost.

Each fault is in `scenarios`; `--only` names some of them. The exit code is 1 if something did not hold.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.figures import Figures, table
from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Stage


async def _run(sessions: int, only: list[str]) -> int:
    rows: list[Figures] = []
    failed = 0
    for scenario in SCENARIOS:
        name = scenario.__name__
        if only and name not in only:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as directory:
            try:
                rows += await scenario(Stage(directory=Path(directory), sessions=sessions))
            except AssertionError:
                failed += 1
                sys.stderr.write(f"{name} does not hold:\n{traceback.format_exc()}")
            else:
                sys.stderr.write(f"{name}: {time.monotonic() - started:.1f} s\n")
    sys.stdout.write(table(rows) + "\n")
    return int(failed > 0)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100, help="open at once, of each product")
    parser.add_argument("--only", nargs="*", default=[], choices=[each.__name__ for each in SCENARIOS])
    options = parser.parse_args()
    return asyncio.run(_run(options.sessions, options.only))


if __name__ == "__main__":
    sys.exit(main())
