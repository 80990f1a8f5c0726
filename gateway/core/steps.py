"""Volume steps: what a charge costs where the units of a SKU get cheaper with what its month had of it.

Owns: the volumes that a charge adds, and its split at the boundaries of steps, exactly.
Does not know: who counts the volumes of a month, or what month it is.

Volumes are whole millionths of a unit, so that the store can add them; a charge's own quantity is not rounded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Context, Decimal
from fractions import Fraction
from typing import Final

from gateway.core.money import Nanos, decimal_ratio, round_half_up
from gateway.core.pricing import Charge, LineItem, Price, PriceTable, Step, at_most, exact_text

MILLIONTHS: Final = 1_000_000
#: Before the volume from which on a step's price is paid, as prices are told.
ABOVE: Final = " above "
_EXACT: Final = Context(prec=1000)


def make_step(above: int, base: Price, *, words: str, percent: str | None = None, price: Price | None = None) -> Step:
    """What is cheaper from a volume on: by so many percent, or at another price. `words` say where it begins."""
    assert (percent is None) is not (price is None), "a step has one way to be cheaper"
    if price is not None:
        return Step(above=above, price=replace(price, listed=f"{price.listed}{ABOVE}{words}"))
    assert percent is not None, "looked at above"
    rate = Fraction(base.numerator, base.denominator) * (1 - Fraction(*decimal_ratio(percent)) / 100)
    listed = f"{base.listed} -{percent}%{ABOVE}{words}"
    cheaper = replace(base, numerator=rate.numerator, denominator=rate.denominator, listed=listed)
    return Step(above=above, price=cheaper)


def volumes(charge: Charge, table: PriceTable) -> dict[str, int]:
    """What a charge adds to the month, by SKU, of those that have steps."""
    found: dict[str, int] = {}
    for item in charge.items:
        if _has_steps(item, table) and (counted := _counted(item)):
            found[item.sku] = found.get(item.sku, 0) + counted
    return found


def stepped(charge: Charge, table: PriceTable, before: Mapping[str, int]) -> Charge:
    """The charge at the steps' prices, where its month had so much before: a line for each step that it is in.

    It is never more than it was: of a session that was cut, a line may cost less than its quantity does.
    """
    reached = dict(before)
    items: list[LineItem] = []
    for item in charge.items:
        if item.sku not in reached or not _has_steps(item, table):
            items.append(item)
            continue
        items += _lines(item, table, reached[item.sku])
        reached[item.sku] += _counted(item)
    found = at_most(items, charge.amount)
    return replace(charge, amount=Nanos(sum(item.amount for item in found)), items=found)


def _has_steps(item: LineItem, table: PriceTable) -> bool:
    """A session in which prices change has lines of the old ones too, which this table says nothing of."""
    return item.sku in table.steps and item.unit_price == table.prices[item.sku].listed


def _lines(item: LineItem, table: PriceTable, before: int) -> Iterator[LineItem]:
    prices = [table.prices[item.sku], *(step.price for step in table.steps[item.sku])]
    begins = [0, *(step.above for step in table.steps[item.sku])]
    start = Decimal(before).scaleb(-6, _EXACT)
    end = _EXACT.add(start, Decimal(item.quantity))
    for number, price in enumerate(prices):
        low = max(start, Decimal(begins[number]).scaleb(-6, _EXACT))
        high = end if number + 1 == len(begins) else min(end, Decimal(begins[number + 1]).scaleb(-6, _EXACT))
        if high <= low:
            continue
        quantity = _EXACT.subtract(high, low)
        yield LineItem(
            sku=item.sku,
            quantity=exact_text(quantity),
            unit=item.unit,
            unit_price=price.listed,
            amount=price.amount(quantity),
        )


def _counted(item: LineItem) -> int:
    numerator, denominator = Decimal(item.quantity).as_integer_ratio()
    return round_half_up(numerator * MILLIONTHS, denominator)
