"""Stripe's objects, read: what an intent, an error or a message says, in our words.

Owns: the metadata that make a payment ours, which statuses are still open, which of Stripe's words are kept.
Does not know: how they were asked for or sent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.core.autopay import CENT
from gateway.core.money import Nanos
from gateway.ports import Payment, PaymentEvent, PaymentFailed, PaymentPaid

if TYPE_CHECKING:
    import stripe

ACCOUNT, ATTEMPT = "gateway_account", "gateway_attempt"
_WORD: Final = re.compile(r"[a-z0-9_]{1,64}")
_PENDING: Final = frozenset({"processing", "requires_capture"})


def payment_of(intent: "stripe.PaymentIntent") -> Payment:
    """What an intent says of itself."""
    if intent.status == "succeeded":
        return Payment(id=intent.id, status="paid", amount=Nanos(intent.amount_received * CENT))
    amount = Nanos(intent.amount * CENT)
    if intent.status in _PENDING:
        return Payment(id=intent.id, status="pending", amount=amount)
    error = intent.last_payment_error
    why = getattr(error, "decline_code", None) or getattr(error, "code", None)
    return declined(intent.id, amount, word(why or intent.status))


def declined(payment: str, amount: Nanos, why: str) -> Payment:
    """A payment that came to nothing, for good."""
    return Payment(id=payment, status="declined", amount=amount, why=why)


def intent_of(error: "stripe.CardError") -> str:
    """The intent that an error is about."""
    intent = getattr(error.error, "payment_intent", None)
    return str(getattr(intent, "id", "") or "")


def word_of(error: "stripe.StripeError") -> str:
    """Why, in one of Stripe's words."""
    decline = getattr(error.error, "decline_code", None)
    return word(decline or error.code)


def word(text: Any) -> str:
    """One of Stripe's codes, and nothing else."""
    return text if isinstance(text, str) and _WORD.fullmatch(text) else "declined"


def metadata_of(thing: Any) -> Mapping[str, str]:
    """The metadata of an object of the SDK's, as a mapping."""
    found: Mapping[str, str] = thing.metadata or {}
    return found if isinstance(found, dict) else found.to_dict()  # type: ignore[attr-defined]


def paid_by_intent(intent: Mapping[str, Any]) -> Sequence[PaymentEvent]:
    """A payment of ours that succeeded; what it was paid with, if that may be charged again."""
    metadata = intent.get("metadata") or {}
    if not metadata.get(ACCOUNT):
        return []
    kept = intent.get("setup_future_usage") == "off_session"
    return [
        PaymentPaid(
            account=metadata[ACCOUNT],
            payment=intent["id"],
            amount=Nanos(intent["amount_received"] * CENT),
            attempt=metadata.get(ATTEMPT, ""),
            customer=(intent.get("customer") or "") if kept else "",
            method=(intent.get("payment_method") or "") if kept else "",
        )
    ]


def paid_by_session(session: Mapping[str, Any]) -> Sequence[PaymentEvent]:
    """A page of ours that was paid on: the same payment, told by the page."""
    account = (session.get("metadata") or {}).get(ACCOUNT)
    if not account or session.get("payment_status") != "paid" or not session.get("payment_intent"):
        return []
    amount = Nanos(session["amount_total"] * CENT)
    return [PaymentPaid(account=account, payment=session["payment_intent"], amount=amount)]


def failed_by_intent(intent: Mapping[str, Any]) -> Sequence[PaymentEvent]:
    """An attempt of autopay's that was declined."""
    metadata = intent.get("metadata") or {}
    if not metadata.get(ACCOUNT) or not metadata.get(ATTEMPT):
        return []
    error = intent.get("last_payment_error") or {}
    why = word(error.get("decline_code") or error.get("code"))
    return [PaymentFailed(account=metadata[ACCOUNT], attempt=metadata[ATTEMPT], why=why)]
