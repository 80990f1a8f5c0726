"""What may be done with payments and autopay, once, for the admin API, the customers' API and the billing page.

Owns: what an account's autopay is before it was ever set, what its watch is, which provider a page is made by.
Does not know: HTTP, pages, how input was read (autopay_bodies).
"""

import hashlib
from dataclasses import replace
from typing import Any, Final

from gateway.core.autopay import Autopay, AutopayState
from gateway.core.money import BALANCE_MAX, format_usd
from gateway.core.months import month_of
from gateway.edge.operations.autopay_bodies import AddFunds, ChangeAutopay, FailPayment, TakeBack, TellPayment
from gateway.edge.operations.bodies import Invalid, Problem
from gateway.edge.operations.views import CURRENCY, Data, view_grant, when
from gateway.edge.paying import Paying
from gateway.payments.billing_system import NAME as BILLING_SYSTEM
from gateway.payments.cashier import AUTOPAY_WATCH, watch_of
from gateway.ports import Checkout, Clock, Ledger, PaymentPaid, PaymentRefused, PaymentReversed
from gateway.settings.runtime import Runtime

_NO_PROVIDER: Final = "nobody charges payers here: ask whoever runs this service to add credit"


class AutopayOperations:
    """Answers plain data. Raises Invalid, PaymentRefused, PaymentUnknown, and what the ledger raises.

    `operation` names a change: a repeat of it gets the first answer.
    """

    def __init__(self, *, ledger: Ledger, runtime: Runtime, paying: Paying, clock: Clock) -> None:
        self._ledger = ledger
        self._settings = runtime.payments
        self._paying = paying
        self._clock = clock

    async def show_autopay(self, account: str) -> Data:
        """What autopay is set to, or would be, and how it stands."""
        return self._view(account, await self._ledger.autopay(account))

    async def change_autopay(self, account: str, body: ChangeAutopay, operation: str) -> Data:
        """Change what the body names. Turned on below its threshold it pays at once."""
        stored = await self._ledger.autopay(account)
        changes = {name: getattr(body, name) for name in body.model_fields_set}
        defaults = self._defaults(stored)
        wanted = replace(stored, **defaults | changes)
        self._check(wanted)
        if wanted.enabled:  # watched before it is on: what cannot be watched is not on either
            await self._watch(account, wanted)
        try:
            if defaults:  # apart, so that a repeat of the operation is the same
                await self._ledger.set_autopay(operation=f"{operation}:defaults", account=account, changes=defaults)
            changed = await self._ledger.set_autopay(operation=operation, account=account, changes=changes)
        finally:  # what is refused, or is a repeat, was watched for nothing
            await self._watch(account, await self._ledger.autopay(account))
        if changed.enabled:
            await self._paying.cashier.look(account, f"set:{_short(operation)}")
        return self._view(account, changed)

    async def add_funds(self, account: str, body: AddFunds, operation: str) -> Data:
        """Make a page of the provider's to pay, or to add a card, at; its address."""
        autopay = await self._ledger.autopay(account)
        name = autopay.provider or self._provider()
        provider = self._paying.providers.get(name)
        if provider is None:
            raise PaymentRefused(_NO_PROVIDER)
        if body.amount is not None and (await self._ledger.account(account)).balance + body.amount > BALANCE_MAX:
            raise Invalid([Problem("/amount", f"an account holds at most {format_usd(BALANCE_MAX)} dollars")])
        page = await provider.checkout(
            Checkout(account=account, amount=body.amount, customer=autopay.customer, operation=_short(operation))
        )
        if page.customer != autopay.customer:
            changes = {"customer": page.customer, "provider": name}
            await self._ledger.set_autopay(operation=f"customer:{page.customer}", account=account, changes=changes)
        return {"account": account, "url": page.url, "provider": name}

    async def tell_payment(self, account: str, body: TellPayment) -> Data:
        """Credit a payment that was made somewhere else, once; the grant."""
        paid = PaymentPaid(account=account, payment=body.payment, amount=body.amount, attempt=body.attempt)
        return view_grant(await self._paying.cashier.credit(body.provider, paid))

    async def take_back(self, account: str, body: TakeBack) -> Data:
        """Take back what a refund or a dispute that was made somewhere else takes of a payment."""
        taken = PaymentReversed(
            account=account,
            payment=body.payment,
            source=body.source,
            amount=body.amount,
            final=body.final,
            why=body.kind,
        )
        back = await self._paying.cashier.reverse(body.provider, taken)
        return {
            "account": account,
            "provider": body.provider,
            "payment": body.payment,
            "taken": format_usd(back),
            "balance": format_usd((await self._ledger.account(account)).balance),
            **CURRENCY,
        }

    async def fail_payment(self, account: str, body: FailPayment) -> Data:
        """Give up the attempt under way, as if it had been declined. Money that comes after all is credited."""
        return self._view(account, await self._paying.cashier.fail("other", account, body.attempt, body.reason))

    # ---- inside

    def _provider(self) -> str:
        """Who charges where nobody was chosen: the first that the config has."""
        return next(iter(self._paying.providers), "")

    def _defaults(self, stored: Autopay) -> dict[str, Any]:
        """What an autopay that was never set is."""
        settings = self._settings
        if stored.target:
            return {} if stored.provider else {"provider": self._provider()}
        return {
            "threshold": settings.threshold,
            "target": settings.target,
            "monthly_cap": settings.monthly_cap,
            "provider": stored.provider or self._provider(),
        }

    def _check(self, wanted: Autopay) -> None:
        """What only the config, or what is stored, can say of a change."""
        problems, settings, provider = [], self._settings, wanted.provider
        missing = wanted.target - wanted.threshold
        if missing < settings.amount_min:
            least = format_usd(settings.amount_min)
            problems.append(Problem("/target", f"it must be above the threshold by {least} dollars, the least payment"))
        if missing > settings.amount_max:
            problems.append(Problem("/target", f"a payment is at most {format_usd(settings.amount_max)} dollars"))
        if provider and provider not in self._paying.providers:
            known = ", ".join(self._paying.providers) or "nobody"
            problems.append(Problem("/provider", f"payers are charged by: {known}"))
        if problems:
            raise Invalid(problems)
        if wanted.enabled and not provider:
            raise PaymentRefused(_NO_PROVIDER)
        if wanted.enabled and provider != BILLING_SYSTEM and not wanted.method:
            raise PaymentRefused("there is no card to charge: add one first")

    async def _watch(self, account: str, autopay: Autopay) -> None:
        """Watch the account's balance for autopay, or no longer."""
        if autopay.enabled:
            await self._ledger.put_watch(account=account, watch=watch_of(autopay))
        else:
            await self._ledger.drop_watch(account=account, watch_id=AUTOPAY_WATCH)

    def _view(self, account: str, stored: Autopay) -> Data:
        stored = replace(stored, **self._defaults(stored))
        now_ms = int(self._clock.now() * 1000)
        failed = stored.state in (AutopayState.FAILED, AutopayState.DISABLED)
        return {
            "account": account,
            "enabled": stored.enabled,
            "threshold": format_usd(stored.threshold),
            "target": format_usd(stored.target),
            "monthly_cap": None if stored.monthly_cap is None else format_usd(stored.monthly_cap),
            "paid_this_month": format_usd(stored.paid_in(month_of(now_ms))),
            **CURRENCY,
            "provider": stored.provider or None,
            "card": bool(stored.method),
            "state": str(stored.state),
            "attempt": stored.attempt or None,
            "charging": format_usd(stored.amount) if stored.state == AutopayState.CHARGING else None,
            "failures": stored.failures,
            "why": (stored.why or None) if failed or not stored.enabled else None,
            "retry_at": when(stored.retry_ms) if stored.state == AutopayState.FAILED else None,
        }


def _short(operation: str) -> str:
    """An operation's name where only few characters are taken."""
    return hashlib.sha256(operation.encode()).hexdigest()[:32]
