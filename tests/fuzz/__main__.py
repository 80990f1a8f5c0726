"""`make fuzz`: the property tests of every parser, with fresh examples for minutes; how many there were, as a table.

A failure is printed with the smallest example that shows it, and ends the run with 1.
"""

import argparse
import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

MODULES = (
    "tests.fuzz.test_parsers", "tests.core.test_sse", "tests.core.test_frames", "tests.core.test_durations",
    "tests.core.test_extract", "tests.core.test_splice", "tests.core.test_kinds", "tests.core.test_parameters",
    "tests.edge.test_tokens", "tests.settings.test_yaml", "tests.settings.test_routing",
)  # fmt: skip
_BATCH = 100
_SETTINGS = settings(
    max_examples=_BATCH, deadline=None, database=None, derandomize=False, suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink), print_blob=False,
)  # fmt: skip


class Target:
    """A property test, run again and again."""

    def __init__(self, module: str, name: str, test: Any) -> None:
        self.name = f"{module.removeprefix('tests.')}.{name}"
        self.examples = 0
        self.seconds = 0.0
        self.failed = False
        self._test = test
        test._hypothesis_internal_use_settings = _SETTINGS
        inner: Callable[..., None] = test.hypothesis.inner_test

        def counted(*args: Any, **kwargs: Any) -> None:
            self.examples += 1
            inner(*args, **kwargs)

        test.hypothesis.inner_test = counted

    def run(self) -> None:
        """One batch of examples."""
        began = time.monotonic()
        try:
            self._test()
        except Exception:  # noqa: BLE001 - whatever a parser raises is what is looked for
            self.failed = True
            traceback.print_exc()
        self.seconds += time.monotonic() - began


def targets() -> list[Target]:
    """Every property test of the modules that needs nothing else."""
    found = []
    for module in MODULES:
        for name, test in vars(importlib.import_module(module)).items():
            if getattr(test, "is_hypothesis_test", False) and not inspect.iscoroutinefunction(
                test.hypothesis.inner_test
            ):
                found.append(Target(module, name, test))
    return found


def explore(minutes: float) -> list[Target]:
    """Run all of them in turn until the time is over, and each once in any case: none is left out of a short run."""
    ends_at = time.monotonic() + 60 * minutes
    every = targets()
    while time.monotonic() < ends_at or not all(target.examples for target in every):
        # The one that had the least time so far, of those that hold.
        holding = [target for target in every if not target.failed]
        if not holding:
            break
        min(holding, key=lambda target: target.seconds).run()
    return every


def main() -> int:
    """Explore, and print the table."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    every = explore(parser.parse_args().minutes)
    width = max(len(target.name) for target in every)
    for target in every:
        print(f"{target.name:<{width}} {target.examples:>10,} {target.seconds:>8.0f} s{'  FAILED' * target.failed}")
    print(f"{'all':<{width}} {sum(target.examples for target in every):>10,}")
    return int(any(target.failed for target in every))


if __name__ == "__main__":
    sys.exit(main())
