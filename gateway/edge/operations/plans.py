"""What an account's plan is and what it may become, once, for the customers' API and the billing page.

Owns: what a plan is to who pays for it, which upgrade is open to an account and by what.
Does not know: HTTP, pages, what a payment changes (the ledger, in the step that credits it).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.core.admission import Rate
from gateway.core.errors import LedgerRefused
from gateway.core.money import format_usd
from gateway.edge.operations.auditing import Auditor
from gateway.edge.operations.bodies import Body, Invalid, Problem
from gateway.edge.operations.fields import Word
from gateway.edge.operations.views import CURRENCY, Data
from gateway.ports import Account, Ledger
from gateway.settings.overriding import tier_of
from gateway.settings.plans import Tier
from gateway.settings.runtime import Runtime

#: What an upgrade comes by.
PAYMENT: Final = "payment"
REQUEST: Final = "request"


class Upgrade(Body):
    """The plan that an account is to have. Named, so that a request that is sent late changes nothing else."""

    to: Word


class PlanOperations:
    """Answers plain data. Raises Invalid, and what the ledger raises."""

    def __init__(self, *, ledger: Ledger, runtime: Runtime) -> None:
        self._ledger = ledger
        self._tiers = runtime.tiers
        self._titles = {name: product.title for name, product in runtime.products.items()}
        self._payments = runtime.payments
        self._auditor = Auditor(ledger)

    async def show_plan(self, account: str) -> Data:
        """The account's plan, and the one that it may become."""
        return self.view(await self._ledger.account(account))

    async def upgrade(self, account: str, body: Upgrade, operation: str, by: str) -> Data:
        """Change the plan to the one that it may become on request, at once. What has it already keeps it."""
        found = await self._ledger.account(account)
        if found.plan.tier == body.to:
            return self.view(found)
        if self._payments.upgrades_on_request.get(found.plan.tier) != body.to:
            raise Invalid([Problem("/to", self._objection(found, body.to))])
        if found.status != "active":
            raise LedgerRefused("the account is suspended")
        changed = await self._auditor.noted(
            lambda: self._ledger.change_account(operation=operation, account=account, tier=body.to),
            actor=f"key:{by}",
            action="upgrade",
            account=account,
            operation=operation,
            about={"tier": body.to},
        )
        return self.view(changed)

    def view(self, account: Account) -> Data:
        """A plan that the config has lost is null."""
        plan, (by, following) = tier_of(self._tiers, account.plan), self._following(account)
        return {
            "account": account.id,
            "plan": None if plan is None else self._terms(plan),
            "upgrade": None if following is None else {"by": by, "plan": self._terms(following)},
        }

    def _following(self, account: Account) -> tuple[str, Tier | None]:
        """The plan that it may become, and by what: by asking, where that is enough."""
        for by, upgrades in ((REQUEST, self._payments.upgrades_on_request), (PAYMENT, self._payments.upgrades)):
            if (name := upgrades.get(account.plan.tier)) is not None:
                return by, tier_of(self._tiers, replace(account.plan, tier=name))
        return "", None

    def _objection(self, account: Account, to: str) -> str:
        if self._payments.upgrades.get(account.plan.tier) == to:
            return "it begins with the next payment: add funds"
        by, following = self._following(account)
        return f"this plan can become: {following.name if following is not None and by == REQUEST else 'no other'}"

    def _terms(self, tier: Tier) -> Data:
        products = [
            {
                "product": name,
                "title": self._titles.get(name, name),
                "models": None if share.models is None else sorted(share.models),
                "concurrency": None if share.concurrency is None else share.concurrency.limit,
                "queued_max": None if share.concurrency is None else share.concurrency.queued_max,
                "requests": _view_rates(share.rates, per_model=False) + _view_rates(share.per_model, per_model=True),
            }
            for name, share in tier.products.items()
        ]
        given = tier.monthly_grant
        return {
            "tier": tier.name,
            "title": tier.title,
            "rate_card": tier.rate_card,
            "overdraft": format_usd(tier.overdraft),
            "monthly_grant": given and {"amount": format_usd(given.amount), "days": given.days or None},
            **CURRENCY,
            "requests": _view_rates(tier.rates, per_model=False),
            "requests_per_key": _view_rates(tier.per_key, per_model=False),
            "products": products,
        }


def _view_rates(rates: Sequence[Rate], *, per_model: bool) -> list[Data]:
    return [{"quota": rate.quota, "window_seconds": rate.window_seconds, "per_model": per_model} for rate in rates]
