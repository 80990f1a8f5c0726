"""Jobs that nobody watches, while what follows them is killed again and again.

Owns: the jobs, who polls which, and what must hold for each of them. Does not know: sessions (crowd).
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import aiohttp

from gateway.core.money import parse_usd
from gateway.ledger.embedded import EmbeddedRedis
from tests.faults.figures import Figures, all_entries
from tests.faults.stage import Stage, kill, start_again
from tests.pipeline.helpers import sandbox, until, without_rates
from tests.system.processes import Served, World

_ACCOUNT_JOBS: Final = 100  # fewer than a paid account may have at once
_KILLS: Final = 5
_KILL_SECONDS: Final = 2.0
_AWAY_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 1.0
_JOB_SECONDS_MAX: Final = 10
#: Thirty-six seconds of audio of the dearest model.
_CHARGE: Final = parse_usd("0.0021")


async def jobs_followed(stage: Stage) -> list[Figures]:
    """Ten jobs for each session, half of them never polled, a tenth failing; a worker is killed every two seconds, and
    Redis in the middle: every completed job is charged exactly once, every failed one nothing, no hold is left.
    """
    async with stage.redis() as redis, World(stage.directory, redis.url, _CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        count = 10 * stage.sessions
        accounts = [f"jobs-{number}" for number in range(-(-count // _ACCOUNT_JOBS))]
        keys = [await world.open_account(name) for name in accounts]
        made = await _in_turns(count, lambda number: _made(world, served, keys, number))
        polling = [asyncio.create_task(_polled(world, served, keys, n, made[n])) for n in range(0, len(made), 2)]
        await _killed(served, redis)
        for task in polling:
            task.cancel()

        async def all_over() -> bool:
            return not any([(await world.ledger.account(name)).open_holds for name in accounts])

        assert await until(all_over, 60), "some holds stay"
        assert not [job for name in accounts for job in await world.ledger.jobs(name)]
        return [await _figures(world, accounts, made)]


def _closely_followed(data: dict[str, Any]) -> None:
    data["limits"].update({"hold_lease_seconds": 3, "sweep_seconds": 0.2})
    data["upstreams"]["speech-to-text"].update({"looks_per_second_max": 100, "looks_max": 20})


def _soon_looked_at(data: dict[str, Any]) -> None:
    data["jobs"]["transcript"].update({"look_first_seconds": 1, "look_seconds_max": 3})


_CHANGES: Final = {
    "gateway.yaml": _closely_followed,
    "config/products/speech-to-text.yaml": _soon_looked_at,
    "config/tiers.yaml": without_rates,
}


async def _in_turns(count: int, make: Callable[[int], Awaitable[str]]) -> list[str]:
    """The jobs, a hundred at a time."""
    found: list[str] = []
    for start in range(0, count, 100):
        found += await asyncio.gather(*(make(number) for number in range(start, min(start + 100, count))))
    return found


def _fails(number: int) -> bool:
    return number % 20 in (3, 4)


async def _made(world: World, served: Served, keys: list[str], number: int) -> str:
    """The id of a new job."""
    how = "error" if _fails(number) else "completed"
    headers = sandbox(job_seconds=1 + number % _JOB_SECONDS_MAX, job_status=how)
    headers["Authorization"] = keys[number // _ACCOUNT_JOBS]
    body = {"audio_url": "https://example.com/a.wav?duration=36"}
    async with world.http.post(f"{served.url}/v2/transcript", json=body, headers=headers) as response:
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


async def _killed(served: Served, redis: EmbeddedRedis) -> None:
    """A worker every now and then, and Redis in the middle of it."""
    for number in range(_KILLS):
        await asyncio.sleep(_KILL_SECONDS)
        with suppress(ProcessLookupError, IndexError):
            os.kill(served.workers[0], signal.SIGKILL)
        if number == _KILLS // 2:
            kill(redis)
            await asyncio.sleep(_AWAY_SECONDS)
            await start_again(redis)


async def _figures(world: World, accounts: list[str], made: list[str]) -> Figures:
    """What was charged for which job, beside what the vendor did."""
    charged: Counter[str] = Counter()
    late = drift = holds = 0
    for name in accounts:
        for entry in await all_entries(world.ledger, name):
            if entry.kind == "charge":
                assert -entry.amount == _CHARGE, entry
                charged[entry.data["upstream_id"]] += 1
                late += bool(entry.data.get("late"))
        drift += len(await world.ledger.verify(name))
        holds += (await world.ledger.account(name)).open_holds
    completed = {job for number, job in enumerate(made) if not _fails(number)}
    assert charged == Counter(completed), "each completed job once, and no other"
    row = Figures(
        fault="kill -9 of workers and Redis",
        what="jobs, half unwatched",
        opened=len(made),
        cut=0,
        unit="jobs",
        used=len(completed),
        charged=charged.total(),
        lost=0,
        lost_most=0,
        holds=holds,
        late=late,
        drift=drift,
    )
    assert row.exact
    return row
