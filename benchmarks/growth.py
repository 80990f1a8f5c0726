"""What grows, and what does not get slower by it: curves against accounts, config, sessions, jobs, length of ledgers.

`python -m benchmarks.growth [--only accounts config sessions jobs ledger] [--rounds 7] [--quick]`

Figures are CPU time of the process that does the work, so that other work on the machine does not count; the sizes of
one curve are measured by turns where they can exist at once. Data goes to docs/operating/curves, one JSON file for each
curve, and pictures beside it. What is not measured in a run stays as it was.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import uvloop
import yaml

from benchmarks import scale, sockets
from benchmarks.curves import drawn
from benchmarks.harness import GATEWAY_PORT, ROOT, SUPPORT, seed, write_config
from benchmarks.ledger import Bench, cpu_seconds
from benchmarks.memory import UPSTREAM_PORT, Customers, MemoryLoop
from benchmarks.population import Population, name_of
from gateway.edge.app import Gateway
from gateway.edge.ledger import open_ledger
from gateway.edge.observing import Observing
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import FollowedJob, Resource, ResourceRef
from gateway.settings.load import load

DATA: Final = ROOT / "docs" / "operating" / "curves"
Row = dict[str, float]
_JOBS_EACH: Final = 100
_CLAIM: Final = 50
_PAIRS: Final = 2000
_FRAMES_PER_SECOND: Final = 500
_DIALECT: Final[dict[str, Any]] = {"errors": {"body": {"error": "{message}"}}}


# ---- accounts


async def accounts(directory: Path, rounds: int, *, quick: bool) -> list[Row]:
    """Calls of any account, and the sweeper's visit, with so many accounts in one Redis."""
    async with AsyncExitStack() as stack:
        numbers = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
        sizes = [await scale.opened(stack, directory, number) for number in scale.fitting(numbers)]
        for size in sizes:
            await size.fill()
            await size.bench.pair(1000, 1)
        for _ in range(rounds):
            for size in sizes:
                await size.round(_PAIRS)
        return [
            {"x": size.accounts, "bytes": size.memory["used_bytes"] / size.accounts}
            | {f"{name}_us": statistics.median(getattr(size, name)) for name in ("admit", "settle", "sweep")}
            for size in sizes
        ]


# ---- products and routes in the config


async def config(directory: Path, rounds: int, *, quick: bool) -> list[Row]:
    """A call through the whole gateway, without sockets, with so many routes more than its own in its config."""
    numbers = (6, 60) if quick else (6, 60, 200, 600)
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        customers: dict[int, Customers] = {}
        for number in numbers:
            began = time.process_time()
            customers[number] = await stack.enter_async_context(_gateway_of(directory / str(number), number))
            rows.append({"x": number, "start_seconds": time.process_time() - began})
        for each in customers.values():
            await each.call(1000)
        spent: dict[int, list[float]] = {number: [] for number in numbers}
        for turn in range(rounds):
            for number in numbers[:: 1 if turn % 2 else -1]:
                before = time.process_time()
                await customers[number].call(1500)
                spent[number].append((time.process_time() - before) * 1e6 / 1500)
        for row in rows:
            row["call_us"] = statistics.median(spent[int(row["x"])])
        for each in customers.values():
            each.close()
        await asyncio.sleep(0.01)
    return rows


