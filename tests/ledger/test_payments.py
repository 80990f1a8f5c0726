"""The contract of `ports.Ledger`, part seven: payments, what takes them back, and autopay."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.autopay import Autopay, AutopayState
from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ports import Grant, Ledger, PaymentBegun, Plan
from tests.ledger import ledgers
from tests.ledger.ledgers import START_MS, RedisWorld, World, bill, opened, sum_of_entries, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures

SET: dict[str, Any] = {"enabled": True, "threshold": usd(25), "target": usd(50), "provider": "stripe", "method": "pm_1"}


async def paid(ledger: Ledger, payment: str = "pi_1", amount: int = usd(20), **more: Any) -> Grant:
    """A payment of twenty dollars is told."""
    return await ledger.credit_payment(account="acme", provider="stripe", payment=payment, amount=Nanos(amount), **more)


async def taken(
    ledger: Ledger,
    amount: int,
    source: str = "refund",
    *,
    final: bool = False,
    payment: str = "pi_1",
    stop: bool = False,
) -> int:
    """What is taken back of it, after a source said so much."""
    return await ledger.reverse_payment(
        account="acme", provider="stripe", payment=payment, source=source, amount=Nanos(amount), final=final,
        why="refund", stop=stop,
    )  # fmt: skip


async def begin(ledger: Ledger, attempt: str = "a1", **changes: Any) -> PaymentBegun:
    """An attempt wants to begin."""
    bounds: dict[str, Any] = {"amount_min": usd(5), "amount_max": usd(1000)}
    return await ledger.begin_payment(account="acme", attempt=attempt, **bounds | changes)


async def fail(ledger: Ledger, attempt: str = "a1", failures_max: int = 3) -> Autopay:
    """An attempt was declined."""
    return await ledger.fail_payment(
        account="acme", attempt=attempt, why="card_declined", retry_seconds=600, failures_max=failures_max
    )


async def balance(ledger: Ledger) -> int:
    return (await ledger.account("acme")).balance


async def autopaying(world: World, signup: int = usd(21), **changes: Any) -> Ledger:
    """An account that is below the threshold of its autopay."""
    ledger = await opened(world, signup=signup)
    await ledger.set_autopay(operation="set", account="acme", changes=SET | changes)
    return ledger


# ---- payments


async def test_a_payment_is_credited_once_by_whomever_it_is_told(world: World) -> None:
    """Told again it answers the first grant, long after and after more happened; the entry names the payment."""
    ledger = await opened(world, signup=usd(1))
    first = await paid(ledger)
    await ledger.settle(bill())
    assert (await paid(ledger), await paid(ledger, attempt="a1")) == (first, first)
    await world.advance(400 * 86_400)
    assert await paid(ledger) == first
    assert (first.kind, first.amount, first.remaining) == ("purchase", usd(20), usd(20))
    entry = (await ledger.entries("acme"))[1]
    assert (entry.kind, entry.operation, entry.amount) == ("grant", "payment:stripe:pi_1", usd(20))
    assert (entry.data["provider"], entry.data["payment"], entry.data["kind"]) == ("stripe", "pi_1", "purchase")
    assert await balance(ledger) == usd(20.9) == await sum_of_entries(ledger)
    assert await ledger.verify("acme") == []


async def test_a_payment_with_another_amount_is_a_conflict(world: World) -> None:
    """Nothing is written; a payment of the same name at another provider is another payment."""
    ledger = await opened(world)
    await paid(ledger)
    before = await world.dump()
    with pytest.raises(OperationConflict):
        await paid(ledger, amount=usd(21))
    assert await world.dump() == before
    await ledger.credit_payment(account="acme", provider="webhook", payment="pi_1", amount=usd(1))
    assert await balance(ledger) == usd(71)


async def test_a_payment_is_one_accounts(world: World) -> None:
    """Told for another account too, it is a conflict there; one that does not exist keeps it from none."""
    ledger = await opened(world)
    await opened(world, account="rival")
    its: dict[str, Any] = {"provider": "stripe", "payment": "pi_1", "amount": usd(20)}
    with pytest.raises(UnknownAccount):
        await ledger.credit_payment(account="nobody", **its)
    first = await paid(ledger)
    before = await world.dump()
    for _ in range(2):
        with pytest.raises(OperationConflict):
            await ledger.credit_payment(account="rival", **its)
    assert await paid(ledger) == first
    assert await world.dump() == before
    await ledger.credit_payment(account="rival", **its | {"provider": "webhook"})
    assert [(await ledger.account(name)).balance for name in ("acme", "rival")] == [usd(70), usd(70)]


async def test_a_payment_that_was_broken_off_is_credited_by_its_repeat(world: World) -> None:
    """What says whose it is stands there, and the credit did not come: it comes once, to that account alone."""
    ledger = await opened(world)
    await opened(world, account="rival")
    with pytest.raises(LedgerRefused):
        await ledger.credit_payment(account="rival", provider="stripe", payment="pi_1", amount=BALANCE_MAX)
    if isinstance(world, RedisWorld):
        await world.direct.call("SET", "gw:paid:stripe:pi_1", "acme")
        with pytest.raises(OperationConflict):
            await ledger.credit_payment(account="rival", provider="stripe", payment="pi_1", amount=usd(20))
    assert await paid(ledger) == await paid(ledger)
    assert [(await ledger.account(name)).balance for name in ("acme", "rival")] == [usd(70), usd(50)]


async def test_a_payment_pays_debt_first_and_upgrades(world: World) -> None:
    """In the same step: the debt is gone, the rest remains, the tier is the one purchases give, and changes grow."""
    ledger = await opened(world, signup=usd(1))
    await ledger.settle(bill(amount=usd(6)))
    (before,) = await ledger.changes(["acme"])
    grant = await paid(ledger, upgrades={"payg": "gold", "free": "payg"})
    account = await ledger.account("acme")
    assert (account.balance, account.debt, grant.remaining) == (usd(15), 0, usd(15))
    assert account.plan == Plan(tier="payg")
    assert await ledger.changes(["acme"]) == [before + 1]
    await paid(ledger, "pi_2", upgrades={"payg": "payg"})
    assert (await ledger.account("acme")).plan == Plan(tier="payg")


async def test_payments_that_make_no_sense_are_refused(world: World) -> None:
    """Nothing, too much, a name that is none, nobody's: nothing is written."""
    ledger = await opened(world)
    before = await world.dump()
    for payment, amount in (("pi_1", 0), ("pi_1", -1), ("pi_1", BALANCE_MAX), ("", 5), ("a b", 5), ("x" * 300, 5)):
        with pytest.raises(LedgerRefused):
            await paid(ledger, payment, amount)
    for verb in (
        ledger.credit_payment(account="nobody", provider="stripe", payment="p", amount=usd(1)),
        ledger.autopay("nobody"),
        ledger.set_autopay(operation="s", account="nobody", changes=SET),
        ledger.begin_payment(account="nobody", attempt="a", amount_min=usd(1), amount_max=usd(2)),
        ledger.fail_payment(account="nobody", attempt="a", why="w", retry_seconds=1, failures_max=2),
        ledger.reverse_payment(
            account="nobody", provider="stripe", payment="p", source="refund", amount=usd(1), final=False, why="refund"
        ),
    ):
        with pytest.raises(UnknownAccount):
            await verb
    assert await world.dump() == before


