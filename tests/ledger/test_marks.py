"""The marks of a cluster: a primary that lost its data is noticed, whichever it is, and only its customers wait."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.core.errors import LedgerRefused, LedgerUnavailable
from gateway.ledger.cluster import ClusterLink
from gateway.ledger.epoch import Memory, key_of
from gateway.ledger.keys import Keys
from gateway.ledger.link import CommandError, LinkSettings
from gateway.ledger.links import guard, open_link
from gateway.ledger.marks import LOST, Marks, marks
from gateway.ledger.redis import RedisLedger
from gateway.ledger.slots import SLOTS, hash_slot
from gateway.ports import Entry, ExportPage, Key
from tests.ledger.clusters import RANGES, Cluster, make_servers
from tests.ledger.ledgers import FREE, admitted, ask, bill, usd
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


def test_a_cluster_is_remembered_once_all_its_marks_are_written(tmp_path: Path) -> None:
    """A primary that was not marked yet has lost nothing; once all were, whoever serves here knows of it."""
    elsewhere, remembered = CommandError("MOVED 1 here:1", "MOVED"), Memory(tmp_path, "redis+cluster://here", PREFIX)
    one, other = Marks(PREFIX, remembered), Marks(PREFIX, remembered)
    assert one.refusal([b"first", elsewhere, None]) == one.refusal([None, elsewhere]) == remembered.read() == ""
    assert one.refusal([b"first", elsewhere, b"1"]) == ""
    assert remembered.read() == "first"
    for each in (one, other):
        assert "lost the ledger's data" in each.refusal([None, elsewhere])
        assert "not the Redis" in each.refusal([b"first", b"of-another"])
        assert each.refusal([elsewhere]) == each.refusal([b"second first", b"first"]) == ""
    assert remembered.read() == "first"  # the second is still being written
    assert one.refusal([b"second first"]) == ""
    assert remembered.read() == "second"
    remembered.write("third")  # by a command
    assert other.refusal([b"third second"]) == other.refusal([b"third of-another"]) == ""


async def test_a_cluster_that_is_not_marked_yet_has_lost_nothing(tmp_path: Path) -> None:
    """Neither one whose marking was broken off, nor one that had an epoch before there were marks: it is marked."""
    here, there = tmp_path / "here", tmp_path / "there"
    servers, bus_ports = make_servers(tmp_path, 3, "--cluster-node-timeout", "30000")
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        cluster = Cluster(servers, bus_ports)
        await cluster.join()
        remembered = memory(cluster, here)
        remembered.write("first")
        [written] = here.iterdir()
        written.rename(here / written.name.replace("marks", "epoch"))  # as it was called before there were marks
        await cluster.ask(owner(key_of(PREFIX)), "SET", key_of(PREFIX), "first")
        assert await looked_at(cluster, here) == []
        assert remembered.read() == "first"

        marked = f"{{{key_of(PREFIX)}}}:marked"
        await cluster.ask(owner(marked), "DEL", marked)
        for name in marks(PREFIX):
            if owner(name) != owner(marked):
                await cluster.ask(owner(name), "DEL", name)
        assert await looked_at(cluster, there) == []
        for machine in (here, there):
            assert await looked_at(cluster, machine) == []
            assert memory(cluster, machine).read() == "first"


async def exported(ledger: RedisLedger, accounts: Sequence[str]) -> Mapping[str, ExportPage]:
    """What a database has of each account."""
    return {name: await ledger.exportable(sink="postgres", account=name, limit=10, standing=True) for name in accounts}


async def told(entries: Sequence[Entry]) -> AsyncIterator[Entry]:
    """As a database tells them."""
    for entry in entries:
        yield entry


async def restored(cluster: Cluster, machine: Path, pages: Mapping[str, ExportPage]) -> list[str]:
    """Have what was lost restored, and a new epoch begun; the accounts that were not there."""
    lacked = []
    async with seen_from(cluster, machine, guarded=False) as command:
        await command.begin_restore()
        for name, page in pages.items():
            assert page.standing is not None
            done = await command.restore_account(
                name, page.standing, told(page.entries), sink="postgres", sinks=[], forget_ms=0
            )
            lacked += [name] if done is not None else []
        await command.end_restore()
        await command.begin_epoch(memory(cluster, machine))
        with pytest.raises(LedgerRefused):
            await command.begin_restore()
    return lacked


async def test_a_primary_that_lost_its_data_is_refused_until_it_is_restored(tmp_path: Path) -> None:
    """Its customers' calls and charges wait, the others are served; slots may move; no new machine is fooled.

    What it had is restored beside the others, and what finds their keys.
    """
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
        target = owner(Keys(PREFIX).accounts)
        (lost,) = {0, 1, 2} - {epoch_on, target}
        moved = next(hash_slot(name) for name in marks(PREFIX) if owner(name) == epoch_on)
        await cluster.begin_move(moved, epoch_on, target)
        assert await cluster.move_keys(moved, epoch_on, target) == 1
        await cluster.end_move(moved, target)
        assert await looked_at(cluster, there) == []

        gone, *others = (accounts[lost], accounts[epoch_on], accounts[target])
        assert await ledger.identify("digest-of-nobody") is None  # which is asked so shortly before that it is believed

        pages = await exported(ledger, accounts)
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

        assert await restored(cluster, there, pages) == [gone]

        async def back() -> bool:
            try:
                return (await ledger.settle(bill("call-1", usd(1), account=gone))).late
            except LedgerUnavailable:
                return False

        assert await until(back)
        async with seen_from(cluster, fresh, guarded=False) as command:
            pages = await exported(command, accounts)
        await cluster.ask(target, "FLUSHALL")  # which had the list of all accounts
        assert await restored(cluster, there, pages) == [accounts[target]]
        async with seen_from(cluster, here) as another:
            for name in accounts:
                assert await another.identify(f"digest-of-{name}") is not None
                assert ((await another.account(name)).balance, await another.verify(name)) == (usd(49), [])
            assert [name async for name in another.accounts()] == accounts
        for machine in (here, there, fresh):
            assert await looked_at(cluster, machine) == []
