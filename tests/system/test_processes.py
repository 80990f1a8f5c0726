"""Real processes that are stopped, killed and started again: what was delivered is charged, and nothing else."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.core.money import parse_usd
from tests.fakes.link import CuttingRelay
from tests.pipeline.helpers import fixed_hold, without_rates
from tests.system.processes import Served, World

CHARGE = parse_usd("0.00315")
TOKENS: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
LEASE_SECONDS = 3


def short_lease(data: dict[str, Any]) -> None:
    """Holds of a killed process end soon."""
    data["limits"]["hold_lease_seconds"] = LEASE_SECONDS
    data["limits"]["sweep_seconds"] = 0.2
    data["redis"].update(command_seconds_max=0.5, connect_seconds_max=0.5)


CHANGES = {"config/tiers.yaml": without_rates, "gateway.yaml": short_lease}


@pytest.mark.system
async def test_a_process_that_is_told_to_stop_finishes_what_it_serves(tmp_path: Path, empty_redis: str) -> None:
    """SIGTERM with calls in the air: every one is answered and charged, no new one is taken, the exit code is 0."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one")
        key = await world.open_account("a", credit="10")
        calls = [asyncio.create_task(world.chat(served, key, latency_seconds=1.0, **TOKENS)) for _ in range(40)]
        await world.holding("a", 40)
        ending = asyncio.create_task(served.end(signal.SIGTERM))
        await asyncio.sleep(0.2)
        with pytest.raises(aiohttp.ClientConnectionError):
            await world.chat(served, key)
        assert await asyncio.gather(*calls) == [200] * 40
        assert await ending == 0
        assert served.errors == ""
        assert await world.charged("a") == [CHARGE] * 40
        account = await world.ledger.account("a")
        assert (account.balance, account.held) == (parse_usd("9.874"), 0)
        assert not await world.ledger.verify("a")


@pytest.mark.system
async def test_clients_that_left_pay_also_when_the_process_is_told_to_stop(tmp_path: Path, empty_redis: str) -> None:
    """Their calls are finished before the process ends, like those of clients that stayed."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one")
        key = await world.open_account("a", credit="10")
        calls = [asyncio.create_task(world.chat(served, key, latency_seconds=1.0, **TOKENS)) for _ in range(10)]
        await world.holding("a", 10)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert await served.end(signal.SIGTERM) == 0
        assert served.errors == ""
        assert (await world.ledger.account("a")).held == 0
        assert not await world.ledger.verify("a")
        assert await world.charged("a") == [CHARGE] * 10


@pytest.mark.system
async def test_a_killed_process_frees_its_customers_credit_within_the_lease(tmp_path: Path, empty_redis: str) -> None:
    """All credit is held by calls of a process that dies: uncharged, and another serves when the lease is over."""
    changes = {**CHANGES, "config/products/llm-gateway.yaml": fixed_hold("2")}
    async with World(tmp_path, empty_redis, changes).opened() as world:
        doomed, other = await world.serve("one"), await world.serve("two")
        key = await world.open_account("a", credit="10")
        calls = [asyncio.create_task(world.chat(doomed, key, latency_seconds=60)) for _ in range(5)]
        await world.holding("a", 5)
        await asyncio.sleep(LEASE_SECONDS + 0.5)
        assert (await world.ledger.account("a")).held == parse_usd("10"), "a living process renews its leases"
        assert await doomed.end(signal.SIGKILL) == -signal.SIGKILL
        killed = time.monotonic()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, aiohttp.ClientError) for result in results)
        assert await world.chat(other, key) == 400
        while await world.chat(other, key, **TOKENS) != 200:
            assert time.monotonic() - killed < LEASE_SECONDS + 15
            await asyncio.sleep(0.1)
        assert time.monotonic() - killed > 0.5
        account = await world.ledger.account("a")
        assert (account.balance, account.held, account.open_holds) == (parse_usd("9.99685"), 0, 0)
        assert not await world.ledger.verify("a")


@pytest.mark.system
async def test_a_killed_process_frees_its_customers_idempotency_keys(tmp_path: Path, empty_redis: str) -> None:
    """Killed in a call: its repeat waits until the lease is over, then is served; only that one is charged."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        doomed, other = await world.serve("one"), await world.serve("two")
        key = await world.open_account("a", credit="10")

        async def call(at: Served, **knobs: Any) -> int:
            return await world.chat(at, key, idempotency_key="k", **TOKENS, **knobs)

        cut = asyncio.create_task(call(doomed, latency_seconds=60))
        await world.holding("a", 1)
        assert await call(other) == 409
        await doomed.end(signal.SIGKILL)
        killed = time.monotonic()
        await asyncio.gather(cut, return_exceptions=True)
        while (status := await call(other)) != 200:
            assert status == 409
            assert time.monotonic() - killed < LEASE_SECONDS + 15
            await asyncio.sleep(0.1)
        assert await call(other) == 200
        assert await world.charged("a") == [CHARGE]
        assert not await world.ledger.verify("a")


@pytest.mark.system
async def test_a_killed_process_loses_no_charge_that_it_had_spooled(tmp_path: Path, empty_redis: str) -> None:
    """Answered while the ledger was away, then killed: the next process on the same spool makes each charge once."""
    async with CuttingRelay(empty_redis) as relay, World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", redis_url=relay.url)
        key = await world.open_account("a", credit="10")
        calls = [asyncio.create_task(world.chat(served, key, latency_seconds=0.5, **TOKENS)) for _ in range(10)]
        await world.holding("a", 10)
        await relay.stop()
        assert await asyncio.gather(*calls) == [200] * 10
        await served.end(signal.SIGKILL)
        assert not await world.charged("a")
        await relay.start()
        served = await world.serve("one", redis_url=relay.url)
        await world.charged_as_often("a", 10)
        assert await served.end() == 0
        assert await world.charged("a") == [CHARGE] * 10
        account = await world.ledger.account("a")
        assert (account.balance, account.held) == (parse_usd("9.9685"), 0)
        assert not await world.ledger.verify("a")
        assert not list((tmp_path / "one" / "spool").glob("*.spool"))


@pytest.mark.system
async def test_a_job_outlives_the_process_that_took_it(tmp_path: Path, empty_redis: str) -> None:
    """Killed after the job was taken: its hold is the store's and lasts, and any process settles it."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        doomed = await world.serve("one")
        key = await world.open_account("a", tier="free", credit="50")
        headers = {"Authorization": key}
        body = {"audio_url": "https://example.com/a.wav?duration=3600"}
        async with world.http.post(doomed.url + "/v2/transcript", json=body, headers=headers) as response:
            made = (await response.json())["id"]
        await doomed.end(signal.SIGKILL)
        await asyncio.sleep(LEASE_SECONDS + 0.3)
        assert (await world.ledger.account("a")).held == parse_usd("0.21")
        other = await world.serve("two")
        async with world.http.get(f"{other.url}/v2/transcript/{made}/srt", headers=headers) as response:
            assert response.status == 200
        assert await world.charged("a") == [parse_usd("0.21")]
        assert not await world.ledger.verify("a")
