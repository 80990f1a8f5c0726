"""The link to a cluster of three real servers: slots, redirections, a server that dies."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from gateway.core.money import Nanos
from gateway.edge.clock import SystemClock
from gateway.ledger.cluster import ClusterLink
from gateway.ledger.connection import Gate
from gateway.ledger.epoch import Memory
from gateway.ledger.link import CommandError, LinkDown, LinkSettings, RedisLink, Script
from gateway.ledger.links import open_link
from gateway.ledger.marks import Marks
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ledger.slots import command_slot, hash_slot, never_of
from gateway.ledger.spool import Spool
from gateway.pipeline.books import Books
from gateway.ports import Observer, Plan
from tests.ledger.clusters import RANGES, Cluster, make_servers
from tests.ports import free_ports
from tests.sim.processes import Silent

ADD = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three servers of one cluster, on free ports."""
    servers, bus_ports = make_servers(tmp_path_factory.mktemp("cluster"), 3)
    cluster = Cluster(servers, bus_ports)
    with ExitStack() as stack:
        for server in servers:
            server.start_sync()
            stack.callback(server.stop_sync)
        asyncio.run(cluster.join())
        yield cluster


@asynccontextmanager
async def opened(url: str, gate: Gate | None = None, **bounds: float) -> AsyncIterator[ClusterLink]:
    link = ClusterLink(LinkSettings(url=url, **bounds), gate)  # type: ignore[arg-type]
    await link.open()
    try:
        yield link
    finally:
        await link.close()


@pytest.fixture
async def cluster_link(cluster: Cluster) -> AsyncIterator[ClusterLink]:
    """An open link to the cluster, all of whose servers were flushed."""
    async with opened(cluster.url) as link:
        for node in link.nodes:
            await node.call("FLUSHALL")
            await node.call("SCRIPT", "FLUSH")
        yield link


@pytest.mark.parametrize(
    ("key", "slot"),
    [("", 0), ("123456789", 12739), ("foo{bar}baz", 5061), ("bar", 5061), ("a{}b", 14529), ("{x", 3887)],
)
async def test_slots_are_the_servers_own(cluster: Cluster, key: str, slot: int) -> None:
    """Our slot of a key is the cluster's."""
    assert await cluster.ask(0, "CLUSTER", "KEYSLOT", key) == hash_slot(key)
    assert key in {"a{}b", "{x"} or hash_slot(key) == slot


@pytest.mark.parametrize("key", ["gw:{a}:account", "plain", "{x", "}{y}", "{{z}}"])
def test_a_key_that_never_exists_is_in_the_slot_of_the_other(key: str) -> None:
    """With a hash tag or without one."""
    assert hash_slot(never_of(key)) == hash_slot(key)


def test_the_slot_of_a_command() -> None:
    """The first key decides, wherever the command has it; commands without one have no slot."""
    slot = hash_slot("k")
    assert command_slot(("GET", "k")) == command_slot((b"get", b"k")) == slot
    assert command_slot(("EVALSHA", "sha", 1, "k", "x")) == command_slot(("XGROUP", "CREATE", "k")) == slot
    assert (
        command_slot(("PING",)) is command_slot(("EVAL", "return 1", 0)) is command_slot(("CONFIG", "GET", "k")) is None
    )


async def test_each_command_goes_to_its_owner(cluster_link: ClusterLink) -> None:
    """Three hundred keys lie on three servers and are read back through one link."""
    await asyncio.gather(*(cluster_link.call("SET", f"k{n}", n) for n in range(300)))
    values = await asyncio.gather(*(cluster_link.call("GET", f"k{n}") for n in range(300)))
    assert values == [b"%d" % n for n in range(300)]
    sizes = [await node.call("DBSIZE") for node in cluster_link.nodes]
    assert len(sizes) == 3
    assert 0 not in sizes
    assert cluster_link.state == "up"
    assert await cluster_link.call("PING") == b"PONG"


async def test_scripts_run_at_the_owner_of_their_first_key(cluster_link: ClusterLink) -> None:
    """A script that a server does not have yet is sent to it by source; keys of two slots are an error."""
    assert await asyncio.gather(*(cluster_link.run(ADD, [f"{{a{n}}}:x"], [n]) for n in range(30))) == list(range(30))
    with pytest.raises(CommandError, match="CROSSSLOT"):
        await cluster_link.run(ADD, ["a", "b"], [1])
    assert cluster_link.state == "up"


