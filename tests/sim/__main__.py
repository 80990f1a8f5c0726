"""`python -m tests.sim --seed N --operations N`: histories; of one that fails, the seed and the shortest."""

import argparse
import asyncio
import secrets
import sys
import time
from collections import Counter

from tests.sim.simulation import Failed, simulate

#: A longer run is several histories, each of its own seed: so none grows slow, and one that fails is soon seen again.
OPERATIONS_MAX = 50_000


def main() -> int:
    """Run, print what happened, and say how to see it again if it went wrong."""
    parser = argparse.ArgumentParser(description="A deterministic simulation of the credit engine.")
    parser.add_argument("--seed", type=int, default=None, help="Default: a fresh one.")
    parser.add_argument("--operations", type=int, default=20_000, help="Requests that reach the server.")
    given = parser.parse_args()
    seed: int = secrets.randbits(32) if given.seed is None else given.seed
    left, sums, began = given.operations, Counter[str](), time.monotonic()
    while left > 0:
        operations = min(left, OPERATIONS_MAX)
        print(f"seed {seed}, {operations} operations", flush=True)
        try:
            sums += asyncio.run(simulate(seed, operations))
        except Failed as failed:
            print(failed)
            return 1
        seed, left = seed + 1, left - operations
    print(
        f"{', '.join(f'{name} {number}' for name, number in sorted(sums.items()))} ({time.monotonic() - began:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
