"""The courier of autopay: one payment, wherever it dies, whatever is lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.autopay import AutopayState
from gateway.core.months import begins_ms
from gateway.ledger.memory import MemoryLedger
from gateway.payments.cashier import Cashier, watch_of
from gateway.ports import Dead, Delivered, Delivery, PaymentPaid, PaymentProvider, Plan, Retry
from gateway.settings.payments import Payments
from gateway.workers.autopay import AutopayCourier
from tests.fakes.stripe import DECLINED, GOOD, FakeStripe
from tests.ledger.ledgers import START_MS, bill
from tests.payments.shop import Heard, customer_of, provider_at, usd

DUE = Delivery(account="acme", id="alert:autopay:1", channel="autopay", payload={}, created_ms=0, due_ms=0)


class Killed(BaseException):
    """The worker is gone."""


class Mortal:
    """Passes everything on, but dies at its n-th call: before it is made, or after, when nobody hears the answer."""

    def __init__(self, behind: Any, deaths: list[int], *, after: bool) -> None:
        self._behind, self._deaths, self._after = behind, deaths, after

    def __getattr__(self, name: str) -> Any:
        thing = getattr(self._behind, name)
        if not callable(thing):
            return thing

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._deaths[0] -= 1
            if self._deaths[0] == 0 and not self._after:
                raise Killed
            answer = await thing(*args, **kwargs)
            if self._deaths[0] == 0:
                raise Killed
            return answer

        return call


class Scene:
    """A ledger with an account that is due, a Stripe, and couriers."""

    def __init__(self, stripe: FakeStripe, provider: PaymentProvider, **settings: Any) -> None:
        self.now_ms = START_MS
        self.ledger = MemoryLedger(lambda: self.now_ms)
        self.stripe, self.provider, self.heard = stripe, provider, Heard()
        self.settings = Payments(**{"failures_max": 2, **settings})

    async def open(self, method: str = GOOD, balance: float = 21, **changes: Any) -> None:
        await self.ledger.open_account(operation="open", account="acme", plan=Plan(tier="free"), signup=usd(balance))
        its = {"enabled": True, "threshold": usd(25), "target": usd(50), "provider": "stripe", "method": method}
        its |= {"customer": customer_of(self.stripe), **changes}
        await self.ledger.set_autopay(operation="set", account="acme", changes=its)

    async def visit(self, due: Delivery = DUE, *, deaths: int = 0, after: bool = False) -> Delivered | Retry | Dead:
        """One attempt at a delivery, by a worker of its own that dies at this call (0: at none)."""
        counter = [deaths]
        ledger: Any = Mortal(self.ledger, counter, after=after)
        provider: Any = Mortal(self.provider, counter, after=after)
        cashier = Cashier(ledger=ledger, settings=self.settings, observer=self.heard, clock=self)
        courier = AutopayCourier(ledger=ledger, providers={"stripe": provider}, cashier=cashier, settings=self.settings)
        return await courier.deliver(due)

    def now(self) -> float:
        return self.now_ms / 1000

    monotonic = now

    async def alerts(self) -> list[tuple[str, str]]:
        """What is told to whoever watches over the account."""
        found = await self.ledger.deliveries("acme")
        return sorted((one.payload["kind"], one.payload["why"]) for one in found if one.channel == "alert")

    async def balance(self) -> int:
        return (await self.ledger.account("acme")).balance


@pytest.fixture
async def stripe() -> AsyncIterator[FakeStripe]:
    """A Stripe with nothing in it."""
    async with FakeStripe() as fake:
        yield fake


@pytest.fixture
async def scene(stripe: FakeStripe) -> AsyncIterator[Scene]:
    """An account, and Stripe."""
    provider = provider_at(stripe)
    yield Scene(stripe, provider)
    await provider.close()


async def test_what_is_missing_is_paid(scene: Scene) -> None:
    """The delivery is over when the account needs no payment; it comes again, and nothing is charged."""
    await scene.open()
    assert await scene.visit() == Delivered()
    assert await scene.visit() == Delivered()
    assert (scene.stripe.paid, await scene.balance()) == ([2900], usd(50))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("deaths", range(1, 8))
async def test_a_worker_that_dies_anywhere_leaves_one_payment(scene: Scene, deaths: int, after: bool) -> None:
    """Killed before or after any call to the ledger or to Stripe: whoever comes next ends the same payment."""
    await scene.open()
    try:
        died = not isinstance(await scene.visit(deaths=deaths, after=after), Delivered)
    except Killed:
        died = True
    assert died == (deaths <= 6)
    scene.stripe.forget_keys()  # and it took a day
    assert await scene.visit() == Delivered()
    assert (scene.stripe.paid, await scene.balance()) == ([2900], usd(50))
    assert await scene.ledger.verify("acme") == []


async def test_an_account_that_spends_meanwhile_is_paid_again(scene: Scene) -> None:
    """What was spent during the payment is a payment of its own, at once."""
    await scene.open()
    begun = await scene.ledger.begin_payment(
        account="acme", attempt="ap_before", amount_min=usd(5), amount_max=usd(100)
    )
    assert begun.verdict == "begun"
    await scene.ledger.settle(bill(amount=usd(40)))
    scene.now_ms += 600_000  # whoever began it does not come again
    assert await scene.visit() == Delivered()
    assert (scene.stripe.paid, await scene.balance()) == ([2900, 4000], usd(50))


async def test_a_silent_stripe_is_asked_again(scene: Scene) -> None:
    """Nothing is known: the attempt stays, and no other begins; the answer that comes at last is the one payment's."""
    await scene.open()
    scene.stripe.lose_replies = 2
    waits = await scene.visit()
    assert waits == Retry(why="stripe: APIConnectionError")
    assert (await scene.ledger.autopay("acme")).state is AutopayState.CHARGING
    assert await scene.visit() == Delivered()
    assert (scene.stripe.paid, scene.heard.outcomes) == ([2900], ["unknown", "paid"])


