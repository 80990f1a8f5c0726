"""The ledger on a cluster whose primaries die and whose slots move, under load: what is acknowledged stays, once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from gateway.core.errors import LedgerUnavailable
from gateway.core.money import Nanos
from gateway.ledger.cluster import ClusterLink
from gateway.ledger.keys import Keys
from gateway.ledger.link import LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.slots import hash_slot
from gateway.ports import Key
from tests.ledger.clusters import RANGES, Cluster, replicated_cluster
from tests.ledger.ledgers import DOLLAR, FREE, ask, bill

ACCOUNTS = [f"account-{number}" for number in range(9)]
CENT = Nanos(DOLLAR // 100)
CREDIT = Nanos(1000 * DOLLAR)
#: What was acknowledged so long before its primary died has reached the replica, on one machine.
REPLICATED_SECONDS = 0.5


class Load:
    """Charges of a cent, one after the other for each account, each repeated until it is acknowledged."""

    def __init__(self, ledger: RedisLedger) -> None:
        self._ledger = ledger
        self._over = asyncio.Event()
        self.acknowledged: dict[str, dict[str, float]] = {name: {} for name in ACCOUNTS}
        self._tasks = [asyncio.create_task(self._charge(name)) for name in ACCOUNTS]

    async def _charge(self, account: str) -> None:
        number = 0
        while not self._over.is_set():
            hold, number = f"{account}-{number}", number + 1
            await self._persistently(lambda hold=hold: self._ledger.admit(ask(hold, account=account, estimate=CENT)))  # type: ignore[misc]
            await self._persistently(lambda hold=hold: self._ledger.settle(bill(hold, CENT, account=account)))  # type: ignore[misc]
            self.acknowledged[account][hold] = time.monotonic()

    async def _persistently(self, operation: Callable[[], Awaitable[object]]) -> object:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await operation()
                except LedgerUnavailable:
                    await asyncio.sleep(0.02)

    async def more(self, accounts: list[str]) -> None:
        """Wait until each of these accounts has ten charges more."""
        counts = {name: len(self.acknowledged[name]) for name in accounts}
        async with asyncio.timeout(30):
            while any(len(self.acknowledged[name]) < count + 10 for name, count in counts.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        """No more charges."""
        self._over.set()
        await asyncio.gather(*self._tasks)


async def opened(ledger: RedisLedger) -> None:
    """Every account with its credit and key."""
    for name in ACCOUNTS:
        await ledger.open_account(operation="open", account=name, plan=FREE, signup=CREDIT)
        await ledger.put_key(operation="key", key=Key(id=f"{name}-key", account=name), digest=f"{name}-digest")


async def missing(ledger: RedisLedger, load: Load) -> dict[str, float]:
    """Acknowledged charges that are gone, and when they were acknowledged. No charge is there twice."""
    gone: dict[str, float] = {}
    for name in ACCOUNTS:
        acknowledged = dict(load.acknowledged[name])
        entries = await ledger.entries(name, limit=100_000)
        charged = [entry.operation for entry in entries if entry.kind == "charge"]
        assert len(charged) == len(set(charged))
        gone |= {hold: at for hold, at in acknowledged.items() if hold not in charged}
    return gone


async def in_order(ledger: RedisLedger, gone: Collection[str]) -> None:
    """The books of every account agree, to the last charge; nothing is held but for charges that are gone."""
    for name in ACCOUNTS:
        charged = [entry for entry in await ledger.entries(name, limit=100_000) if entry.kind == "charge"]
        account = await ledger.account(name)
        assert account.balance == CREDIT - len(charged) * CENT
        assert {hold.id for hold in await ledger.holds(name)} <= set(gone)
        assert not await ledger.verify(name)


def slot_of(account: str) -> int:
    """Where all of an account is."""
    return hash_slot(Keys("gw").account(account))


async def reshard(cluster: Cluster, load: Load) -> int:
    """Move the slots of three accounts to the next primary, with their keys, while they are charged; how many keys."""
    moved = 0
    for account in ACCOUNTS[:3]:
        slot = slot_of(account)
        source = next(index for index, (first, last) in enumerate(RANGES) if first <= slot <= last)
        target = (source + 1) % 3
        await cluster.begin_move(slot, source, target)
        moved += await cluster.move_keys(slot, source, target)
        await cluster.end_move(slot, target)
        await load.more([account])
    return moved


async def test_slots_move_and_a_primary_dies_under_load(tmp_path: Path) -> None:
    """Resharding loses nothing; a killed primary's replica takes over, and only what was not passed on is gone."""
    async with replicated_cluster(tmp_path) as cluster:
        link = ClusterLink(LinkSettings(url=cluster.url, command_seconds_max=2.0, down_seconds=0.1))
        await link.open()
        ledger = RedisLedger(link)
        await opened(ledger)
        load = Load(ledger)
        await load.more(ACCOUNTS)
        assert await reshard(cluster, load) > 30
        assert not await missing(ledger, load)
        of_first = [name for name in ACCOUNTS if RANGES[0][0] <= slot_of(name) <= RANGES[0][1]]
        assert of_first
        killed = time.monotonic()
        cluster.kill(0)
        await cluster.promoted(3)
        await load.more(ACCOUNTS)
        assert time.monotonic() - killed < 20
        await load.end()
        gone = await missing(ledger, load)
        await in_order(ledger, gone)
        assert all(killed - REPLICATED_SECONDS < at <= killed + REPLICATED_SECONDS for at in gone.values()), gone
        await link.close()
