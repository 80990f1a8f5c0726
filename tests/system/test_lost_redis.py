"""A Redis that comes back without its data, or that would lose some: nobody is told that their key is unknown."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.fakes.link import CuttingRelay
from tests.harness import ROOT
from tests.pipeline.helpers import until
from tests.system.processes import Served, World
from tests.system.test_workers import events

pytestmark = pytest.mark.system


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[SingleLink]:
    """A server of this test's own."""
    async with EmbeddedRedis(tmp_path / "redis") as server:
        link = SingleLink(LinkSettings(url=server.url))
        await link.open()
        yield link
        await link.close()


def quick(data: dict[str, Any]) -> None:
    """Short waits for the ledger."""
    data["redis"].update(command_seconds_max=1.0, connect_seconds_max=0.5)


async def command(served: Served, *words: str) -> tuple[int, str]:
    """Run a command beside a gateway, with its config; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words, "-c", str(served.directory / "gateway.yaml")),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_redis_that_lost_its_data_is_refused_until_ops_accept_it(tmp_path: Path, redis: SingleLink) -> None:
    """Every call is a 503 that says to come back, none a 401; after `ledger accept` the gateway serves by itself."""
    url = f"unix://{tmp_path / 'redis' / 'redis.sock'}"
    async with World(tmp_path, url, {"gateway.yaml": quick}).opened() as world:
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="10")
        assert await world.chat(served, key) == 200
        assert (await command(served, "ledger", "condition"))[0] == 0

        await redis.call("FLUSHALL")  # no line breaks
        assert {await world.chat(served, each) for each in [key] * 20 + ["a-key-that-nobody-has"] * 4} == {503}
        assert await redis.call("EXISTS", "gw:accounts", "gw:epoch") == 0
        code, told = await command(served, "ledger", "condition")
        assert code == 1
        assert "lost the ledger's data" in told

        async def told_to_ops() -> bool:
            logged = any("lost the ledger's data" in line["reason"] for line in events(served, "ledger_condition"))
            return logged and (await served.metrics())["gateway_ledger_faults"] == 1

        assert await until(told_to_ops)

        assert (await command(served, "ledger", "accept"))[0] == 0
        await world.open_account("b", credit="10")

        async def back() -> bool:
            return await world.chat(served, "secret-of-b") == 200

        assert await until(back)
        assert await world.chat(served, key) == 401  # this one is truly gone
        assert (await served.end(), served.errors) == (0, "")


async def test_a_gateway_does_not_start_on_a_redis_that_throws_balances_away(tmp_path: Path, redis: SingleLink) -> None:
    """The exit code is 1, and the message names the setting and what to set it to. Nor on one that is too old."""
    url = f"unix://{tmp_path / 'redis' / 'redis.sock'}"
    async with World(tmp_path, url, {}).opened() as world:
        served = await world.serve("one")
        await served.end()
        await redis.call("CONFIG", "SET", "maxmemory", "100mb")
        await redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        code, told = await command(served, "serve")
        assert code == 1
        assert "maxmemory-policy is allkeys-lru" in told
        assert "noeviction" in told
        await redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        async with CuttingRelay(url) as relay:
            relay.disguise = (b"redis_version:7.", b"redis_version:6.")
            world.change(served, lambda data: data["redis"].update(url=relay.url))
            code, told = await command(served, "serve")
            assert code == 1
            assert "too old: Redis 7.0 or Valkey is needed" in told
