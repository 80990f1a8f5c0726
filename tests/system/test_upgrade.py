"""Two versions of the program on one Redis: each goes on with what the other began, and either may leave."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import __version__
from gateway.core.money import parse_usd
from gateway.ledger.link import LinkSettings
from gateway.ledger.lua import script
from gateway.ledger.single import SingleLink
from tests.harness import ROOT
from tests.pipeline.helpers import CHAT, CHAT_PATH, until, without_rates
from tests.system.processes import Served, World

CHARGE = parse_usd("0.00315")
TOKENS: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
NEXT = "99.0.0"
_PAUSE_SECONDS = 0.1
MARK = "-- of the next version\n"


def next_version(directory: Path) -> Path:
    """A copy of the program of which the version, and the text of every script, is another."""
    shutil.copytree(ROOT / "gateway", directory / "gateway")  # what is compiled of it, too: it starts faster
    about = directory / "gateway/__init__.py"
    about.write_text(about.read_text().replace(f'"{__version__}"', f'"{NEXT}"'))
    for path in (directory / "gateway/ledger/scripts").glob("*.lua"):
        path.write_text(path.read_text() + MARK)
    return directory


async def scripts(url: str) -> int:
    """How many scripts Redis knows; ours are among them."""
    link = SingleLink(LinkSettings(url=url))
    await link.open()
    assert await link.call("SCRIPT", "EXISTS", script("admit").sha1, script("settle").sha1) == [1, 1]
    told = await link.call("INFO", "memory")
    await link.close()
    assert isinstance(told, bytes)
    (line,) = (line for line in told.decode().splitlines() if line.startswith("number_of_cached_scripts:"))
    return int(line.partition(":")[2])


async def version_of(served: Served) -> str:
    """What a gateway calls itself."""
    async with aiohttp.request("GET", served.ops_url + "/healthz") as response:
        found: str = (await response.json())["version"]
        return found


class Customers:
    """Calls with short pauses, spread over the gateways that the balancer has; what became of them."""

    def __init__(self, world: World, key: str, balancer: list[Served]) -> None:
        self.statuses: list[int] = []
        self.balancer = balancer
        self._world = world
        self._key = key
        self._over = False

    async def call(self) -> None:
        """Until all are to stop."""
        number = 0
        while not self._over:
            at = self.balancer[number % len(self.balancer)]
            number += 1
            await asyncio.sleep(_PAUSE_SECONDS)
            self.statuses.append(await self._world.chat(at, self._key, **TOKENS))

    async def more(self, count: int = 20) -> None:
        """Wait until so many more are over."""
        goal = len(self.statuses) + count

        async def done() -> bool:
            return len(self.statuses) >= goal

        assert await until(done, 30)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Four customers call meanwhile; a call that has begun is waited for."""
        async with asyncio.TaskGroup() as running:
            for _ in range(4):
                running.create_task(self.call())
            try:
                yield
            finally:
                self._over = True


async def named(world: World, at: Served, key: str, name: str) -> tuple[int, bytes]:
    """A call with a name: status and body."""
    headers = {"Authorization": key, "Idempotency-Key": name}
    async with world.http.post(at.url + CHAT_PATH, json=CHAT, headers=headers) as response:
        return response.status, await response.read()


async def job(world: World, at: Served, key: str) -> str:
    """A transcript that was submitted there."""
    request = {"audio_url": "https://example.com/a.wav"}
    async with world.http.post(at.url + "/v2/transcript", json=request, headers={"Authorization": key}) as response:
        found: str = (await response.json())["id"]
        return found


async def status_of(world: World, at: Served, key: str, name: str) -> str:
    """A transcript, asked for there."""
    async with world.http.get(f"{at.url}/v2/transcript/{name}", headers={"Authorization": key}) as response:
        found: str = (await response.json())["status"]
        return found


@pytest.mark.system
async def test_two_versions_serve_side_by_side_and_either_may_leave(tmp_path: Path, empty_redis: str) -> None:
    """Under load: the newer joins, each finishes what the other began, and the newer leaves again. No call fails, each
    is charged once, the scripts of both are in Redis under their own digests, and the books agree.
    """
    async with World(tmp_path, empty_redis, {"config/tiers.yaml": without_rates}).opened() as world:
        old = await world.serve("old")
        key, other = await world.open_account("a", credit="100"), await world.open_account("b", credit="10")
        customers = Customers(world, key, [old])
        async with customers.calling():
            await customers.more()
            new = await world.serve("new", program=next_version(tmp_path / "program"))
            assert (await version_of(old), await version_of(new)) == (__version__, NEXT)
            before = await scripts(empty_redis)
            customers.balancer.append(new)
            await customers.more(40)
            assert await scripts(empty_redis) >= before + 2
            for at, then in ((old, new), (new, old)):
                name = f"begun-at-{at.customers_port}"
                first = await named(world, at, other, name)
                assert first[0] == 200
                assert await named(world, then, other, name) == first
                submitted = await job(world, at, other)

                async def over(then: Served = then, submitted: str = submitted) -> bool:
                    return await status_of(world, then, other, submitted) == "completed"

                assert await until(over)
            customers.balancer.remove(new)
            await customers.more()  # those that it was asked for are over
            assert await new.end() == 0
            await customers.more()
        assert await old.end() == 0
        assert (old.errors, new.errors) == ("", "")
        assert set(customers.statuses) == {200}
        assert set(await world.charged("a")) == {CHARGE}
        assert (await world.ledger.account("a")).balance == parse_usd("100") - CHARGE * len(customers.statuses)
        assert len(await world.charged("b")) == 4
        for account in ("a", "b"):
            found = await world.ledger.account(account)
            assert (found.held, found.open_holds) == (0, 0)
            assert not await world.ledger.verify(account)
