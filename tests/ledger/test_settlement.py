"""The contract of `ports.Ledger`, part two: how holds end, what is charged, where the credit comes from."""

from dataclasses import replace

import pytest

from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.core.pricing import LineItem
from gateway.ports import Admitted, Swept
from tests.ledger import ledgers
from tests.ledger.ledgers import (
    START_MS,
    World,
    admitted,
    ask,
    bill,
    one_at_a_time,
    opened,
    refused,
    sum_of_entries,
    usd,
)

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures


async def test_a_settlement_charges_once_and_explains_itself(world: World) -> None:
    """The hold is gone, the entry carries its line items, prices, call, key and upstream ids and the grants burnt."""
    ledger = await opened(world)
    await admitted(ledger, ask(estimate=usd(2)))
    receipt = await ledger.settle(bill("call-1", usd(1.5)))
    assert (receipt.charged, receipt.balance, receipt.late) == (usd(1.5), usd(48.5), False)
    account = await ledger.account("acme")
    assert (account.balance, account.held, account.open_holds) == (usd(48.5), 0, 0)
    grant, entry = await ledger.entries("acme")
    assert entry.id == receipt.entry_id
    assert (entry.kind, entry.amount, entry.balance) == ("charge", -usd(1.5), usd(48.5))
    assert (entry.operation, entry.at_ms) == ("call-1", START_MS)
    assert entry.data["grants"] == {account.grants[0].id: usd(1.5)}
    assert entry.data["items"][0] == {
        "sku": "sku-0",
        "quantity": "1.5",
        "unit": "second",
        "unit_price": "0.21 per_hour",
        "amount": usd(1),
    }
    said = {name: entry.data[name] for name in ("price_version", "call_id", "key_id", "upstream_id", "route")}
    assert said == {
        "price_version": "2026-11-01",
        "call_id": "call-1",
        "key_id": "acme-key",
        "upstream_id": "up-1",
        "route": "transcribe",
    }
    assert list(await ledger.entries("acme", after=grant.id)) == [entry]
    assert await ledger.entries("acme", after=entry.id) == []


async def test_a_repeated_settlement_gets_the_very_first_receipt(world: World) -> None:
    """A replay answers the first receipt, though the balance has moved on, and changes nothing."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    first = await ledger.settle(bill())
    assert not first.repeated
    await admitted(ledger, ask("call-2"))
    await ledger.settle(bill("call-2"))
    before = await world.dump()
    again = await ledger.settle(bill())
    assert again == first and again.repeated, "and says so: who tells of charges told of this one before"
    assert await ledger.settle(bill(call_id="seen-by-another", route="callback")) == first
    assert await world.dump() == before


async def test_the_same_hold_with_another_charge_is_a_conflict(world: World) -> None:
    """Another amount, or the same amount of other items, is an error and changes nothing."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    await ledger.settle(bill())
    before = await world.dump()
    other = replace(bill().charge, items=tuple(reversed(bill().charge.items)))
    for settlement in (bill(amount=usd(1)), replace(bill(), charge=other)):
        with pytest.raises(OperationConflict):
            await ledger.settle(settlement)
    assert await world.dump() == before


