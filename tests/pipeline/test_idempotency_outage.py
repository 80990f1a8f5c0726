"""Calls that carry an Idempotency-Key while the ledger is away: refused, or done once, never twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.money import parse_usd
from tests.fakes.link import CuttingRelay
from tests.harness import Running
from tests.pipeline import test_outage
from tests.pipeline.helpers import at_service, beside, charges, in_order, served_without_ledger, until
from tests.pipeline.test_idempotency import LEFT, post, same

LLM = "config/products/llm-gateway.yaml"


relay, books = test_outage.relay, test_outage.books  # fixtures


@pytest.fixture
async def cut(tmp_path: Path, books: Running, relay: CuttingRelay) -> AsyncIterator[Running]:
    """The gateway under test, whose line to the ledger is the relay. It may serve without the ledger."""
    changes = {**test_outage.CHANGES, LLM: served_without_ledger("5")}
    async with beside(books, tmp_path / "cut", relay.url, changes) as gw:
        yield gw


async def test_without_the_ledger_no_named_call_is_forwarded(books: Running, cut: Running, relay: CuttingRelay) -> None:
    """Neither a first one nor a repeat, though others are served within the allowance; then the answer is there."""
    key = await books.open_account("a", credit="10")
    first = await post(cut, key, "k")
    assert first.status == 200
    await relay.stop()
    answers = [await post(cut, key, word) for word in ("k", "new")]
    assert {(got.status, got.code) for got in answers} == {(503, "ledger_unavailable")}
    await relay.start()

    async def back() -> bool:
        return (await post(cut, key, "k")).status == 200

    assert await until(back)
    assert same(await post(cut, key, "k"), first)
    assert len(await books.seen()) == 1
    await in_order(books, "a", balance=LEFT)


async def test_a_charge_that_waits_in_the_spool_is_not_made_again(
    books: Running, cut: Running, relay: CuttingRelay
) -> None:
    """The ledger goes away during the call: the customer has its answer; a repeat waits, then is told it is done."""
    key = await books.open_account("a", credit="10")
    call = asyncio.create_task(post(cut, key, "k", latency_seconds=0.7))
    await at_service(books, 1)
    await relay.stop()
    first = await call
    assert first.status == 200
    assert (await post(books, key, "k")).code == "idempotency_in_progress", "its hold is open"
    await relay.start()

    async def charged() -> bool:
        return len(await charges(books, "a")) == 1

    assert await until(charged)

    async def told() -> bool:
        repeat = await post(books, key, "k")
        return (repeat.status, repeat.code) == (410, "idempotency_answer_not_kept")

    assert await until(told), "its answer was lost with the ledger"
    assert len(await books.seen()) == 1
    await in_order(books, "a", balance=LEFT)


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_lost_replies_change_nothing(books: Running, cut: Running, relay: CuttingRelay, lost: int) -> None:
    """The ledger did what it was asked and its reply was lost, early or late in the call: one call, one charge."""
    key = await books.open_account("a", credit="10")
    relay.drop_replies(lost)
    early = await post(cut, key, "early")
    call = asyncio.create_task(post(cut, key, "late", latency_seconds=0.7))
    await at_service(books, 2)
    relay.drop_replies(lost)
    late = await call
    assert (early.status, late.status) == (200, 200)
    relay.drop_replies(0)
    for word, first in (("early", early), ("late", late)):
        assert same(await post(cut, key, word), first)
    assert len(await books.seen()) == 2
    await in_order(books, "a", balance=parse_usd("9.9937"))
