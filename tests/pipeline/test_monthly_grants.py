"""Monthly grants from end to end: the first call of a month has it, and so have those that make none."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import Nanos, format_usd, parse_usd
from gateway.ports import Ledger
from tests.harness import Running, running
from tests.pipeline.helpers import beside, chat, until, without_rates
from tests.pipeline.sockets import PRO_SECOND, begun, slices, to_the_end


def startups(data: dict[str, Any]) -> None:
    """A plan with two dollars a month, for thirty days."""
    without_rates(data)
    data["tiers"]["payg"]["monthly_grant"] = {"amount": "2", "expires_after": "30 days"}


@pytest.fixture
async def pair(tmp_path: Path, empty_redis: str) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways with one ledger, whose sweepers have nothing to do for now."""

    def seldom(data: dict[str, Any]) -> None:
        data.setdefault("limits", {})["sweep_seconds"] = 3600

    changes = {"config/tiers.yaml": startups, "gateway.yaml": seldom}
    async with (
        running(tmp_path / "one", empty_redis, changes=changes) as one,
        beside(one, tmp_path / "two", empty_redis, changes) as two,
    ):
        yield one, two


async def given(ledger: Ledger, account: str) -> list[tuple[str, int]]:
    """The account's grants."""
    return [(grant.kind, grant.amount) for grant in (await ledger.account(account)).grants]


async def test_the_first_calls_of_a_month_have_the_grant_once(pair: tuple[Running, Running]) -> None:
    """Twenty calls at once on two gateways, by an account that has nothing: all are served, of one grant; spent, it is
    refused, and no other is given; an account of its own terms has those, and one whose plan gives nothing has none."""
    one, two = pair
    key = await one.open_account("a", credit="0")
    served = await asyncio.gather(*(chat(gw, key, input_tokens=1000, output_tokens=100) for gw in pair * 10))
    assert {got.status for got in served} == {200}
    assert await given(one.ledger, "a") == [("monthly", parse_usd("2"))]
    await one.ledger.change_account(operation="o", account="a", overrides={"monthly_grant": "5000000/month"})
    left = (await one.ledger.account("a")).balance
    await one.ledger.correct(operation="c", account="a", key_id="", amount=-left, data={})  # type: ignore[arg-type]
    for gw in (one, two, one):
        assert (await chat(gw, key)).code == "insufficient_credit"
    own = await one.open_account("b", tier="free", credit="0")
    assert (await two.call("POST", "/v2/transcript", own, json={"audio_url": "https://x.example/a"})).status == 400
    overrides = {"monthly_grant": str(parse_usd("7")) + "/month", "llm-gateway.included": "yes"}
    await one.ledger.change_account(operation="o", account="b", overrides=overrides)
    assert (await chat(two, own, usage="zero")).status == 200
    assert await given(one.ledger, "b") == [("monthly", parse_usd("7"))]


async def test_a_session_that_runs_into_a_month_has_its_grant(tmp_path: Path, empty_redis: str) -> None:
    """It is given at the renewal, before the credit that was left is gone: nobody else comes by."""

    def seldom(data: dict[str, Any]) -> None:
        data.setdefault("limits", {})["sweep_seconds"] = 3600

    sliced = slices(slice_seconds=1, renew_before_seconds=0.5, warn_seconds=0)
    changes = {**sliced, "config/tiers.yaml": startups, "gateway.yaml": seldom}
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit=format_usd(Nanos(3 * PRO_SECOND)))
        socket = await begun(gw, key)

        async def renewed() -> bool:
            return ("monthly", parse_usd("2")) in await given(gw.ledger, "a")

        assert await until(renewed)
        await socket.send_json({"type": "Terminate"})
        assert (await to_the_end(socket))[1] == 1000


async def test_accounts_that_make_no_calls_are_visited(tmp_path: Path, empty_redis: str) -> None:
    """The sweeper gives each its month's grant, once."""
    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": startups}) as gw:
        await gw.open_account("idle", credit="0")
        await gw.open_account("other", tier="free", credit="0")

        async def visited() -> bool:
            return bool(await given(gw.ledger, "idle"))

        assert await until(visited)
        await asyncio.sleep(0.3)
        assert await given(gw.ledger, "idle") == [("monthly", parse_usd("2"))]
        assert await given(gw.ledger, "other") == []