async def test_a_released_hold_cannot_be_settled(world: World) -> None:
    """Given back is given back: a later charge is a conflict."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    assert await ledger.release(account="acme", hold_id="call-1")
    before = await world.dump()
    with pytest.raises(OperationConflict):
        await ledger.settle(bill())
    assert await world.dump() == before
    assert (await ledger.account("acme")).held == 0


async def test_release_says_whether_it_ended_the_hold(world: World) -> None:
    """True once; false for a hold that had ended, whatever the end, or never was."""
    ledger = await opened(world)
    for call in ("released", "settled", "expired"):
        await admitted(ledger, ask(call))
    assert await ledger.release(account="acme", hold_id="released")
    await ledger.settle(bill("settled"))
    await world.advance(60)
    for call in ("released", "settled", "expired", "unknown"):
        assert not await ledger.release(account="acme", hold_id=call)


@pytest.mark.parametrize("why", ["expired", "unknown"])
async def test_a_late_settlement_charges_once_and_is_marked(world: World, why: str) -> None:
    """Usage that comes after the hold timed out, or for a call that the ledger never saw, is charged all the same."""
    ledger = await opened(world)
    if why == "expired":
        await admitted(ledger, ask(concurrency=one_at_a_time(5)))
    await world.advance(61)
    receipt = await ledger.settle(bill())
    assert (receipt.late, receipt.balance) == (True, usd(49.9))
    assert await ledger.settle(bill()) == receipt
    assert (await ledger.entries("acme"))[-1].data["late"] is True
    assert (await ledger.account("acme")).held == 0
    assert await ledger.verify("acme") == []


async def test_a_hold_lives_until_its_lease_is_over(world: World) -> None:
    """At the last millisecond the hold is open; then its credit comes back before the next call is judged."""
    ledger = await opened(world, signup=usd(1))
    await admitted(ledger, ask("a", estimate=usd(1), lease_seconds=10))
    await world.advance(9.999)
    await refused(ledger, ask("b"))
    await world.advance(0.001)
    assert (await admitted(ledger, ask("b", estimate=usd(1)))).hold == usd(1)


async def test_leases_are_extended_in_bulk_and_never_shortened(world: World) -> None:
    """Open holds live on; the ids of others come back."""
    ledger = await opened(world)
    for call, lease in (("a", 10), ("b", 10), ("long", 900)):
        await admitted(ledger, ask(call, lease_seconds=lease))
    await ledger.release(account="acme", hold_id="b")
    await world.advance(5)
    gone = await ledger.extend(account="acme", hold_ids=["a", "b", "long", "x"], lease_seconds=60)
    assert list(gone) == ["b", "x"]
    expiries = {hold.id: hold.expires_ms - START_MS for hold in await ledger.holds("acme")}
    assert expiries == {"a": 65_000, "long": 900_000}


async def test_sweep_ends_what_is_over_and_says_what(world: World) -> None:
    """Holds past their lease and grants past their expiry, more of them than one script may end, once."""
    ledger = await opened(world)
    for number in range(230):
        await admitted(ledger, ask(f"call-{number}", estimate=Nanos(7)))
    await ledger.grant(operation="promo", account="acme", kind="promotion", amount=usd(5), expires_ms=START_MS + 60_000)
    assert await ledger.sweep("acme") == Swept()
    await world.advance(60)
    assert await ledger.sweep("acme") == Swept(holds=230, held=Nanos(1610), grants=1)
    assert await ledger.sweep("acme") == Swept()
    assert (await ledger.account("acme")).held == 0


async def test_readings_end_everything_that_is_over(world: World) -> None:
    """An account, its keys and its holds are told as they stand now, however much was over."""
    ledger = await opened(world)
    for number in range(330):
        await admitted(ledger, ask(f"call-{number}"))
    await world.advance(60)
    assert (await ledger.account("acme")).held == 0
    for number in range(110):
        await admitted(ledger, ask(f"more-{number}"))
    await world.advance(60)
    assert await ledger.holds("acme") == []
    await admitted(ledger, ask("last"))
    assert (await ledger.keys("acme"))[0].held == usd(0.1)
    assert await ledger.verify("acme") == []


async def test_grants_burn_by_priority_then_expiry_then_age(world: World) -> None:
    """The order of burning is told by account(), and is what settlements follow, across several grants at once."""
    ledger = await opened(world, signup=0)
    soon, later = START_MS + 1_000_000, START_MS + 2_000_000
    order = [
        ("first-by-priority", 10, None),
        ("soonest", 50, soon),
        ("later", 50, later),
        ("older", 50, None),
        ("newer", 50, None),
        ("last-by-priority", 90, soon),
    ]
    ids = {}
    for name, priority, expires_ms in [order[n] for n in (5, 3, 2, 4, 1, 0)]:
        made = await ledger.grant(
            operation=name, account="acme", kind="promotion", amount=usd(1), priority=priority, expires_ms=expires_ms
        )
        ids[name] = made.id
    wanted = [ids[name] for name, _, _ in order]
    assert [grant.id for grant in (await ledger.account("acme")).grants] == wanted
    await ledger.settle(bill("call-1", usd(2.5)))
    assert (await ledger.entries("acme"))[-1].data["grants"] == dict(
        zip(wanted[:3], [usd(1), usd(1), usd(0.5)], strict=True)
    )
    left = [(grant.id, grant.remaining) for grant in (await ledger.account("acme")).grants]
    assert left == [(wanted[2], usd(0.5)), *((one, usd(1)) for one in wanted[3:])]
    await ledger.settle(bill("call-2", usd(0.5)))
    assert [grant.id for grant in (await ledger.account("acme")).grants] == wanted[3:]


async def test_an_expired_grant_leaves_by_an_entry_and_is_never_burnt(world: World) -> None:
    """What remains at a grant's expiry goes with an entry of its own, before the next charge."""
    ledger = await opened(world, signup=usd(2))
    made = await ledger.grant(
        operation="promo", account="acme", kind="promotion", amount=usd(5), priority=1, expires_ms=START_MS + 5000
    )
    await ledger.settle(bill("call-1", usd(1)))
    await world.advance(5)
    receipt = await ledger.settle(bill("call-2", usd(1)))
    assert receipt.balance == usd(1)
    *_, expiry, charge = await ledger.entries("acme")
    assert (expiry.kind, expiry.amount, expiry.balance) == ("grant_expiry", -usd(4), usd(2))
    assert (expiry.operation, expiry.data) == (f"expiry:{made.id}", {"grants": {made.id: usd(4)}})
    assert made.id not in charge.data["grants"]
    assert await sum_of_entries(ledger) == usd(1)
    assert await ledger.verify("acme") == []


