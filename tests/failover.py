"""What a failover costs: `python -m tests.failover` takes primaries away under load and prints what was lost.

Of a cluster, one of three primaries dies with its process only: nothing is between it and its replica.

Owns: the ways in which Redis may be set up, the load, the count. A primary dies as with its machine: what it had sent
to its replica, and was still on the line of `LINE_SECONDS`, is gone too. The load charges accounts, one call after the
other each, and notes every charge that was acknowledged; what of them the new primary does not have is lost.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.core.errors import LedgerUnavailable
from gateway.core.money import Nanos
from gateway.ledger.cluster import ClusterLink
from gateway.ledger.keys import Keys
from gateway.ledger.link import LinkError, LinkSettings, RedisLink
from gateway.ledger.redis import RedisLedger
from gateway.ledger.sentinel import SentinelLink
from gateway.ledger.slots import hash_slot
from gateway.ports import Key
from tests.ledger.clusters import RANGES, replicated_cluster
from tests.ledger.ledgers import DOLLAR, FREE, ask, bill
from tests.ledger.sentinels import pair

ACCOUNTS = 50
LOAD_SECONDS = 1.0
LINE_SECONDS = 0.02
CENT = DOLLAR // 100
#: Alone after the failover, the new primary must still answer what it has.
RELAXED = ("CONFIG", "SET", "min-replicas-to-write", "0")


class Line:
    """A line between two machines: what enters leaves later, or never if it is cut."""

    def __init__(self) -> None:
        self._ends: list[asyncio.StreamWriter] = []
        self._is_cut = False

    async def lay(self, port: int) -> int:
        """Begin to carry to a port; the port of this end."""

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                there, back = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.close()
                return
            self._ends += [writer, back]
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

        server = await asyncio.start_server(carry, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(65536):
                loop.call_later(LINE_SECONDS, self._deliver, writer, data)
        except ConnectionError:
            return

    def _deliver(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not self._is_cut:
            writer.write(data)

    def cut(self) -> None:
        """What is on the line is lost."""
        self._is_cut = True
        for writer in self._ends:
            writer.transport.abort()


@dataclass
class Way:
    """A way to set Redis up; `wait` also asks, after each charge, that a replica has it."""

    name: str
    options: tuple[str, ...] = ()
    wait: bool = False


WAYS = (
    Way("replica only"),
    Way("min-replicas-to-write 1, max-lag 1", ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")),
    Way("replica, and WAIT 1 after each charge", wait=True),
)
IN_CLUSTER = Way("cluster of three, a replica each, no line between")


@dataclass
class Outcome:
    """What one failover did."""

    charged: int
    lost: int
    away_seconds: float
    drifts: int
    doubled: int = 0
    in_flight: int = ACCOUNTS


async def measure(way: Way, directory: Path) -> Outcome:
    """One failover under load."""
    line = Line()
    options = ("--repl-diskless-sync-delay", "0", *way.options)
    async with pair(directory, options=options, line=line.lay) as servers:
        link = SentinelLink(LinkSettings(url=servers.url, command_seconds_max=1.0, down_seconds=0.1))
        await link.open()
        ledger = RedisLedger(link)
        names = await _opened(ledger)
        acknowledged: dict[str, set[str]] = {name: set() for name in names}
        over = asyncio.Event()
        load = [asyncio.create_task(_charge(ledger, link, name, acknowledged[name], way, over)) for name in names]
        await asyncio.sleep(LOAD_SECONDS)
        line.cut()
        dead = await servers.kill()
        began = time.monotonic()
        await asyncio.gather(*load)
        await servers.changed(dead.port)
        await _answering(lambda: link.call("PING"))
        away = time.monotonic() - began
        await link.call(*RELAXED)
        outcome = await _outcome(ledger, acknowledged, away)
        await link.close()
        return outcome


async def measure_cluster(directory: Path) -> Outcome:
    """One of three primaries of a cluster, each with a replica, dies under load."""
    async with replicated_cluster(directory) as cluster:
        link = ClusterLink(LinkSettings(url=cluster.url, command_seconds_max=1.0, down_seconds=0.1))
        await link.open()
        ledger = RedisLedger(link)
        names = await _opened(ledger)
        acknowledged: dict[str, set[str]] = {name: set() for name in names}
        over = asyncio.Event()
        load = [
            asyncio.create_task(_charge(ledger, link, name, acknowledged[name], IN_CLUSTER, over)) for name in names
        ]
        await asyncio.sleep(LOAD_SECONDS)
        cluster.kill(0)
        began = time.monotonic()
        await cluster.promoted(3)
        of_dead = [name for name in names if hash_slot(Keys("gw").account(name)) <= RANGES[0][1]]
        for name in of_dead:
            await _answering(lambda name=name: ledger.account(name))  # type: ignore[misc]
        away = time.monotonic() - began
        over.set()
        await asyncio.gather(*load)
        outcome = await _outcome(ledger, acknowledged, away)
        await link.close()
        return replace(outcome, in_flight=len(of_dead))


async def _opened(ledger: RedisLedger) -> list[str]:
    """Accounts with credit and a key each."""
    names = [f"account-{number}" for number in range(ACCOUNTS)]
    for name in names:
        await ledger.open_account(operation=f"open-{name}", account=name, plan=FREE, signup=Nanos(1000 * DOLLAR))
        await ledger.put_key(operation=f"k-{name}", key=Key(id=f"{name}-key", account=name), digest=f"{name}-digest")
    return names


async def _outcome(ledger: RedisLedger, acknowledged: Mapping[str, set[str]], away: float) -> Outcome:
    lost = drifts = doubled = 0
    for name, known in acknowledged.items():
        found = Counter(entry.operation for entry in await ledger.entries(name, limit=100_000))
        lost += len(known - found.keys())
        doubled += found.total() - len(found)
        drifts += len(await ledger.verify(name))
    return Outcome(sum(map(len, acknowledged.values())), lost, away, drifts, doubled)


async def _charge(
    ledger: RedisLedger, link: RedisLink, name: str, acknowledged: set[str], way: Way, over: asyncio.Event
) -> None:
    """Charge until the primary does not answer any more, or it is over."""
    number = 0
    while not over.is_set():
        hold, number = f"{name}-{number}", number + 1
        try:
            await ledger.admit(ask(hold, account=name, estimate=Nanos(CENT)))
            await ledger.settle(bill(hold, CENT, account=name))
            if way.wait and await link.call("WAIT", 1, 500) != 1:
                return
        except (LedgerUnavailable, LinkError):
            return
        acknowledged.add(hold)


async def _answering(ask_it: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await ask_it()
            except (LinkError, LedgerUnavailable):
                await asyncio.sleep(0.02)
            else:
                return


async def failover(way: Way) -> Outcome:
    """One failover in this way, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        return await (measure_cluster(Path(directory)) if way is IN_CLUSTER else measure(way, Path(directory)))


async def main(rounds: int) -> None:
    """Print the table."""
    print("| Redis | failovers | acknowledged | of them lost | lost at most | away at most (s) | books that differ |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for way in (*WAYS, IN_CLUSTER):
        found = [await failover(way) for _ in range(rounds)]
        charged, lost = sum(each.charged for each in found), sum(each.lost for each in found)
        print(
            f"| {way.name} | {rounds} | {charged} | {lost} | {max(each.lost for each in found)} | "
            f"{max(each.away_seconds for each in found):.1f} | {sum(each.drifts for each in found)} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What a failover costs.")
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args().rounds))