# ---- refunds and disputes


async def test_nobody_is_charged_at_once_for_what_was_given_back(world: World) -> None:
    """A refund that leaves less than the threshold turns autopay off, and says why; one that leaves enough does not,
    but where it is to stop. Told again, it leaves alone what somebody turned on since."""
    ledger = await autopaying(world, signup=usd(40))
    await paid(ledger, "x:autopay")
    assert await taken(ledger, usd(10), payment="x:autopay") == usd(10)
    assert (await ledger.autopay("acme")).enabled, "fifty are left"
    assert await taken(ledger, usd(20), "dp_1", payment="x:autopay", stop=True) == usd(20)
    found = await ledger.autopay("acme")
    assert (found.enabled, found.why, found.state) == (False, "refund", AutopayState.IDLE)
    await ledger.set_autopay(operation="on", account="acme", changes={"enabled": True})
    assert await taken(ledger, usd(20), "dp_1", payment="x:autopay", stop=True) == usd(20)
    assert (await ledger.autopay("acme")).enabled
    await paid(ledger, "pi_2")
    await ledger.settle(bill(amount=usd(20)))
    assert (await ledger.autopay("acme")).why == ""
    await taken(ledger, usd(20), payment="pi_2")
    assert await balance(ledger) == usd(20)
    assert (await begin(ledger)).verdict == "off"
    assert await ledger.verify("acme") == []


