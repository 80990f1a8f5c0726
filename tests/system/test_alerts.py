"""Alerts of a gateway of several workers: real calls cross a threshold at once, and somebody is told once."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.core.alerts import ALERT
from gateway.core.money import Nanos, parse_usd
from gateway.edge.pages.wording import usd_exact
from gateway.ports import Watch
from tests.pipeline.helpers import without_rates
from tests.pipeline.hooks import Hooks
from tests.system.processes import World

TOKENS: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
AT_ONCE_MAX = 400
pytestmark = pytest.mark.system


def reaching_here(data: dict[str, Any]) -> None:
    """This machine may be called."""
    data["outward"] = {"allow": ["127.0.0.1"]}


@pytest.mark.parametrize("calls", [200, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
async def test_calls_that_race_across_a_threshold_are_one_alert(tmp_path: Path, empty_redis: str, calls: int) -> None:
    """So many calls at once on two workers take the balance through it: one message, told by whichever worker has it;
    after a grant, the next crossing is the next one."""
    changes = {"config/tiers.yaml": without_rates, "gateway.yaml": reaching_here}
    async with (
        Hooks() as hooks,
        World(tmp_path, empty_redis, changes).opened() as world,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE_MAX)) as many,
    ):
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="50")
        to = [{"id": "hook", "type": "slack", "url": hooks.url("/low")}]
        cost = parse_usd("0.00315") * calls
        low = Nanos(parse_usd("50") - cost // 2)
        watch = Watch(id="low", kind="balance_below", amount=low, channel=ALERT, data={"to": to})
        await world.ledger.put_watch(account="a", watch=watch)
        for turn in (1, 2):
            assert set(await asyncio.gather(*(world.chat(served, key, http=many, **TOKENS) for _ in range(calls)))) == {
                200
            }
            told = await hooks.hears("/low", turn, seconds=15)
            assert f"below {usd_exact(low)}" in orjson.loads(told[-1].body)["text"]
            assert await world.ledger.deliveries("a") == []
            await world.ledger.grant(operation=f"up-{turn}", account="a", kind="purchase", amount=Nanos(cost))
        assert await served.end() == 0
        assert served.errors == ""
        assert not await world.ledger.verify("a")
