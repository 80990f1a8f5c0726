"""Commitments are closed by whoever comes by: once, however many do, and from whatever month they were left at."""

import asyncio

from gateway.edge.observing import Observers
from gateway.ports import UsageDay
from gateway.workers.commitments import Commitments
from gateway.workers.sweeper import Sweeper
from tests.ledger.ledgers import MemoryWorld, bill, opened, usd

DAY = 86_400


async def test_months_that_are_over_are_closed_by_the_sweepers_of_two_workers() -> None:
    """Of three months, one had enough, one was short, one had nothing: two entries, though two workers come by at once
    and again; usage of the month that runs is left alone."""
    world, observer = MemoryWorld(), Observers()
    ledger = await opened(world, signup=usd(1000))
    await ledger.commit(operation="1", account="acme", month="2026-11", amount=usd(100))
    await ledger.settle(bill("a", usd(150)))
    await world.advance(20 * DAY)
    await ledger.settle(bill("b", usd(30)))
    await ledger.settle(bill("c", usd(30)))
    entry = (await ledger.entries("acme"))[-1]
    await ledger.refund(operation="r", account="acme", entry_id=entry.id, amount=None, data={"reason": "x"})
    await world.advance(60 * DAY)
    await ledger.settle(bill("d", usd(1)))
    commitments = Commitments(ledger=ledger, observer=observer)
    sweepers = [
        Sweeper(ledger=ledger, observer=observer, accounts_max=10, round_seconds=1, visits=(commitments.visit,))
        for _ in range(2)
    ]
    for _ in range(2):
        await asyncio.gather(*(sweeper.round() for sweeper in sweepers))
    entries = [entry for entry in await ledger.entries("acme") if entry.kind == "commitment"]
    assert [(entry.data["month"], entry.amount) for entry in entries] == [
        ("2026-12", -usd(70)), ("2027-01", -usd(100)),
    ]  # fmt: skip
    assert (await ledger.commitment("acme")).closing == "2027-02"
    days: list[UsageDay] = list(await ledger.usage("acme", since="2026-11-01", until="2027-03-01"))
    assert sum(day.charged for day in days) == usd(181)