async def test_refunds_take_back_what_they_say_all_in_all(world: World) -> None:
    """Each sum once, in whatever order they come, never more than was paid; debt where it was spent."""
    ledger = await opened(world, signup=0)
    await paid(ledger)
    await ledger.settle(bill(amount=usd(18)))
    assert await taken(ledger, usd(5)) == usd(5)
    assert await taken(ledger, usd(5)) == usd(5)
    assert await taken(ledger, usd(3)) == usd(5)
    assert await taken(ledger, usd(12)) == usd(12)
    assert await balance(ledger) == usd(2 - 12)
    assert await taken(ledger, usd(99)) == usd(20)
    entries = await ledger.entries("acme")
    assert [(entry.kind, entry.amount) for entry in entries[2:]] == [
        ("correction", -usd(5)),
        ("correction", -usd(7)),
        ("correction", -usd(8)),
    ]
    explained: dict[str, Any] = {"key_id": "", "payment_operation": "payment:stripe:pi_1", "reason": "refund"}
    explained |= {"source": "refund", "said": usd(5), "final": False}
    assert entries[2].data == {**explained, "grants": {"g00000001": usd(2)}, "debt": usd(3)}
    assert len({entry.operation for entry in entries}) == len(entries)
    assert (await sum_of_entries(ledger), await ledger.verify("acme")) == (-usd(18), [])


async def test_a_dispute_that_is_won_gives_back(world: World) -> None:
    """A dispute takes the payment while it is open; won, it comes back, and what is told late changes nothing."""
    ledger = await opened(world, signup=0)
    await paid(ledger)
    assert await taken(ledger, usd(20), "dp_1") == usd(20)
    assert await balance(ledger) == 0
    assert await taken(ledger, 0, "dp_1", final=True) == 0
    assert await balance(ledger) == usd(20)
    assert await taken(ledger, usd(20), "dp_1") == 0
    assert await taken(ledger, usd(20), "dp_1", final=True) == 0
    assert await taken(ledger, usd(4), "dp_2", final=True) == usd(4)
    assert (await balance(ledger), await ledger.verify("acme")) == (usd(16), [])


async def test_the_end_of_a_dispute_may_come_before_its_beginning(world: World) -> None:
    """Won first, created later: nothing is taken."""
    ledger = await opened(world, signup=0)
    await paid(ledger)
    before = await ledger.entries("acme")
    assert await taken(ledger, 0, "dp_1", final=True) == 0
    assert await taken(ledger, usd(20), "dp_1") == 0
    assert await ledger.entries("acme") == before


async def test_a_refund_may_come_before_its_payment(world: World) -> None:
    """It waits for it: credited and taken back in one step, as if they had come in order."""
    ledger = await opened(world, signup=0)
    assert await taken(ledger, usd(5)) == 0
    assert await balance(ledger) == 0
    grant = await paid(ledger)
    assert (grant.remaining, await balance(ledger)) == (usd(20), usd(15))
    assert await paid(ledger) == grant
    assert await taken(ledger, usd(5)) == usd(5)
    assert (await sum_of_entries(ledger), await ledger.verify("acme")) == (usd(15), [])


async def test_what_comes_back_never_passes_the_most(world: World) -> None:
    """A dispute that is won while the account is full waits: nothing is written, and it may be told again."""
    ledger = await opened(world, signup=0)
    await paid(ledger)
    await taken(ledger, usd(20), "dp_1")
    await ledger.grant(operation="full", account="acme", kind="goodwill", amount=BALANCE_MAX)
    before = await world.dump()
    with pytest.raises(LedgerRefused):
        await taken(ledger, 0, "dp_1", final=True)
    assert await world.dump() == before
    await ledger.settle(bill(amount=usd(20)))
    assert await taken(ledger, 0, "dp_1", final=True) == 0
    assert await balance(ledger) == BALANCE_MAX


# ---- autopay


async def test_autopay_is_set_and_shown(world: World) -> None:
    """Only what is named changes; a repeat gets the first answer, other content is a conflict."""
    ledger = await opened(world)
    assert await ledger.autopay("acme") == Autopay()
    first = await ledger.set_autopay(operation="set", account="acme", changes=SET)
    assert first == Autopay(**SET)
    more: dict[str, Any] = {"monthly_cap": usd(500), "customer": "cus_1"}
    changed = await ledger.set_autopay(operation="more", account="acme", changes=more)
    assert changed == replace(first, **more) == await ledger.autopay("acme")
    assert await ledger.set_autopay(operation="set", account="acme", changes=SET) == first
    with pytest.raises(OperationConflict):
        await ledger.set_autopay(operation="set", account="acme", changes={"enabled": False})
    assert await ledger.autopay("acme") == changed
    assert (
        await ledger.set_autopay(operation="none", account="acme", changes={"monthly_cap": None})
    ).monthly_cap is None


