"""Autopay: begins a payment where one is due, and follows it to its end.

Owns: the order of its effects. An attempt is in the ledger before anybody is asked to charge; whoever finds one there
asks for the same attempt again, so that a worker may die anywhere. A delivery of the channel stays until its account
needs no payment; an attempt is asked for by the delivery that began it, and others wait for that one.
Does not know: whether a payment is due (core.autopay, by the ledger), how one is made (providers), what becomes of it
(cashier).
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.autopay import Autopay
from gateway.core.months import begins_ms, following, month_of
from gateway.payments.cashier import Cashier, watch_of
from gateway.ports import (
    Dead,
    Delivered,
    Delivery,
    Ledger,
    PaymentBegun,
    PaymentPaid,
    PaymentProvider,
    PaymentRequest,
    PaymentUnknown,
    Retry,
)
from gateway.settings.payments import Payments

#: Payments of one visit: an account may spend faster than one payment is made.
_ROUNDS_MAX: Final = 5
_AGAIN_SECONDS: Final = 1.0
#: How often a month's cap that is reached is looked at, and as soon as the month is over.
_CAPPED_SECONDS: Final = 21_600.0
#: How soon an account that is served again is paid for: at first, and once it was suspended for long.
_SUSPENDED_SECONDS: Final = (60.0, 3600.0)
#: After this an attempt is asked for by whichever delivery there is: its own is lost, or waits for long.
_OWN_SECONDS: Final = 600.0
#: A delivery is given up only after more than a year of this.
_PAUSES: Final = (2.0, 5.0, 15.0, 60.0, 300.0) + (1800.0,) * 20_000


class AutopayCourier:
    """The courier of the channel `autopay`."""

    pauses: Sequence[float] = _PAUSES

    def __init__(
        self, *, ledger: Ledger, providers: Mapping[str, PaymentProvider], cashier: Cashier, settings: Payments
    ) -> None:
        self._ledger = ledger
        self._providers = providers
        self._cashier = cashier
        self._settings = settings

    async def deliver(self, delivery: Delivery) -> Delivered | Retry | Dead:
        """Bring the account to where it needs no payment; Retry says why that is not yet so."""
        settings = self._settings
        its = f"ap_{hashlib.sha256(delivery.id.encode()).hexdigest()[:8]}"
        for _ in range(_ROUNDS_MAX):
            begun = await self._ledger.begin_payment(
                account=delivery.account,
                attempt=f"{its}{secrets.token_hex(12)}",
                amount_min=settings.amount_min,
                amount_max=settings.amount_max,
            )
            autopay = begun.autopay
            match begun.verdict:
                case "enough":
                    # A watch that has told tells again only after a grant, and here it may have been a correction that
                    # lifted the balance. One that begins anew tells at once if it fell meanwhile.
                    await self._ledger.put_watch(account=delivery.account, watch=watch_of(autopay), anew=True)
                    return Delivered()
                case "off" | "disabled":
                    return Delivered()
                case "suspended":
                    first, most = _SUSPENDED_SECONDS
                    return Retry(why="the account is suspended", seconds=min(first * (delivery.attempts + 1), most))
                case "in_flight" if not autopay.attempt.startswith(its) and _age_of(begun) < _OWN_SECONDS:
                    return Retry(why="another payment is under way")
                case "backing_off":
                    return Retry(why="declined", seconds=max(0.0, (autopay.retry_ms - begun.now_ms) / 1000))
                case "capped":
                    await self._cashier.capped(delivery.account, autopay)
                    rest = (begins_ms(following(month_of(begun.now_ms))) - begun.now_ms) / 1000
                    return Retry(why="the month's cap is reached", seconds=min(rest, _CAPPED_SECONDS))
            waits = await self._charge(delivery.account, autopay, again=begun.verdict == "in_flight")
            if waits is not None:
                return waits
        return Retry(why="spent as fast as it is paid", seconds=_AGAIN_SECONDS)

    async def _charge(self, account: str, autopay: Autopay, *, again: bool) -> Retry | None:
        """Ask the provider, and write down what it says; None once the attempt is over."""
        provider = self._providers.get(autopay.by)
        if provider is None:
            return Retry(why="its provider is not configured")
        request = PaymentRequest(
            account=account,
            attempt=autopay.attempt,
            amount=autopay.amount,
            customer=autopay.customer,
            method=autopay.method,
            begun_ms=autopay.begun_ms,
            again=again,
        )
        try:
            payment = await provider.create_payment(request)
        except PaymentUnknown as unknown:
            self._cashier.tell(provider.name, account, "unknown", autopay.amount)
            return Retry(why=str(unknown))
        match payment.status:
            case "paid":
                paid = PaymentPaid(account=account, payment=payment.id, amount=payment.amount, attempt=autopay.attempt)
                await self._cashier.credit(provider.name, paid)
                return None
            case "declined":
                await self._cashier.fail(provider.name, account, autopay.attempt, payment.why)
                return None
        self._cashier.tell(provider.name, account, "pending", payment.amount)
        return Retry(why="pending", seconds=self._settings.pending_seconds)


def _age_of(begun: PaymentBegun) -> float:
    """For how long its attempt is under way, in seconds."""
    return (begun.now_ms - begun.autopay.begun_ms) / 1000
