"""Payments as they are wired: which providers there are, and the address at which they tell us of payments.

Owns: the providers of the config, `POST /billing/webhooks/{provider}` and how it answers.
Does not know: what a message means (providers) or what becomes of it (cashier).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.core.errors import LedgerRefused, LedgerUnavailable
from gateway.payments.billing_system import BillingSystemProvider
from gateway.payments.cashier import Cashier
from gateway.payments.stripe import StripeProvider
from gateway.ports import Clock, Ledger, Observer, PaymentProvider, PaymentUnknown, WebhookInvalid
from gateway.settings.runtime import Runtime
from gateway.workers.autopay import AutopayCourier

_MESSAGE_BYTES_MAX: Final = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Paying:
    """The parts that have to do with payments."""

    providers: Mapping[str, PaymentProvider]
    cashier: Cashier
    courier: AutopayCourier

    async def close(self) -> None:
        """Let go of the providers' connections."""
        await asyncio.gather(*(provider.close() for provider in self.providers.values()))


def make_paying(runtime: Runtime, *, ledger: Ledger, observer: Observer, clock: Clock) -> Paying:
    """The providers that the config has, and those who use them."""
    settings = runtime.payments
    providers: dict[str, PaymentProvider] = {}
    if settings.stripe is not None:
        providers[StripeProvider.name] = StripeProvider(settings.stripe, return_url=settings.return_url)
    if settings.webhook is not None:
        providers[BillingSystemProvider.name] = BillingSystemProvider(settings.webhook)
    cashier = Cashier(ledger=ledger, settings=settings, observer=observer, clock=clock)
    courier = AutopayCourier(ledger=ledger, providers=providers, cashier=cashier, settings=settings)
    return Paying(providers=providers, cashier=cashier, courier=courier)


def add_payment_routes(app: web.Application, paying: Paying) -> None:
    """Where providers tell us of payments."""
    app.router.add_post("/billing/webhooks/{provider}", _listening(paying))


def _listening(paying: Paying) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def listen(request: web.Request) -> web.Response:
        """2xx once all is written down; what is to be sent again gets another status."""
        provider = paying.providers.get(request.match_info["provider"])
        if provider is None:
            raise web.HTTPNotFound
        body = await _read(request)
        try:
            for event in await provider.read_webhook(request.headers, body):
                await paying.cashier.take(provider.name, event)
        except WebhookInvalid:
            return web.Response(status=400, text="Not a message of this provider, or not one of now.\n")
        except (PaymentUnknown, LedgerUnavailable):
            return web.Response(status=503, text="Not written down. Send it again.\n", headers={"Retry-After": "5"})
        except LedgerRefused:
            paying.cashier.tell(provider.name, "", "refused")
            return web.Response(status=503, text="It cannot be written down now. Send it again.\n")
        return web.json_response({"received": True})

    return listen


async def _read(request: web.Request) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_chunked(65_536):
        body += chunk
        if len(body) > _MESSAGE_BYTES_MAX:
            raise web.HTTPRequestEntityTooLarge(max_size=_MESSAGE_BYTES_MAX, actual_size=len(body))
    return bytes(body)
