"""What becomes of what providers tell of payments: the one way into the ledger, for messages, answers and ops.

Owns: which verb of the ledger each telling is, what follows a card that was added, who is told of failures.
Does not know: any provider, or when autopay begins.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.alerts import ALERT
from gateway.core.autopay import Autopay, AutopayState
from gateway.core.errors import OperationConflict, UnknownAccount
from gateway.core.money import ZERO, Nanos, format_usd
from gateway.ports import (
    Clock,
    Grant,
    Ledger,
    MethodAdded,
    Observer,
    PaymentEvent,
    PaymentFailed,
    PaymentPaid,
    PaymentReversed,
    PaymentTold,
    Watch,
)
from gateway.settings.payments import Payments

AUTOPAY_CHANNEL: Final = "autopay"
#: The watch of an account's autopay. A dot: no alert can be called so.
AUTOPAY_WATCH: Final = "autopay.balance"
#: A payment that is told again after so long says nothing of the card that is charged now.
_METHOD_SECONDS_MAX: Final = 3 * 86_400
#: Others are told of as one: ops may name them as they like.
_PROVIDERS: Final = frozenset({"stripe", "webhook"})
#: Whoever disputes a payment is not charged again without being asked.
_DISPUTE: Final = "dispute"
#: What is told of an autopay whose attempt failed, by how it stands then.
_ALERTS: Final = {AutopayState.FAILED: "autopay_failed", AutopayState.DISABLED: "autopay_disabled"}


def watch_of(autopay: Autopay) -> Watch:
    """What is watched for an autopay that is on."""
    return Watch(id=AUTOPAY_WATCH, kind="balance_below", amount=autopay.threshold, channel=AUTOPAY_CHANNEL)


class Cashier:
    """Writes down what is told of payments. Everything may be told again: it is written once."""

    def __init__(self, *, ledger: Ledger, settings: Payments, observer: Observer, clock: Clock) -> None:
        self._ledger = ledger
        self._settings = settings
        self._observer = observer
        self._clock = clock

    async def take(self, provider: str, event: PaymentEvent) -> None:
        """Write down what a provider tells. What can never be written is told to ops, and not asked for again."""
        try:
            match event:
                case PaymentPaid():
                    await self.credit(provider, event)
                case PaymentFailed(account=account, attempt=attempt, why=why):
                    await self.fail(provider, account, attempt, why)
                case PaymentReversed():
                    await self.reverse(provider, event)
                case MethodAdded(account=account, customer=customer, method=method, id=operation):
                    await self._add_method(provider, account, customer, method, operation)
        except UnknownAccount:
            self.tell(provider, event.account, "unknown_account")
        except OperationConflict:
            self.tell(provider, event.account, "conflict")

    async def credit(self, provider: str, paid: PaymentPaid) -> Grant:
        """A payment was made: credit it, end its attempt, keep what it was paid with."""
        grant = await self._ledger.credit_payment(
            account=paid.account,
            provider=provider,
            payment=paid.payment,
            amount=paid.amount,
            attempt=paid.attempt,
            upgrades=self._settings.upgrades,
        )
        self.tell(provider, paid.account, "paid", paid.amount)
        fresh = self._clock.now() * 1000 - grant.created_ms < _METHOD_SECONDS_MAX * 1000
        if paid.method and fresh:
            await self._add_method(provider, paid.account, paid.customer, paid.method, paid.payment)
        if paid.attempt:  # autopay may have been given up before: it goes on, and may have to pay once more
            await self.look(paid.account, f"paid:{grant.id}")
        return grant

    async def fail(self, provider: str, account: str, attempt: str, why: str) -> Autopay:
        """An attempt was declined. Who watches over the account is told, once of each."""
        autopay = await self._ledger.fail_payment(
            account=account,
            attempt=attempt,
            why=why,
            retry_seconds=self._settings.retry_seconds,
            failures_max=self._settings.failures_max,
        )
        self.tell(provider, account, "declined", autopay.amount, why)
        if autopay.attempt == attempt and autopay.state in _ALERTS:
            await self._alert(account, _ALERTS[autopay.state], attempt, autopay.amount, why)
        return autopay

    async def capped(self, account: str, autopay: Autopay) -> None:
        """A payment is due, and the month's cap leaves none. It is told once a month."""
        cap = autopay.monthly_cap or ZERO
        self.tell(autopay.provider, account, "capped", cap)
        why = "the monthly cap is reached"
        await self._alert(account, _ALERTS[AutopayState.FAILED], f"capped:{autopay.month}", cap, why)

    async def _alert(self, account: str, kind: str, name: str, amount: Nanos, why: str) -> None:
        """Tell whoever watches over the account, once of each `name`."""
        at_ms = int(self._clock.now() * 1000)
        payload = {"kind": kind, "amount": format_usd(amount), "why": why, "at": at_ms}
        await self._ledger.post(account=account, delivery_id=f"alert:{kind}:{name}", channel=ALERT, payload=payload)

    async def reverse(self, provider: str, event: PaymentReversed) -> Nanos:
        """A refund or a dispute takes a payment back; what is taken back of it now, by all of them."""
        taken = await self._ledger.reverse_payment(
            account=event.account,
            provider=provider,
            payment=event.payment,
            source=event.source,
            amount=event.amount,
            final=event.final,
            why=event.why,
            stop=event.why == _DISPUTE,
        )
        self.tell(provider, event.account, event.why, event.amount)
        autopay = await self._ledger.autopay(event.account)
        if not autopay.enabled and autopay.why == event.why:
            await self._alert(event.account, "autopay_disabled", f"{event.why}:{event.source}", event.amount, event.why)
        return taken

    async def _add_method(self, provider: str, account: str, customer: str, method: str, operation: str) -> None:
        """Keep a card; an autopay that waited for one goes on."""
        changes: Mapping[str, Any] = {"provider": provider, "customer": customer, "method": method}
        autopay = await self._ledger.set_autopay(
            operation=f"method:{provider}:{operation}", account=account, changes=changes
        )
        self.tell(provider, account, "method_added")
        if autopay.enabled and autopay.state == AutopayState.IDLE:
            await self.look(account, f"method:{operation}")

    async def look(self, account: str, reason: str) -> None:
        """Let autopay see whether a payment is due."""
        await self._ledger.post(account=account, delivery_id=f"autopay:{reason}", channel=AUTOPAY_CHANNEL, payload={})

    def tell(self, provider: str, account: str, outcome: str, amount: Nanos = ZERO, why: str = "") -> None:
        """Tell observers."""
        name = provider if provider in _PROVIDERS else "other"
        self._observer.payment_told(
            PaymentTold(account=account, provider=name, outcome=outcome, amount=amount, why=why)
        )
