"""How credit is bought, compiled.

Owns: the shape of it. Does not know: YAML, or providers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.core.money import NANOS_PER_USD, Nanos

_AMOUNT_MIN: Final = Nanos(5 * NANOS_PER_USD)
_AMOUNT_MAX: Final = Nanos(10_000 * NANOS_PER_USD)
_THRESHOLD: Final = Nanos(25 * NANOS_PER_USD)
_TARGET: Final = Nanos(50 * NANOS_PER_USD)


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeAccount:
    """Whose payments at Stripe are ours."""

    secret_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    api_base: str = "https://api.stripe.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingSystem:
    """The company's own system that charges payers; requests to it are signed with `key`."""

    url: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payments:
    """How credit is bought. Amounts in nano-dollars and whole cents, seconds as named.

    `threshold`, `target` and `monthly_cap` are an autopay's that says nothing else. `upgrades`: the tier that a payment
    changes, and the one that it changes to; `upgrades_on_request`: the same for who asks. `return_url`: where a
    provider's pages lead back to.
    """

    amount_min: Nanos = _AMOUNT_MIN
    amount_max: Nanos = _AMOUNT_MAX
    threshold: Nanos = _THRESHOLD
    target: Nanos = _TARGET
    monthly_cap: Nanos | None = None
    failures_max: int = 4
    retry_seconds: int = 3600
    pending_seconds: float = 60.0
    upgrades: Mapping[str, str] = field(default_factory=dict)
    upgrades_on_request: Mapping[str, str] = field(default_factory=dict)
    return_url: str = ""
    stripe: StripeAccount | None = None
    webhook: BillingSystem | None = None
