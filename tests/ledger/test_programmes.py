"""The contract of `ports.Ledger`: what is done by calendar month is done once."""

import asyncio
from dataclasses import replace

import pytest

from gateway.core.commitments import Commitment
from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from gateway.core.money import BALANCE_MAX, ZERO, Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.months import begins_ms
from gateway.ports import Grant, Ledger, Plan, Watch
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


async def close(ledger: Ledger, charged: int, commitment: Commitment | None = None) -> bool:
    """Close the first month that is not closed."""
    commitment = await ledger.commitment("acme") if commitment is None else commitment
    return await ledger.close_month(account="acme", commitment=commitment, charged=Nanos(charged))


async def test_what_a_month_was_short_of_is_charged_once(world: World) -> None:
    """Not before it is over; twenty at once are one entry; grants burn, the rest is debt; it is in no usage."""
    ledger = await opened(world, signup=usd(100))
    await ledger.commit(operation="1", account="acme", month=NOW, amount=usd(500))
    await ledger.settle(bill("a", usd(30)))
    assert not await close(ledger, usd(30))
    await world.advance(8 * DAY)
    swept = await ledger.sweep("acme")
    assert swept.monthly is not None and (swept.monthly.now, swept.monthly.closing) == (NEXT, NOW)
    commitment = await ledger.commitment("acme")
    usage = await ledger.usage("acme", since=f"{NOW}-01", until=f"{LATER}-01")
    assert await asyncio.gather(*(close(ledger, usd(30), commitment) for _ in range(20))) == [True] * 20
    before = await world.dump()
    assert await close(ledger, usd(7), commitment)
    assert not await close(ledger, 0)
    assert await world.dump() == before
    account = await ledger.account("acme")
    assert (account.balance, account.debt, account.grants) == (-usd(400), usd(400), ())
    entry = (await ledger.entries("acme"))[-1]
    assert (entry.kind, entry.operation, entry.amount) == ("commitment", "commitment:2026-11", -usd(470))
    assert [entry.data[name] for name in ("month", "committed", "charged")] == [NOW, usd(500), usd(30)]
    assert entry.data["grants"] == {"g00000001": usd(70)} and entry.data["debt"] == usd(400)
    assert await ledger.usage("acme", since=f"{NOW}-01", until=f"{LATER}-01") == usage
    assert (await ledger.commitment("acme")).closing == NEXT
    assert await ledger.verify("acme") == []


async def test_a_month_is_closed_by_what_was_committed_to_for_it(world: World) -> None:
    """Whoever read it before it was changed closes nothing; a month that had enough has no entry."""
    ledger = await opened(world)
    first = await ledger.commit(operation="1", account="acme", month=NOW, amount=usd(5))
    assert await ledger.commit(operation="1", account="acme", month=NOW, amount=usd(5)) == first
    with pytest.raises(OperationConflict):
        await ledger.commit(operation="1", account="acme", month=NOW, amount=usd(6))
    await world.advance(8 * DAY)
    changed = await ledger.commit(operation="2", account="acme", month=NEXT, amount=usd(9))
    assert changed == Commitment(amounts=((NOW, usd(5)), (NEXT, usd(9))), closing=NOW)
    assert not await close(ledger, usd(5), first)
    assert await close(ledger, usd(5), changed)
    await world.advance(31 * DAY)
    await ledger.commit(operation="3", account="acme", month=LATER, amount=ZERO)
    assert await close(ledger, usd(8))
    assert await ledger.commitment("acme") == Commitment()
    assert [(e.kind, e.amount) for e in await ledger.entries("acme")] == [("grant", usd(50)), ("commitment", -usd(1))]
    swept = await ledger.sweep("acme")
    assert swept.monthly is not None and swept.monthly.closing == ""


async def test_what_cannot_be_committed_to(world: World) -> None:
    """A month that is over, no month, less than nothing, too many changes: refused, and nothing is written."""
    ledger = await opened(world)
    for number in range(24):
        await ledger.commit(operation=f"{number}", account="acme", month=f"{2027 + number}-05", amount=usd(1 + number))
    before = await world.dump()
    wrong = [("2026-10", 1), ("2026-13", 1), ("soon", 1), (NEXT, -1), (NEXT, BALANCE_MAX + 1), ("2090-01", 7)]
    for month, amount in wrong:
        with pytest.raises(LedgerRefused):
            await ledger.commit(operation="x", account="acme", month=month, amount=Nanos(amount))
    assert await world.dump() == before
    for verb in (ledger.commitment("nobody"), ledger.commit(operation="x", account="nobody", month=NOW, amount=ZERO)):
        with pytest.raises(UnknownAccount):
            await verb


async def test_changes_at_once_are_all_done(world: World) -> None:
    """Each is made of what the one before left."""
    ledger = await opened(world)
    months = [NOW, NEXT, LATER]
    await asyncio.gather(
        *(ledger.commit(operation=month, account="acme", month=month, amount=usd(1)) for month in months)
    )
    found = await ledger.commitment("acme")
    assert {amount for _, amount in found.amounts} == {usd(1)}


async def test_it_is_told_to_who_watches_the_balance_and_counts_as_no_spending(world: World) -> None:
    """The entry that crosses posts the alert; what is spent in the new month is not it."""
    ledger = await opened(world)
    for kind, amount in (("balance_below", usd(20)), ("spent_month", usd(10))):
        watch = Watch(id=kind.replace("_", "-"), kind=kind, amount=amount, channel="alert")  # type: ignore[arg-type]
        await ledger.put_watch(account="acme", watch=watch)
    await ledger.commit(operation="1", account="acme", month=NOW, amount=usd(40))
    await world.advance(8 * DAY)
    assert await close(ledger, 0)
    (delivery,) = await ledger.deliveries("acme")
    assert delivery.payload["kind"] == "balance_below"
