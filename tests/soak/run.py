"""One long run: its stage, the order of things, and the page that tells of it.

Owns: how much load there is, when faults come, what the page says.
Does not know: what customers do, how things break, what must be equal at the end.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from gateway.core.money import format_usd
from gateway.ledger.embedded import EmbeddedRedis
from tests.faults import jobs, stage
from tests.faults.crowd import AGENTS, STREAMING
from tests.harness import Change
from tests.pipeline.hooks import Hooks
from tests.soak.audit import Audit, audit
from tests.soak.faults import FAULTS, Injected, Place, inject
from tests.soak.samples import LEFT_MAX, Samples
from tests.soak.traffic import ACCOUNTS, CHARGE, CHAT_COSTS, POOR_CALLS, Traffic
from tests.system.processes import World

WORKERS: Final = 2
MEASURED_SECONDS: Final = 6.0
TOGETHER: Final = 120
QUIET_SECONDS: Final = 3.0
#: A shorter run says nothing of slopes: what a fault has left for half a minute is a third of it.
FLAT_MINUTES_MIN: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """How long, how often, how much."""

    directory: Path
    minutes: float
    fault_seconds: float
    share: float
    sessions: int


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """What is told of a run, and what of it must not be."""

    page: str
    wrong: Sequence[str]
    injected: Sequence[Injected]


def both(*changes: Mapping[str, Change]) -> dict[str, Change]:
    """All changes of each file, one after the other."""
    by_file: defaultdict[str, list[Change]] = defaultdict(list)
    for each in changes:
        for name, change in each.items():
            by_file[name].append(change)

    def together(all_of_them: list[Change]) -> Change:
        def change(data: dict[str, Any]) -> None:
            for each in all_of_them:
                each(data)

        return change

    return {name: together(found) for name, found in by_file.items()}


CHANGES: Final = both(stage.changes(drain_seconds=5.0), jobs.CHANGES, {"config/products/llm-gateway.yaml": CHAT_COSTS})


async def soak(options: Options) -> Soaked:
    """Measure, load, break, let it end, count."""
    async with (
        EmbeddedRedis(options.directory / "redis", fsync="always") as redis,
        World(options.directory, redis.url, CHANGES).opened() as world,
        Hooks() as hooks,
    ):
        credit = dict.fromkeys(ACCOUNTS, "100000") | {"poor": format_usd(POOR_CALLS * CHARGE)}
        keys = {name: await world.open_account(name, credit=credit[name]) for name in ACCOUNTS}
        served = await world.serve("one", workers=WORKERS)
        traffic, samples = Traffic(world, served, keys, hooks), Samples(world, served, redis)
        for kind in (STREAMING, AGENTS):
            traffic.sit(kind, options.sessions)
        capacity = await traffic.capacity(MEASURED_SECONDS, TOGETHER)
        over = asyncio.Event()
        flowing = asyncio.create_task(traffic.flow(capacity * options.share))
        looking = asyncio.create_task(samples.until(over))
        place = Place(world=world, served=served, redis=redis, traffic=traffic)
        injected = await _break(place, options)
        over.set()
        await traffic.end()
        await asyncio.gather(flowing, looking)
        found = await audit(world, served, traffic.told, traffic.talkers)
        left = await samples.left()
        found.expect(right=left <= LEFT_MAX, otherwise=f"{left} descriptors of a worker stay open")
        wrong = [*found.wrong, *sorted(samples.wrong), *_not_recovered(injected), *_not_flat(options, samples)]
        page = _page(options, capacity, traffic, injected, samples, found, wrong)
        page += f"When all was over, a worker had {left} descriptors more than before.\n"
        return Soaked(page=page, wrong=wrong, injected=injected)


async def _break(place: Place, options: Options) -> list[Injected]:
    """One fault after the other, as many as there is time for; one that lasts long makes the run longer."""
    until, injected = time.monotonic() + options.minutes * 60, []
    for _, fault in zip(range(int(options.minutes * 60 / options.fault_seconds)), cycle(FAULTS), strict=False):
        next_at = time.monotonic() + options.fault_seconds
        await asyncio.sleep(min(QUIET_SECONDS, options.fault_seconds / 2))
        injected.append(await inject(place, fault))
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))
    await asyncio.sleep(max(0.0, until - time.monotonic()))
    return injected


def _not_recovered(injected: Sequence[Injected]) -> list[str]:
    return [f"nobody was served again after: {each.name}" for each in injected if each.recovery_seconds is None]


def _not_flat(options: Options, samples: Samples) -> list[str]:
    if options.minutes < FLAT_MINUTES_MIN:
        return []
    return [f"{name} is not flat" for name, series in samples.series.items() if not series.flat]


def _page(
    options: Options,
    capacity: float,
    traffic: Traffic,
    injected: Sequence[Injected],
    samples: Samples,
    found: Audit,
    wrong: Sequence[str],
) -> str:
    grown = samples.redis_mib[-1] - samples.redis_mib[0]
    return "\n".join(
        [
            f"# {options.minutes:g} minutes with a fault every {options.fault_seconds:g} s",
            "",
            f"**{'Does not hold: ' + '; '.join(wrong) if wrong else 'Everything held.'}**",
            "",
            _load(options, capacity, traffic),
            "",
            *_kinds(traffic),
            "",
            *_faults(injected),
            "",
            *_money(found),
            "",
            *_flat(samples),
            "",
            f"Redis took {grown:.0f} MiB more for {found.charges} charges and what is remembered of calls.",
            "",
        ]
    )


def _load(options: Options, capacity: float, traffic: Traffic) -> str:
    return (
        f"{WORKERS} workers, {options.sessions} sessions of each product open at any time, "
        f"{capacity * options.share:.0f} other calls begun a second: {options.share:.0%} of the {capacity:.0f} that "
        "were measured here, with clients, services and Redis on the same cores. "
        f"{traffic.told.left_out} did not begin because too many were under way."
    )


def _kinds(traffic: Traffic) -> list[str]:
    ended = traffic.told.ended
    rows = ["| customers | served | refused | cut |", "|---|---:|---:|---:|"]
    for kind in sorted({kind for kind, _ in ended} - {STREAMING.name, AGENTS.name}):
        refused = sum(count for (one, how), count in ended.items() if one == kind and how.isdigit())
        rows.append(f"| {kind} | {ended[kind, 'served']} | {refused} | {ended[kind, 'cut']} |")
    for each, talkers in traffic.talkers.items():
        good = sum(talker.code == 1000 for talker in talkers)
        cut = sum(talker.lost for talker in talkers)
        rows.append(f"| {each.name} sessions | {good} | {len(talkers) - good - cut} | {cut} |")
    return rows


def _faults(injected: Sequence[Injected]) -> list[str]:
    rows = [
        "| fault | times | calls in flight | sessions open | served again after, at most (s) |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(each.name for each in injected):
        those = [each for each in injected if each.name == name]
        worst = max((each.recovery_seconds or 0.0) for each in those)
        calls, sessions = sum(each.in_flight for each in those), sum(each.sessions for each in those)
        rows.append(f"| {name} | {len(those)} | {calls} | {sessions} | {worst:.2f} |")
    return rows


def _money(found: Audit) -> list[str]:
    figures: Mapping[str, object] = {
        "charges": found.charges,
        "charged": f"${format_usd(found.nanos)}",
        "charges lost": found.lost,
        "charges doubled": found.doubled,
        "charges for what was refused or failed": found.for_refused,
        "charges of answers that were cut on their way to the client": found.unasked,
        "late charges": found.late,
        "sessions": found.sessions,
        "sessions charged to the nano-dollar of the vendor's record": found.sessions_exact,
        "seconds of sessions that a fault cut, not charged: in all": f"{found.session_seconds_lost:.1f}",
        "the same, most of one session": f"{found.session_seconds_lost_most:.1f}",
    }
    return ["| money | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in figures.items())]


def _flat(samples: Samples) -> list[str]:
    rows = [
        "| must stay flat: the floor of | first third | last third | slope an hour | flat |",
        "|---|---:|---:|---:|---|",
    ]
    for name, series in samples.series.items():
        first, last = series.floors
        unit = f" {series.unit}" if series.unit == "MiB" else ""
        flat = "yes" if series.flat else "NO"
        rows.append(f"| {name} | {first:.1f}{unit} | {last:.1f}{unit} | {series.per_hour:+.1f} | {flat} |")
    return rows
