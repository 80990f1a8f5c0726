"""The marks of a cluster: a primary that lost its data is noticed, whichever it is, and only its customers wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from gateway.core.errors import Code, LedgerUnavailable
from gateway.ledger.cluster import ClusterLink
from gateway.ledger.epoch import Memory, key_of
from gateway.ledger.link import LinkSettings
from gateway.ledger.links import guard, open_link
from gateway.ledger.marks import LOST, marks
from gateway.ledger.redis import RedisLedger
from gateway.ledger.slots import SLOTS, hash_slot
from gateway.ports import Key
from tests.ledger.clusters import RANGES, Cluster, make_servers
from tests.ledger.ledgers import FREE, admitted, ask, bill, refused, usd
from tests.pipeline.helpers import until

PREFIX = "gw"


def owner(key: str) -> int:
    """The primary that has a key, as long as no slot has moved."""
    return next(index for index, (first, last) in enumerate(RANGES) if first <= hash_slot(key) <= last)


def of_each_primary() -> list[str]:
    """An account on each."""
    names = [f"account-{number}" for number in range(60)]
    return [next(name for name in names if owner(f"{{{name}}}") == index) for index in range(3)]


def memory(cluster: Cluster, machine: Path) -> Memory:
    """What a machine remembers of a cluster."""
    return Memory(machine, cluster.url, PREFIX)


@asynccontextmanager
async def seen_from(cluster: Cluster, machine: Path, *, guarded: bool = True) -> AsyncIterator[RedisLedger]:
    """The ledger as a gateway on this machine has it, or as a command does."""
    settings = LinkSettings(url=cluster.url, connect_seconds_max=5.0, command_seconds_max=5.0, down_seconds=0.05)
    link = open_link(settings, guard(cluster.url, PREFIX, memory(cluster, machine)) if guarded else None)
    assert isinstance(link, ClusterLink)
    await link.open()
    yield RedisLedger(link, PREFIX)
    await link.close()


async def looked_at(cluster: Cluster, machine: Path, *, guarded: bool = True) -> list[str]:
    """What a gateway that starts there finds, and marks if there is nothing against it."""
    async with seen_from(cluster, machine, guarded=guarded) as ledger:
        try:
            condition = await ledger.condition(memory(cluster, machine))
        except LedgerUnavailable as error:
            return [str(error)]
        if not condition.faults and guarded:
            await ledger.complete(memory(cluster, machine), condition)
            assert (await ledger.condition(memory(cluster, machine))).marked
        return [finding.text for finding in condition.faults]


def test_every_part_of_the_slots_has_a_mark() -> None:
    """A primary of 256 slots in a row, wherever they begin, has one."""
    slots = sorted(hash_slot(name) for name in marks(PREFIX))
    assert len(slots) == 128
    assert max(later - sooner for sooner, later in zip([-1, *slots], [*slots, SLOTS], strict=True)) <= 256


async def test_a_primary_that_lost_its_data_is_refused_until_ops_accept_it(tmp_path: Path) -> None:
    """Its customers' calls and charges wait, the others are served; slots may move; no new machine is fooled."""
    here, there, fresh = (tmp_path / name for name in ("here", "there", "fresh"))
    servers, bus_ports = make_servers(tmp_path, 3)
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        cluster = Cluster(servers, bus_ports)
        await cluster.join()
        for machine in (here, there):
            assert await looked_at(cluster, machine) == []
        assert memory(cluster, here).read() == memory(cluster, there).read() != ""

        ledger = await stack.enter_async_context(seen_from(cluster, here))
        accounts = of_each_primary()
        for name in accounts:
            await ledger.open_account(operation="open", account=name, plan=FREE, signup=usd(50))
            await ledger.put_key(operation="key", key=Key(id=f"{name}-key", account=name), digest=f"digest-of-{name}")
            await admitted(ledger, ask("call-1", account=name, estimate=usd(2)))

        epoch_on = owner(key_of(PREFIX))
        lost, target = (index for index in range(3) if index != epoch_on)
        moved = next(hash_slot(name) for name in marks(PREFIX) if owner(name) == epoch_on)
        await cluster.begin_move(moved, epoch_on, target)
        assert await cluster.move_keys(moved, epoch_on, target) == 1
        await cluster.end_move(moved, target)
        assert await looked_at(cluster, there) == []

        gone, *others = (accounts[lost], accounts[epoch_on], accounts[target])
        assert await ledger.identify("digest-of-nobody") is None  # which is asked so shortly before that it is believed

        await cluster.ask(lost, "FLUSHALL")
        answers = await asyncio.gather(
            *(ledger.settle(bill("call-1", usd(1), account=gone)) for _ in range(9)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {LedgerUnavailable}
        for name in others:
            assert (await ledger.settle(bill("call-1", usd(1), account=name))).charged == usd(1)
        (why,) = await looked_at(cluster, fresh)
        assert "lost the ledger's data" in why
        assert await looked_at(cluster, fresh, guarded=False) == [LOST]
        assert await cluster.ask(lost, "DBSIZE") == 0

        async with seen_from(cluster, there, guarded=False) as command:
            await command.begin_epoch(memory(cluster, there))

        async def back() -> bool:
            try:
                return (await refused(ledger, ask("call-2", account=gone))).code is Code.UNAUTHORIZED
            except LedgerUnavailable:
                return False

        assert await until(back)
        for machine in (here, there, fresh):
            assert await looked_at(cluster, machine) == []