async def test_a_slot_on_the_move_is_followed(cluster: Cluster, cluster_link: ClusterLink) -> None:
    """ASK while a slot moves, MOVED after it did: the caller sees neither. Scripts wait until the slot is whole."""
    slot = hash_slot("{moving}")
    source = next(index for index, (first, last) in enumerate(RANGES) if first <= slot <= last)
    target = (source + 1) % 3
    await cluster.begin_move(slot, source, target)
    try:
        assert await cluster_link.call("SET", "{moving}:a", "asked") == b"OK"
        adding = asyncio.ensure_future(cluster_link.run(ADD, ["{moving}:n"], [3]))
        done, _ = await asyncio.wait([adding], timeout=0.3)
        assert not done
        assert await cluster.ask(target, "CLUSTER", "COUNTKEYSINSLOT", slot) == 1
        await cluster.end_move(slot, target)
        assert await adding == 3
        assert await cluster_link.call("GET", "{moving}:a") == b"asked"
        assert await cluster_link.run(ADD, ["{moving}:n"], [4]) == 7
    finally:
        await cluster.ask(target, "DEL", "{moving}:a", "{moving}:n")
        await cluster.begin_move(slot, target, source)  # else what the others still say of it could undo the end
        await cluster.end_move(slot, source)
    assert await cluster_link.call("GET", "{moving}:a") is None


async def test_keys_of_a_half_moved_slot_are_waited_for(cluster: Cluster, cluster_link: ClusterLink) -> None:
    """TRYAGAIN (a command's keys lie on both servers) is repeated until the slot is whole, LinkDown at the deadline."""
    slot = hash_slot("{half}")
    source = next(index for index, (first, last) in enumerate(RANGES) if first <= slot <= last)
    target = (source + 1) % 3
    await cluster_link.call("SET", "{half}:a", 1)
    await cluster.begin_move(slot, source, target)
    try:
        async with opened(cluster.url, command_seconds_max=0.1) as hasty:
            with pytest.raises(LinkDown, match=r"not done within 0\.1 s") as caught:
                await hasty.call("MGET", "{half}:a", "{half}:b")
            assert caught.value.code in {"ASK", "TRYAGAIN"}
        waiting = asyncio.ensure_future(cluster_link.call("MGET", "{half}:a", "{half}:b"))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
    finally:
        for index in (source, target):
            await cluster.ask(index, "CLUSTER", "SETSLOT", slot, "STABLE")
    assert await waiting == [b"1", None]


async def gets(cluster: Cluster) -> int:
    """How often the servers were sent GET, whether the key was theirs or not."""
    count = 0
    for index in range(3):
        stats: bytes = await cluster.ask(index, "INFO", "commandstats")
        found = re.search(r"cmdstat_get:calls=(\d+).*rejected_calls=(\d+)", stats.decode())
        count += sum(map(int, found.groups())) if found is not None else 0
    return count


async def test_all_that_is_asked_of_a_cluster_is_asked_once(cluster: Cluster, tmp_path: Path) -> None:
    """However many miss something at a time: each mark only of its owner, and not again so soon."""
    gate = Marks("gw", Memory(tmp_path, cluster.url, "gw"))
    async with opened(cluster.url, gate, command_seconds_max=50.0, connect_seconds_max=50.0) as link:
        for node in link.nodes:
            await node.call("PING")
        before = await gets(cluster)
        await asyncio.gather(*(link.confirm(within_seconds=600.0) for _ in range(50)))
        await link.confirm(within_seconds=600.0)
        assert await gets(cluster) - before == len(gate.questions())


class Doors:
    """A gate that asks one server for a word, and another through a door: it answers when that is open."""

    def __init__(self, word: str, door: str) -> None:
        self.word = word
        self.door = door
        self.told = asyncio.Event()

    def questions(self) -> Sequence[tuple[str, ...]]:
        return [("GET", self.word), ("BLMOVE", self.door, self.door, "LEFT", "RIGHT", "0")]

    def refusal(self, answers: Sequence[object]) -> str:
        if b"word" in answers:
            self.told.set()
        return "the word is lost" if None in answers else ""