async def test_a_spent_grant_expires_without_an_entry(world: World) -> None:
    """A grant that was burnt to the end has nothing left to expire."""
    ledger = await opened(world, signup=0)
    await ledger.grant(operation="promo", account="acme", kind="promotion", amount=usd(1), expires_ms=START_MS + 5000)
    await ledger.settle(bill("call-1", usd(1)))
    assert (await ledger.account("acme")).grants == ()
    await world.advance(6)
    assert await ledger.sweep("acme") == Swept()
    assert [entry.kind for entry in await ledger.entries("acme")] == ["grant", "charge"]


async def test_what_grants_do_not_cover_becomes_debt_that_a_grant_pays_first(world: World) -> None:
    """The balance goes below zero by one call's excess; access is back in the instant that it is positive."""
    ledger = await opened(world, signup=usd(1))
    await admitted(ledger, ask("a", estimate=usd(1)))
    assert (await ledger.settle(bill("a", usd(3)))).balance == -usd(2)
    account = await ledger.account("acme")
    assert (account.balance, account.debt, account.grants) == (-usd(2), usd(2), ())
    assert (await ledger.entries("acme"))[-1].data["debt"] == usd(2)
    await refused(ledger, ask("b"))

    part = await ledger.grant(operation="part", account="acme", kind="purchase", amount=usd(1.5))
    assert part.remaining == 0
    assert (await ledger.account("acme")).debt == usd(0.5)
    await refused(ledger, ask("b"))
    rest = await ledger.grant(operation="rest", account="acme", kind="purchase", amount=usd(2))
    assert rest.remaining == usd(1.5)
    account = await ledger.account("acme")
    assert (account.balance, account.debt, account.grants) == (usd(1.5), 0, (rest,))
    assert isinstance(await ledger.admit(ask("b")), Admitted)
    assert await sum_of_entries(ledger) == usd(1.5)
    assert await ledger.verify("acme") == []


async def test_a_charge_of_nothing_makes_an_entry_too(world: World) -> None:
    """A call that cost nothing is in the ledger like any other."""
    ledger = await opened(world, signup=0)
    receipt = await ledger.settle(bill("call-1", 0))
    assert (receipt.charged, receipt.balance) == (0, 0)
    (entry,) = await ledger.entries("acme")
    assert (entry.amount, entry.data["grants"]) == (0, {})
    assert await ledger.settle(bill("call-1", 0)) == receipt


async def test_sums_beyond_doubles_stay_exact(world: World) -> None:
    """Debts whose sum no double can hold are told, and paid back, to the nano-dollar."""
    ledger = await opened(world, signup=3)
    huge = 8_999_999_999_999_999
    for call in range(3):
        receipt = await ledger.settle(bill(f"call-{call}", huge))
        assert receipt.balance == 3 - huge * (call + 1)
    account = await ledger.account("acme")
    assert (account.balance, account.debt) == (3 - 3 * huge, 3 * huge - 3)
    await ledger.grant(operation="pay", account="acme", kind="purchase", amount=Nanos(BALANCE_MAX))
    assert (await ledger.account("acme")).debt == 3 * huge - 3 - BALANCE_MAX
    assert (await ledger.keys("acme"))[0].spent == 3 * huge
    assert await sum_of_entries(ledger) == 3 - 3 * huge + BALANCE_MAX
    assert await ledger.verify("acme") == []


async def test_a_charge_is_the_sum_of_its_items_and_not_negative(world: World) -> None:
    """A settlement that would give credit, or that does not explain itself, is refused."""
    ledger = await opened(world)
    item = LineItem(sku="s", quantity="1", unit="call", unit_price="x", amount=Nanos(-5))
    for charge in (
        replace(bill().charge, amount=Nanos(-5), items=(item,)),
        replace(bill().charge, amount=Nanos(1)),
    ):
        with pytest.raises(LedgerRefused):
            await ledger.settle(replace(bill(), charge=charge))


async def test_a_settlement_of_an_unknown_account_or_key(world: World) -> None:
    """An account that is not there is a fault; a key that is not is charged to the account and made by nobody."""
    with pytest.raises(UnknownAccount):
        await world.ledger.settle(bill())
    ledger = await opened(world)
    await ledger.settle(bill(key_id="nobody"))
    assert [key.id for key in await ledger.keys("acme")] == ["acme-key"]
    assert await ledger.verify("acme") == []
