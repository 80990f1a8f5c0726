"""What a million accounts cost a Redis, and that they make no call slower.

`python -m benchmarks.scale [--accounts 1000,100000,1000000] [--pairs 4000] [--rounds 9] [--server OPTIONS] [--json F]`

A server for each size, all of them at once, measured by turns, so that what else the machine does meets them all. Calls
go round all accounts of a server. Times are of the server's own CPU, but where it says wall.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.ledger import IN_FLIGHT, Bench, cpu_seconds, digest_of
from benchmarks.population import CHARGES, PREFIX, Population, asked, name_of
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink

#: Accounts that go round in one step of calls: no two neighbours in the order in which they were made.
STRIDE: Final = 7919
ALONE: Final = 500
#: What an account takes at most, and the share of the memory there is that may be taken.
BYTES_EACH: Final = 8_000
MEMORY_SHARE: Final = 0.7
_FIGURES: Final = ("admit", "settle", "sweep", "verify", "wall")
#: At the defaults of gateway.yaml, accounts a second: by each worker, by the supervisor, by the exporter.
WALKS: Final = {"sweep": 200, "verify": 5, "export walk": 200}


@dataclass
class Size:
    """One server with so many accounts, and what was measured of it."""

    accounts: int
    redis: EmbeddedRedis
    link: SingleLink
    population: Population
    fill_seconds: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)
    admit: list[float] = field(default_factory=list)
    settle: list[float] = field(default_factory=list)
    sweep: list[float] = field(default_factory=list)
    verify: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    walk_seconds: float = 0.0

    @property
    def bench(self) -> Bench:
        return self.population.bench

    async def fill(self) -> None:
        """All accounts; what they take is what the server has more than before."""
        before = await memory(self.link)
        began = time.monotonic()
        await self.population.first()
        await self.population.grow(1, self.accounts)
        self.fill_seconds = time.monotonic() - began
        after = await memory(self.link)
        self.memory = {name: after[name] - before[name] for name in after}

    async def round(self, pairs: int) -> None:
        """Each figure once."""
        admit, settle = await self.bench.pair(pairs, 1)
        self.admit.append(admit)
        self.settle.append(settle)
        some = [self.bench.account_of(call_id) for call_id in self.bench.ids(ALONE)]
        self.sweep.append(await self.each(self.bench.ledger.sweep, some))
        self.verify.append(await self.each(lambda account: self.bench.ledger.verify(account, entries=False), some))
        self.wall.append(await self.alone())

    async def each(self, verb: Any, accounts: list[str]) -> float:
        """Microseconds of the server for each of these accounts."""
        began = cpu_seconds(self.redis.pid or 0)
        await self.bench.each(verb, accounts)
        return (cpu_seconds(self.redis.pid or 0) - began) / len(accounts) * 1e6

    async def alone(self) -> float:
        """Wall microseconds of an admission, one at a time: the median, with our own part in it."""
        took = []
        for call_id in (ids := self.bench.ids(ALONE)):
            began = time.perf_counter()
            await self.bench.admit(call_id)
            took.append((time.perf_counter() - began) * 1e6)
        await self.bench.each(self.bench.settle, ids)
        return statistics.median(took)

    async def walk(self) -> None:
        """The walk over all accounts that lists them."""
        began = cpu_seconds(self.redis.pid or 0)
        found = 0
        async for _ in self.bench.ledger.accounts():
            found += 1
        assert found >= self.accounts, (found, self.accounts)
        self.walk_seconds = cpu_seconds(self.redis.pid or 0) - began

    def figures(self) -> dict[str, Any]:
        """As they are kept."""
        medians = {
            name: statistics.median(getattr(self, name)) for name in ("admit", "settle", "sweep", "verify", "wall")
        }
        return {
            "accounts": self.accounts,
            "fill_seconds": self.fill_seconds,
            **self.memory,
            **{f"{name}_us": value for name, value in medians.items()},
            "rounds": {name: getattr(self, name) for name in medians},
            "walk_cpu_seconds": self.walk_seconds,
        }


async def memory(link: SingleLink) -> dict[str, int]:
    """What the server says that it has in memory."""
    text = await link.call("INFO", "memory")
    assert isinstance(text, bytes), text
    words = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return {"used_bytes": int(words["used_memory"]), "rss_bytes": int(words["used_memory_rss"])}


def fitting(numbers: Iterable[int]) -> list[int]:
    """Those numbers of accounts that fit into this machine, all at once; the others are told."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    room = int(found[1]) * 1024 * MEMORY_SHARE if found else 0.0
    fit = []
    for number in sorted(numbers):
        if number * BYTES_EACH <= room:
            fit.append(number)
            room -= number * BYTES_EACH
        else:
            print(f"# {number:,} accounts are left out: they need {number * BYTES_EACH / 2**30:.1f} GiB", flush=True)
    return fit


