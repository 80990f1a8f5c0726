"""Payments: how credit is bought.

Owns: which tiers a payment, or who asks, may change. Does not know: providers.
"""

from collections.abc import Collection

from gateway.core.signatures import read_secret
from gateway.settings.compile.scope import Scope
from gateway.settings.payments import BillingSystem, Payments, StripeAccount
from gateway.settings.problems import Place
from gateway.settings.schema.payments import PaymentsSettings


def check_upgrades(settings: PaymentsSettings, place: Place, tiers: Collection[str], scope: Scope) -> None:
    """Both sides of an upgrade are tiers."""
    for name in ("upgrade_on_purchase", "upgrade_on_request"):
        for tier, other in getattr(settings, name).items():
            where = place.at(name, tier)
            scope.known(where, tier, tiers, "tier", at_key=True)
            scope.known(where, other, tiers, "tier")


def compile_payments(settings: PaymentsSettings) -> Payments:
    """The payments, compiled."""
    stripe, webhook = settings.stripe, settings.webhook
    return Payments(
        amount_min=settings.amount_min,
        amount_max=settings.amount_max,
        **dict(settings.autopay),
        upgrades=settings.upgrade_on_purchase,
        upgrades_on_request=settings.upgrade_on_request,
        return_url=settings.return_url or "",
        stripe=None if stripe is None else StripeAccount(**dict(stripe)),
        webhook=None if webhook is None else BillingSystem(url=webhook.url, key=read_secret(webhook.secret)),
    )
