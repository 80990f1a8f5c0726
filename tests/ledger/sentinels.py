"""A primary, its replica and three sentinels that watch them, as real processes on free ports."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.ledger.embedded import EmbeddedRedis, find_binary
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.ports import free_ports

SERVICE = "ledger"
QUORUM = 2


async def ask(port: int, *parts: Any) -> Any:
    """One command to one server or sentinel."""
    link = SingleLink(LinkSettings(url=f"redis://127.0.0.1:{port}", connect_seconds_max=30.0, command_seconds_max=30.0))
    await link.open()
    try:
        return await link.call(*parts)
    finally:
        await link.close()


class Pair:
    """Two servers, of which one is the primary; `ports` of the servers, `watchers` of the sentinels."""

    def __init__(self, servers: list[EmbeddedRedis], watchers: list[int]) -> None:
        self.servers = servers
        self.watchers = watchers

    @property
    def url(self) -> str:
        """What a gateway's config says."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.watchers)}/{SERVICE}"

    async def primary(self) -> EmbeddedRedis:
        """Who the first sentinel says it is."""
        port = await self._named_by(self.watchers[0])
        return next(server for server in self.servers if server.port == port)

    async def _named_by(self, watcher: int) -> int:
        _, port = await ask(watcher, "SENTINEL", "get-master-addr-by-name", SERVICE)
        return int(port)

    async def steady(self) -> None:
        """Wait until the replica has all that the primary has, and every sentinel knows it and the others."""
        async with asyncio.timeout(30):
            while not await self._is_steady():  # noqa: ASYNC110 - nothing there announces itself
                await asyncio.sleep(0.1)

    async def _is_steady(self) -> bool:
        for port in self.watchers:
            facts = await ask(port, "SENTINEL", "master", SERVICE)
            told = dict(zip(facts[::2], facts[1::2], strict=True))
            others, replicas = int(told[b"num-other-sentinels"]), int(told[b"num-slaves"])
            if told[b"flags"] != b"master" or others != len(self.watchers) - 1 or replicas < 1:
                return False
        told = (await ask((await self.primary()).port or 0, "INFO", "replication")).decode()
        offset = told.partition("master_repl_offset:")[2].partition("\r")[0]
        return f"state=online,offset={offset}," in told

    async def fail_over(self) -> None:
        """Make the replica the primary, once it has all that there is; the sentinels agree when this returns."""
        was = (await self.primary()).port
        await ask(self.watchers[0], "SENTINEL", "FAILOVER", SERVICE, "COORDINATED")
        await self.changed(was)

    async def changed(self, was: int | None) -> None:
        """Wait until all sentinels name another primary."""
        async with asyncio.timeout(30):
            for port in self.watchers:
                while await self._named_by(port) == was:  # noqa: ASYNC110 - nothing there announces itself
                    await asyncio.sleep(0.05)

    async def kill(self) -> EmbeddedRedis:
        """Kill the primary."""
        primary = await self.primary()
        assert primary.pid is not None
        os.kill(primary.pid, signal.SIGKILL)
        return primary


@asynccontextmanager
async def pair(
    directory: Path, *, options: tuple[str, ...] = (), line: Callable[[int], Awaitable[int]] | None = None
) -> AsyncIterator[Pair]:
    """Everything started, until the block ends. `options` are of both servers.

    `line` is given the primary's port, and makes the one at which the replica reaches it (until the sentinels notice,
    eight seconds later).
    """
    first, second, *watchers = free_ports(5)
    async with AsyncExitStack() as stack:
        servers: list[EmbeddedRedis] = []
        for port in (first, second):
            more: tuple[str, ...] = ()
            if servers:
                more = ("--replicaof", "127.0.0.1", str(first if line is None else await line(first)))
            server = EmbeddedRedis(directory / str(port), port=port, extra_args=(*options, *more))
            await stack.enter_async_context(server)
            servers.append(server)
        for port in watchers:
            stack.callback(_end, _watch(directory, port, first))
        found = Pair(servers, watchers)
        for port in watchers:
            await _up(port)
        await found.steady()
        yield found


def _watch(directory: Path, port: int, primary: int) -> subprocess.Popen[bytes]:
    place = directory / f"sentinel-{port}"
    place.mkdir()
    config = place / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {place}\nlogfile {place / 'log'}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} {QUORUM}\n"
        f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 5000\n"
    )
    return subprocess.Popen([str(find_binary()), str(config), "--sentinel"], stdout=subprocess.DEVNULL)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


async def _up(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await ask(port, "PING")
            except Exception:  # noqa: BLE001 - it is not up yet
                await asyncio.sleep(0.05)
            else:
                return