async def opened(stack: AsyncExitStack, directory: Path, accounts: int, *server: str) -> Size:
    """A server for so many accounts, with these options."""
    redis = EmbeddedRedis(
        directory / str(accounts), appendonly=False, extra_args=server, start_seconds_max=300.0, stop_seconds_max=120.0
    )
    await stack.enter_async_context(redis)
    link = SingleLink(LinkSettings(url=redis.url, command_seconds_max=300.0))
    await link.open()
    stack.push_async_callback(link.close)
    bench = Bench(RedisLedger(link), redis.pid or 0, lambda number: name_of(number * STRIDE % accounts))
    return Size(accounts=accounts, redis=redis, link=link, population=Population(link, bench))


async def by_kind(size: Size) -> Counter[str]:
    """Bytes of the first account's keys, by what they are."""
    found: Counter[str] = Counter()
    base = f"{PREFIX}:{{{name_of(0)}}}:"
    for key in await size.population.keys_of_first():
        kind = "end (each call)" if key.startswith("end:") else key.partition(":")[0]
        found[kind] += await asked(size.link, "MEMORY", "USAGE", base + key)
    found["end (each call)"] //= CHARGES
    found["digest of the key"] = await asked(size.link, "MEMORY", "USAGE", f"{PREFIX}:key:{digest_of(name_of(0))}")
    return found


async def grown(size: Size, charges: int = 1000) -> float:
    """Bytes of one more charge of an account that has many: its entry and the end of its hold."""
    await size.population.bench.open("grown000")
    bench = Bench(size.bench.ledger, size.bench.pid, lambda _: "grown000")
    before = await memory(size.link)
    ids = bench.ids(charges)
    await bench.each(bench.admit, ids)
    await bench.each(bench.settle, ids)
    return ((await memory(size.link))["used_bytes"] - before["used_bytes"]) / charges


async def restart(size: Size) -> dict[str, float]:
    """Written to disk, and read again by a server that begins: as after a failure of the machine."""
    began = time.monotonic()
    await size.link.call("SAVE")
    saved = time.monotonic() - began
    await size.link.close()
    size.redis.stop_sync()
    began = time.monotonic()
    await size.redis.start()
    loaded = time.monotonic() - began
    await size.link.open()
    found = await memory(size.link)
    file = (size.redis.directory / "dump.rdb").stat().st_size
    return {"save_seconds": saved, "load_seconds": loaded, "file_bytes": file, **found}


