"""Volume steps of rate cards.

Owns: which of a card's steps are a SKU's, and that each is higher and no dearer than the one before.
Does not know: discounts and overrides (they are in the price of the first unit), how steps are charged (core.steps).
"""

from collections.abc import Sequence

from gateway.core.pricing import Price, PriceTable, Step, make_price
from gateway.core.steps import MILLIONTHS, make_step
from gateway.settings.compile.scope import Scope
from gateway.settings.problems import Place, nearest
from gateway.settings.schema.plans import VOLUME_UNITS, RateCardSettings, StepSettings


def step_key(card: RateCardSettings, sku: str) -> str | None:
    """The key of a SKU's steps: itself, else its longest prefix."""
    if sku in card.steps:
        return sku
    prefixes = [key for key in card.steps if key.endswith("*") and sku.startswith(key[:-1])]
    return max(prefixes, key=len, default=None)


def steps_of(card: RateCardSettings, price: Price) -> tuple[Step, ...]:
    """The steps of a SKU whose first unit has this price."""
    key = step_key(card, price.sku)
    return () if key is None else tuple(_step(step, price) for step in card.steps[key])


def _step(step: StepSettings, base: Price) -> Step:
    price = None
    if step.price is not None:
        ((per, text),) = step.price.written.items()
        price = make_price(base.sku, per, text)
    return make_step(_above(step, base.unit), base, words=step.above, percent=step.percent, price=price)


def _above(step: StepSettings, unit: str) -> int:
    """Where it begins, in millionths of the SKU's unit; 0 where it is told in another unit."""
    number, _, word = step.above.partition(" ")
    counted, size = VOLUME_UNITS[word]
    if (counted, unit) == ("second", "millisecond"):
        counted, size = unit, size * 1000
    return int(number) * size * MILLIONTHS if counted == unit else 0


def check_steps(card: RateCardSettings, place: Place, tables: Sequence[PriceTable], scope: Scope) -> None:
    """`tables`: the card's prices without steps, in every version."""
    prices = [price for table in tables for price in table.prices.values()]
    for key, steps in card.steps.items():
        where = place.at(key)
        alone = RateCardSettings(steps={key: steps})
        named = [price for price in prices if step_key(alone, price.sku) is not None]
        mine = [price for price in named if step_key(card, price.sku) == key]
        if not named:
            near = nearest(key, {price.sku for price in prices})
            scope.report.add(where, f'"{key}" is no SKU, or prefix of one with a *{near}', at_key=True)
        for number, step in enumerate(steps):
            for price in mine:
                if wrong := _wrong(step, steps[:number], price):
                    scope.report.add(where.at(number), wrong)
                    break


def _wrong(step: StepSettings, before: Sequence[StepSettings], base: Price) -> str:
    """What is wrong with a step of a SKU whose first unit has this price."""
    if not _above(step, base.unit):
        return f"{base.sku} is counted by the {base.unit}"
    made = _step(step, base)
    if made.price.unit != base.unit:
        return f"{base.sku} is priced by the {base.unit}"
    last = _step(before[-1], base) if before else Step(above=0, price=base)
    if made.above <= last.above:
        return "steps go from the lowest to the highest: this one is not above the one before"
    if made.price.numerator * last.price.denominator > last.price.numerator * made.price.denominator:
        return f"{base.sku} would cost more than before: steps only get cheaper"
    return ""
