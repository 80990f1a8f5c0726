"""What a customer may know of its own account, once, for the billing API.

Owns: what a balance, a charge, a price and summed-up usage say to the one who pays.
Does not know: HTTP, whose key asks, how usage is read (usage), what may be changed (autopay, alerts).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gateway.core.money import Nanos, format_usd
from gateway.core.pricing import Step
from gateway.core.steps import MILLIONTHS
from gateway.edge.operations.accounts import Operations
from gateway.edge.operations.views import CURRENCY, Data, view_hold, when
from gateway.ports import Clock, Entry, Ledger
from gateway.settings.overriding import tier_of
from gateway.settings.overview import PriceRow, price_table
from gateway.settings.runtime import Runtime

#: Holds that a balance lists; `open_holds` counts all.
HOLDS_MAX: Final = 100
_CHARGES: Final = ("charge", "correction", "commitment")


class BillingOperations:
    """Answers plain data. Raises what the ledger raises."""

    def __init__(self, *, ledger: Ledger, runtime: Runtime, clock: Clock) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._clock = clock
        self._operations = Operations(ledger=ledger, runtime=runtime)

    async def show_balance(self, account: str) -> Data:
        """What the account has, what of it is in use and by what, what was spent this month, its grants."""
        credit = await self._operations.show_credits(account)
        holds = await self._ledger.holds(account)
        return {**credit, "holds": [view_hold(hold) for hold in holds[:HOLDS_MAX]]}

    async def list_charges(self, account: str, *, after: str, limit: int) -> Data:
        """A page of charges and corrections, the newest first. A page may have fewer of them than were asked for."""
        entries = await self._ledger.entries(account, before=after, limit=limit + 1, newest_first=True)
        page = entries[:limit]
        items = [view_charge(entry) for entry in page if entry.kind in _CHARGES]
        return {"items": items, "next": page[-1].id if len(entries) > limit else None}

    async def list_keys(self, account: str) -> Data:
        """The account's keys with their budgets and what they spent, without their secrets."""
        return await self._operations.list_keys(account)

    async def show_rate_card(self, account: str) -> Data:
        """What everything costs this account now, by SKU."""
        plan = (await self._ledger.account(account)).plan
        tier = tier_of(self._runtime.tiers, plan)
        card = plan.rate_card or (tier.rate_card if tier is not None else "")
        rows: list[PriceRow] = []
        steps: Mapping[str, tuple[Step, ...]] = {}
        now = self._clock.now()
        version, since = "", when(int(now * 1000))
        if any(name == card for _, name in self._runtime.prices.tables):
            version = self._runtime.prices.current(now, card).version
            rows = [row for row in price_table(self._runtime, card) if row.version == version and row.product]
            steps = self._runtime.prices.tables[version, card].steps
            start = self._runtime.prices.starts[self._runtime.prices.versions.index(version)]
            since = datetime.fromtimestamp(start, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        included = frozenset(tier.products) if tier is not None else frozenset()
        return {
            "account": account,
            "tier": plan.tier,
            "rate_card": card,
            "price_version": version,
            "effective_from": since,
            **CURRENCY,
            "items": [_view_price(row, included, steps.get(row.sku, ())) for row in rows],
        }


def view_charge(entry: Entry) -> Data:
    """A charge, or what was corrected of one, as the one who pays sees it: who corrected it is not told."""
    data = entry.data
    return {
        "id": entry.id,
        "kind": entry.kind,
        "at": when(entry.at_ms),
        "charged": format_usd(Nanos(-entry.amount)),
        "balance": format_usd(entry.balance),
        **CURRENCY,
        "product": _text(data, "product"),
        "key": _text(data, "key_id"),
        "call_id": _text(data, "call_id"),
        "upstream_id": _text(data, "upstream_id"),
        "price_version": _text(data, "price_version"),
        "rate_card": _text(data, "rate_card"),
        "basis": _text(data, "basis"),
        "late": bool(data.get("late")),
        "reason": _text(data, "reason"),
        "items": [view_item(item) for item in data.get("items", ())],
    }


def view_item(item: Mapping[str, Any]) -> Data:
    """One line of a charge."""
    return {
        "sku": str(item["sku"]),
        "quantity": str(item["quantity"]),
        "unit": str(item["unit"]),
        "unit_price": str(item["unit_price"]),
        "amount": format_usd(Nanos(int(item["amount"]))),
    }


def _view_price(row: PriceRow, included: frozenset[str], steps: Sequence[Step]) -> Data:
    """A price in its parts: "1.75 per_1m_tokens -10%" is 1.75 for 1m_tokens, less 10 percent."""
    listed, _, discount = row.unit_price.partition(" -")
    price, _, per = listed.partition(" per_")
    products = row.product.split(", ")
    return {
        "sku": row.sku,
        "products": products,
        "included": any(product in included for product in products),
        "price": price,
        "per": per,
        "discount_percent": discount.removesuffix("%") or None,
        "steps": [
            {"above": str(step.above // MILLIONTHS), "unit": step.price.unit, "unit_price": step.price.listed}
            for step in steps
        ],
    }


def _text(data: Mapping[str, Any], name: str) -> str | None:
    return str(data[name]) if data.get(name) else None
