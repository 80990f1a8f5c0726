"""The contract of `ports.Ledger`: a grant ends while there are holds that were made before."""

from functools import partial
from typing import Any

import pytest

from gateway.core.errors import Code, LedgerRefused
from gateway.core.money import Nanos
from gateway.ports import Ledger, Renewal, Renewed, Watch
from tests.ledger import ledgers
from tests.ledger.ledgers import START_MS, RedisWorld, World, admitted, ask, bill, opened, refused, sum_of_entries, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures

LIFE_SECONDS = 60
LONG: dict[str, Any] = {"lease_seconds": 3600}


async def promoted(world: World, amount: float, *, signup: float = 0, **changes: Any) -> Ledger:
    """An account with credit that ends in a minute, and perhaps some that does not."""
    ledger = await opened(world, usd(signup))
    promotion: dict[str, Any] = {"account": "acme", "kind": "promotion", "expires_ms": START_MS + LIFE_SECONDS * 1000}
    await ledger.grant(operation="promotion", amount=usd(amount), **promotion | changes)
    return ledger


async def left(ledger: Ledger) -> tuple[Nanos, Nanos, list[Nanos]]:
    """Balance, debt, what remains of each grant; every number of which is right."""
    account = await ledger.account("acme")
    assert (await sum_of_entries(ledger), await ledger.verify("acme")) == (account.balance, [])
    return account.balance, account.debt, [grant.remaining for grant in account.grants]


async def expiries(ledger: Ledger) -> list[tuple[str, Nanos]]:
    """What was taken off at the end of grants, by which operation."""
    entries = await ledger.entries("acme", limit=1000)
    return [(entry.operation, entry.amount) for entry in entries if entry.kind == "grant_expiry"]


async def test_a_call_that_outlives_its_credit_owes_nothing(world: World) -> None:
    """What its hold rests on stays until it ends: the charge takes of it, the rest expires; nobody else has it."""
    ledger = await promoted(world, 10)
    await admitted(ledger, ask("job", estimate=usd(4), **LONG))
    await world.advance(LIFE_SECONDS)
    assert (await ledger.sweep("acme")).grants == 1
    assert await left(ledger) == (usd(4), 0, [usd(4)])
    assert (await refused(ledger, ask("new"))).code is Code.INSUFFICIENT_CREDIT
    receipt = await ledger.settle(bill("job", usd(3)))
    assert (receipt.charged, receipt.balance, receipt.late) == (usd(3), 0, False)
    assert await left(ledger) == (0, 0, [])
    assert await expiries(ledger) == [
        (f"expiry:g00000001:{usd(4)}", -usd(6)), (f"expiry:g00000001:{usd(3)}", -usd(1)),
    ]  # fmt: skip
    before = await world.dump()
    assert await ledger.settle(bill("job", usd(3))) == receipt
    assert await world.dump() == before
    assert (await refused(ledger, ask("new"))).code is Code.INSUFFICIENT_CREDIT


@pytest.mark.parametrize("how", ["release", "expire"])
async def test_what_was_kept_for_a_hold_that_is_given_back_expires(world: World, how: str) -> None:
    """Nothing of it is left, at once, whichever way the hold ends; what a late charge takes after that is owed."""
    ledger = await promoted(world, 10)
    await admitted(ledger, ask("job", estimate=usd(4), lease_seconds=LIFE_SECONDS + 5))
    await world.advance(LIFE_SECONDS)
    assert await left(ledger) == (usd(4), 0, [usd(4)])
    if how == "release":
        assert await ledger.release(account="acme", hold_id="job")
    else:
        await world.advance(5)
    assert await left(ledger) == (0, 0, [])
    assert await expiries(ledger) == [(f"expiry:g00000001:{usd(4)}", -usd(6)), ("expiry:g00000001", -usd(4))]
    if how == "expire":
        receipt = await ledger.settle(bill("job", usd(4)))
        assert (receipt.late, await left(ledger)) == (True, (-usd(4), usd(4), []))