async def test_declines_are_put_off_then_given_up(scene: Scene) -> None:
    """The delivery waits as long as the ledger says, and is over once autopay is disabled."""
    await scene.open(DECLINED)
    assert await scene.visit() == Retry(why="declined", seconds=3600.0)
    scene.now_ms += 3_000_000
    assert await scene.visit() == Retry(why="declined", seconds=600.0)
    scene.now_ms += 600_000
    assert await scene.visit() == Delivered()
    assert (await scene.ledger.autopay("acme")).state is AutopayState.DISABLED
    assert scene.heard.outcomes == ["declined", "declined"]
    why = "insufficient_funds"
    assert await scene.alerts() == [("autopay_disabled", why), ("autopay_failed", why)]
    assert (scene.stripe.paid, await scene.balance()) == ([], usd(21))


async def test_a_months_cap_is_waited_out(scene: Scene) -> None:
    """It is told, and looked at now and then."""
    await scene.open(monthly_cap=usd(30), balance=1)
    assert await scene.visit() == Delivered()
    await scene.ledger.settle(bill(amount=usd(10)))
    assert await scene.visit() == Retry(why="the month's cap is reached", seconds=21_600.0)
    await scene.visit()
    assert scene.heard.outcomes == ["paid", "capped", "capped"]
    assert await scene.alerts() == [("autopay_failed", "the monthly cap is reached")]
    scene.now_ms += 9 * 86_400_000
    assert await scene.visit() == Delivered()
    assert scene.stripe.paid == [3000, 2900]


async def test_an_attempt_ends_where_it_began(scene: Scene) -> None:
    """Another provider was chosen while Stripe charges: it is still Stripe that is asked, or nobody."""
    await scene.open()
    with pytest.raises(Killed):
        await scene.visit(deaths=2, after=True)
    await scene.ledger.set_autopay(operation="other", account="acme", changes={"provider": "webhook"})
    assert await scene.visit() == Delivered()
    assert scene.stripe.paid == [2900]
    await scene.ledger.settle(bill(amount=usd(40)))
    assert await scene.visit() == Retry(why="its provider is not configured")


async def test_two_workers_at_once_are_one_payment(scene: Scene) -> None:
    """The second comes while Stripe still charges for the first: it waits, and no other payment is made."""
    await scene.open()
    scene.stripe.charge_seconds = 1.5
    first, second = await asyncio.gather(scene.visit(), scene.visit())
    assert Delivered() in (first, second)
    assert {type(first), type(second)} == {Delivered, Retry}
    assert await scene.visit() == Delivered()
    assert (scene.stripe.paid, len(scene.stripe.intents), await scene.balance()) == ([2900], 1, usd(50))