@pytest.mark.parametrize(
    "changes",
    [
        {"enabled": True},
        SET | {"threshold": 0},
        SET | {"target": SET["threshold"]},
        SET | {"provider": ""},
        SET | {"target": BALANCE_MAX + 1},
        SET | {"threshold": -1},
        {"method": "x" * 300},
        {"customer": 5},
        {"state": "idle"},
    ],
)
async def test_autopay_that_cannot_work_is_refused(world: World, changes: dict[str, Any]) -> None:
    """Nothing is written."""
    ledger = await opened(world)
    before = await world.dump()
    with pytest.raises(LedgerRefused):
        await ledger.set_autopay(operation="set", account="acme", changes=changes)
    assert await world.dump() == before


async def test_an_attempt_brings_the_balance_to_its_target(world: World) -> None:
    """Twenty-one dollars become fifty: one attempt of twenty-nine, and no second beside it."""
    ledger = await autopaying(world)
    begun = await begin(ledger)
    assert (begun.verdict, begun.autopay.amount, begun.autopay.state) == ("begun", usd(29), AutopayState.CHARGING)
    assert (begun.now_ms, begun.autopay.begun_ms) == (START_MS, START_MS)
    await ledger.settle(bill(amount=usd(3)))
    assert await begin(ledger) == begun
    other = await begin(ledger, "a2")
    assert (other.verdict, other.autopay) == ("in_flight", begun.autopay)
    await paid(ledger, amount=usd(29), attempt="a1")
    after = await ledger.autopay("acme")
    assert (after.state, after.month, after.paid) == (AutopayState.IDLE, "2026-11", usd(29))
    assert await balance(ledger) == usd(47)
    assert (await begin(ledger, "a3")).verdict == "enough"


@pytest.mark.parametrize(
    ("signup", "amount"), [(usd(25) - 1, usd(25.01)), (usd(24.99), usd(25.01)), (1, usd(50)), (usd(24.995), usd(25.01))]
)
async def test_an_amount_is_whole_cents(world: World, signup: int, amount: int) -> None:
    """Rounded up, so that the target is reached."""
    ledger = await autopaying(world, signup)
    assert (await begin(ledger)).autopay.amount == amount


async def test_debt_is_paid_too(world: World) -> None:
    """An account below nothing is brought to its target all the same, by as much as one payment may be."""
    ledger = await autopaying(world)
    await ledger.settle(bill(amount=usd(121)))
    assert (await begin(ledger, amount_max=usd(130))).autopay.amount == usd(130)
    await paid(ledger, amount=usd(130), attempt="a1")
    assert (await begin(ledger, "a2")).verdict == "enough"
    assert await balance(ledger) == usd(30)


async def test_none_begins_that_nobody_wants(world: World) -> None:
    """Off, or with enough: nothing is written."""
    ledger = await opened(world, signup=usd(25))
    before = await world.dump()
    assert (await begin(ledger)).verdict == "off"
    assert await world.dump() == before
    await ledger.set_autopay(operation="set", account="acme", changes=SET)
    before = await world.dump()
    assert (await begin(ledger)).verdict == "enough"
    assert await world.dump() == before


async def test_a_suspended_account_is_not_charged(world: World) -> None:
    """Until it is active again."""
    ledger = await autopaying(world)
    await ledger.change_account(operation="stop", account="acme", status="suspended")
    assert (await begin(ledger)).verdict == "suspended"
    await ledger.change_account(operation="go", account="acme", status="active")
    assert (await begin(ledger)).verdict == "begun"


async def test_failures_put_it_off_ever_longer_then_disable_it(world: World) -> None:
    """Ten minutes, twenty, then nothing more, until somebody changes what it is set to."""
    ledger = await autopaying(world)
    for number, minutes in ((1, 10), (2, 20)):
        assert (await begin(ledger, f"a{number}")).verdict == "begun"
        failed = await fail(ledger, f"a{number}")
        assert (failed.state, failed.failures, failed.why) == (AutopayState.FAILED, number, "card_declined")
        assert failed.retry_ms == world.now + minutes * 60_000
        assert await fail(ledger, f"a{number}") == failed
        await world.advance(minutes * 60 - 1)
        assert (await begin(ledger, "early")).verdict == "backing_off"
        await world.advance(1)
    await begin(ledger, "a3")
    assert (await fail(ledger, "a3")).state == AutopayState.DISABLED
    await world.advance(10 * 86_400)
    assert (await begin(ledger, "a4")).verdict == "disabled"
    again = await ledger.set_autopay(operation="card", account="acme", changes={"method": "pm_2"})
    assert (again.state, again.failures, again.why) == (AutopayState.IDLE, 0, "")
    assert (await begin(ledger, "a4")).verdict == "begun"


