"""A gateway of several workers: one port, one sum of metrics, workers that are lost or replaced while calls go on."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.money import parse_usd
from tests.pipeline.helpers import until, without_rates
from tests.system.processes import Served, World

CHARGE = parse_usd("0.00315")
TOKENS: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
LEASE_SECONDS = 3
SETTLED = 'gateway_calls_total{outcome="settled",product="llm-gateway",route="chat.completions",status_class="2xx"}'
CHARGED = 'gateway_charges_nanos_total{basis="reported",product="llm-gateway"}'
SECONDS = 'gateway_call_seconds_count{product="llm-gateway"}'
pytestmark = pytest.mark.system


def limits(data: dict[str, Any]) -> None:
    """Holds of a killed worker end soon."""
    data["limits"].update(hold_lease_seconds=LEASE_SECONDS, sweep_seconds=0.2)


CHANGES = {"config/tiers.yaml": without_rates, "gateway.yaml": limits}


def events(served: Served, name: str) -> list[dict[str, Any]]:
    """The lines of the log that are about this."""
    lines = (served.directory / "stdout").read_bytes().splitlines()
    return [line for line in map(orjson.loads, lines) if line["event"] == name]


async def counted(served: Served, name: str, *values: float) -> float:
    """The metric, once it has one of these values."""
    found = 0.0

    async def done() -> bool:
        nonlocal found
        found = (await served.metrics())[name]
        return found in values

    assert await until(done, 20), found
    return found


async def lost(served: Served, count: int) -> None:
    """Wait until so many workers were lost."""

    async def done() -> bool:
        return len(events(served, "worker_lost")) >= count

    assert await until(done, 20)


async def test_workers_share_a_port_and_their_metrics_are_one(tmp_path: Path, empty_redis: str) -> None:
    """400 calls on 4 workers: each takes a good part of them, and the sums are right to the last nano-dollar."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", workers=4)
        key = await world.open_account("a", credit="10")
        assert len(served.workers) == 4
        for _ in range(4):
            assert set(await asyncio.gather(*(world.chat(served, key, **TOKENS) for _ in range(100)))) == {200}
        metrics = await served.metrics()
        assert (metrics[SETTLED], metrics[CHARGED], metrics[SECONDS]) == (400, 400 * CHARGE, 400)
        assert (metrics["gateway_workers"], metrics["gateway_holds_open"]) == (4, 0)
        assert await served.end() == 0
        assert served.errors == ""
        boots = Counter(line["call_id"][:16] for line in events(served, "call"))
        assert boots.total() == 400
        assert len(boots) == 4
        assert min(boots.values()) > 20
        assert await world.charged("a") == [CHARGE] * 400
        assert not await world.ledger.verify("a")


async def test_a_killed_worker_is_replaced_and_what_it_counted_stays(tmp_path: Path, empty_redis: str) -> None:
    """Killed with calls in the air: the others serve on, its holds expire, no counter goes down."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="10")
        assert set(await asyncio.gather(*(world.chat(served, key, **TOKENS) for _ in range(40)))) == {200}
        await asyncio.sleep(1.2)  # they have reported
        calls = [asyncio.create_task(world.chat(served, key, latency_seconds=60)) for _ in range(20)]
        await world.holding("a", 20)
        first, second = served.workers
        os.kill(first, signal.SIGKILL)
        await lost(served, 1)
        going_on = await counted(served, "gateway_holds_open", *range(1, 20))
        metrics = await served.metrics()
        assert (metrics[SETTLED], metrics[CHARGED]) == (40, 40 * CHARGE)
        assert await world.chat(served, key, **TOKENS) == 200
        await counted(served, "gateway_workers", 2)
        assert second in served.workers
        assert first not in served.workers

        async def expired() -> bool:
            return (await world.ledger.account("a")).open_holds == going_on

        assert await until(expired, LEASE_SECONDS + 2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        metrics = await served.metrics()
        assert (metrics[SETTLED], metrics[CHARGED]) == (41, 41 * CHARGE)
        assert metrics['gateway_events_total{event="worker_lost",product=""}'] == 1
        assert not await world.ledger.verify("a")
