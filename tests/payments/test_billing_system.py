"""The company's own billing system as a provider: signed requests, and what its answers mean."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.core.signatures import read_secret
from gateway.payments.billing_system import BillingSystemProvider
from gateway.ports import Checkout, Payment, PaymentRefused, PaymentRequest, PaymentUnknown, WebhookInvalid
from gateway.settings.payments import BillingSystem
from tests.payments.shop import usd

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
REQUEST = PaymentRequest(account="acme", attempt="ap_1", amount=usd(29), customer="c-7", method="", begun_ms=0)


class Company:
    """Answers what the test says; keeps what it was sent."""

    def __init__(self) -> None:
        self.status, self.answer = 200, b""
        self.rest = b""  # what comes of the answer once the first part has had the time to be read
        self.seen: list[tuple[dict[str, str], bytes]] = []

    async def listen(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((dict(request.headers), await request.read()))
        reply = web.StreamResponse(status=self.status)
        await reply.prepare(request)
        await reply.write(self.answer)
        if self.rest:
            await asyncio.sleep(0.1)
            await reply.write(self.rest)
        return reply


@pytest.fixture
async def company() -> Company:
    """A billing system."""
    return Company()


@pytest.fixture
async def provider(company: Company) -> AsyncIterator[BillingSystemProvider]:
    """The provider that talks to it."""
    app = web.Application()
    app.router.add_post("/charge", company.listen)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/charge"
    made = BillingSystemProvider(BillingSystem(url=url, key=read_secret(SECRET)))
    yield made
    await made.close()
    await runner.cleanup()


async def test_a_request_is_signed_by_the_standard(company: Company, provider: BillingSystemProvider) -> None:
    """The standard's own library verifies it, and no other secret does; the attempt is its id, asked again the same."""
    company.answer = b'{"paid": null}'
    await provider.create_payment(REQUEST)
    await provider.create_payment(REQUEST)
    for headers, body in company.seen:
        lower = {name.lower(): value for name, value in headers.items()}
        data: Any = Webhook(SECRET).verify(body, lower)
        assert data == {
            "type": "payment.requested",
            "data": {
                "account": "acme", "attempt": "ap_1", "amount": "29.000000000", "currency": "USD", "customer": "c-7",
            },
        }  # fmt: skip
        assert lower["webhook-id"] == "ap_1"
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + "A" * 32).verify(body, lower)


@pytest.mark.parametrize(
    ("status", "answer", "wanted"),
    [
        (200, b'{"paid": true, "payment": "inv-17"}', Payment(id="inv-17", status="paid", amount=usd(29))),
        (201, b'{"paid": null}', Payment(id="", status="pending", amount=usd(29))),
        (202, b"{}", Payment(id="", status="pending", amount=usd(29))),
        (200, b'{"paid": false, "reason": "no mandate"}',
         Payment(id="", status="declined", amount=usd(29), why="no mandate")),
        (200, b'{"paid": false}', Payment(id="", status="declined", amount=usd(29), why="declined")),
        (200, b'{"paid": true}', None),
        (200, b'{"paid": "yes"}', None),
        (200, b"[]", None),
        (200, b"paid", None),
        (500, b'{"paid": false}', None),
        (404, b'{"paid": true, "payment": "inv-17"}', None),
    ],
)  # fmt: skip
async def test_only_what_is_said_counts(
    company: Company, provider: BillingSystemProvider, status: int, answer: bytes, wanted: Payment | None
) -> None:
    """Whatever does not say plainly what became of the payment leaves it open."""
    company.status, company.answer = status, answer
    if wanted is None:
        with pytest.raises(PaymentUnknown):
            await provider.create_payment(REQUEST)
    else:
        assert await provider.create_payment(REQUEST) == wanted


async def test_an_answer_may_come_in_pieces(company: Company, provider: BillingSystemProvider) -> None:
    """It is read to its end; one that is larger than any answer leaves the payment open."""
    company.answer, company.rest = b'{"paid": true, ', b'"payment": "inv-17"}'
    assert await provider.create_payment(REQUEST) == Payment(id="inv-17", status="paid", amount=usd(29))
    company.rest += b" " * 16_384
    with pytest.raises(PaymentUnknown):
        await provider.create_payment(REQUEST)


async def test_a_system_that_is_away_leaves_the_payment_open() -> None:
    """Nobody listens."""
    provider = BillingSystemProvider(BillingSystem(url="http://127.0.0.1:9/charge", key=read_secret(SECRET)))
    with pytest.raises(PaymentUnknown):
        await provider.create_payment(REQUEST)
    await provider.close()


async def test_it_has_no_pages_and_no_messages(provider: BillingSystemProvider) -> None:
    """Credit is added there; payments are told by the admin API."""
    with pytest.raises(PaymentRefused):
        await provider.checkout(Checkout(account="acme", amount=usd(5), customer="", operation="o"))
    with pytest.raises(WebhookInvalid):
        await provider.read_webhook({}, b"{}")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_abc", "whsec_" + "A" * 200, SECRET[6:]])
def test_a_secret_is_long_enough_and_says_what_it_is(secret: str) -> None:
    """Others are refused, without being repeated."""
    with pytest.raises(ValueError, match="whsec_ and 24 to 64 random bytes"):
        read_secret(secret)
