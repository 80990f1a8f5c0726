"""Volume steps from end to end: what calls and jobs cost together, on two gateways at once, and over an outage."""

import asyncio
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import LedgerUnavailable
from gateway.core.money import Nanos, format_usd, parse_usd, round_half_up
from gateway.core.months import month_of
from gateway.core.pricing import Charge, LineItem, PriceTable, make_price
from gateway.core.steps import MILLIONTHS, make_step
from gateway.ledger.memory import MemoryLedger
from gateway.ledger.spool import Spool
from gateway.pipeline.books import Books
from gateway.ports import Receipt, Settlement
from gateway.settings.plans import PriceBook
from tests.harness import ADMIN_TOKEN, Running, running
from tests.ledger.ledgers import MemoryWorld as World
from tests.ledger.ledgers import ask, opened, usd
from tests.pipeline.helpers import beside, charges, chat, finished, submitted, until, without_rates
from tests.pipeline.sockets import PRO_SECOND, begun, slices, to_the_end


def stepped_card(data: dict[str, Any]) -> None:
    """Acme's card: half the price above an hour of each speech SKU, a fifth off tokens above a thousand."""
    data["rate_cards"]["acme"] = {
        "steps": {
            "stt.*": [{"above": "1 hours", "percent": "50"}],
            "llm.gpt-5.2.input": [{"above": "1000 tokens", "price": {"per_1m_tokens": "1"}}],
        }
    }


