"""What the tests of payments share: a Stripe of one's own, and gateways that use it.

Owns: the config for it. Does not know: what should happen.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.core.money import NANOS_PER_USD, Nanos
from gateway.payments.stripe import StripeProvider
from gateway.ports import Observer, PaymentRequest, PaymentTold
from gateway.settings.payments import StripeAccount
from tests.fakes.stripe import GOOD, SECRET_KEY, WEBHOOK_SECRET, FakeStripe
from tests.harness import Running, running

RETURN_URL = "https://gateway.example.com/billing"


def usd(dollars: float) -> Nanos:
    return Nanos(round(dollars * NANOS_PER_USD))


def provider_at(stripe: FakeStripe, *, secret_key: str = SECRET_KEY) -> StripeProvider:
    """The provider, with the fake in Stripe's place."""
    account = StripeAccount(secret_key=secret_key, webhook_secret=WEBHOOK_SECRET, api_base=stripe.url)
    return StripeProvider(account, return_url=RETURN_URL)


def customer_of(stripe: FakeStripe) -> str:
    """A customer whom Stripe knows."""
    stripe.customers["cus_known"] = {"id": "cus_known", "object": "customer", "metadata": {}}
    return "cus_known"


def request_for(stripe: FakeStripe, *, attempt: str = "ap_1", dollars: float = 29, **changes: Any) -> PaymentRequest:
    """What autopay asks for."""
    values: dict[str, Any] = {"account": "acme", "customer": customer_of(stripe), "method": GOOD, "begun_ms": 0}
    return PaymentRequest(attempt=attempt, amount=usd(dollars), **values | changes)


def payments(stripe: FakeStripe, **more: Any) -> Callable[[dict[str, Any]], None]:
    """The change of gateway.yaml that makes the fake the provider."""

    def change(data: dict[str, Any]) -> None:
        data["payments"] |= {
            "return_url": RETURN_URL,
            "stripe": {"secret_key": SECRET_KEY, "webhook_secret": WEBHOOK_SECRET, "api_base": stripe.url},
            **more,
        }

    return change


@asynccontextmanager
async def shop(
    directory: Path, redis_url: str, *, autopay: Mapping[str, Any] | None = None
) -> AsyncIterator[tuple[Running, FakeStripe]]:
    """A gateway that Stripe tells of everything."""
    async with FakeStripe() as stripe:
        changes = {"gateway.yaml": payments(stripe, autopay={"pending_seconds": 0.2, **(autopay or {})})}
        async with running(directory, redis_url, changes=changes) as gateway:
            stripe.webhook_url = f"{gateway.url}/billing/webhooks/stripe"
            yield gateway, stripe


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Return once it holds."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - another process may make it so
            await asyncio.sleep(0.02)


class Heard(Observer):
    """An observer that keeps what it hears of payments."""

    def __init__(self) -> None:
        self.payments: list[PaymentTold] = []
        self.events: list[str] = []

    def call_finished(self, record: Any) -> None:
        """Nobody calls here."""

    session_finished = job_looked = queue_left = delivery_tried = export_tried = call_finished

    def payment_told(self, record: PaymentTold) -> None:
        self.payments.append(record)

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        self.events.append(name)

    @property
    def outcomes(self) -> list[str]:
        return [told.outcome for told in self.payments]
