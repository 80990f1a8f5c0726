"""What Stripe tells a gateway: credited, taken back, once, and in force for the next call."""

import asyncio
from pathlib import Path

import pytest

from gateway.core.alerts import ALERT, notice_of
from gateway.core.autopay import AutopayState
from gateway.core.money import ZERO, parse_usd
from gateway.ports import Checkout, Plan, Watch
from tests.fakes.stripe import GOOD
from tests.harness import Running
from tests.pages.visitor import Visitor
from tests.payments.shop import customer_of, provider_at, shop, until, usd


async def call(gateway: Running, key: str) -> int:
    """A paid call; its status."""
    got = await gateway.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.mp3"})
    return got.status


async def test_money_that_was_paid_is_there_for_the_next_call(tmp_path: Path, empty_redis: str) -> None:
    """A spent account pays on Stripe's page, is told of three times in any order, and gets one grant: debt is paid, the
    next call is admitted, the plan is the paid one, the card is kept.
    """
    async with shop(tmp_path, empty_redis) as (gateway, stripe):
        stripe.copies, stripe.shuffled = 3, True
        key = await gateway.open_account("acme", tier="free", credit="0")
        await gateway.ledger.correct(operation="spent", account="acme", key_id="", amount=usd(-1.5), data={})
        assert await call(gateway, key) == 400
        provider = provider_at(stripe)
        page = await provider.checkout(Checkout(account="acme", amount=usd(20), customer="", operation="o-1"))
        await provider.close()
        await stripe.pay_checkout(page.url)
        await until(lambda: has(gateway, "18.5"))
        assert await call(gateway, key) == 200
        await stripe.told()
        assert len(stripe.answers) >= 6
        assert set(stripe.answers) == {200}
        entries = await gateway.ledger.entries("acme")
        assert [entry.kind for entry in entries] == ["correction", "grant"]
        account = await gateway.ledger.account("acme")
        assert (account.plan, account.debt) == (Plan(tier="payg"), 0)
        autopay = await gateway.ledger.autopay("acme")
        assert (autopay.enabled, autopay.method, autopay.customer) == (False, GOOD, page.customer)
        metrics = gateway.gateway.measured().figures()["counts"]["gateway_payments"]
        assert dict(metrics)["stripe", "paid"] == 6


async def has(gateway: Running, dollars: str) -> bool:
    """Whether the account has so much."""
    return await gateway.balance("acme") == parse_usd(dollars)


async def test_messages_in_any_order_come_to_the_same(tmp_path: Path, empty_redis: str) -> None:
    """A payment, its refunds, a dispute lost and one won: told twice, backwards and at once, the account has what is
    left; what is signed wrongly, or not for us, changes nothing.
    """
    async with shop(tmp_path, empty_redis) as (gateway, stripe):
        url, stripe.webhook_url = stripe.webhook_url, ""
        await gateway.open_account("acme", credit="0")
        provider = provider_at(stripe)
        page = await provider.checkout(Checkout(account="acme", amount=usd(100), customer="", operation="o-1"))
        await provider.close()
        await stripe.pay_checkout(page.url)
        (payment,) = stripe.intents
        await stripe.refund(payment, 1000)
        await stripe.refund(payment, 500)
        await stripe.fail_refund(await stripe.refund(payment, 700))
        won, lost = await stripe.dispute(payment), await stripe.dispute(payment)
        stripe.disputes[lost]["amount"] = 2000
        await stripe.close_dispute(won, "won")
        await stripe.close_dispute(lost, "lost")
        stripe.webhook_url = url
        for event in reversed(stripe.events):
            assert await stripe.send(event) == 200
        await asyncio.gather(*(stripe.send(event) for event in stripe.events * 2))
        assert await gateway.balance("acme") == usd(100 - 15 - 20)
        assert await stripe.send(stripe.events[0], secret="whsec_other") == 400
        assert await stripe.send(stripe.events[0], age_seconds=400) == 400
        foreign = stripe.events[0] | {"type": "payment_intent.created"}
        assert await stripe.send(foreign) == 200
        unknown = {"metadata": {"gateway_account": "nobody"}, "id": "pi_9", "amount_received": 500, "currency": "usd"}
        event = {"id": "evt_9", "type": "payment_intent.succeeded", "data": {"object": unknown}}
        assert await stripe.send(event) == 200
        got = await gateway.call("POST", "/billing/webhooks/paypal", None, data=b"{}")
        assert got.status == 404
        got = await gateway.call("POST", "/billing/webhooks/stripe", None, data=b"x" * 300_000)
        assert got.status == 413
        assert await gateway.ledger.verify("acme") == []
        assert set(stripe.answers) == {200, 400}


