"""`make prove`: every promise about money under every fault, in bounded time, as one table.

Owns: which of the runs there are, how large each is here, what of their figures stands in the table. The exit code is 1
if something does not hold. Does not know: how a fault is made (faults, failover, sim, fuzz, and the tests).
"""

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tests.failover import IN_CLUSTER, LINE_SECONDS, WAYS, Way, failover
from tests.faults.figures import Figures
from tests.faults.ledger_states import LINES, STATES, State, pass_through
from tests.faults.proof import Proof, table
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.stage import SLICE_SECONDS, Stage
from tests.fuzz.__main__ import explore
from tests.harness import ROOT
from tests.sim.simulation import Failed, simulate

_STATE_ROUNDS: Final = 2
_CUSTOMERS: Final = 3
_SESSIONS: Final = 25
_SIM_OPERATIONS: Final = 25_000
_FUZZ_MINUTES: Final = 1.0
_SUITE_SECONDS_MAX: Final = 300

#: Tests that are proofs by themselves: what they inject, and where they are.
SUITES: Final = (
    ("Redis dead or silent, calls served within `allow_up_to`", "tests/pipeline/test_without_ledger.py"),
    ("Redis without its data, for good", "tests/system/test_lost_redis.py"),
    ("slots of a cluster moved, a primary killed", "tests/ledger/test_cluster_failover.py"),
    ("spool: disk full, lines torn and changed, owners gone", "tests/ledger/test_spool.py"),
    ("payments told twice, late, in any order", "tests/payments"),
    ("jobs that wait, their workers killed", "tests/system/test_queue.py"),
    ("request smuggling, response splitting", "tests/edge/test_smuggling.py tests/edge/test_splitting.py"),
    ("hostile and slow clients, floods", "tests/edge/test_hostile_clients.py tests/edge/test_abuse.py"),
    ("one customer after another's jobs, uploads, sessions", "tests/pipeline/test_tenants.py"),
)

Run = Callable[[], Awaitable[list[Proof]]]


class DoesNotHold(Exception):
    """A run found something wrong, and says what."""


# ---- the runs


def redis_state(state: State) -> Run:
    """A Redis through one of its states, again and again, with other customers each time."""

    async def run() -> list[Proof]:
        seen = []
        for _ in range(_STATE_ROUNDS):
            with tempfile.TemporaryDirectory(prefix="prove-") as directory:
                seen.append((await pass_through(state, Path(directory), each=_CUSTOMERS)).proof)
        return [_sum(seen)]

    return run


def _sum(rows: Sequence[Proof]) -> Proof:
    return Proof(
        fault=rows[0].fault,
        times=sum(row.times for row in rows),
        in_flight=sum(row.in_flight for row in rows),
        lost=sum(row.lost for row in rows),
        doubled=sum(row.doubled for row in rows),
        overspent_nanos=sum(row.overspent_nanos for row in rows),
        leaked=sum(row.leaked for row in rows),
        refusal_seconds=max((row.refusal_seconds for row in rows if row.refusal_seconds is not None), default=None),
        recovery_seconds=max(row.recovery_seconds or 0.0 for row in rows),
        lost_max=sum(row.lost_max for row in rows),
        bound=rows[0].bound,
    )


def scenario(what: Scenario) -> Run:
    """Processes and Redis that die under open sessions, calls, jobs and payments. It asserts what it promises."""

    async def run() -> list[Proof]:
        with tempfile.TemporaryDirectory(prefix="prove-") as directory:
            figures = await what(Stage(directory=Path(directory), sessions=_SESSIONS))
        return [_of_figures(row) for row in figures]

    return run


def _of_figures(row: Figures) -> Proof:
    """Of a line that was cut, a part may be lost: it counts as one."""
    assert not row.drift, f"{row.fault}: the books differ"
    lost = row.cut if row.lost else 0
    bound = "0"
    if lost and row.unit == "seconds":
        bound = f"of each line that broke, a slice of {SLICE_SECONDS:.0f} s at most; here {row.lost_most:.1f} s"
    elif lost:
        bound = "what was under way in that worker, and never answered"
    return Proof(
        fault=f"{row.fault}: {row.what}",
        times=1,
        in_flight=row.opened,
        lost=lost,
        leaked=row.holds,
        lost_max=row.cut,
        bound=bound,
    )


