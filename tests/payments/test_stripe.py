"""Stripe as a provider, by its own SDK, against a server that speaks its API."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.payments.stripe import StripeProvider
from gateway.ports import (
    Checkout,
    MethodAdded,
    PaymentFailed,
    PaymentPaid,
    PaymentProvider,
    PaymentRefused,
    PaymentReversed,
    PaymentUnknown,
    WebhookInvalid,
)
from tests.fakes.stripe import AUTHENTICATED, DECLINED, GOOD, SLOW, WEBHOOK_SECRET, FakeStripe, signature
from tests.payments.shop import RETURN_URL, customer_of, provider_at, request_for, usd


@pytest.fixture
async def stripe() -> AsyncIterator[FakeStripe]:
    """A Stripe with nothing in it."""
    async with FakeStripe() as fake:
        yield fake


@pytest.fixture
async def provider(stripe: FakeStripe) -> AsyncIterator[StripeProvider]:
    """The provider that talks to it."""
    made = provider_at(stripe)
    yield made
    await made.close()


async def heard(provider: PaymentProvider, event: dict[str, Any], **how: Any) -> list[Any]:
    """What is read of an event."""
    body = orjson.dumps(event)
    return list(await provider.read_webhook({"Stripe-Signature": signature(body, **how)}, body))


async def test_an_attempt_is_one_payment(stripe: FakeStripe, provider: StripeProvider) -> None:
    """Asked for again, while Stripe knows the key and after it forgot it, it is the same one; another is another."""
    request = request_for(stripe)
    first = await provider.create_payment(request)
    assert (first.status, first.amount) == ("paid", usd(29))
    assert await provider.create_payment(request) == first
    stripe.forget_keys()
    assert await provider.create_payment(replace(request, again=True)) == first
    assert stripe.paid == [2900]
    (intent,) = stripe.intents.values()
    assert intent["metadata"] == {"gateway_account": "acme", "gateway_attempt": "ap_1"}
    assert (await provider.create_payment(request_for(stripe, attempt="ap_2", again=True))).id != first.id
    assert stripe.paid == [2900, 2900]


@pytest.mark.parametrize(("lost", "failed"), [(2, 0), (0, 2), (1, 0)])
async def test_an_attempt_whose_answer_was_lost_is_found(
    stripe: FakeStripe, provider: StripeProvider, lost: int, failed: int
) -> None:
    """The SDK asks once more by itself; after that it is unknown, and asking again charges nobody twice."""
    stripe.lose_replies, stripe.fail_requests = lost, failed
    request = request_for(stripe)
    if lost + failed > 1:
        with pytest.raises(PaymentUnknown):
            await provider.create_payment(request)
    assert (await provider.create_payment(replace(request, again=True))).status == "paid"
    assert stripe.paid == [2900]


@pytest.mark.parametrize(
    ("method", "status", "why"),
    [
        (DECLINED, "declined", "insufficient_funds"),
        (AUTHENTICATED, "declined", "authentication_required"),
        (SLOW, "pending", ""),
    ],
)
async def test_what_is_not_paid_says_why(
    stripe: FakeStripe, provider: StripeProvider, method: str, status: str, why: str
) -> None:
    """In one of Stripe's words, now and when it is asked again; the card is asked once."""
    request = request_for(stripe, method=method)
    for again in (False, True):
        payment = await provider.create_payment(replace(request, again=again))
        assert (payment.status, payment.why) == (status, why)
        assert payment.id in stripe.intents
    assert len(stripe.intents) == 1


async def test_what_stripe_cannot_do_charges_nobody(stripe: FakeStripe, provider: StripeProvider) -> None:
    """A customer that it does not know is a decline; a key of ours that it refuses leaves the payment open."""
    declined = await provider.create_payment(request_for(stripe, customer="cus_gone"))
    assert (declined.status, declined.why) == ("declined", "resource_missing")
    other = provider_at(stripe, secret_key="sk_test_wrong")
    with pytest.raises(PaymentUnknown) as caught:
        await other.create_payment(request_for(stripe))
    await other.close()
    assert "sk_test" not in str(caught.value)
    assert stripe.paid == []


async def test_a_page_takes_money_and_keeps_the_card(stripe: FakeStripe, provider: StripeProvider) -> None:
    """The page of an account's own customer; paid, it leads back, and tells of one payment and its card."""
    checkout = Checkout(account="acme", amount=usd(20), customer="", operation="o-1")
    page = await provider.checkout(checkout)
    assert await provider.checkout(checkout) == page
    assert page.customer in stripe.customers
    assert await stripe.pay_checkout(page.url) == RETURN_URL
    (intent,) = stripe.intents.values()
    paid, completed = [await heard(provider, event) for event in stripe.events]
    assert paid == [
        PaymentPaid(account="acme", payment=intent["id"], amount=usd(20), customer=page.customer, method=GOOD)
    ]
    assert completed == [PaymentPaid(account="acme", payment=intent["id"], amount=usd(20))]