async def test_autopay_charges_what_is_missing(tmp_path: Path, empty_redis: str) -> None:
    """21 dollars become 50 by one payment, though Stripe tells of it too; a decline backs off, a new card goes on."""
    async with shop(tmp_path, empty_redis, autopay={"retry_seconds": 3600}) as (gateway, stripe):
        stripe.copies, stripe.shuffled = 2, True
        await gateway.open_account("acme", credit="21")
        customer = {"id": "cus_1", "object": "customer", "metadata": {}}
        stripe.customers["cus_1"] = customer
        settings = {
            "enabled": True, "threshold": usd(25), "target": usd(50), "provider": "stripe", "customer": "cus_1",
            "method": GOOD,
        }  # fmt: skip
        await gateway.ledger.set_autopay(operation="set", account="acme", changes=settings)
        await gateway.gateway.paying.cashier.look("acme", "test-1")
        await until(lambda: has(gateway, "50"))
        await stripe.told()
        assert stripe.paid == [2900]
        await gateway.ledger.correct(operation="spent", account="acme", key_id="", amount=usd(-40), data={})
        await gateway.ledger.set_autopay(operation="bad", account="acme", changes={"method": "pm_declined"})
        await gateway.gateway.paying.cashier.look("acme", "test-2")
        await until(lambda: stands(gateway, AutopayState.FAILED))
        await stripe.told()
        assert (await gateway.ledger.autopay("acme")).failures == 1
        page = await gateway.gateway.paying.providers["stripe"].checkout(
            Checkout(account="acme", amount=None, customer="cus_1", operation="card")
        )
        await stripe.pay_checkout(page.url)
        await until(lambda: has(gateway, "50"))
        await stripe.told()
        assert stripe.paid == [2900, 4000]
        assert await gateway.ledger.verify("acme") == []


async def test_what_autopay_paid_can_be_refunded(tmp_path: Path, empty_redis: str) -> None:
    """The money goes back and is not taken again: autopay is off, its page says why, and whoever asked is told."""
    async with shop(tmp_path, empty_redis) as (gateway, stripe), Visitor(gateway.url + "/billing") as visitor:
        stripe.copies, stripe.shuffled = 2, True
        key = await gateway.open_account("acme", credit="21")
        its = {"provider": "stripe", "customer": customer_of(stripe), "method": GOOD}
        await gateway.ledger.set_autopay(operation="card", account="acme", changes=its)
        await visitor.sign_in(key)
        await visitor.see("/funds")
        await visitor.send("/funds/autopay", threshold="25", target="50", monthly_cap="", enabled="yes")
        await until(lambda: has(gateway, "50"))
        to = [{"id": "x", "type": "slack", "url": "https://127.0.0.1/"}]
        watch = Watch(id="off", kind="autopay_disabled", amount=ZERO, channel=ALERT, data={"to": to})
        await gateway.ledger.put_watch(account="acme", watch=watch)
        (payment,) = stripe.intents
        await stripe.refund(payment, 2900)
        await until(lambda: has(gateway, "21"))
        await stripe.told()

        async def told() -> bool:
            return len(await gateway.ledger.deliveries("acme", dead=True)) == 1  # nobody listens there

        await until(told)
        await asyncio.sleep(0.5)
        assert stripe.paid == [2900]
        assert "It was turned off: a payment was taken back (refund)." in await visitor.see("/funds")
        (delivery,) = await gateway.ledger.deliveries("acme", dead=True)
        assert "A payment was taken back (refund)" in notice_of("acme", "off", delivery.payload).text
        await visitor.send("/funds/autopay", threshold="25", target="50", monthly_cap="", enabled="yes")
        await until(lambda: has(gateway, "50"))
        assert stripe.paid == [2900, 2900]
        assert await gateway.ledger.verify("acme") == []


async def stands(gateway: Running, state: AutopayState) -> bool:
    """Whether autopay stands so."""
    return (await gateway.ledger.autopay("acme")).state is state


@pytest.mark.parametrize("succeed", [True, False])
async def test_a_payment_that_is_decided_later_is_waited_for(tmp_path: Path, empty_redis: str, succeed: bool) -> None:
    """While it is pending nothing else is charged; then it is credited, or counts as declined."""
    async with shop(tmp_path, empty_redis) as (gateway, stripe):
        stripe.customers["cus_1"] = {"id": "cus_1", "object": "customer", "metadata": {}}
        await gateway.open_account("acme", credit="21")
        settings = {
            "enabled": True, "threshold": usd(25), "target": usd(50), "provider": "stripe", "customer": "cus_1",
            "method": "pm_slow",
        }  # fmt: skip
        await gateway.ledger.set_autopay(operation="set", account="acme", changes=settings)
        for number in range(3):
            await gateway.gateway.paying.cashier.look("acme", f"test-{number}")
        await until(lambda: stands(gateway, AutopayState.CHARGING))
        await asyncio.sleep(1.5)
        assert len(stripe.intents) == 1
        await stripe.settle_slow(succeed=succeed)
        if succeed:
            await until(lambda: has(gateway, "50"))
        else:
            await until(lambda: stands(gateway, AutopayState.FAILED))
        await stripe.told()
        assert len(stripe.intents) == 1
        assert await gateway.balance("acme") == usd(50 if succeed else 21)
