"""Jobs that nobody watches, while what follows them is killed again and again.

Owns: the jobs, who polls which, who is called back and how, and what must hold for each of them.
Does not know: sessions (crowd).
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from gateway.core.money import parse_usd
from gateway.ledger.embedded import EmbeddedRedis
from tests.faults.figures import Figures, all_entries
from tests.faults.stage import Stage, kill, start_again
from tests.harness import Change
from tests.pipeline.helpers import sandbox, until, without_rates
from tests.pipeline.hooks import Hooks, Told
from tests.system.processes import Served, World

_ACCOUNT_JOBS: Final = 100  # fewer than a paid account may have at once
_KILLS: Final = 5
_KILL_SECONDS: Final = 2.0
_AWAY_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 1.0
_JOB_SECONDS_MAX: Final = 10
#: Thirty-six seconds of audio of the dearest model; and of that with its personal data redacted, in text and audio.
_CHARGE: Final = parse_usd("0.0021")
_REDACTED_CHARGE: Final = parse_usd("0.0034")


@dataclass(frozen=True)
class Plot:
    """What happens to the job of a number. Half of the jobs are polled, half have webhooks, each half of the other."""

    number: int

    @property
    def polled(self) -> bool:
        """Its client asks for it."""
        return self.number % 2 == 0

    @property
    def fails(self) -> bool:
        """It ends in an error."""
        return self.number % 20 in (3, 4)

    @property
    def called_back(self) -> bool:
        """Its client gave a webhook."""
        return self.number % 4 in (1, 2)

    @property
    def redacts(self) -> bool:
        """It has a second webhook, with the URL of the redacted audio."""
        return self.number % 8 == 1

    @property
    def copies(self) -> int:
        """How often the vendor sends each webhook: of every third job never."""
        return (2, 1, 0)[self.number % 3]

    @property
    def busy(self) -> bool:
        """The client's server answers the first webhook with an error."""
        return self.number % 40 == 1

    @property
    def owed(self) -> frozenset[str]:
        """What its client must be told."""
        if not self.called_back:
            return frozenset()
        if self.fails:
            return frozenset({"error"})
        return frozenset({"completed", "redacted_audio_ready"} if self.redacts and self.copies else {"completed"})

    @property
    def charge(self) -> int:
        """What it costs."""
        return 0 if self.fails else _REDACTED_CHARGE if self.redacts else _CHARGE

    @property
    def knobs(self) -> dict[str, Any]:
        """How the vendor treats it: the second webhook before the first."""
        return {
            "job_seconds": 1 + self.number % _JOB_SECONDS_MAX,
            "job_status": "error" if self.fails else "completed",
            "webhook_copies": self.copies,
            "webhook_retry_seconds": 3,  # ten attempts are to outlast whatever is down
            "webhook_reversed": "true",
            "webhook_delay_seconds": 0.5 if self.number % 5 == 0 else 0,
        }

    def request(self, hooks: Hooks) -> dict[str, Any]:
        """What its client asks."""
        asked: dict[str, Any] = {"audio_url": "https://example.com/a.wav?duration=36"}
        if self.redacts:
            asked |= {"redact_pii": True, "redact_pii_audio": True}
        if self.called_back:
            asked |= {"webhook_url": hooks.url(f"/{self.number}"), "webhook_auth_header_name": "X-Hook"}
            asked["webhook_auth_header_value"] = str(self.number)
        return asked