async def test_one_delivery_asks_for_an_attempt(scene: Scene) -> None:
    """Set below its threshold it is told twice: the other delivery does not ask Stripe beside the first, and is over
    with it; after ten minutes without an end it asks as well."""
    await scene.open()
    other = replace(DUE, id="autopay:set:1")
    with pytest.raises(Killed):
        await scene.visit(deaths=1, after=True)
    assert await scene.visit(other) == Retry(why="another payment is under way")
    assert scene.stripe.requests == []
    scene.now_ms += 600_000
    assert (await scene.visit(other), await scene.visit(), scene.stripe.paid) == (Delivered(), Delivered(), [2900])


async def test_a_watch_of_another_threshold_is_put_right(scene: Scene) -> None:
    """A change of the settings was cut down after it was watched for: whoever looks next watches for what is set."""
    await scene.open(balance=60)
    wanted = watch_of(await scene.ledger.autopay("acme"))
    await scene.ledger.put_watch(account="acme", watch=replace(wanted, amount=usd(90)))
    assert await scene.visit() == Delivered()
    assert await scene.ledger.watches("acme") == [wanted]


async def test_a_correction_that_lifts_the_balance_ends_no_autopay(scene: Scene) -> None:
    """A session's end gave back just enough, before anybody looked: the next fall below the threshold is paid."""
    await scene.open(balance=25)
    await scene.ledger.put_watch(account="acme", watch=watch_of(await scene.ledger.autopay("acme")))
    await scene.ledger.settle(bill("slice", amount=usd(0.5)))
    await scene.ledger.correct(operation="end", account="acme", key_id="", amount=usd(0.5), data={})
    assert (await scene.visit(), scene.stripe.paid) == (Delivered(), [])
    await scene.ledger.settle(bill("call", amount=usd(4)))
    found = [one.id for one in await scene.ledger.deliveries("acme") if one.channel == "autopay"]
    assert len(found) == 2  # the first was not taken out: the courier was asked by itself
    assert (await scene.visit(), scene.stripe.paid) == (Delivered(), [2900])


async def test_a_cap_is_over_with_its_month(scene: Scene) -> None:
    """An hour before the month's turn it waits for an hour."""
    await scene.open(monthly_cap=usd(5), balance=1)
    assert await scene.visit() == Retry(why="the month's cap is reached", seconds=21_600.0)
    scene.now_ms = begins_ms("2026-12") - 3_600_000
    assert await scene.visit() == Retry(why="the month's cap is reached", seconds=3600.0)
    scene.now_ms += 3_600_000
    await scene.visit()
    assert scene.stripe.paid == [500, 500]


async def test_money_that_comes_after_all_is_followed_by_what_is_still_missing(scene: Scene) -> None:
    """Autopay was given up, and a payment that had been taken for declined was made: it goes on, to its target."""
    scene.settings = Payments(failures_max=1)
    await scene.open(DECLINED)
    await scene.visit()
    autopay = await scene.ledger.autopay("acme")
    assert autopay.state is AutopayState.DISABLED
    await scene.ledger.settle(bill(amount=usd(40)))
    cashier = Cashier(ledger=scene.ledger, settings=scene.settings, observer=scene.heard, clock=scene)
    await cashier.credit(
        "stripe", PaymentPaid(account="acme", payment="pi_late", amount=usd(29), attempt=autopay.attempt)
    )
    assert [one.id for one in await scene.ledger.deliveries("acme") if one.channel == "autopay"]


async def test_a_suspended_account_is_looked_at_less_and_less(scene: Scene) -> None:
    """A minute after the first look, and at last once an hour; served again, it is paid for."""
    await scene.open()
    await scene.ledger.change_account(operation="stop", account="acme", status="suspended")
    for attempts, seconds in ((0, 60.0), (4, 300.0), (500, 3600.0)):
        waits = Retry(why="the account is suspended", seconds=seconds)
        assert await scene.visit(replace(DUE, attempts=attempts)) == waits
    await scene.ledger.change_account(operation="go", account="acme", status="active")
    assert (await scene.visit(), scene.stripe.paid) == (Delivered(), [2900])


async def test_off_is_off(scene: Scene) -> None:
    """Nothing is charged, and the delivery is over."""
    await scene.open()
    await scene.ledger.set_autopay(operation="off", account="acme", changes={"enabled": False})
    assert await scene.visit() == Delivered()
    assert scene.stripe.requests == []
