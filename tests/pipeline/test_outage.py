"""The ledger is away: before admission, between admission and settlement, at random, for a while, over a restart."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import parse_usd
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.fakes.link import CuttingRelay
from tests.harness import Running, running
from tests.pipeline.helpers import (
    CHAT,
    CHAT_PATH,
    at_service,
    beside,
    charges,
    chat,
    finished,
    in_order,
    sandbox,
    served_without_ledger,
    submit,
    submitted,
    until,
    without_rates,
)

LLM = "config/products/llm-gateway.yaml"
CHARGE = parse_usd("0.00315")
TOKENS: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}


def impatient(data: dict[str, Any]) -> None:
    """Short waits for the ledger."""
    data["redis"].update(command_seconds_max=0.3, connect_seconds_max=0.2)
    data["limits"]["sweep_seconds"] = 0.2


CHANGES = {"gateway.yaml": impatient, "config/tiers.yaml": without_rates}


@pytest.fixture
async def relay(empty_redis: str) -> AsyncIterator[CuttingRelay]:
    """The line between the gateway under test and the ledger's server."""
    async with CuttingRelay(empty_redis) as relay:
        yield relay


@pytest.fixture
async def books(tmp_path: Path, empty_redis: str) -> AsyncIterator[Running]:
    """A gateway with a line of its own to the ledger: what it reads is the truth."""
    async with running(tmp_path / "books", empty_redis, changes=CHANGES) as gw:
        yield gw


@pytest.fixture
async def cut(tmp_path: Path, books: Running, relay: CuttingRelay) -> AsyncIterator[Running]:
    """The gateway under test, whose line to the ledger is the relay."""
    async with beside(books, tmp_path / "cut", relay.url, CHANGES) as gw:
        yield gw


async def settled(books: Running, account: str, count: int) -> None:
    """Wait a while until the account has so many charges, and no more holds."""

    async def done() -> bool:
        return len(await charges(books, account)) >= count and not (await books.ledger.account(account)).open_holds

    await until(done)


@pytest.mark.parametrize("how", ["pause", "stop"])
async def test_without_the_ledger_nothing_is_forwarded(
    books: Running, cut: Running, relay: CuttingRelay, how: str
) -> None:
    """Silent or refusing: 503 with Retry-After, soon, and the upstream never hears of it; then all is well again."""
    key = await books.open_account("a", credit="10")
    assert (await chat(cut, key, usage="zero")).status == 200
    if how == "pause":
        relay.pause()
    else:
        await relay.stop()
    began = time.monotonic()
    answers = await asyncio.gather(*(chat(cut, key) for _ in range(20)), submit(cut, key))
    assert time.monotonic() - began < 10  # each for its second would be twenty
    assert {(got.status, got.code) for got in answers} == {(503, "ledger_unavailable")}
    assert all(int(got.headers["Retry-After"]) >= 1 for got in answers)
    assert len(await books.seen()) == 1
    if how == "pause":
        relay.resume()
    else:
        await relay.start()

    async def served() -> bool:
        return (await chat(cut, key, **TOKENS)).status == 200

    assert await until(served)
    if how == "stop":  # an admission that went out and was not answered may hold until its lease ends
        await in_order(books, "a", balance=parse_usd("9.99685"))
    assert len(await charges(books, "a")) == 2


async def test_a_charge_of_an_account_that_is_lost_is_kept_for_people(
    books: Running, empty_redis: str, tmp_path: Path
) -> None:
    """It goes between admission and settlement: what is owed stands in the spool's `rejected.jsonl`."""
    link = SingleLink(LinkSettings(url=empty_redis))
    await link.open()
    key = await books.open_account("a", credit="10")
    call = asyncio.create_task(chat(books, key, latency_seconds=10.0, **TOKENS))
    await at_service(books, 1)
    await link.call("DEL", "gw:{a}:account")
    await link.close()
    assert (await call).status == 200
    rejected = tmp_path / "books" / "spool" / "rejected.jsonl"

    async def kept() -> bool:
        return rejected.exists()

    assert await until(kept)
    assert f'"amount":{CHARGE}' in rejected.read_text()


@pytest.mark.parametrize("how", ["pause", "stop"])
async def test_a_charge_waits_for_the_ledger_and_is_made_once(
    books: Running, cut: Running, relay: CuttingRelay, how: str
) -> None:
    """Cut between admission and settlement: the customer gets its answer, the charge follows later."""
    key = await books.open_account("a", credit="10")
    calls = [asyncio.create_task(chat(cut, key, latency_seconds=1.0, **TOKENS)) for _ in range(10)]
    await at_service(books, 10)
    assert (await books.ledger.account("a")).open_holds == 10
    if how == "pause":
        relay.pause()
    else:
        await relay.stop()
    answers = await asyncio.gather(*calls)
    assert [got.status for got in answers] == [200] * 10
    assert {got.charge for got in answers} == {CHARGE}
    assert not await charges(books, "a") or how == "pause"
    if how == "pause":
        relay.resume()
    else:
        await relay.start()
    await settled(books, "a", 10)
    await asyncio.sleep(0.3)
    assert len(await charges(books, "a")) == 10
    await in_order(books, "a", balance=parse_usd("9.9685"))