async def jobs_followed(stage: Stage) -> list[Figures]:
    """Ten jobs for each session, half of them never polled, half with webhooks, which the vendor sends twice, not at
    all, or in the wrong order, a tenth failing; a worker is killed every two seconds, and Redis in the middle: every
    completed job is charged exactly once, every failed one nothing, no hold is left, and every webhook is told at least
    once.
    """
    async with (
        stage.redis() as redis,
        World(stage.directory, redis.url, CHANGES, turn=stage.turn).opened() as world,
        Hooks() as hooks,
    ):
        served = await world.serve("one", workers=2)
        plots = [Plot(number) for number in range(10 * stage.sessions)]
        hooks.answers = {f"/{plot.number}": [500] for plot in plots if plot.busy}
        accounts = [f"jobs-{number}" for number in range(-(-len(plots) // _ACCOUNT_JOBS))]
        keys = [await world.open_account(name) for name in accounts]
        made = await _in_turns(plots, lambda plot: _made(world, served, keys, hooks, plot))
        polls = [
            asyncio.create_task(_polled(world, served, keys, plot.number, job))
            for plot, job in zip(plots, made, strict=True)
            if plot.polled
        ]
        await killed(served, redis)
        for task in polls:
            task.cancel()

        async def all_over() -> bool:
            return not any([(await world.ledger.account(name)).open_holds for name in accounts])

        async def all_told() -> bool:
            waiting = any([await world.ledger.deliveries(name) for name in accounts])
            # The vendor may still have to try again what was not taken when it called.
            return not waiting and all({each.status for each in heard(hooks, plot)} >= plot.owed for plot in plots)

        assert await until(all_over, 60), "some holds stay"
        assert not [job for name in accounts for job in await world.ledger.jobs(name)]
        assert await until(all_told, 90), "some webhooks wait"
        assert not [each for name in accounts for each in await world.ledger.deliveries(name, dead=True)]
        return [await _figures(world, accounts, dict(zip(made, plots, strict=True)), hooks)]


def _closely_followed(data: dict[str, Any]) -> None:
    data["limits"].update({"hold_lease_seconds": 3, "sweep_seconds": 0.2})
    data["upstreams"]["speech-to-text"].update({"looks_per_second_max": 100, "looks_max": 20})
    data["customers"]["public_url"] = "http://127.0.0.1:1"  # its port is known when it is served
    data["outward"] = {"allow": ["127.0.0.1"]}


def _soon_looked_at(data: dict[str, Any]) -> None:
    job = data["jobs"]["transcript"]
    job.update({"look_first_seconds": 1, "look_seconds_max": 3})
    job["callback"]["grace_seconds"] = 3


CHANGES: Final[dict[str, Change]] = {
    "gateway.yaml": _closely_followed,
    "config/products/speech-to-text.yaml": _soon_looked_at,
    "config/tiers.yaml": without_rates,
}


async def _in_turns(plots: list[Plot], make: Callable[[Plot], Awaitable[str]]) -> list[str]:
    """The jobs, a hundred at a time."""
    found: list[str] = []
    for start in range(0, len(plots), 100):
        found += await asyncio.gather(*(make(plot) for plot in plots[start : start + 100]))
    return found


async def _made(world: World, served: Served, keys: list[str], hooks: Hooks, plot: Plot) -> str:
    """The id of a new job."""
    headers = {**sandbox(**plot.knobs), "Authorization": keys[plot.number // _ACCOUNT_JOBS]}
    async with world.http.post(f"{served.url}/v2/transcript", json=plot.request(hooks), headers=headers) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["id"])


async def _polled(world: World, served: Served, keys: list[str], number: int, job: str) -> None:
    """A client that asks on, whatever it is answered, until the job is over."""
    headers = {"Authorization": keys[number // _ACCOUNT_JOBS]}
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        with suppress(aiohttp.ClientError):
            async with world.http.get(f"{served.url}/v2/transcript/{job}", headers=headers) as response:
                if response.status == 200 and (await response.json())["status"] in ("completed", "error"):
                    return


async def killed(served: Served, redis: EmbeddedRedis) -> None:
    """A worker every now and then, and Redis in the middle of it."""
    for number in range(_KILLS):
        await asyncio.sleep(_KILL_SECONDS)
        with suppress(ProcessLookupError, IndexError):
            os.kill(served.workers[0], signal.SIGKILL)
        if number == _KILLS // 2:
            kill(redis)
            await asyncio.sleep(_AWAY_SECONDS)
            await start_again(redis)


def heard(hooks: Hooks, plot: Plot) -> list[Told]:
    """What the client of a job was told."""
    return [each for each in hooks.told[f"/{plot.number}"] if each.headers["X-Hook"] == str(plot.number)]


async def _figures(world: World, accounts: list[str], plots: dict[str, Plot], hooks: Hooks) -> Figures:
    """What was charged and told for which job, beside what the vendor did."""
    charged: Counter[str] = Counter()
    late = drift = holds = 0
    for name in accounts:
        for entry in await all_entries(world.ledger, name):
            if entry.kind == "charge":
                assert -entry.amount == plots[entry.data["upstream_id"]].charge, entry
                charged[entry.data["upstream_id"]] += 1
                late += bool(entry.data.get("late"))
        drift += len(await world.ledger.verify(name))
        holds += (await world.ledger.account(name)).open_holds
    completed = {job for job, plot in plots.items() if not plot.fails}
    assert charged == Counter(completed), "each completed job once, and no other"
    owed = told = again = 0
    for plot in plots.values():
        statuses = [each.status for each in heard(hooks, plot)]
        assert set(statuses) == plot.owed, (plot, statuses)
        owed, told = owed + len(plot.owed), told + len(plot.owed)
        again += len(statuses) - len(plot.owed)
    row = Figures(
        fault="kill -9 of workers and Redis",
        what="jobs, half unwatched",
        opened=len(plots),
        cut=0,
        unit="jobs",
        used=len(completed),
        charged=charged.total(),
        lost=0,
        lost_most=0,
        holds=holds,
        late=late,
        drift=drift,
        owed=owed,
        told=told,
        told_again=again,
    )
    assert row.exact
    return row