async def test_a_failure_of_another_attempt_changes_nothing(world: World) -> None:
    """What is told late of an attempt that is over is no news, paid or not."""
    ledger = await autopaying(world)
    await begin(ledger)
    assert (await fail(ledger, "other")).state == AutopayState.CHARGING
    await paid(ledger, amount=usd(29), attempt="a1")
    before = await ledger.autopay("acme")
    assert await fail(ledger) == before


@pytest.mark.parametrize("how", ["paid", "failed"])
async def test_an_attempt_begins_once(world: World, how: str) -> None:
    """A line that sends it once more when it is over, and another would be due, begins nothing: the next one does."""
    ledger = await autopaying(world)
    await begin(ledger)
    if how == "paid":
        await paid(ledger, amount=usd(29), attempt="a1")
        await ledger.settle(bill(amount=usd(49)))
    else:
        await fail(ledger)
        await ledger.set_autopay(operation="again", account="acme", changes={"enabled": True})
    before = await ledger.autopay("acme")
    late = await begin(ledger)
    assert (late.verdict, late.autopay) == ("backing_off", before)
    assert (await begin(ledger, "a2")).verdict == "begun"


@pytest.mark.parametrize("failures_max", [1, 3])
async def test_an_attempt_that_is_paid_after_all_ends_well(world: World, failures_max: int) -> None:
    """The provider said no, then yes: the money is credited, and autopay goes on, even if it was disabled."""
    ledger = await autopaying(world)
    await begin(ledger)
    await fail(ledger, failures_max=failures_max)
    await paid(ledger, amount=usd(29), attempt="a1")
    after = await ledger.autopay("acme")
    assert (after.state, after.failures, after.why, after.paid) == (AutopayState.IDLE, 0, "", usd(29))


async def test_an_attempt_under_way_stays_so_whatever_is_set(world: World) -> None:
    """Turned off or given another card meanwhile: it ends as itself, and no other begins before."""
    ledger = await autopaying(world)
    begun = await begin(ledger)
    await ledger.set_autopay(operation="off", account="acme", changes={"enabled": False, "method": "pm_2"})
    assert (await begin(ledger, "a2")).verdict == "in_flight"
    assert (await begin(ledger)).autopay == replace(begun.autopay, enabled=False, method="pm_2")
    await paid(ledger, amount=usd(29), attempt="a1")
    assert (await begin(ledger, "a2")).verdict == "off"


async def test_a_month_has_its_cap(world: World) -> None:
    """The last payment of a month is what is left of the cap, no less than the least; the next month begins afresh."""
    ledger = await autopaying(world, monthly_cap=usd(40))
    assert (await begin(ledger, "a1")).autopay.amount == usd(29)
    await paid(ledger, "pi_1", usd(29), attempt="a1")
    await ledger.settle(bill(amount=usd(41)))
    assert (await begin(ledger, "a2")).autopay.amount == usd(11)
    await paid(ledger, "pi_2", usd(11), attempt="a2")
    capped = await begin(ledger, "a3")
    assert (capped.verdict, capped.autopay.paid) == ("capped", usd(40))
    await ledger.set_autopay(operation="up", account="acme", changes={"monthly_cap": usd(44)})
    assert (await begin(ledger, "a3")).verdict == "capped"
    assert (await begin(ledger, "a3", amount_min=usd(4))).autopay.amount == usd(4)
    await paid(ledger, "pi_3", usd(4), attempt="a3")
    await world.advance(9 * 86_400)
    assert (await begin(ledger, "a4")).autopay.amount == usd(26)
    await paid(ledger, "pi_4", usd(26), attempt="a4")
    assert (await ledger.autopay("acme")).paid == usd(26)


async def test_a_payment_by_hand_is_not_autopays(world: World) -> None:
    """It does not count to the cap, nor end an attempt that is under way."""
    ledger = await autopaying(world)
    begun = await begin(ledger)
    await paid(ledger, "pi_9", usd(100))
    assert await ledger.autopay("acme") == begun.autopay
