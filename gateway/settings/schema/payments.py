"""`payments` in `gateway.yaml`: how credit is bought, and by whom payers are charged."""

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from gateway.core.autopay import CENT
from gateway.core.money import Nanos, format_usd
from gateway.core.signatures import read_secret
from gateway.settings.payments import Payments
from gateway.settings.schema.base import BaseUrl, Money, Name, Seconds, Secret, Settings, Whole, key

_DEFAULTS = Payments()
#: The most that a provider takes at once.
_AMOUNT_MAX = Nanos(999_999 * 100 * CENT)


def _whole_cents(amount: Nanos) -> Nanos:
    if amount % CENT:
        raise ValueError("providers count in whole cents")
    if not 0 < amount <= _AMOUNT_MAX:
        raise ValueError(f"must be more than 0 and at most {format_usd(_AMOUNT_MAX)}")
    return amount


def _filled_secret(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _signing_secret(text: str) -> str:
    read_secret(text)
    return text


Cents = Annotated[Money, AfterValidator(_whole_cents)]


class AutopaySettings(Settings):
    """What an account's autopay is, unless it is set otherwise, and how declined payments are tried again."""

    threshold: Cents = key(
        "An autopay that says nothing else charges when the balance is below this", default=_DEFAULTS.threshold,
        unit="dollars", shown='"25"',
    )  # fmt: skip
    target: Cents = key(
        "And brings the balance to this", default=_DEFAULTS.target, unit="dollars", shown='"50"'
    )  # fmt: skip
    monthly_cap: Cents | None = key(
        "And pays at most so much in a calendar month", default=None, unit="dollars", shown="no limit"
    )
    failures_max: Whole = key(
        "So many declined payments in a row disable an account's autopay", default=4, unit="payments", ge=1, le=20
    )
    retry_seconds: Whole = key(
        "Pause after the first declined payment; it doubles with each, up to a day", default=3600, unit="seconds",
        ge=1, le=86400,
    )  # fmt: skip
    pending_seconds: Seconds = key(
        "How often a payment that is not decided yet is asked for", default=60.0, unit="seconds", ge=0.1, le=86400
    )


class StripeSettings(Settings):
    """Payers are charged by Stripe."""

    secret_key: Annotated[Secret, AfterValidator(_filled_secret)] = key(
        "The secret or restricted API key. May be `file:/path`"
    )
    webhook_secret: Annotated[Secret, AfterValidator(_filled_secret)] = key(
        "The signing secret of the webhook endpoint `/billing/webhooks/stripe`. May be `file:/path`"
    )
    api_base: BaseUrl = key("Where Stripe's API is", default="https://api.stripe.com")


class BillingSystemSettings(Settings):
    """Payers are charged by a system of the company's own."""

    url: BaseUrl = key("Where it takes signed requests")
    secret: Annotated[Secret, AfterValidator(_signing_secret)] = key(
        "What requests are signed with: `whsec_` and base64, as Standard Webhooks has it. May be `file:/path`"
    )


class PaymentsSettings(Settings):
    """How credit is bought."""

    amount_min: Cents = key("The least payment", default=_DEFAULTS.amount_min, unit="dollars", shown='"5"')
    amount_max: Cents = key("The largest payment", default=_DEFAULTS.amount_max, unit="dollars", shown='"10000"')
    upgrade_on_purchase: dict[Name, Name] = key(
        "Tiers that a payment changes, each with the tier that it changes to", default=dict, shown="none"
    )
    upgrade_on_request: dict[Name, Name] = key(
        "Tiers that customers may change by themselves, at once, each with the tier that it changes to", default=dict,
        shown="none",
    )  # fmt: skip
    return_url: BaseUrl | None = key(
        "Where a provider's pages lead back to: the public address of `/billing`", default=None, shown="none"
    )
    autopay: AutopaySettings = key("Charging by itself", default=AutopaySettings)
    stripe: StripeSettings | None = key("Payers are charged by Stripe", default=None, shown="off")
    webhook: BillingSystemSettings | None = key(
        "Payers are charged by a system of the company's own", default=None, shown="off"
    )

    @model_validator(mode="after")
    def _fit(self) -> Self:
        autopay = self.autopay
        if autopay.target - autopay.threshold < self.amount_min:
            raise ValueError("autopay.target must be above autopay.threshold by at least amount_min")
        if not self.amount_min <= self.amount_max:
            raise ValueError("amount_max must be at least amount_min")
        if self.stripe is not None and self.return_url is None:
            raise ValueError("stripe needs return_url: its pages lead back there")
        return self
