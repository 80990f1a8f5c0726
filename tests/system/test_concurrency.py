"""No overspend by concurrency, over two real processes on one ledger."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from gateway.core.money import parse_usd
from tests.pipeline.helpers import fixed_hold, without_rates
from tests.system.processes import Served, World

ROUNDS = 50
CALLS = 200
CHANGES = {"config/tiers.yaml": without_rates, "config/products/llm-gateway.yaml": fixed_hold("1")}


async def _round(world: World, gateways: list[Served], key: str, input_tokens: int, latency: float) -> Counter[int]:
    calls = [
        world.chat(
            gateways[number % len(gateways)], key, {"model": "gpt-4.1"},
            input_tokens=input_tokens, output_tokens=0, latency_seconds=latency,
        )
        for number in range(CALLS)
    ]  # fmt: skip
    return Counter(await asyncio.gather(*calls))


async def _most_held(world: World, most: list[int]) -> None:
    """How much was held, and by how many, at any moment that was looked at."""
    while True:
        account = await world.ledger.account("a")
        most[0], most[1] = max(most[0], account.held), max(most[1], account.open_holds)
        await asyncio.sleep(0.01)


@pytest.mark.system
async def test_exactly_ten_of_two_hundred_calls_are_admitted(tmp_path: Path, empty_redis: str) -> None:
    """Held, and costing, a tenth of the balance each: over fifty rounds exactly ten, never eleven; no cent is left."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        gateways = [await world.serve("one"), await world.serve("two")]
        key = await world.open_account("a", credit="0")
        most = [0, 0]
        watch = asyncio.create_task(_most_held(world, most))
        for number in range(ROUNDS):
            await world.ledger.grant(operation=f"round-{number}", account="a", kind="purchase", amount=parse_usd("10"))
            # half a million tokens at two dollars a million: a dollar, which is what is held
            statuses = await _round(world, gateways, key, 500_000, 0.2)
            assert statuses == {200: 10, 400: CALLS - 10}, f"round {number}"
            account = await world.ledger.account("a")
            assert (account.balance, account.held, account.open_holds) == (0, 0, 0), f"round {number}"
        watch.cancel()
        assert most == [parse_usd("10"), 10]
        assert await world.charged("a") == [parse_usd("1")] * (10 * ROUNDS)
        assert not await world.ledger.verify("a")
        assert {await served.end() for served in gateways} == {0}
        assert "".join(served.errors for served in gateways) == ""


@pytest.mark.system
async def test_what_a_hold_did_not_cost_is_there_for_the_next_round(tmp_path: Path, empty_redis: str) -> None:
    """Held at a tenth, cheap in the end: ten at once again and again, refused only while the ten are running."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        gateways = [await world.serve("one"), await world.serve("two")]
        key = await world.open_account("a", credit="10")
        for number in range(3):
            # the ten run for longer than the gateways need to answer all of the others
            assert await _round(world, gateways, key, 500, 2.0) == {200: 10, 400: CALLS - 10}
            account = await world.ledger.account("a")
            assert account.held == 0
            assert account.balance == parse_usd("10") - (number + 1) * parse_usd("0.01")
        assert not await world.ledger.verify("a")
