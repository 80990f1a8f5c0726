"""What gateways and accounts are configured with: price lists with volume steps, places of jobs, payments, watches.

Owns: two configs, of which different gateways have different ones at one time; a charge by the steps of a rate card.
Does not know: when one is exchanged for the other.
"""

from dataclasses import dataclass
from typing import Final

from gateway.core.admission import Concurrency
from gateway.core.money import NANOS_PER_USD, Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.pricing import Charge, LineItem, PriceTable, make_price
from gateway.core.steps import make_step
from gateway.ports import Plan, ResourceRef, Settlement, Watch
from gateway.settings.payments import Payments
from gateway.settings.plans import PriceBook
from tests.ledger.ledgers import bill

CARD: Final = "card"
PLANS: Final = (Plan(tier="free"), Plan(tier="payg"), Plan(tier="payg", rate_card=CARD))
#: Nano-dollars of a unit by price list, and the units of a month above which it costs the half.
UNIT_PRICES: Final = {"2026-11-01": 1000, "2026-12-01": 800}
STEP_UNITS: Final = (2_000_000, 6_000_000)
SKU: Final = "units"


@dataclass(frozen=True)
class Config:
    """What one gateway has at one time."""

    version: str
    places: int

    @property
    def jobs(self) -> Concurrency:
        """The places of jobs, and the queue for them."""
        return Concurrency(name="jobs", limit=self.places, queued_max=4, when_negative=1)


CONFIGS: Final = (Config("2026-11-01", places=2), Config("2026-12-01", places=3))
AUTOPAY: Final = {
    "threshold": Nanos(2 * NANOS_PER_USD),
    "target": Nanos(5 * NANOS_PER_USD),
    "monthly_cap": Nanos(60 * NANOS_PER_USD),
}
WATCHED: Final = (
    Watch(id="autopay", kind="balance_below", amount=AUTOPAY["threshold"], channel="autopay"),
    Watch(id="low", kind="balance_below", amount=3 * NANOS_PER_USD, channel="alert"),
    Watch(id="percent", kind="balance_below_percent", amount=50, channel="alert"),
    Watch(id="day", kind="spent_day", amount=20 * NANOS_PER_USD, channel="alert"),
    Watch(id="grants", kind="grant_nearly_spent", amount=80, channel="alert"),
)
MONTHLY: Final = MonthlyGrant(amount=Nanos(NANOS_PER_USD // 2))
COMMITTED: Final = Nanos(40 * NANOS_PER_USD)
PAYMENTS: Final = Payments(
    amount_min=Nanos(NANOS_PER_USD // 10),
    amount_max=Nanos(4 * NANOS_PER_USD),
    failures_max=3,
    retry_seconds=20,
    pending_seconds=10.0,
    upgrades={"free": "payg"},
)


def _table(version: str, nanos: int) -> PriceTable:
    price = make_price(SKU, "per_unit", f"{nanos / NANOS_PER_USD:.9f}")
    steps = tuple(
        make_step(above * 1_000_000, price, words=str(above), percent=percent)
        for above, percent in zip(STEP_UNITS, ("50", "75"), strict=True)
    )
    return PriceTable(version=version, rate_card=CARD, prices={SKU: price}, steps={SKU: steps})


PRICES: Final = PriceBook(
    starts=(0.0, 1.0),
    versions=tuple(UNIT_PRICES),
    tables={(version, CARD): _table(version, nanos) for version, nanos in UNIT_PRICES.items()},
)


def charge(
    hold: str, cost: int, *, account: str, version: str, card: str = "", call: str = "", job: ResourceRef | None = None
) -> Settlement:
    """What a call is charged: so much, or by the rate card so many units as would cost that without steps."""
    if card != CARD:
        made = bill(hold, cost).charge
        charged = Charge(amount=made.amount, items=made.items, price_version=version, rate_card="")
    else:
        price = PRICES.tables[version, CARD].prices[SKU]
        units = cost // UNIT_PRICES[version]
        amount = price.amount(units)
        item = LineItem(sku=SKU, quantity=str(units), unit="unit", unit_price=price.listed, amount=amount)
        charged = Charge(amount=amount, items=(item,), price_version=version, rate_card=CARD)
    return bill(hold, account=account, charge=charged, call_id=call or hold, resource=job)