async def test_a_page_adds_a_card(stripe: FakeStripe, provider: StripeProvider) -> None:
    """Without an amount nothing is charged; the card is told of."""
    customer = customer_of(stripe)
    page = await provider.checkout(Checkout(account="acme", amount=None, customer=customer, operation="o-1"))
    await stripe.pay_checkout(page.url)
    ((event),) = stripe.events
    assert await heard(provider, event) == [MethodAdded(account="acme", customer=customer, method=GOOD, id=event["id"])]
    assert stripe.paid == []


async def test_a_page_that_stripe_refuses_is_refused(stripe: FakeStripe, provider: StripeProvider) -> None:
    """The address to lead back to is no URL: the refusal can be shown."""
    provider._return_url = "nowhere"
    with pytest.raises(PaymentRefused, match="url_invalid"):
        await provider.checkout(Checkout(account="acme", amount=usd(20), customer="", operation="o-1"))


async def test_refunds_are_told_as_they_stand(stripe: FakeStripe, provider: StripeProvider) -> None:
    """They do not name the account; the payment does. One that failed takes nothing, whatever message is read."""
    payment = (await provider.create_payment(request_for(stripe))).id
    first = await stripe.refund(payment, 500)
    taken: dict[str, Any] = {"account": "acme", "payment": payment, "final": False, "why": "refund"}
    assert await heard(provider, stripe.events[1]) == [PaymentReversed(**taken, source=first, amount=usd(5))]
    second = await stripe.refund(payment, 700)
    await stripe.fail_refund(first)
    for event in stripe.events[1:]:
        assert sorted(await heard(provider, event), key=lambda told: str(told.source)) == [
            PaymentReversed(**taken | {"final": True}, source=first, amount=usd(0)),
            PaymentReversed(**taken, source=second, amount=usd(7)),
        ]


async def test_disputes_are_told(stripe: FakeStripe, provider: StripeProvider) -> None:
    """An open one and a lost one take the payment, a won one does not; an inquiry is none, until it is more."""
    payment = (await provider.create_payment(request_for(stripe))).id
    won, lost = await stripe.dispute(payment), await stripe.dispute(payment)
    await stripe.close_dispute(won, "won")
    await stripe.close_dispute(lost, "lost")
    asked_about = await stripe.dispute(payment, "warning_needs_response")
    await stripe.close_dispute(asked_about, "warning_closed")
    grown = await stripe.dispute(payment, "warning_under_review")
    await stripe.escalate_dispute(grown)
    told = [found for event in stripe.events[1:] for found in await heard(provider, event)]
    dispute: dict[str, Any] = {"account": "acme", "payment": payment, "why": "dispute"}
    assert told == [
        PaymentReversed(**dispute, source=won, amount=usd(29), final=False),
        PaymentReversed(**dispute, source=lost, amount=usd(29), final=False),
        PaymentReversed(**dispute, source=won, amount=usd(0), final=True),
        PaymentReversed(**dispute, source=lost, amount=usd(29), final=True),
        PaymentReversed(**dispute, source=grown, amount=usd(29), final=False),
    ]


async def test_a_decline_is_told(stripe: FakeStripe, provider: StripeProvider) -> None:
    """With its attempt, and the word that the answer had."""
    await provider.create_payment(request_for(stripe, method=DECLINED))
    assert await heard(provider, stripe.events[0]) == [
        PaymentFailed(account="acme", attempt="ap_1", why="insufficient_funds")
    ]


async def test_what_is_not_ours_is_nothing(stripe: FakeStripe, provider: StripeProvider) -> None:
    """Payments of the company's other business, other currencies, events that nobody asked for."""
    await provider.create_payment(request_for(stripe))
    (paid,) = stripe.events
    body = orjson.dumps(paid)
    assert await heard(provider, orjson.loads(body.replace(b"gateway_account", b"shop"))) == []
    assert await heard(provider, orjson.loads(body.replace(b'"usd"', b'"eur"'))) == []
    assert await heard(provider, paid | {"type": "invoice.paid"}) == []


async def test_only_stripes_own_fresh_messages_are_read(stripe: FakeStripe, provider: StripeProvider) -> None:
    """Unsigned, signed by somebody else, too old, changed on their way, no JSON, no event: none of them."""
    await provider.create_payment(request_for(stripe))
    (event,) = stripe.events
    body = orjson.dumps(event)
    good = signature(body)
    nothing = b'{"type": "charge.refunded", "data": {"object": null}}'
    messages = [
        (body, None),
        (body, ""),
        (body, "t=1,v1=aa"),
        (body, signature(body, secret="whsec_other")),
        (body, signature(body, age_seconds=301)),
        (body.replace(b"2900", b"9900"), good),
        (b"[]", signature(b"[]")),
        (b"{}", signature(b"{}")),
        (nothing, signature(nothing)),
        (b"\xff", signature(b"\xff")),
        (b"no json", signature(b"no json")),
    ]
    for sent, signed in messages:
        with pytest.raises(WebhookInvalid):
            await provider.read_webhook({} if signed is None else {"Stripe-Signature": signed}, sent)
    assert len(await provider.read_webhook({"Stripe-Signature": good}, body)) == 1
    assert WEBHOOK_SECRET not in repr(provider)