async def test_a_charge_survives_the_gateway_that_owes_it(tmp_path: Path, books: Running, relay: CuttingRelay) -> None:
    """The ledger stays away until the gateway has ended: the next one with the same spool makes the charge, once."""
    key = await books.open_account("a", credit="10")
    async with beside(books, tmp_path / "cut", relay.url, CHANGES) as cut:
        call = asyncio.create_task(chat(cut, key, latency_seconds=1.0, **TOKENS))
        job = asyncio.create_task(submit(cut, key, knobs={"latency_seconds": 1.0}))
        await at_service(books, 2)
        await relay.stop()
        assert (await call).charge == CHARGE
        made = await job
        assert made.status == 200
    assert not await charges(books, "a")
    await relay.start()
    async with beside(books, tmp_path / "cut", relay.url, CHANGES) as cut:
        await asyncio.sleep(1.3)
        assert (await finished(cut, key, f"/v2/transcript/{made.json['id']}")).status == 200
        amounts = [charge["amount"] for charge in await charges(books, "a")]
        assert sorted(amounts) == [CHARGE, parse_usd("0.21")], "the job by the poll, or by the gateway itself"
    async with beside(books, tmp_path / "cut", relay.url, CHANGES):
        await asyncio.sleep(1.2)
    await in_order(books, "a", balance=parse_usd("9.78685"))
    assert not list((tmp_path / "cut" / "spool").glob("*.spool")), "nothing is left to do"


async def test_what_a_job_costs_survives_an_outage_at_its_end(
    books: Running, cut: Running, relay: CuttingRelay
) -> None:
    """Polls need the ledger; the poll that has begun is answered and its charge is spooled."""
    key = await books.open_account("a", tier="free", credit="50")
    path = await submitted(cut, key)
    await asyncio.sleep(0.1)
    asked = len(await books.seen())
    poll = asyncio.create_task(cut.call("GET", path, key, headers={"X-Sandbox-Latency-Seconds": "0.5"}))
    await at_service(books, asked + 1)
    await relay.stop()
    got = await poll
    assert (got.status, got.charge) == (200, parse_usd("0.21"))
    assert (await cut.call("GET", path, key)).code == "ledger_unavailable"
    await relay.start()
    await settled(books, "a", 1)
    await asyncio.sleep(0.3)
    assert len(await charges(books, "a")) == 1
    await in_order(books, "a", balance=parse_usd("49.79"))


@pytest.mark.parametrize("what", ["replies", "requests"])
async def test_lost_replies_never_charge_twice_or_not_at_all(
    tmp_path: Path, books: Running, relay: CuttingRelay, what: str
) -> None:
    """Two hundred calls over a line that is cut every few commands: as many charges as answers, to the nano."""
    key = await books.open_account("a", credit="100")
    lots = random.Random(7)
    served = cuts = 0
    patient = {"config/tiers.yaml": without_rates}
    async with beside(books, tmp_path / "cut", relay.url, patient) as cut:

        async def call() -> int:
            nonlocal cuts
            await asyncio.sleep(lots.uniform(0, 0.03))
            if lots.random() < 0.3:
                cuts += 1
                (relay.drop_replies if what == "replies" else relay.drop_requests)(1)
            return (await chat(cut, key, **TOKENS)).status

        for _ in range(10):
            statuses = await asyncio.gather(*(call() for _ in range(20)))
            assert set(statuses) <= {200, 503}
            served += statuses.count(200)
        relay.drop_replies(0)
        relay.drop_requests(0)
        await settled(books, "a", served)
    assert cuts > 30
    assert served > 100
    assert len(await charges(books, "a")) == served
    account = await books.ledger.account("a")
    assert account.balance == parse_usd("100") - served * CHARGE
    assert not await books.ledger.verify("a")