async def hot(size: Size, pairs: int) -> dict[str, float]:
    """One account takes all calls: the server's CPU for a pair, and pairs a second by the wall, with our part in it."""
    bench = Bench(size.bench.ledger, size.redis.pid or 0, lambda _: name_of(1))
    bench.numbers = size.bench.numbers
    began = time.monotonic()
    rounds = [await bench.pair(pairs, 1) for _ in range(5)]
    wall = 5 * (pairs // IN_FLIGHT) * IN_FLIGHT / (time.monotonic() - began)
    admit, settle = (statistics.median(each) for each in zip(*rounds, strict=True))
    return {
        "admit_us": admit,
        "settle_us": settle,
        "pairs_per_core_second": 1e6 / (admit + settle),
        "wall_pairs_per_second": wall,
    }


def ratios(sizes: list[Size]) -> list[dict[str, float]]:
    """Each size beside the smallest, round by round."""
    first = sizes[0]
    return [
        {
            name: statistics.median(
                mine / its for mine, its in zip(getattr(size, name), getattr(first, name), strict=True)
            )
            for name in _FIGURES
        }
        for size in sizes
    ]


def print_tables(sizes: list[Size], found: dict[str, Any]) -> None:
    """What is to be read."""
    print_row(
        "accounts", "bytes each", "server MiB", "admit us", "settle us", "admit, ratio", "settle, ratio",
        "alone, wall us", "sweep us", "verify us", "list all, s",
    )  # fmt: skip
    print_row(*["---:"] * 11)
    for size, ratio in zip(sizes, found["ratios"], strict=True):
        of = size.figures()
        print_row(
            f"{size.accounts:,}", f"{of['used_bytes'] / size.accounts:,.0f}", f"{of['used_bytes'] / 2**20:,.0f}",
            f"{of['admit_us']:.1f}", f"{of['settle_us']:.1f}", f"{ratio['admit']:.2f}", f"{ratio['settle']:.2f}",
            f"{of['wall_us']:.0f}", f"{of['sweep_us']:.1f}", f"{of['verify_us']:.1f}", f"{of['walk_cpu_seconds']:.1f}",
        )  # fmt: skip
    print()
    print_row("of one account", "bytes")
    print_row("---", "---:")
    for kind, value in found["by_kind"].items():
        print_row(kind, f"{value:,}")
    print_row("one more charge of an account that has many", f"{found['charge_bytes']:,.0f}")
    one, again, most = found["hot"], found["restart"], sizes[-1].accounts
    print(
        f"\nhot account: admit {one['admit_us']:.1f} us, settle {one['settle_us']:.1f} us, "
        f"{one['pairs_per_core_second']:,.0f} pairs/s of a core, {one['wall_pairs_per_second']:,.0f} by the wall\n"
        f"restart with {most:,} accounts: written in {again['save_seconds']:.1f} s, "
        f"{again['file_bytes'] / 2**20:,.0f} MiB on disk, loaded in {again['load_seconds']:.1f} s, "
        f"{again['used_bytes'] / most:,.0f} bytes an account then"
    )
    for name, each in WALKS.items():
        print(f"{name}: {each} accounts a second, all of them in {most / each / 60:,.0f} minutes")


def print_row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |")


async def measure(directory: Path, options: argparse.Namespace) -> None:
    """Fill, measure by turns, print."""
    async with AsyncExitStack() as stack:
        server = options.server.split()
        numbers = fitting(map(int, options.accounts.split(",")))
        sizes = [await opened(stack, directory, number, *server) for number in numbers]
        found: dict[str, Any] = {}
        for size in sizes:
            await size.fill()
            print(f"# {size.accounts:,} accounts in {size.fill_seconds:.0f} s", flush=True)
            await size.bench.pair(options.pairs // 4, 1)
        found["by_kind"] = dict(await by_kind(sizes[0]))
        found["charge_bytes"] = await grown(sizes[0])
        for _ in range(options.rounds):
            for size in sizes:
                await size.round(options.pairs)
        for size in sizes:
            await size.walk()
        found["hot"] = await hot(sizes[-1], options.pairs)
        for size in sizes:
            for number in (0, 1, size.accounts - 1):
                assert not await size.bench.ledger.verify(name_of(number)), name_of(number)
        found["ratios"] = ratios(sizes)
        found["restart"] = await restart(sizes[-1])
        found["sizes"] = [size.figures() for size in sizes]
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
        print_tables(sizes, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", default="1000,100000,1000000")
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--server", default="", help="options of the server, as '--stream-node-max-bytes 2048'")
    parser.add_argument("--json", type=Path, help="where the figures are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        uvloop.run(measure(Path(name), options))


if __name__ == "__main__":
    main()