@pytest.fixture
async def pair(tmp_path: Path, empty_redis: str) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways with one ledger, and a rate card with steps."""
    changes = {"config/prices.yaml": stepped_card, "config/tiers.yaml": without_rates}
    async with (
        running(tmp_path / "one", empty_redis, changes=changes) as one,
        beside(one, tmp_path / "two", empty_redis, changes) as two,
    ):
        yield one, two


async def test_jobs_and_calls_at_once_share_the_steps_exactly(pair: tuple[Running, Running]) -> None:
    """Six half hours on two gateways cost one hour at the price and two at half of it, whoever was first; a failed job
    takes nothing; of 1,600 tokens in two calls, 1,000 cost the first price; others' accounts have no steps."""
    one, two = pair
    key = await one.open_account("acme", rate_card="acme")
    failed = await submitted(one, key, 1800, knobs={"job_status": "error"}, speech_models=["universal-2"])
    assert (await finished(one, key, failed)).json["status"] == "error"
    gateways = [one, two] * 3

    async def job(gw: Running) -> None:
        path = await submitted(gw, key, 1800, speech_models=["universal-2"])
        await finished(gw, key, path)

    await asyncio.gather(*(job(gw) for gw in gateways))
    made = [charge for charge in await charges(one, "acme") if charge["product"] == "speech-to-text"]
    assert sum(charge["amount"] for charge in made) == parse_usd("0.15") + 4 * parse_usd("0.0375")
    month = month_of((await one.ledger.entries("acme"))[-1].at_ms)
    assert (await one.ledger.volumes("acme", month=month))["stt.universal-2"] == 3 * 3600 * MILLIONTHS
    listed = {item["unit_price"] for charge in made for item in charge["items"]}
    assert listed == {"0.15 per_hour", "0.15 per_hour -50% above 1 hours"}
    path = await submitted(one, key, 1800, speech_models=["universal-3-pro"])
    await finished(one, key, await submitted(one, key, 3600, speech_models=["universal-3-pro"]))
    by_hand = f"{one.ops_url}/admin/v1/accounts/acme/jobs/transcript/{path.rpartition('/')[2]}/settle"
    async with one.http.post(by_hand, json={}, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as response:
        assert (await response.json())["charged"] == "0.052500000", "half an hour at half of 0.21, also by hand"
    first = await chat(one, key, input_tokens=800, output_tokens=0)
    second = await chat(two, key, input_tokens=800, output_tokens=0)
    assert (first.charge, second.charge) == (Nanos(1_400_000), Nanos(200 * 1750 + 600 * 1000))
    assert [item["quantity"] for item in (await charges(one, "acme"))[-1]["items"]] == ["200", "600"]
    shown = (await one.call("GET", "/billing/v1/rate-card", key)).json["items"]
    assert {item["sku"]: item["steps"] for item in shown}["stt.universal-2"] == [
        {"above": "3600", "unit": "second", "unit_price": "0.15 per_hour -50% above 1 hours"}
    ]
    other = await one.open_account("other")
    await finished(one, other, await submitted(one, other, 7200, speech_models=["universal-2"]))
    assert (await charges(one, "other"))[-1]["amount"] == parse_usd("0.30")
    counted = [sum(gw.gateway.measured().count("gateway_charges_nanos").values()) for gw in (one, two)]
    made = [*await charges(one, "acme"), *await charges(one, "other")]
    assert sum(counted) == sum(charge["amount"] for charge in made), "every charge is counted once, whoever made it"
    assert not await one.ledger.verify("acme")


def streaming_card(data: dict[str, Any]) -> None:
    """Half the price above two seconds of streaming."""
    data["rate_cards"]["acme"] = {"steps": {"streaming.*": [{"above": "2 seconds", "percent": "50"}]}}


@pytest.fixture
async def streaming(tmp_path: Path, empty_redis: str) -> AsyncIterator[Running]:
    """A gateway with steps for sessions, whose slices are of half a second."""
    small = slices(slice_seconds=0.5, renew_before_seconds=0.1, warn_seconds=0, grace_seconds=1)
    async with running(tmp_path, empty_redis, changes={**small, "config/prices.yaml": streaming_card}) as gateway:
        yield gateway


async def test_the_slices_of_a_session_share_the_steps_exactly(streaming: Running) -> None:
    """Each slice is charged the part of the month that it took, the one at the boundary at both prices; the report at
    the end changes nothing of that, and the books agree with the volumes."""
    key = await streaming.open_account("acme", credit="1", rate_card="acme")
    socket = await begun(streaming, key)
    await asyncio.sleep(2.8)
    await socket.send_json({"type": "Terminate"})
    said, code = await to_the_end(socket)
    assert code == 1000
    assert await until(lambda: nothing_held(streaming, "acme"))
    made = await charges(streaming, "acme")
    assert len(made) >= 4
    before = Fraction(0)
    for charge in made:
        taken = sum(Fraction(item["quantity"]) for item in charge["items"])
        assert charge["amount"] == sum(item["amount"] for item in charge["items"])
        for item in charge["items"]:
            price = Fraction(PRO_SECOND, 1 if before < 2 else 2)
            cost = Fraction(item["quantity"]) * price
            assert item["amount"] == round_half_up(cost.numerator, cost.denominator)
            before += Fraction(item["quantity"])
            assert before <= 2 or price < PRO_SECOND
        assert sum(charge["volumes"].values()) == taken * MILLIONTHS
    month = month_of((await streaming.ledger.entries("acme"))[-1].at_ms)
    assert sum((await streaming.ledger.volumes("acme", month=month)).values()) == before * MILLIONTHS
    reported = said[-1]["session_duration_seconds"]
    assert reported == 3
    left = (await streaming.ledger.account("acme")).balance
    assert abs(parse_usd("1") - left - Fraction(5, 2) * PRO_SECOND) <= len(made)
    assert not await streaming.ledger.verify("acme")


async def test_credit_lasts_as_long_as_the_steps_make_it(streaming: Running) -> None:
    """Credit for three seconds at the first price is two of them, and two at half of it: it is cut after four."""
    key = await streaming.open_account("acme", credit=format_usd(Nanos(3 * PRO_SECOND)), rate_card="acme")
    started = time.monotonic()
    said, code = await to_the_end(await begun(streaming, key))
    assert 3.5 < time.monotonic() - started < 9
    assert code == 1008, said
    assert await until(lambda: nothing_held(streaming, "acme"))
    assert (await streaming.ledger.account("acme")).balance < PRO_SECOND // 10
    assert not await streaming.ledger.verify("acme")


async def nothing_held(gw: Running, account: str) -> bool:
    return not (await gw.ledger.account(account)).open_holds


class Leaving(MemoryLedger):
    """A ledger that goes away between the volume and the charge."""

    away = False

    async def settle(self, settlement: Settlement) -> Receipt:
        if self.away:
            raise LedgerUnavailable("away")
        return await super().settle(settlement)


class Nothing:
    """An observer and a clock of which nothing is asked but the time."""

    def event(self, *_words: Any, **_more: Any) -> None:
        """Heard."""

    def now(self) -> float:
        """Always."""
        return 0.0


async def test_a_charge_from_the_spool_costs_what_its_volume_was_taken_for(tmp_path: Path) -> None:
    """The ledger went away after the volume was taken: the replay charges that part, and what came between the next."""
    world = World()
    world.ledger = ledger = Leaving(lambda: world.now)
    await opened(world)
    price = make_price("a", "per_call", "2")
    step = make_step(3 * MILLIONTHS, price, words="3 calls", percent="50")
    table = PriceTable(version="v", rate_card="c", prices={"a": price}, steps={"a": (step,)})
    spool = Spool(tmp_path, bytes_max=100_000)
    spool.open("one")
    nothing: Any = Nothing()
    prices = PriceBook(starts=(0.0,), versions=("v",), tables={("v", "c"): table})
    books = Books(ledger=ledger, spool=spool, observer=nothing, clock=nothing, operation_seconds=1000, prices=prices)

    def two(hold_id: str) -> Settlement:
        item = LineItem(sku="a", quantity="2", unit="call", unit_price=price.listed, amount=usd(4))
        charge = Charge(amount=usd(4), items=(item,), price_version="v", rate_card="c")
        return Settlement(
            account="acme", hold_id=hold_id, key_id="acme-key", product="p", route="r", call_id=hold_id, charge=charge
        )

    for hold_id in ("one", "two"):
        await ledger.admit(ask(hold_id))
    ledger.away = True
    assert await books.settle(two("one")) == "spooled"
    ledger.away = False
    later = await books.settle(two("two"))
    assert isinstance(later, Receipt) and later.charged == usd(3)  # the third call, and one above the boundary
    assert await books.replay() == (1, 0)
    assert [-entry.amount for entry in (await ledger.entries("acme"))[1:]] == [usd(3), usd(4)]
    assert await books.settle(two("two")) == later
    assert dict(await ledger.volumes("acme", month="2026-11")) == {"a": 4 * MILLIONTHS}
    spool.close()
