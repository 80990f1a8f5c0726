"""The contract of `ports.Ledger`, part five: what a later receipt changes of a charge."""

import asyncio
from typing import Any

import pytest

from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ports import Ledger, Receipt
from tests.ledger import ledgers
from tests.ledger.ledgers import START_MS, World, bill, opened, sum_of_entries, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures

WHY = {"call_id": "call-1", "reason": "the service reported 58 s"}


async def correct(ledger: Ledger, amount: int, operation: str = "fix", **changes: Any) -> Receipt:
    """A correction of the account's charge."""
    values: dict[str, Any] = {"account": "acme", "key_id": "acme-key", "data": WHY}
    return await ledger.correct(operation=operation, amount=Nanos(amount), **values | changes)


async def spent(ledger: Ledger) -> int:
    (key,) = await ledger.keys("acme")
    return key.spent


async def test_credit_that_comes_back_burns_first(world: World) -> None:
    """It is a grant of its own that never expires; the entry says what was corrected and why."""
    ledger = await opened(world)
    await ledger.grant(operation="promo", account="acme", kind="promotion", amount=usd(1), priority=-1_000_000)
    await ledger.settle(bill("call-1", usd(2)))
    receipt = await correct(ledger, usd(0.5))
    assert (receipt.charged, receipt.balance, receipt.late) == (-usd(0.5), usd(49.5), False)
    entry = (await ledger.entries("acme"))[-1]
    first = (await ledger.account("acme")).grants[0]
    assert (first.kind, first.remaining, first.expires_ms) == ("correction", usd(0.5), None)
    assert (entry.id, entry.kind, entry.operation, entry.amount) == (receipt.entry_id, "correction", "fix", usd(0.5))
    assert (entry.balance, entry.at_ms) == (usd(49.5), START_MS)
    assert entry.data == {**WHY, "key_id": "acme-key", "grants": {first.id: usd(0.5)}}
    assert await spent(ledger) == usd(1.5)
    await ledger.settle(bill("call-2", usd(0.5)))
    assert first.id not in [grant.id for grant in (await ledger.account("acme")).grants]
    assert await ledger.verify("acme") == []


async def test_more_is_charged_like_a_charge(world: World) -> None:
    """Grants burn, what they do not cover becomes debt, and the key's month grows."""
    ledger = await opened(world, signup=usd(1))
    await ledger.settle(bill("call-1", usd(0.75)))
    receipt = await correct(ledger, -usd(0.5))
    assert (receipt.charged, receipt.balance) == (usd(0.5), -usd(0.25))
    entry = (await ledger.entries("acme"))[-1]
    assert (entry.kind, entry.amount, entry.data["debt"]) == ("correction", -usd(0.5), usd(0.25))
    assert entry.data["grants"] == {"g00000001": usd(0.25)}
    assert await spent(ledger) == usd(1.25)
    assert await ledger.verify("acme") == []


async def test_credit_that_comes_back_pays_debt_first(world: World) -> None:
    """Only what is left of it becomes a grant."""
    ledger = await opened(world, signup=usd(1))
    await ledger.settle(bill("call-1", usd(2)))
    await correct(ledger, usd(1))
    account = await ledger.account("acme")
    assert (account.balance, account.debt, account.grants) == (0, 0, ())
    await correct(ledger, usd(0.5), "again")
    assert [grant.remaining for grant in (await ledger.account("acme")).grants] == [usd(0.5)]
    assert await sum_of_entries(ledger) == usd(0.5)
    assert await ledger.verify("acme") == []


@pytest.mark.parametrize("days", [0, 40])
async def test_a_keys_month_does_not_sink_below_nothing(world: World, days: int) -> None:
    """What was charged in an older month, or through another key, takes nothing from this one that is not there."""
    ledger = await opened(world)
    await ledger.settle(bill("call-1", usd(1)))
    await world.advance(days * 86_400)
    await correct(ledger, usd(3))
    assert await spent(ledger) == 0
    await correct(ledger, -usd(0.25), "more")
    assert await spent(ledger) == usd(0.25)
    assert await ledger.verify("acme") == []


async def test_a_correction_of_an_unknown_key_is_the_accounts(world: World) -> None:
    """The key is made by nobody."""
    ledger = await opened(world)
    for amount in (usd(1), -usd(1)):
        await correct(ledger, amount, str(amount), key_id="")
    assert await spent(ledger) == 0
    assert await ledger.verify("acme") == []