@pytest.mark.parametrize("noticed", [False, True])
async def test_who_misses_something_is_not_told_of_before(cluster: Cluster, noticed: bool) -> None:
    """Servers are being asked, one has answered and is emptied then: who finds that waits until it was asked again.

    Or was refused, which may have been `noticed` by then, so that it is asked no more.
    """
    word, door = (next(f"k{n}" for n in range(999) if low <= hash_slot(f"k{n}") <= high) for low, high in RANGES[:2])
    gate = Doors(word, door)
    await cluster.ask(0, "SET", word, "word")
    await cluster.ask(1, "DEL", door)
    await cluster.ask(1, "RPUSH", door, "open")

    async def emptied(node: RedisLink) -> None:
        await cluster.ask(0, "DEL", word)
        if noticed:
            await cluster.ask(0, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            async with asyncio.timeout(30):
                while node.state != "down":  # noqa: ASYNC110 - nothing there announces itself
                    await asyncio.sleep(0.01)
        await cluster.ask(1, "RPUSH", door, "open")

    async with opened(cluster.url, gate, command_seconds_max=50.0, connect_seconds_max=50.0) as link:
        for node in link.nodes:
            await node.call("PING")
        await cluster.ask(1, "DEL", door)
        gate.told.clear()
        before = asyncio.create_task(link.confirm())
        await gate.told.wait()
        outcomes = await asyncio.gather(
            before, link.confirm(), link.confirm(), emptied(link.nodes[0]), return_exceptions=True
        )
        assert ["the word is lost" in str(outcome) for outcome in outcomes] == [noticed, True, True, False]
    await cluster.ask(1, "DEL", door)


async def test_one_dead_seed_is_enough_of_the_others(cluster: Cluster) -> None:
    """The map is asked of the next server when the first does not answer; none at all is LinkDown."""
    [port] = free_ports(1)
    async with opened(f"redis+cluster://127.0.0.1:{port},127.0.0.1:{cluster.servers[1].port}") as link:
        assert await link.call("SET", "a", 1) == b"OK"
        assert len(link.nodes) == 3
    link = ClusterLink(LinkSettings(url=f"redis+cluster://127.0.0.1:{port}"))
    with pytest.raises(LinkDown, match="no map of the cluster"):
        await link.open()
    await link.close()


async def test_a_dead_server_is_down_for_its_slots_only(cluster: Cluster) -> None:
    """Calls for a paused server's slots fail in bound, the others are served; later all are again."""
    bounds = {"command_seconds_max": 0.2, "connect_seconds_max": 0.1, "down_seconds": 0.05}
    keys = {index: next(f"k{n}" for n in range(999) if low <= hash_slot(f"k{n}") <= high)
            for index, (low, high) in enumerate(RANGES)}  # fmt: skip
    async with opened(cluster.url, None, **bounds) as link:
        pid = cluster.servers[2].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LinkDown):
                await link.call("GET", keys[2])
            assert await link.call("SET", keys[0], 1) == b"OK"
            assert await link.call("SET", keys[1], 1) == b"OK"
        finally:
            os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await link.call("SET", keys[2], 1) == b"OK"
                    break
                except LinkDown:
                    await asyncio.sleep(0.02)


async def test_the_spool_goes_on_with_what_is_for_other_servers(cluster: Cluster, tmp_path: Path) -> None:
    """What is for a paused server waits, behind it what is for the others is done, and all is when it is back."""
    names = {index: next(f"a{n}" for n in range(999) if low <= hash_slot(f"a{n}") <= high)
             for index, (low, high) in enumerate(RANGES)}  # fmt: skip
    bounds = {"command_seconds_max": 2.0, "connect_seconds_max": 2.0, "down_seconds": 0.05}
    spool = Spool(tmp_path, bytes_max=10_000)
    spool.open("a")
    async with opened(cluster.url, None, **bounds) as link:
        ledger = RedisLedger(link)
        assert len({ledger.server_of(name) for name in names.values()}) == 3
        for name in names.values():
            await ledger.open_account(operation="open", account=name, plan=Plan(tier="free"), signup=Nanos(5))
        books = Books(
            ledger=ledger, spool=spool, observer=cast("Observer", Silent()), clock=SystemClock(), operation_seconds=1000
        )
        pid = cluster.servers[2].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            for n in range(2):
                its = {"operation": "c", "account": names[2], "key_id": "", "amount": Nanos(n + 1), "data": {}}
                await books.correct(**its | {"operation": f"c{n}"})  # type: ignore[arg-type]
            record = dict(spool.first or {})
            arguments = record["arguments"] | {"account": names[0]}
            await spool.append(record | {"arguments": arguments})
            assert (len(spool), await books.replay(), len(spool)) == (3, (1, 0), 2)
            assert (await ledger.account(names[0])).balance == 6
        finally:
            os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(30):
            while len(spool):
                await books.replay()
                await asyncio.sleep(0.02)
        assert (await ledger.account(names[2])).balance == 8
    spool.close()


async def test_a_closed_link_refuses(cluster: Cluster) -> None:
    """Before `open` and after `close` every command is LinkDown."""
    link = ClusterLink(LinkSettings(url=cluster.url))
    for _ in range(2):
        assert link.state == "closed"
        for command in (("GET", "a"), ("PING",)):
            with pytest.raises(LinkDown):
                await link.call(*command)
        await link.open()
        assert "up" in repr(link)
        await link.close()


async def test_the_url_chooses_the_link(cluster: Cluster, redis_url: str) -> None:
    """`open_link` answers a cluster's link for a cluster's URL; one server's for the others."""
    assert isinstance(open_link(LinkSettings(url=cluster.url)), ClusterLink)
    assert isinstance(open_link(LinkSettings(url=redis_url)), SingleLink)
