"""What must stay flat in a long run: memory, descriptors, queues, looked at every few seconds.

Owns: what is looked at, and when a series counts as flat. Does not know: traffic, faults, money.
"""

import asyncio
import contextlib
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from gateway.core.errors import LedgerUnavailable
from gateway.ledger.embedded import EmbeddedRedis
from tests.pipeline.helpers import until
from tests.system.processes import Served, World

SAMPLE_SECONDS: Final = 5.0
#: Of a gateway's metrics: how many of what there are now.
GAUGES: Final = (
    "gateway_holds_open", "gateway_calls_open", "gateway_sessions_open", "gateway_job_looks_open",
    "gateway_deliveries_open", "gateway_spool_pending",
)  # fmt: skip
DRIFT: Final = "gateway_ledger_drift_accounts"
#: What a series may have more at the end than at the beginning: a share of it, and so much besides.
GROWTH_MAX: Final = 0.2
SLACK: Final[Mapping[str, float]] = defaultdict(lambda: 10.0, {"MiB": 12.0, "descriptors": 60.0})
#: When all is over, a worker has soon no more descriptors than it had at first, but for these.
LEFT_MAX: Final = 24
LEFT_SECONDS_MAX: Final = 100.0


@dataclass
class Series:
    """One quantity over time."""

    unit: str
    points: list[tuple[float, float]] = field(default_factory=list)

    @property
    def floors(self) -> tuple[float, float]:
        """What the first third and the last third of the run were seldom below: faults raise what a leak holds up."""
        values = [value for _, value in self.points]
        third = max(1, len(values) // 3)
        first, last = sorted(values[:third]), sorted(values[-third:])
        return first[third // 10], last[third // 10]

    @property
    def per_hour(self) -> float:
        """The slope of the line of least squares."""
        if len(self.points) < 3:
            return 0.0
        return statistics.linear_regression(*zip(*self.points, strict=True)).slope * 3600

    @property
    def flat(self) -> bool:
        """Whether its last floor is no more than its first, within what is allowed."""
        first, last = self.floors
        return last <= first * (1 + GROWTH_MAX) + SLACK[self.unit]


class Samples:
    """All series of a run, by name. What is asked of a gateway that is just restarting is left out."""

    def __init__(self, world: World, served: Served, redis: EmbeddedRedis) -> None:
        self.series: dict[str, Series] = {}
        self.redis_mib: list[float] = []
        self.wrong: set[str] = set()
        self._world = world
        self._served = served
        self._redis = redis
        self._at_rest = max(map(descriptors, served.workers))
        self._began = time.monotonic()

    async def take(self) -> None:
        """Everything once."""
        self._processes()
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            metrics = await self._served.metrics()
            for gauge in GAUGES:
                self._note(gauge, "", sum(_all(metrics, gauge)))
            if sum(_all(metrics, DRIFT)):
                self.wrong.add("the gateway's own verifier found accounts that do not agree")
        with contextlib.suppress(LedgerUnavailable):
            await self._books()

    async def _books(self) -> None:
        """Every account: what it holds, and whether its numbers agree with its last entry."""
        ledger, holds = self._world.ledger, 0
        async for name in ledger.accounts():
            account = await ledger.account(name)
            holds += account.open_holds
            if account.balance < 0:
                self.wrong.add(f"{name} was overspent")
            self.wrong.update(f"{name}: {found.what} differs" for found in await ledger.verify(name, entries=False))
        self._note("open holds in the ledger", "", holds)

    def _processes(self) -> None:
        supervisor, workers = self._served.process.pid, self._served.workers
        with contextlib.suppress(OSError):
            self._note("supervisor, resident", "MiB", resident_mib(supervisor))
            self._note("supervisor, descriptors", "descriptors", descriptors(supervisor))
            self.redis_mib.append(resident_mib(self._redis.pid or 0))
            self._note("workers, resident of the largest", "MiB", max(map(resident_mib, workers), default=0.0))
            self._note("workers, descriptors of the most", "descriptors", max(map(descriptors, workers), default=0))

    def _note(self, name: str, unit: str, value: float) -> None:
        self.series.setdefault(name, Series(unit)).points.append((time.monotonic() - self._began, value))

    async def left(self) -> int:
        """Descriptors that a worker has more than at first, once nobody calls and what was kept open is closed."""

        async def closed() -> bool:
            return max(map(descriptors, self._served.workers)) <= self._at_rest + LEFT_MAX

        await until(closed, LEFT_SECONDS_MAX)
        return max(map(descriptors, self._served.workers)) - self._at_rest

    async def until(self, over: asyncio.Event) -> None:
        """Every few seconds."""
        while not over.is_set():
            await self.take()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), SAMPLE_SECONDS)


def _all(metrics: Mapping[str, float], name: str) -> Sequence[float]:
    return [value for labelled, value in metrics.items() if labelled.partition("{")[0] == name]


def resident_mib(pid: int) -> float:
    """What a process has in memory."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