@pytest.mark.parametrize("priority", [10, 90])
async def test_only_what_one_call_costs_above_its_hold_is_owed(world: World, priority: int) -> None:
    """Many holds rest on credit that ends, and on some that does not, whatever burns first: each finds what it held."""
    ledger = await promoted(world, 5, signup=10, priority=priority)
    for number in range(5):
        await admitted(ledger, ask(f"old-{number}", estimate=usd(3), **LONG))
    await world.advance(LIFE_SECONDS)
    assert (await left(ledger))[0] == usd(15)
    for number, (charge, balance) in enumerate([(3, 12), (1, 10), (0, 10), (3, 7), (3.5, 3.5)]):
        assert (await ledger.settle(bill(f"old-{number}", usd(charge)))).balance == usd(balance)
    assert await left(ledger) == (usd(3.5), 0, [usd(3.5)])


async def test_a_new_call_has_only_credit_that_is_not_over(world: World) -> None:
    """With an overdraft too, and though an old hold was given back meanwhile."""
    ledger = await promoted(world, 10, signup=2, priority=1)
    await admitted(ledger, ask("old", estimate=usd(10), **LONG))
    await world.advance(LIFE_SECONDS)
    new = await admitted(ledger, ask("new", estimate=usd(100), overdraft=usd(5), **LONG))
    assert (new.hold, new.available) == (usd(7), 0)
    assert await ledger.release(account="acme", hold_id="old")
    more = await refused(ledger, ask("more", overdraft=usd(5)))
    assert more.code is Code.INSUFFICIENT_CREDIT
    await ledger.settle(bill("new", usd(2)))
    assert await left(ledger) == (0, 0, [])


async def test_a_new_calls_charge_leaves_what_is_kept_for_old_ones(world: World) -> None:
    """It burns what is not over, in its order; what is kept burns last."""
    ledger = await promoted(world, 10, signup=2, priority=1)
    await admitted(ledger, ask("old", estimate=usd(10), **LONG))
    await world.advance(LIFE_SECONDS + 1)
    await admitted(ledger, ask("new", estimate=usd(2)))
    await ledger.settle(bill("new", usd(1)))
    assert await left(ledger) == (usd(11), 0, [usd(1), usd(10)])
    await ledger.settle(bill("old", usd(10)))
    assert await left(ledger) == (usd(1), 0, [usd(1)])


async def test_a_top_up_is_not_taken_for_a_call_whose_credit_was_there(world: World) -> None:
    """A purchase after the end neither brings expired credit back nor pays in its place."""
    ledger = await promoted(world, 10)
    await admitted(ledger, ask("old", estimate=usd(10), **LONG))
    await world.advance(LIFE_SECONDS)
    await ledger.grant(operation="bought", account="acme", kind="purchase", amount=usd(20))
    assert (await admitted(ledger, ask("new", estimate=usd(50)))).hold == usd(20)
    await ledger.settle(bill("old", usd(6)))
    assert await left(ledger) == (usd(20), 0, [usd(20)])


async def test_a_session_is_not_renewed_from_credit_that_is_over(world: World) -> None:
    """The slice that was used is paid by it; the next one is refused in the same step, or rests on other credit."""
    ledger = await promoted(world, 10)
    await admitted(ledger, ask("s", estimate=usd(4), **LONG))
    await world.advance(LIFE_SECONDS)
    renewal = Renewal(settlement=bill("s", usd(1)), request=ask("s.1", estimate=usd(4)))
    renewed = await ledger.renew(renewal)
    assert isinstance(renewed, Renewed)
    assert (renewed.receipt.balance, renewed.hold, renewed.refused and renewed.refused.code) == (
        0, 0, Code.INSUFFICIENT_CREDIT,
    )  # fmt: skip
    assert await left(ledger) == (0, 0, [])
    assert await ledger.renew(renewal) == renewed


async def test_several_grants_end_one_after_the_other_under_the_same_holds(world: World) -> None:
    """Together they keep no more than the holds that were made before each end; a hold takes of what ended first."""
    ledger = await promoted(world, 6)
    later: dict[str, Any] = {"account": "acme", "kind": "promotion", "expires_ms": START_MS + 2 * LIFE_SECONDS * 1000}
    await ledger.grant(operation="later", amount=usd(6), **later)
    await admitted(ledger, ask("one", estimate=usd(4), **LONG))
    await world.advance(LIFE_SECONDS + 1)
    await admitted(ledger, ask("two", estimate=usd(3), **LONG))
    assert await left(ledger) == (usd(10), 0, [usd(6), usd(4)])
    await world.advance(LIFE_SECONDS)
    assert await left(ledger) == (usd(7), 0, [usd(4), usd(3)])
    await ledger.settle(bill("two", usd(1)))
    assert await left(ledger) == (usd(4), 0, [usd(4)])
    await ledger.settle(bill("one", usd(4)))
    assert await left(ledger) == (0, 0, [])


