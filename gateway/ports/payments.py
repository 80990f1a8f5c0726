"""The ports of payments: what the ledger promises of money that comes from outside, and what a provider of it does.

Owns: the records of both, and their promises. Does not know: Redis, any provider.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from gateway.core.autopay import Autopay, Verdict
from gateway.core.errors import Code, GatewayError
from gateway.core.money import Nanos
from gateway.core.record import record
from gateway.ports.records import Grant


@record
class PaymentBegun:
    """What the ledger says to an attempt that wants to begin, and the account's autopay as it stands then."""

    verdict: Verdict
    autopay: Autopay
    now_ms: int


class PaymentLedger(Protocol):
    """The part of the ledger that takes payments. What `Ledger` promises of its methods holds here too."""

    async def autopay(self, account: str) -> Autopay:
        """What the account's autopay is set to, and how it stands."""

    async def set_autopay(self, *, operation: str, account: str, changes: Mapping[str, Any]) -> Autopay:
        """Change enabled, threshold, target, monthly_cap, provider, customer or method; failures are forgotten.

        LedgerRefused if it is then on without a provider, or without a target above its threshold above nothing.
        """

    async def begin_payment(self, *, account: str, attempt: str, amount_min: Nanos, amount_max: Nanos) -> PaymentBegun:
        """Begin an attempt to bring the balance to its target, if one is due and none is under way.

        core.autopay.judge says so. Replay: while the attempt is under way, the first answer; it begins only once.
        """

    async def fail_payment(
        self, *, account: str, attempt: str, why: str, retry_seconds: int, failures_max: int
    ) -> Autopay:
        """The attempt came to nothing: put autopay off, or disable it after so many failures. Nothing if it is not
        under way. `why` is one bounded word.
        """

    async def credit_payment(
        self,
        *,
        account: str,
        provider: str,
        payment: str,
        amount: Nanos,
        attempt: str = "",
        upgrades: Mapping[str, str] = ...,
    ) -> Grant:
        """Credit a payment, once, however often and by whomever it is told: a grant of kind purchase, debt first.

        In the same step its `attempt`, if autopay made it, ends well, and an account whose tier is in `upgrades` gets
        the tier that stands there. Told again: the first grant; with another amount, or for another account,
        OperationConflict. What was taken back of the payment before is taken back now. LedgerRefused as for `grant`.
        """

    async def reverse_payment(
        self,
        *,
        account: str,
        provider: str,
        payment: str,
        source: str,
        amount: Nanos,
        final: bool,
        why: str,
        stop: bool = False,
    ) -> Nanos:
        """A refund or a dispute (`source`: each by its own word) takes so much of a payment back, all in all.

        What all sources take, and never more than was paid, is a `correction` entry, as of a charge; what comes back
        (a dispute that was won) is one too. Of what one source says in whatever order the most holds, until it is
        `final`. A payment that is not known yet is known from then on. The answer is what is taken back now.
        What is taken turns autopay off, where that would make the same payment again at once, or with `stop`.
        LedgerRefused if the balance would pass BALANCE_MAX.
        """


#: Where a payment stands at its provider. `declined` is for good; `pending` is decided later.
PaymentStatus = Literal["paid", "pending", "declined"]


@record
class Payment:
    """What a provider says of an attempt. `id` is the provider's, `why` of a decline is one word (`card_declined`)."""

    id: str
    status: PaymentStatus
    amount: Nanos
    why: str = ""


@record
class PaymentRequest:
    """What a provider is asked to charge. `attempt` makes it one payment, however often it is asked.

    `again`: it may have been asked before, and at `begun_ms` at the earliest.
    """

    account: str
    attempt: str
    amount: Nanos
    customer: str
    method: str
    begun_ms: int
    again: bool = False


@record
class Checkout:
    """A page of the provider's where the account's owner pays `amount` (None: only adds a card)."""

    account: str
    amount: Nanos | None
    customer: str
    operation: str


@record
class CheckoutPage:
    """Where that page is, and what the provider calls the payer."""

    url: str
    customer: str


@record
class PaymentPaid:
    """A provider tells that a payment was made: for an account, perhaps by an attempt of its autopay.

    `customer` and `method`: what may be charged from now on without the payer, "" if nothing.
    """

    account: str
    payment: str
    amount: Nanos
    attempt: str = ""
    customer: str = ""
    method: str = ""


@record
class PaymentFailed:
    """A provider tells that an attempt of an account's autopay was declined."""

    account: str
    attempt: str
    why: str


@record
class PaymentReversed:
    """A provider tells what a refund or a dispute takes back of a payment, as `reverse_payment` means it."""

    account: str
    payment: str
    source: str
    amount: Nanos
    final: bool
    why: Literal["refund", "dispute"]


@record
class MethodAdded:
    """A provider tells that an account's payer may be charged by this method from now on. `id`: of the telling."""

    account: str
    customer: str
    method: str
    id: str


PaymentEvent = PaymentPaid | PaymentFailed | PaymentReversed | MethodAdded


class PaymentUnknown(GatewayError):
    """The provider did not answer, or not in a way that says what became of a payment: ask again."""

    retry_after_seconds = 5


class PaymentRefused(GatewayError):
    """The provider will not do this at all; the message may be shown to whoever asked."""

    code = Code.INVALID_REQUEST


class WebhookInvalid(GatewayError):
    """What was sent is not a message of the provider's, or not one of now."""

    code = Code.INVALID_REQUEST


class PaymentProvider(Protocol):
    """Somebody who takes money from payers. Every method may raise PaymentUnknown."""

    name: str

    async def create_payment(self, request: PaymentRequest) -> Payment:
        """Charge the payer; the same attempt again answers the same payment."""

    async def checkout(self, checkout: Checkout) -> CheckoutPage:
        """Make a page to pay at. PaymentRefused if the provider has no such pages."""

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[PaymentEvent]:
        """What the provider tells by a message; nothing if it is not for us. WebhookInvalid if it is not its own."""

    async def close(self) -> None:
        """Let go of connections."""