@pytest.mark.parametrize("amount", [usd(0.5), -usd(0.5)])
async def test_a_repeated_correction_gets_the_first_receipt(world: World, amount: int) -> None:
    """The same operation again changes nothing; with other content it is a conflict."""
    ledger = await opened(world)
    first = await correct(ledger, amount)
    await ledger.settle(bill())
    before = await world.dump()
    assert await correct(ledger, amount) == first
    others: list[dict[str, Any]] = [{"amount": amount + 1}, {"data": {}}, {"key_id": "other"}, {"amount": -amount}]
    for other in others:
        with pytest.raises(OperationConflict):
            await correct(ledger, **{"amount": amount} | other)
    assert await world.dump() == before


async def test_a_correction_that_makes_no_sense_is_refused(world: World) -> None:
    """Nothing, more than an account may hold, more than can be counted: refused, and nothing is written."""
    ledger = await opened(world, signup=1)
    before = await world.dump()
    for amount in (0, BALANCE_MAX, BALANCE_MAX + 1, 2**63, -(2**53)):
        with pytest.raises(LedgerRefused):
            await correct(ledger, amount)
    assert await world.dump() == before
    assert (await correct(ledger, BALANCE_MAX - 1)).balance == BALANCE_MAX
    assert (await correct(ledger, -5, "more")).balance == BALANCE_MAX - 5


async def test_an_unknown_account_has_nothing_to_correct(world: World) -> None:
    """It raises, and makes nothing."""
    before = await world.dump()
    with pytest.raises(UnknownAccount):
        await correct(world.ledger, 5)
    assert await world.dump() == before


async def test_no_more_comes_back_of_a_call_than_it_was_charged(world: World) -> None:
    """Of a call with charges, corrections and refunds of its own what is left, to the nano; of others nothing."""
    ledger = await opened(world)
    entry = (await ledger.settle(bill("slice-1", usd(2), call_id="call-1"))).entry_id
    await ledger.settle(bill("slice-2", usd(1), call_id="call-1"))
    await ledger.settle(bill("call-2", usd(9)))
    await correct(ledger, usd(0.5), "report")  # as the end of a session does
    named = {"of_call": "call-1", "key_id": ""}
    before = await world.dump()
    with pytest.raises(LedgerRefused, match=r"2\.500000000"):
        await correct(ledger, usd(2.5) + 1, "over", **named)
    for call_id in ("call", "call-11", "nobody's", "acme-key", '"'):
        for amount in (1, -1):
            with pytest.raises(LedgerRefused, match="no charge of call"):
                await correct(ledger, amount, "none", of_call=call_id)
    assert await world.dump() == before
    first = await correct(ledger, usd(1), **named)
    assert await correct(ledger, usd(1), **named) == first, "a repeat is no second one"
    refund: dict[str, Any] = {"account": "acme", "entry_id": entry, "data": {"reason": "x"}}
    with pytest.raises(LedgerRefused, match=r"1\.500000000"):
        await ledger.refund(operation="r", amount=Nanos(usd(1.5) + 1), **refund)
    assert (await ledger.refund(operation="r", amount=None, **refund)).charged == -usd(1.5), "not the whole charge of 2"
    for amount in (1, usd(1)):
        with pytest.raises(LedgerRefused, match=r"0\.000000000"):
            await correct(ledger, amount, f"again-{amount}", **named)
    await correct(ledger, -usd(0.25), "more", **named)
    assert (await correct(ledger, usd(0.25), "less", **named)).balance == usd(41)
    assert await ledger.verify("acme") == []


async def test_racing_corrections_give_back_one_call(world: World) -> None:
    """Of many corrections at once, with charges of other calls between them, those are made that the call covers."""
    ledger = await opened(world)
    await ledger.settle(bill("call-1", usd(1)))

    async def one(number: int) -> bool:
        await ledger.settle(bill(f"other-{number}", 1))
        try:
            await correct(ledger, usd(0.4), f"fix-{number}", of_call="call-1")
        except LedgerRefused:
            return False
        return True

    assert sum(await asyncio.gather(*map(one, range(10)))) == 2
    assert (await ledger.account("acme")).balance == usd(49.8) - 10
    assert await ledger.verify("acme") == []


async def test_a_call_is_found_among_many(world: World) -> None:
    """However far back its charge is, and also where it is the last thing that happened."""
    ledger = await opened(world)
    await ledger.settle(bill("first", 5))
    await asyncio.gather(*(ledger.settle(bill(f"other-{number}", 1)) for number in range(1050)))
    await ledger.settle(bill("last", 7))
    for call_id, amount in (("first", 5), ("last", 7)):
        with pytest.raises(LedgerRefused):
            await correct(ledger, amount + 1, call_id, of_call=call_id, data={"call_id": call_id})
        await correct(ledger, amount, call_id, of_call=call_id, data={"call_id": call_id})
    assert (await ledger.account("acme")).balance == usd(50) - 1050
