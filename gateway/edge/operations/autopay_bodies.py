"""What may be asked of payments and autopay: one model per request.

Owns: the fields, and that amounts are what the config lets providers charge.
Does not know: HTTP, pages, the ledger.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from gateway.core.autopay import CENT
from gateway.core.money import Nanos, format_usd
from gateway.edge.operations.bodies import Body, Change, Setting
from gateway.edge.operations.fields import Given, Name, Usd, UsdAboveZero, Word

_PAYMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}")


def _cents(amount: Nanos) -> Nanos:
    if amount % CENT:
        raise ValueError("payments are made in whole cents")
    return amount


def _payable(amount: Nanos, info: ValidationInfo) -> Nanos:
    payments = Setting.of(info).runtime.payments
    if not payments.amount_min <= amount <= payments.amount_max:
        least, most = format_usd(payments.amount_min), format_usd(payments.amount_max)
        raise ValueError(f"a payment is between {least} and {most} dollars")
    return amount


def _payment(text: str) -> str:
    if not _PAYMENT.fullmatch(text):
        raise ValueError("a payment's id has 1 to 255 letters, digits and . _ - : /")
    return text


Cents = Annotated[UsdAboveZero, AfterValidator(_cents)]
WholeCents = Annotated[Usd, AfterValidator(_cents)]
Payable = Annotated[Cents, AfterValidator(_payable)]
PaymentId = Annotated[str, Field(max_length=255), AfterValidator(_payment)]


class ChangeAutopay(Change):
    """Below `threshold` the balance is brought to `target`, by at most `monthly_cap` in a month (null: no limit)."""

    enabled: bool = False
    threshold: Cents = Nanos(0)
    target: Cents = Nanos(0)
    monthly_cap: Cents | None = None
    provider: Word = ""


class AddFunds(Body):
    """Credit to buy on the provider's page. Without an amount only a card is added."""

    amount: Payable | None = None


class TellPayment(Body):
    """A payment that was made somewhere else. `attempt`: the one of autopay's that it is."""

    payment: PaymentId
    amount: Cents
    provider: Annotated[PaymentId, Field(max_length=64)] = "webhook"
    attempt: Annotated[str, Field(max_length=64)] = ""


class TakeBack(Body):
    """What a refund or a dispute takes of a payment, all in all, until it is `final`. `source` is its id."""

    payment: PaymentId
    source: PaymentId
    amount: WholeCents
    provider: Annotated[PaymentId, Field(max_length=64)] = "webhook"
    kind: Literal["refund", "dispute"] = "refund"
    final: bool = False


class FailPayment(Body):
    """An attempt of autopay that is given up, because nobody will say what became of it."""

    attempt: Annotated[str, Field(min_length=1, max_length=64)]
    reason: Annotated[Name, Given]