async def test_more_grants_than_one_script_ends_hide_no_hold_that_is_over(world: World) -> None:
    """A hundred and fifty are kept for one hold; another's lease, over later, ends all the same."""
    ledger = await opened(world, usd(0))
    for number in range(150):
        its: dict[str, Any] = {"kind": "promotion", "amount": usd(0.01), "expires_ms": START_MS + 1000 + number}
        await ledger.grant(operation=f"p-{number}", account="acme", **its)
    await admitted(ledger, ask("long", estimate=usd(1.4), **LONG))
    await admitted(ledger, ask("short", estimate=usd(0.1), lease_seconds=5))
    await world.advance(2)
    assert (await ledger.account("acme")).balance == usd(1.5)
    await world.advance(5)
    assert [hold.id for hold in await ledger.holds("acme")] == ["long"]
    assert (await left(ledger))[:2] == (usd(1.4), 0)
    assert (await ledger.settle(bill("long", usd(1.4)))).balance == 0


async def test_what_is_ended_by_hand_is_kept_for_calls_that_run(world: World) -> None:
    """The receipt says what was taken off; the rest goes when they end. It is over, so that it is not ended again."""
    ledger = await promoted(world, 10)
    end = partial(ledger.end_grant, account="acme", grant_id="g00000001", data={"reason": "mistyped"})
    await admitted(ledger, ask("job", estimate=usd(4), **LONG))
    receipt = await end(operation="end")
    assert (receipt.charged, receipt.balance) == (usd(6), usd(4))
    assert (await refused(ledger, ask("new"))).code is Code.INSUFFICIENT_CREDIT
    with pytest.raises(LedgerRefused):
        await end(operation="end-2")
    assert await end(operation="end") == receipt
    (grant,) = (await ledger.account("acme")).grants
    assert (grant.remaining, grant.expires_ms) == (usd(4), START_MS)
    await ledger.settle(bill("job", usd(3)))
    assert await left(ledger) == (0, 0, [])
    assert await expiries(ledger) == [("end", -usd(6)), (f"expiry:g00000001:{usd(3)}", -usd(1))]


async def test_a_grant_that_is_held_whole_is_ended_by_an_entry_of_nothing(world: World) -> None:
    """It says who ended it and why; and one that gives credit back is ended like any other."""
    ledger = await opened(world, usd(0))
    await ledger.correct(operation="c", account="acme", key_id="acme-key", amount=usd(5), data={"reason": "sorry"})
    await admitted(ledger, ask("job", estimate=usd(5), **LONG))
    receipt = await ledger.end_grant(operation="end", account="acme", grant_id="g00000001", data={"reason": "mistyped"})
    assert (receipt.charged, receipt.balance) == (0, usd(5))
    assert await expiries(ledger) == [("end", 0)]
    await ledger.settle(bill("job", usd(5)))
    assert await left(ledger) == (0, 0, [])


async def test_a_grant_that_a_hand_has_spoiled_is_not_ended_half_way(world: World) -> None:
    """What it has left is not known: refused, and nothing is written."""
    if not isinstance(world, RedisWorld):
        pytest.skip("only a store can be wrong")
    ledger = await promoted(world, 10)
    await world.direct.call("HDEL", "gw:{acme}:grants", "g00000001.left")
    before = await world.dump()
    with pytest.raises(LedgerRefused):
        await ledger.end_grant(operation="end", account="acme", grant_id="g00000001", data={"reason": "mistyped"})
    assert await world.dump() == before


async def test_watches_see_what_expires_with_a_hold(world: World) -> None:
    """A balance that falls by it is told; a grant that is over is not told of as one that will be."""
    ledger = await promoted(world, 10)
    for name, kind, amount in (("low", "balance_below", usd(1)), ("soon", "grant_expiring", 30)):
        watch = Watch(id=name, kind=kind, amount=amount, channel="alert")  # type: ignore[arg-type]
        await ledger.put_watch(account="acme", watch=watch)
    await admitted(ledger, ask("job", estimate=usd(4), **LONG))
    await world.advance(LIFE_SECONDS)
    await ledger.sweep("acme")
    assert await ledger.deliveries("acme") == []
    await ledger.release(account="acme", hold_id="job")
    assert [told.payload["watch"] for told in await ledger.deliveries("acme")] == ["low"]
