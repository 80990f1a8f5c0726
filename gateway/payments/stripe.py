"""Stripe as a provider of payments, by its own SDK over an aiohttp session of ours.

Owns: what it is asked, which of its errors say what, which of its messages are heard.
Does not know: the ledger, when anything is paid, how its objects are read (stripe_objects).

Payments name their account and attempt in their metadata; what has no account of ours there is not for us.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson

from gateway.core.autopay import CENT
from gateway.core.errors import OperationConflict
from gateway.core.money import Nanos
from gateway.payments.stripe_objects import (
    ACCOUNT,
    ATTEMPT,
    declined,
    failed_by_intent,
    intent_of,
    metadata_of,
    paid_by_intent,
    paid_by_session,
    payment_of,
    word_of,
)
from gateway.ports import (
    Checkout,
    CheckoutPage,
    MethodAdded,
    Payment,
    PaymentEvent,
    PaymentRefused,
    PaymentRequest,
    PaymentReversed,
    PaymentUnknown,
    WebhookInvalid,
)
from gateway.settings.payments import StripeAccount

if TYPE_CHECKING:
    import stripe

NAME: Final = "stripe"
_CURRENCY: Final = "usd"
_SIGNATURE: Final = "Stripe-Signature"
_SECONDS_MAX: Final = 10.0
#: Our clocks and Stripe's may differ by so much, in seconds.
_CLOCKS_SECONDS: Final = 600
_LISTED_MAX: Final = 100
#: It was made and not charged yet: another worker's request is under way, or never came to its end.
_NOT_BEGUN: Final = "requires_confirmation"
#: A refund that did not reach the payer: the money is back.
_UNDONE: Final = frozenset({"failed", "canceled"})
#: Of all that is told of a dispute the status counts: one that was an inquiry may become one that takes.
_DISPUTE: Final = "charge.dispute."
_DECIDED: Final = frozenset({"won", "lost"})
#: A dispute with one of these is only asked about: nothing was taken.
#: Another request under the same idempotency key is under way: nothing is known of it.
_IN_USE: Final = "idempotency_key_in_use"
_INQUIRY: Final = "warning_"


class StripeProvider:
    """`ports.PaymentProvider` by Stripe. `return_url`: where its pages lead back to."""

    name = NAME

    def __init__(self, account: StripeAccount, *, return_url: str) -> None:
        import stripe  # noqa: PLC0415 - a fifth of a second, only for those who use it

        stripe.enable_telemetry = False
        logging.getLogger("stripe").setLevel(logging.WARNING)  # it would log what is sent
        self._stripe = stripe
        self._account = account
        self._return_url = return_url
        self._session: aiohttp.ClientSession | None = None
        self._opened: stripe.StripeClient | None = None

    def __repr__(self) -> str:
        return f"<StripeProvider {self._account.api_base}>"

    @property
    def _client(self) -> "stripe.StripeClient":
        """The SDK's client, made in the loop that uses it."""
        if self._opened is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, timeout=aiohttp.ClientTimeout(total=_SECONDS_MAX)
            )
            self._opened = self._stripe.StripeClient(
                self._account.secret_key,
                base_addresses={"api": self._account.api_base},
                http_client=self._stripe.AIOHTTPClient(timeout=None, session=self._session),
                max_network_retries=1,  # under the same idempotency key
            )
        return self._opened

    async def close(self) -> None:
        """See `PaymentProvider`."""
        if self._session is not None:
            await self._session.close()
        self._session = self._opened = None

    async def create_payment(self, request: PaymentRequest) -> Payment:
        """See `PaymentProvider`. One that may have been made is looked for first: Stripe forgets keys after a day."""
        if request.again and (found := await self._made(request)) is not None:
            return found
        with self._asking():
            try:
                intent = await self._client.v1.payment_intents.create_async(
                    {
                        "amount": request.amount // CENT,
                        "currency": _CURRENCY,
                        "customer": request.customer,
                        "payment_method": request.method,
                        "off_session": True,
                        "confirm": True,
                        # Without it Stripe wants an address to send the payer to, who is not there.
                        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                        "metadata": {ACCOUNT: request.account, ATTEMPT: request.attempt},
                    },
                    {"idempotency_key": request.attempt},
                )
            except self._stripe.CardError as error:
                return declined(intent_of(error), request.amount, word_of(error))
            except self._stripe.InvalidRequestError as error:  # no such card, no such customer: nothing was charged
                return declined("", request.amount, word_of(error))
        return payment_of(intent)

    async def _made(self, request: PaymentRequest) -> Payment | None:
        """The payment of this attempt, if Stripe has it."""
        with self._asking():
            listed = await self._client.v1.payment_intents.list_async(
                {
                    "customer": request.customer,
                    "created": {"gte": request.begun_ms // 1000 - _CLOCKS_SECONDS},
                    "limit": _LISTED_MAX,
                }
            )
        for intent in listed.data:
            if metadata_of(intent).get(ATTEMPT) == request.attempt and intent.status != _NOT_BEGUN:
                return payment_of(intent)
        return None

    async def checkout(self, checkout: Checkout) -> CheckoutPage:
        """See `PaymentProvider`. What is paid with is kept for autopay."""
        metadata = {ACCOUNT: checkout.account}
        with self._asking():
            try:
                customer = checkout.customer or await self._make_customer(checkout.account)
                params: Any = {
                    "customer": customer,
                    "client_reference_id": checkout.account,
                    "metadata": metadata,
                    "success_url": self._return_url,
                    "cancel_url": self._return_url,
                }
                if checkout.amount is None:
                    params |= {"mode": "setup", "currency": _CURRENCY, "setup_intent_data": {"metadata": metadata}}
                else:
                    price = {"currency": _CURRENCY, "unit_amount": checkout.amount // CENT}
                    price["product_data"] = {"name": "API credit"}
                    params |= {
                        "mode": "payment",
                        "line_items": [{"quantity": 1, "price_data": price}],
                        "payment_intent_data": {"metadata": metadata, "setup_future_usage": "off_session"},
                    }
                options: Any = {"idempotency_key": f"checkout:{checkout.account}:{checkout.operation}"}
                session = await self._client.v1.checkout.sessions.create_async(params, options)
            except self._stripe.InvalidRequestError as error:
                raise PaymentRefused(f"Stripe refuses this: {word_of(error)}") from error
            except self._stripe.IdempotencyError as error:
                if error.code == _IN_USE:
                    raise
                raise OperationConflict("a page of another amount was made under this name") from error
        assert session.url is not None, "a page that Stripe hosts has an address"
        return CheckoutPage(url=session.url, customer=customer)

    async def _make_customer(self, account: str) -> str:
        made = await self._client.v1.customers.create_async(
            {"metadata": {ACCOUNT: account}}, {"idempotency_key": f"customer:{account}"}
        )
        return made.id

    # ---- what Stripe tells

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[PaymentEvent]:
        """See `PaymentProvider`. The signature and its age are the SDK's to judge."""
        try:
            self._stripe.WebhookSignature.verify_header(
                body.decode(),
                headers.get(_SIGNATURE),
                self._account.webhook_secret,
                self._stripe.Webhook.DEFAULT_TOLERANCE,
            )
            event = orjson.loads(body)
            kind, thing = event["type"], dict(event["data"]["object"])
        except (self._stripe.SignatureVerificationError, ValueError, KeyError, TypeError):
            raise WebhookInvalid("this is not a message of Stripe's, or not one of now") from None
        if thing.get("currency", _CURRENCY) != _CURRENCY:
            return []
        match kind:
            case "payment_intent.succeeded":
                return paid_by_intent(thing)
            case "payment_intent.payment_failed":
                return failed_by_intent(thing)
            case "checkout.session.completed" if thing.get("mode") == "setup":
                return await self._method_added(event["id"], thing)
            case "checkout.session.completed":
                return paid_by_session(thing)
            case "charge.refunded" | "charge.refund.updated" | "refund.updated" | "refund.failed":
                return await self._refunded(thing.get("payment_intent"))
            case str() if kind.startswith(_DISPUTE) and not thing["status"].startswith(_INQUIRY):
                return await self._disputed(thing)
        return []

    async def _method_added(self, event_id: str, session: Mapping[str, Any]) -> Sequence[PaymentEvent]:
        account = (session.get("metadata") or {}).get(ACCOUNT)
        if not account or not session.get("setup_intent"):
            return []
        with self._asking():
            setup = await self._client.v1.setup_intents.retrieve_async(session["setup_intent"])
        method = str(setup.payment_method or "")
        return [MethodAdded(account=account, customer=session.get("customer") or "", method=method, id=event_id)]

    async def _refunded(self, payment: str | None) -> Sequence[PaymentEvent]:
        """Each refund of the payment as it stands now, whatever the message says: one may fail long after."""
        account = await self._account_of(payment)
        if not payment or not account:
            return []
        with self._asking():
            refunds = await self._client.v1.refunds.list_async({"payment_intent": payment, "limit": _LISTED_MAX})
        return [
            PaymentReversed(
                account=account,
                payment=payment,
                source=refund.id,
                amount=Nanos(0 if refund.status in _UNDONE else refund.amount * CENT),
                final=refund.status in _UNDONE,
                why="refund",
            )
            for refund in refunds.data
        ]

    async def _disputed(self, dispute: Mapping[str, Any]) -> Sequence[PaymentEvent]:
        """A dispute takes its amount while it is open, and for good unless it is won."""
        payment, status = dispute.get("payment_intent"), dispute["status"]
        account = await self._account_of(payment)
        if not payment or not account:
            return []
        amount = Nanos(0 if status == "won" else dispute["amount"] * CENT)
        return [
            PaymentReversed(
                account=account,
                payment=payment,
                source=dispute["id"],
                amount=amount,
                final=status in _DECIDED,
                why="dispute",
            )
        ]

    async def _account_of(self, payment: str | None) -> str:
        """Refunds and disputes do not name the account: the payment does."""
        if not payment:
            return ""
        with self._asking():
            intent = await self._client.v1.payment_intents.retrieve_async(payment)
        return metadata_of(intent).get(ACCOUNT, "")

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Whatever leaves open what became of a request is PaymentUnknown: no answer, no key of ours, their fault."""
        try:
            yield
        except (self._stripe.StripeError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PaymentUnknown(f"stripe: {type(error).__name__}") from None