def primary_dies(way: Way) -> Run:
    """A primary whose machine dies under load. Acknowledged, and not passed on: lost; the books agree all the same."""

    async def run() -> list[Proof]:
        found = await failover(way)
        assert not found.drifts, f"{way.name}: the books differ"
        line_ms = 0 if way is IN_CLUSTER else LINE_SECONDS * 1000
        return [
            Proof(
                fault=f"failover: {way.name}",
                times=1,
                in_flight=found.in_flight,
                lost=found.lost,
                doubled=found.doubled,
                recovery_seconds=found.away_seconds,
                lost_max=0 if way.wait else found.charged // 4,
                bound="0" if way.wait else f"what was on a line of {line_ms:.0f} ms",
            )
        ]

    return run


def simulated(seed: int) -> Run:
    """The whole engine with a simulated clock, every invariant after each step."""

    async def run() -> list[Proof]:
        try:
            told = await simulate(seed, _SIM_OPERATIONS)
        except Failed as failed:
            raise DoesNotHold(str(failed)) from failed
        faults = sum(count for name, count in told.items() if name in _SIM_FAULTS)
        fault = f"simulated, seed {seed}: replies lost and doubled, deaths"
        return [Proof(fault=fault, times=faults, in_flight=told["owed"])]

    return run


_SIM_FAULTS: Final = frozenset({"reply-lost", "request-lost", "doubled", "kill", "restart", "delayed"})


async def fuzzed() -> list[Proof]:
    """Every parser with fresh hostile input."""
    targets = await asyncio.to_thread(explore, _FUZZ_MINUTES)
    if failed := [target.name for target in targets if target.failed]:
        raise DoesNotHold(f"parsers fail: {', '.join(failed)}")
    examples = sum(target.examples for target in targets)
    return [Proof(fault=f"hostile input to {len(targets)} parsers", times=examples, in_flight=0)]


def suite(fault: str, files: str) -> Run:
    """Tests whose assertions are the proof; as many times as there are of them."""

    async def run() -> list[Proof]:
        with tempfile.TemporaryDirectory(prefix="prove-") as directory:
            report = Path(directory) / "report.xml"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pytest", "-q", "-m", "not soak", "-p", "no:cacheprovider"),
                *(f"--junitxml={report}", *files.split()),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                output, _ = await asyncio.wait_for(process.communicate(), _SUITE_SECONDS_MAX)
            except TimeoutError:
                process.kill()
                raise DoesNotHold(f"{files}: not done within {_SUITE_SECONDS_MAX} s") from None
            if process.returncode:
                raise DoesNotHold(output.decode(errors="replace")[-4000:])
            (found,) = ET.parse(report).getroot().iter("testsuite")
        return [Proof(fault=f"{fault} (tests)", times=int(found.attrib["tests"]), in_flight=0)]

    return run


def everything(seed: int) -> list[tuple[str, Run]]:
    """All runs, by name, the short ones first."""
    return [
        *((f"redis {each.name}", redis_state(each)) for each in (*STATES, *LINES)),
        *((each.__name__, scenario(each)) for each in SCENARIOS),
        *((f"failover {each.name}", primary_dies(each)) for each in (*WAYS, IN_CLUSTER)),
        *((f"sim {number}", simulated(number)) for number in (seed, seed + 1)),
        ("fuzz", fuzzed),
        *((f"suite {files}", suite(fault, files)) for fault, files in SUITES),
    ]


# ---- all of them


async def prove(runs: Iterable[tuple[str, Run]]) -> tuple[list[Proof], list[str]]:
    """Every line, and the names of the runs that did not hold."""
    rows: list[Proof] = []
    failed: list[str] = []
    for name, run in runs:
        began = time.monotonic()
        try:
            found = await run()
        except Exception:  # noqa: BLE001 - whatever it is, the others are run
            failed.append(name)
            sys.stderr.write(f"{name} does not hold:\n{traceback.format_exc()}")
            continue
        rows += found
        failed += [f"{name}: {row}" for row in found if not row.holds]
        sys.stderr.write(f"{name}: {time.monotonic() - began:.1f} s\n")
    return rows, failed


def main() -> int:
    """Run, print the table, and what did not hold."""
    parser = argparse.ArgumentParser(prog="prove", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the simulations")
    parser.add_argument("--only", nargs="*", default=[], help="runs whose names begin so")
    options = parser.parse_args()
    runs = [
        (name, run)
        for name, run in everything(options.seed)
        if not options.only or name.startswith(tuple(options.only))
    ]
    began = time.monotonic()
    rows, failed = asyncio.run(prove(runs))
    minutes = (time.monotonic() - began) / 60
    told = [table(rows), "", f"{len(runs)} runs in {minutes:.1f} minutes; {len(failed)} did not hold", *failed]
    sys.stdout.write("\n".join(told) + "\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