@asynccontextmanager
async def _gateway_of(directory: Path, routes: int) -> AsyncIterator[Customers]:
    """With products of six routes each, until there are so many."""
    async with EmbeddedRedis(directory / "redis", appendonly=False) as redis:
        path = write_config(directory, redis.url, upstream_port=UPSTREAM_PORT, customers_port=0)
        more = [f"more-{number}" for number in range(routes // 6)]
        for name in more:
            product = {"product": name, "title": name, "upstream": "speech-to-text", **_DIALECT}
            product["routes"] = [
                {"name": f"{name}.{number}", "match": f"GET /v1/{name}/things-{number}/{{id}}"} for number in range(6)
            ]
            (directory / f"config/products/{name}.yaml").write_text(yaml.safe_dump(product))
        tiers = yaml.safe_load((directory / "config/tiers.yaml").read_text())
        for tier in tiers["tiers"].values():
            tier["products"] |= {name: {} for name in more}
        (directory / "config/tiers.yaml").write_text(yaml.safe_dump(tiers))
        runtime = load(path, dict(os.environ))
        await seed(runtime)
        with (directory / "log").open("wb") as lines:
            observing = Observing(runtime, lines=lines)
            async with open_ledger(runtime) as ledger, Gateway(runtime, ledger=ledger, observing=observing):
                loop = cast("MemoryLoop", asyncio.get_running_loop())
                yield Customers(loop.served[-1], 32)


# ---- open sessions


def sessions(directory: Path, rounds: int, *, quick: bool) -> list[Row]:
    """A frame and its answer, the same number of them a second whatever the sessions that share them."""
    numbers = (10, 100) if quick else (10, 100, 1_000, 2_500, 5_000)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found: dict[int, list[Row]] = {number: [] for number in numbers}
    support = sockets.Support(sockets.UPSTREAM_PORT)
    try:
        for _ in range(max(1, rounds // 3)):
            for number in numbers:
                with sockets.gateway(directory / f"sessions-{time.monotonic_ns()}", slice_seconds=30) as (pid, _):
                    order = {"port": GATEWAY_PORT, "sessions": number, "seconds": 8.0, "fields": sockets.AUTHORIZED}
                    order["interval"] = number / _FRAMES_PER_SECOND
                    found[number].append(support.run(order, pid))
    finally:
        support.stop()
    return [
        {
            "x": number,
            "frame_us": statistics.median(row["cores"] / row["answered"] * 1e6 for row in rows),
            "p50_ms": statistics.median(row["p50"] for row in rows),
            "p99_ms": statistics.median(row["p99"] for row in rows),
            "kib_each": statistics.median(row["kib"] for row in rows),
            "lost": sum(row["lost"] for row in rows),
        }
        for number, rows in found.items()
    ]


# ---- open jobs


async def jobs(directory: Path, rounds: int, *, quick: bool) -> list[Row]:
    """Calls, and the reconciler's claim of a job and its putting back, with so many open jobs, a hundred an account."""
    async with AsyncExitStack() as stack:
        places = {}
        for number in (0, 1_000) if quick else (0, 1_000, 10_000, 100_000):
            place = places[number] = await stack.enter_async_context(_server(directory / str(number)))
            await place.grow(1, number // _JOBS_EACH + 1)
            for account in range(1, number // _JOBS_EACH + 1):
                await _accept(place.bench, name_of(account))

        async def look(place: Population) -> float:
            ledger = place.bench.ledger

            async def claim() -> int:
                claimed = await ledger.claim_jobs(limit=_CLAIM, lease_seconds=60)
                await asyncio.gather(*(_put_back(ledger, job) for job in claimed))
                return len(claimed)

            return await _each(place, claim, times=20)

        return await _in_turns(places, rounds, {"look_us": look})


async def _accept(bench: Bench, account: str) -> None:
    """A hundred jobs of one account, all due at once."""
    mine = Bench(bench.ledger, bench.pid, lambda _: account)
    mine.numbers = bench.numbers
    ids = mine.ids(_JOBS_EACH)
    await mine.each(mine.admit, ids)

    async def accept(call_id: str) -> None:
        job = Resource(
            ref=ResourceRef(kind="transcript", id=call_id), state="open", product="speech-to-text", hold=call_id,
            key_id="key", price_version="2026-04-07", rate_card="standard", facts={"duration": 36},
        )  # fmt: skip
        await bench.ledger.accept(
            account=account, resource=job, deadline_seconds=86_400, keep_seconds=86_400, look_seconds=0.001
        )

    await mine.each(accept, ids)


async def _put_back(ledger: RedisLedger, job: FollowedJob) -> None:
    """It is not over yet: again in a while."""
    await ledger.look_later(account=job.account, ref=job.record.ref, seconds=0.001)


# ---- length of a ledger


async def ledger(directory: Path, rounds: int, *, quick: bool) -> list[Row]:
    """Calls of an account with so many entries, a page of these, and the verifier's look at it."""
    async with AsyncExitStack() as stack:
        places = {}
        for number in (100, 1_000) if quick else (100, 1_000, 10_000, 100_000):
            place = places[number] = await stack.enter_async_context(_server(directory / str(number)))
            for begin in range(0, number, 1000):
                ids = place.bench.ids(min(1000, number - begin))
                await place.bench.each(place.bench.admit, ids)
                await place.bench.each(place.bench.settle, ids)

        async def page(place: Population) -> float:
            async def read() -> int:
                await place.bench.ledger.entries(name_of(0), limit=100)
                return 1

            return await _each(place, read, times=50)

        async def verify(place: Population) -> float:
            async def look() -> int:
                assert not await place.bench.ledger.verify(name_of(0), entries=False)
                return 1

            return await _each(place, look, times=50)

        return await _in_turns(places, rounds, {"page_us": page, "verify_us": verify})


# ---- servers


@asynccontextmanager
async def _server(directory: Path) -> AsyncIterator[Population]:
    """One with one account, of which all calls are."""
    async with EmbeddedRedis(directory, appendonly=False, start_seconds_max=60.0) as redis:
        link = SingleLink(LinkSettings(url=redis.url, command_seconds_max=60.0))
        await link.open()
        place = Population(link, Bench(RedisLedger(link), redis.pid or 0, lambda _: name_of(0)))
        await place.first()
        yield place
        await link.close()


async def _in_turns(
    places: Mapping[int, Population], rounds: int, figures: Mapping[str, Callable[[Population], Awaitable[float]]]
) -> list[Row]:
    """Calls and these figures, of one server after the other in each round; the medians."""
    found: dict[int, dict[str, list[float]]] = {number: defaultdict(list) for number in places}
    for _ in range(rounds):
        for number, place in places.items():
            admit, settle = await place.bench.pair(_PAIRS, 1)
            found[number]["admit_us"].append(admit)
            found[number]["settle_us"].append(settle)
            for name, figure in figures.items():
                found[number][name].append(await figure(place))
    return [
        {"x": float(number), **{name: statistics.median(values) for name, values in of.items() if any(values)}}
        for number, of in found.items()
    ]


async def _each(place: Population, work: Callable[[], Awaitable[int]], times: int) -> float:
    """Microseconds of the server for each thing that the work says it has done; 0 if there was nothing to do."""
    before, done = cpu_seconds(place.bench.pid), 0
    for _ in range(times):
        done += await work()
    return (cpu_seconds(place.bench.pid) - before) / done * 1e6 if done else 0.0


# ---- all of them

_CALLS: Final = {"admit": "admit_us", "settle": "settle_us"}
PICTURES: Final[Mapping[str, tuple[str, str, Mapping[str, str]]]] = {
    "accounts": ("Accounts in one Redis: its CPU for each", "accounts", _CALLS | {"sweep": "sweep_us"}),
    "config": ("Routes added to the config: the gateway's CPU for each", "routes", {"a call": "call_us"}),
    "sessions": ("Open sessions: the gateway's CPU for each", "sessions", {"a frame and its answer": "frame_us"}),
    "jobs": ("Open jobs: the CPU of Redis for each", "jobs", _CALLS | {"look": "look_us"}),
    "ledger": ("Entries of an account: the CPU of Redis for each", "entries", _CALLS | {"verify": "verify_us"}),
}


def measured(name: str, directory: Path, options: argparse.Namespace) -> list[Row]:
    """One curve."""
    if name == "sessions":
        return sessions(directory, options.rounds, quick=options.quick)
    measure = {"accounts": accounts, "config": config, "jobs": jobs, "ledger": ledger}[name]
    factory = MemoryLoop if name == "config" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(measure(directory, options.rounds, quick=options.quick))


def kept(name: str, rows: list[Row]) -> None:
    """The data, and its picture."""
    DATA.mkdir(exist_ok=True)
    (DATA / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    title, x_label, lines = PICTURES[name]
    points = {each: [(row["x"], row[key]) for row in rows if key in row] for each, key in lines.items()}
    (DATA / f"{name}.svg").write_text(drawn(title, x_label, "us", points))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(PICTURES), default=list(PICTURES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing kept: whether it works")
    options = parser.parse_args()
    os.sched_setaffinity(0, {SUPPORT})
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="growth-") as directory:
            rows = measured(name, Path(directory), options)
        columns = list(rows[-1])
        print(f"\n{name}\n| " + " | ".join(columns) + " |\n|" + "---:|" * len(columns))
        for row in rows:
            print("| " + " | ".join(f"{row[each]:,.1f}" if each in row else "" for each in columns) + " |", flush=True)
        if not options.quick:
            kept(name, rows)


if __name__ == "__main__":
    main()
