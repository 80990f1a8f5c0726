"""`python -m tests.soak --minutes 30`: everything at once, for long, with something breaking every minute.

A gateway of two workers serves all six products at a share of what it was measured to serve here. The report is
printed, and kept in a file; the exit code is 1 if something did not hold.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.harness import ROOT
from tests.soak.run import Options, soak


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--fault-seconds", type=float, default=60.0, help="from one fault to the next")
    parser.add_argument("--share", type=float, default=0.7, help="of the measured capacity")
    parser.add_argument("--sessions", type=int, default=15, help="open at any time, of each product")
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "soak.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        found = asyncio.run(
            soak(
                Options(
                    directory=Path(directory),
                    minutes=options.minutes,
                    fault_seconds=options.fault_seconds,
                    share=options.share,
                    sessions=options.sessions,
                )
            )
        )
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(found.page)
    sys.stdout.write(found.page)
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
