"""A cluster of three primaries, with or without a replica of each, as real processes on free ports.

Owns: how it is joined, how a slot moves with its keys, who is whose replica. Does not know: what is kept in it.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.ports import free_ports

RANGES = ((0, 5460), (5461, 10922), (10923, 16383))
NODE_TIMEOUT_MS = 1000
_KEYS_AT_ONCE = 10


class Cluster:
    """The first three servers are the primaries; the others, if there are any, their replicas, in the same order."""

    def __init__(self, servers: Sequence[EmbeddedRedis], bus_ports: Sequence[int]) -> None:
        self.servers = servers
        self.bus_ports = bus_ports

    @property
    def url(self) -> str:
        """What a gateway's config says."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    async def ask(self, index: int, *parts: str | int) -> Any:
        """One command to one server."""
        link = SingleLink(LinkSettings(url=self.servers[index].url, connect_seconds_max=5.0, command_seconds_max=10.0))
        await link.open()
        try:
            return await link.call(*parts)
        finally:
            await link.close()

    async def join(self) -> None:
        """Make one cluster of the servers."""
        for index, (first, last) in enumerate(RANGES):
            await self.ask(index, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for index in range(len(self.servers)):
            neighbour = (index + 1) % len(self.servers)
            port, bus_port = self.servers[neighbour].port, self.bus_ports[neighbour]
            assert port is not None
            await self.ask(index, "CLUSTER", "MEET", "127.0.0.1", port, bus_port)
        await self._until(range(len(self.servers)), "CLUSTER", "INFO", has=b"cluster_size:3")
        for index in range(3, len(self.servers)):
            await self._replicate(index, index - 3)
        if len(self.servers) > 3:
            await self.replicated(range(3))
        await self._until(range(len(self.servers)), "CLUSTER", "INFO", has=b"cluster_state:ok")

    async def _replicate(self, index: int, primary: int) -> None:
        name = await self.name(primary)
        await self._until([index], "CLUSTER", "NODES", has=name.encode())
        await self.ask(index, "CLUSTER", "REPLICATE", name)

    async def replicated(self, primaries: Sequence[int]) -> None:
        """Wait until each of these has a replica that follows it."""
        await self._until(primaries, "INFO", "replication", has=b"state=online")

    async def promoted(self, index: int) -> None:
        """Wait until a server is a primary."""
        await self._until([index], "INFO", "replication", has=b"role:master")

    async def _until(self, indexes: Sequence[int], *parts: str, has: bytes) -> None:
        async with asyncio.timeout(30):
            for index in indexes:
                while has not in await self.ask(index, *parts):  # noqa: ASYNC110 - nothing there announces itself
                    await asyncio.sleep(0.05)

    def kill(self, index: int) -> None:
        """A server, without a word."""
        pid = self.servers[index].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def name(self, index: int) -> str:
        """The server's name in the cluster."""
        name: bytes = await self.ask(index, "CLUSTER", "MYID")
        return name.decode()

    async def begin_move(self, slot: int, source: int, target: int) -> None:
        """A slot is on its way; its keys are not yet."""
        await self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", await self.name(source))
        await self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", await self.name(target))

    async def move_keys(self, slot: int, source: int, target: int) -> int:
        """All keys of a slot, a few at a time; how many."""
        moved = 0
        port = self.servers[target].port
        assert port is not None
        while keys := await self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_ONCE):
            await self.ask(source, "MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        return moved

    async def end_move(self, slot: int, target: int, primaries: Sequence[int] = (0, 1, 2)) -> None:
        """The slot is the target's."""
        for index in (target, *(other for other in primaries if other != target)):
            await self.ask(index, "CLUSTER", "SETSLOT", slot, "NODE", await self.name(target))


def make_servers(directory: Path, count: int, *options: str) -> tuple[list[EmbeddedRedis], list[int]]:
    """Servers that are not started yet, and the ports of their bus."""
    ports = free_ports(2 * count)
    servers = [
        EmbeddedRedis(
            directory / str(port),
            appendonly=False,
            port=port,
            extra_args=(
                *("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-require-full-coverage", "no"),
                *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), *options),
            ),
        )
        for port, bus in zip(ports[:count], ports[count:], strict=True)
    ]
    return servers, ports[count:]


@asynccontextmanager
async def replicated_cluster(directory: Path) -> AsyncIterator[Cluster]:
    """Three primaries with a replica each, until the block ends."""
    options = ("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
    servers, bus_ports = make_servers(directory, 6, *options)
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        cluster = Cluster(servers, bus_ports)
        await cluster.join()
        yield cluster
