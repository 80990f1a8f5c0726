"""What was booked, as its holder keeps it, and what it costs once it is told what it came to.

Owns: the records, and the order in which quantities count. Plain functions of values.
Does not know: the ledger, who holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.extract import Sources
from gateway.core.money import BALANCE_MAX, ZERO, Nanos
from gateway.core.pricing import Charge, LineItem, PriceTable, Unpriced, charge_for
from gateway.core.record import record
from gateway.core.usage import Quantity, Usage, read_usage
from gateway.pipeline.bookable import Bookable
from gateway.pipeline.pricing import model_that_ran
from gateway.settings.metering import Metering
from gateway.settings.plans import PriceBook


@record
class Booking:
    """What the holder of a hold keeps of it. `facts` are the request's fields that its price is read from, `known` the
    quantities that were known before: both are what the settlement begins with. `held` in nano-dollars.
    """

    hold_id: str
    account: str
    key_id: str
    product: str
    route: str
    price_version: str
    rate_card: str
    held: Nanos = ZERO
    facts: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, Quantity] = field(default_factory=dict)


@record
class Opened:
    """A call of this account's key was admitted. `booking` None: it is free, and there is nothing to end."""

    call_id: str
    account: str
    key_id: str
    booking: Booking | None
    estimate: Nanos = ZERO
    available: Nanos = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a call came to: an amount, or its usage by measure, or what its reply says (JSON data); the usage counts
    before what the reply says.
    """

    amount: Nanos | None = None
    usage: Mapping[str, Quantity] = field(default_factory=dict)
    reply: Any = None


def charge_of(booking: Booking, used: Used, found: Bookable | None, table: PriceTable) -> Charge | str:
    """What a booking costs. Text: why that cannot be said of what was told."""
    if used.amount is not None:
        item = LineItem(sku="amount", quantity="1", unit="call", unit_price="as told", amount=used.amount)
        return Charge(amount=used.amount, items=(item,), price_version=table.version, rate_card=table.rate_card)
    if found is None or found.metering is None:
        return f"the config has no paid route {booking.route} any more: settle an amount"
    metering = found.metering
    quantities = _quantities(booking, used, metering)
    missing = [measure.name for measure in metering.measures if measure.name not in quantities]
    if missing:
        return f"not reported: {', '.join(missing)}"
    sources = _sources(booking, used)
    model, _ = model_that_ran(found.by_request.product, sources)
    charge = charge_for(metering.rules, Usage(quantities=quantities), sources, model, table)
    if isinstance(charge, Unpriced):
        return f"{charge.sku} has no price in the list {table.version}: settle an amount"
    return charge if charge.amount <= BALANCE_MAX else "it is more than an account may hold"


def knows_model(booking: Booking, used: Used, found: Bookable) -> bool:
    """Whether the settings know the model that ran."""
    return used.amount is not None or model_that_ran(found.by_request.product, _sources(booking, used))[1]


def price_table(prices: PriceBook, booking: Booking, now: float, default_card: str) -> PriceTable:
    """The prices that a hold was taken at, or those of now where the config has them no more."""
    pinned = prices.pinned(booking.price_version, booking.rate_card)
    if pinned is not None:
        return pinned
    known = (prices.versions[0], booking.rate_card) in prices.tables
    return prices.current(now, booking.rate_card if known else default_card)


def _sources(booking: Booking, used: Used) -> Sources:
    return {"request": booking.facts, "job": booking.facts, "reply": used.reply}


def _quantities(booking: Booking, used: Used, metering: Metering) -> Mapping[str, Quantity]:
    """By measure: the default, what the reply says, what was known before, what was told; the last one counts. More
    than the measure's most is none.
    """
    quantities: dict[str, Quantity] = {"calls": 1}
    if used.reply is not None:
        quantities |= read_usage(metering.measures, _sources(booking, used)).quantities
    else:
        quantities |= {measure.name: measure.default for measure in metering.measures if measure.default is not None}
    quantities |= booking.known
    for measure in metering.measures:
        if measure.name in used.usage and (told := measure.bounded(used.usage[measure.name])) is not None:
            quantities[measure.name] = told
        elif measure.name in used.usage:
            quantities.pop(measure.name, None)
    return quantities
