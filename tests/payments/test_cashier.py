"""What providers tell, in every order and as often as they like, comes to the same books."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.memory import MemoryLedger
from gateway.payments.cashier import Cashier
from gateway.ports import MethodAdded, PaymentEvent, PaymentFailed, PaymentPaid, PaymentReversed, Plan
from gateway.settings.payments import Payments
from tests.ledger.ledgers import START_MS
from tests.payments.shop import Heard, usd

ITS: dict[str, Any] = {"account": "acme", "payment": "pi_1"}
REFUND: dict[str, Any] = {**ITS, "source": "refund", "final": False, "why": "refund"}
WON: dict[str, Any] = {**ITS, "source": "dp_1", "why": "dispute"}
LOST: dict[str, Any] = {**ITS, "source": "dp_2", "why": "dispute"}
#: A hundred dollars, of which twelve are refunded; one dispute is won, another one about thirty is lost.
TOLD: tuple[PaymentEvent, ...] = (
    PaymentPaid(**ITS, amount=usd(100)),
    PaymentPaid(**ITS, amount=usd(100), customer="cus_1", method="pm_1"),
    PaymentReversed(**REFUND, amount=usd(5)),
    PaymentReversed(**REFUND, amount=usd(12)),
    PaymentReversed(**WON, amount=usd(100), final=False),
    PaymentReversed(**WON, amount=usd(0), final=True),
    PaymentReversed(**LOST, amount=usd(30), final=False),
    PaymentReversed(**LOST, amount=usd(30), final=True),
)


class Noon:
    """A clock that stands."""

    def now(self) -> float:
        return START_MS / 1000

    monotonic = now


@given(st.permutations(TOLD), st.lists(st.sampled_from(TOLD), max_size=8), st.integers(0, 8))
def test_order_and_repetition_do_not_matter(order: list[PaymentEvent], more: list[PaymentEvent], at: int) -> None:
    """Every telling at least once, in any order, some again anywhere: the same balance, one grant, sound books."""

    async def tell() -> None:
        ledger = MemoryLedger(lambda: START_MS)
        await ledger.open_account(operation="open", account="acme", plan=Plan(tier="free"))
        cashier = Cashier(ledger=ledger, settings=Payments(upgrades={"free": "payg"}), observer=Heard(), clock=Noon())
        for event in [*order[:at], *more, *order[at:]]:
            await cashier.take("stripe", event)
        account = await ledger.account("acme")
        assert (account.balance, account.plan) == (usd(100 - 12 - 30), Plan(tier="payg"))
        entries = await ledger.entries("acme")
        assert [entry.kind for entry in entries].count("grant") == 1
        assert sum(entry.amount for entry in entries) == account.balance
        assert (await ledger.autopay("acme")).method == "pm_1"
        assert await ledger.verify("acme") == []

    asyncio.run(tell())


async def test_what_can_never_be_written_is_told_to_ops() -> None:
    """An account that is not there, an amount that is another than before: no provider is asked to send it again."""
    ledger, heard = MemoryLedger(lambda: START_MS), Heard()
    await ledger.open_account(operation="open", account="acme", plan=Plan(tier="free"))
    cashier = Cashier(ledger=ledger, settings=Payments(), observer=heard, clock=Noon())
    events: list[PaymentEvent] = [
        PaymentPaid(account="nobody", payment="pi_1", amount=usd(5)),
        PaymentFailed(account="nobody", attempt="ap_1", why="declined"),
        MethodAdded(account="nobody", customer="cus_1", method="pm_1", id="evt_1"),
        PaymentPaid(**ITS, amount=usd(5)),
        PaymentPaid(**ITS, amount=usd(6)),
        PaymentFailed(account="acme", attempt="ap_old", why="declined"),
    ]
    for event in events:
        await cashier.take("stripe", event)
    assert heard.outcomes == [*["unknown_account"] * 3, "paid", "conflict", "declined"]
    assert (await ledger.account("acme")).balance == usd(5)
    assert await ledger.deliveries("acme") == []


async def test_an_old_payment_says_nothing_of_the_card_of_now() -> None:
    """Told again after a week, it changes neither the balance nor the card."""
    now = [START_MS]
    ledger, clock = MemoryLedger(lambda: now[0]), Noon()
    await ledger.open_account(operation="open", account="acme", plan=Plan(tier="free"))
    cashier = Cashier(ledger=ledger, settings=Payments(), observer=Heard(), clock=clock)
    old = PaymentPaid(**ITS, amount=usd(5), customer="cus_1", method="pm_old")
    now[0] -= 8 * 86_400_000
    await ledger.credit_payment(account="acme", provider="stripe", payment="pi_1", amount=usd(5))
    now[0] += 8 * 86_400_000
    await cashier.take("stripe", MethodAdded(account="acme", customer="cus_1", method="pm_new", id="evt_1"))
    await cashier.take("stripe", old)
    assert ((await ledger.autopay("acme")).method, (await ledger.account("acme")).balance) == ("pm_new", usd(5))


async def test_names_that_ops_choose_are_one_to_the_metrics() -> None:
    """Labels are bounded, whatever is credited by hand."""
    ledger, heard = MemoryLedger(lambda: START_MS), Heard()
    await ledger.open_account(operation="open", account="acme", plan=Plan(tier="free"))
    cashier = Cashier(ledger=ledger, settings=Payments(), observer=heard, clock=Noon())
    for name in ("stripe", "bank-1", "bank-2"):
        await cashier.credit(name, PaymentPaid(**ITS, amount=usd(5)))
    assert [told.provider for told in heard.payments] == ["stripe", "other", "other"]
    assert (await ledger.account("acme")).balance == usd(15)
