"""`python -m tests.sim --seed N --operations N`: run a history; of one that fails, the seed and the last events."""

import argparse
import asyncio
import secrets
import sys
import time

from tests.sim.simulation import Failed, simulate


def main() -> int:
    """Run, print what happened, and say how to see it again if it went wrong."""
    parser = argparse.ArgumentParser(description="A deterministic simulation of the credit engine.")
    parser.add_argument("--seed", type=int, default=None, help="Default: a fresh one.")
    parser.add_argument("--operations", type=int, default=20_000, help="Requests that reach the server.")
    given = parser.parse_args()
    seed = secrets.randbits(32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    try:
        told = asyncio.run(simulate(seed, given.operations))
    except Failed as failed:
        print(failed)
        return 1
    print(f"{told} ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
