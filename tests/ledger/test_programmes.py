"""The contract of `ports.Ledger`: what is done by calendar month is done once."""

import asyncio
from dataclasses import replace

import pytest

from gateway.core.errors import LedgerRefused, UnknownAccount
from gateway.core.money import BALANCE_MAX
from gateway.core.monthly import MonthlyGrant
from gateway.core.months import begins_ms
from gateway.ports import Grant, Ledger, Plan
from tests.ledger import ledgers
from tests.ledger.ledgers import FREE, World, bill, opened, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures
DAY = 86_400
NOW, NEXT, LATER = "2026-11", "2026-12", "2027-01"  # the clock begins on the 23rd of the first
FIFTY = MonthlyGrant(amount=usd(50))


async def give(ledger: Ledger, month: str = NOW, grant: MonthlyGrant = FIFTY, *, plan: Plan = FREE) -> bool:
    """The month's grant, which ends with the month."""
    following = {NOW: NEXT, NEXT: LATER, LATER: "2027-02"}[month]
    return await ledger.grant_monthly(
        account="acme", plan=plan, month=month, grant=grant, expires_ms=begins_ms(following)
    )


async def grants(ledger: Ledger) -> list[Grant]:
    """The account's, in burn order."""
    return list((await ledger.account("acme")).grants)


async def test_a_month_has_one_grant(world: World) -> None:
    """Twenty at once are one; a repeat, also of another amount or plan, changes nothing; it burns first."""
    ledger = await opened(world, signup=usd(5))
    assert await asyncio.gather(*(give(ledger) for _ in range(20))) == [True] * 20
    before = await world.dump()
    assert await give(ledger, grant=replace(FIFTY, amount=usd(9)))
    assert await give(ledger, plan=Plan(tier="payg"))
    assert await world.dump() == before
    first, second = await grants(ledger)
    assert (first.kind, first.remaining, first.expires_ms) == ("monthly", usd(50), begins_ms(NEXT))
    assert second.kind == "signup"
    (_, entry) = await ledger.entries("acme")
    assert (entry.kind, entry.operation, entry.data["month"]) == ("grant", "monthly:2026-11", NOW)
    assert await ledger.verify("acme") == []


async def test_it_ends_with_its_month_and_the_next_has_its_own(world: World) -> None:
    """What is left does not roll over; a month is not given before or after its time, nor to another plan."""
    ledger = await opened(world, signup=0)
    assert not await give(ledger, NEXT)
    assert not await give(ledger, plan=Plan(tier="payg"))
    assert await give(ledger)
    await ledger.settle(bill("a", usd(20)))
    await world.advance(8 * DAY)
    swept = await ledger.sweep("acme")
    assert swept.monthly is not None
    assert (swept.monthly.plan, swept.monthly.now, swept.monthly.granted) == (FREE, NEXT, NOW)
    assert await grants(ledger) == []
    assert await give(ledger, NOW)  # was given
    assert await grants(ledger) == []
    assert await give(ledger, NEXT)
    assert (await ledger.account("acme")).balance == usd(50)
    kinds = [(entry.kind, entry.amount) for entry in await ledger.entries("acme")]
    assert kinds == [("grant", usd(50)), ("charge", -usd(20)), ("grant_expiry", -usd(30)), ("grant", usd(50))]
    assert await ledger.verify("acme") == []


async def test_it_pays_debt_first_and_is_a_change_of_the_account(world: World) -> None:
    """Open sessions look again."""
    ledger = await opened(world, signup=usd(1))
    await ledger.settle(bill("a", usd(3)))
    (before,) = await ledger.changes(["acme"])
    assert await give(ledger)
    account = await ledger.account("acme")
    assert (account.debt, account.balance) == (0, usd(48))
    assert await ledger.changes(["acme"]) == [before + 1]
    with pytest.raises(UnknownAccount):
        await ledger.grant_monthly(account="nobody", plan=FREE, month=NOW, grant=FIFTY, expires_ms=begins_ms(NEXT))


async def test_what_an_account_cannot_hold_is_given_once_there_is_room(world: World) -> None:
    """It is refused, and changes nothing."""
    ledger = await opened(world, signup=BALANCE_MAX)
    before = await world.dump()
    with pytest.raises(LedgerRefused):
        await give(ledger)
    assert await world.dump() == before
    await ledger.settle(bill("a", usd(50)))
    assert await give(ledger)
    assert (await ledger.account("acme")).balance == BALANCE_MAX


async def test_an_override_is_another_plan(world: World) -> None:
    """Who decides by the plan of before an operator's change gives nothing."""
    ledger = await opened(world)
    await ledger.change_account(operation="1", account="acme", overrides={"monthly_grant": "5/month"})
    assert not await give(ledger)
    assert await give(ledger, plan=replace(FREE, overrides="monthly_grant=5/month"))