async def test_an_allowance_serves_a_little_without_the_ledger(
    tmp_path: Path, books: Running, relay: CuttingRelay
) -> None:
    """Up to the configured amount for an account and no more, settled to the nano when the ledger is back."""
    changes = {**CHANGES, LLM: served_without_ledger("0.05")}
    key, other = await books.open_account("a", credit="10"), await books.open_account("b", credit="10")
    async with beside(books, tmp_path / "cut", relay.url, changes) as cut:
        for known in (key, other):
            assert (await chat(cut, known, usage="zero")).status == 200
        await relay.stop()
        answers = [await chat(cut, key, **TOKENS) for _ in range(30)]
        served = [got for got in answers if got.status == 200]
        assert parse_usd("0.03") < len(served) * CHARGE <= parse_usd("0.05")
        assert {got.code for got in answers[len(served) :]} == {"ledger_unavailable"}
        assert {got.charge for got in served} == {CHARGE}
        assert (await chat(cut, other, **TOKENS)).status == 200, "each account has its own"
        assert (await submit(cut, key)).code == "ledger_unavailable", "a product that does not allow it refuses"
        await relay.start()
        await settled(books, "a", len(served) + 1)
        await settled(books, "b", 2)
        await in_order(books, "a", balance=parse_usd("10") - len(served) * CHARGE)  # type: ignore[arg-type]
        await in_order(books, "b", balance=parse_usd("9.99685"))
        await asyncio.sleep(1.2)
        assert not any(cut.gateway.allowance.exposure.values())


async def test_an_allowance_is_not_renewed_while_its_calls_are_running(
    tmp_path: Path, books: Running, relay: CuttingRelay
) -> None:
    """Calls that last longer than the gateway's own rounds still count against the bound."""
    changes = {**CHANGES, LLM: served_without_ledger("0.05")}
    key = await books.open_account("a", credit="10")
    async with beside(books, tmp_path / "cut", relay.url, changes) as cut:
        assert (await chat(cut, key, usage="zero")).status == 200
        await relay.stop()
        calls = [asyncio.create_task(chat(cut, key, latency_seconds=2.5, **TOKENS)) for _ in range(8)]
        await asyncio.sleep(1.6)
        assert parse_usd("0.03") < cut.gateway.allowance.exposure["llm-gateway"] <= parse_usd("0.05")
        assert (await chat(cut, key, **TOKENS)).code == "ledger_unavailable"
        answers = await asyncio.gather(*calls)
        served = [got for got in answers if got.status == 200]
        assert 0 < len(served) < 8
        await relay.start()
        await settled(books, "a", len(served) + 1)
        await in_order(books, "a", balance=parse_usd("10") - len(served) * CHARGE)  # type: ignore[arg-type]


async def test_an_allowance_gives_back_what_failed(tmp_path: Path, books: Running, relay: CuttingRelay) -> None:
    """An upstream error is as free without the ledger as with it."""
    changes = {**CHANGES, LLM: served_without_ledger("0.02")}
    key = await books.open_account("a", credit="10")
    async with beside(books, tmp_path / "cut", relay.url, changes) as cut:
        assert (await chat(cut, key, usage="zero")).status == 200
        await relay.stop()
        for _ in range(5):
            assert (await chat(cut, key, status=500)).status == 500
        assert (await chat(cut, key, **TOKENS)).status == 200
        await relay.start()
        await settled(books, "a", 2)
        await in_order(books, "a", balance=parse_usd("9.99685"))


async def test_readiness_tells_of_the_ledger_and_metrics_of_the_spool(
    books: Running, cut: Running, relay: CuttingRelay
) -> None:
    """Alive all the time, ready only with the ledger; what waits is counted."""
    key = await books.open_account("a", credit="10")

    async def status(path: str) -> int:
        async with cut.http.get(cut.ops_url + path) as response:
            return response.status

    assert await status("/readyz") == 200
    call = asyncio.create_task(chat(cut, key, latency_seconds=0.5, **TOKENS))
    await at_service(books, 1)
    await relay.stop()
    await call
    assert (await status("/healthz"), await status("/readyz")) == (200, 503)
    async with cut.http.get(cut.ops_url + "/metrics") as response:
        assert "gateway_spool_pending 1.0" in await response.text()
    await relay.start()
    await settled(books, "a", 1)

    async def ready() -> bool:
        return await status("/readyz") == 200

    assert await until(ready)


async def test_a_stream_that_ends_while_the_ledger_is_away_is_charged_when_it_is_back(
    books: Running, cut: Running, relay: CuttingRelay
) -> None:
    """Its client gets all of it, and notices nothing but that the end waits a little."""
    key = await books.open_account("a", credit="10")
    headers = {"Authorization": key, **sandbox(event_seconds=0.05, **TOKENS)}
    async with cut.http.post(cut.url + CHAT_PATH, json={**CHAT, "stream": True}, headers=headers) as response:
        await response.content.readany()
        relay.pause()
        body = await response.content.read()
        relay.resume()
    assert body.endswith(b"data: [DONE]\n\n")
    await settled(books, "a", 1)
    assert [charge["amount"] for charge in await charges(books, "a")] == [CHARGE]
    await in_order(books, "a", balance=parse_usd("9.99685"))
