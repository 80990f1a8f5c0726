"""Prices and charges: exact integer arithmetic, rounded once per line item, half-up to the nano.

Owns: rates, the price table of one version and rate card, charge rules, line items.
Does not know: where usage comes from, what day it is, who pays.

A rate is a fraction (nano-dollars per unit of quantity), so `0.21 per hour` charges a second exactly.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Context
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Final, Literal

from gateway.core.extract import Field, Sources, first_reported
from gateway.core.money import NANOS_PER_USD, Nanos, decimal_ratio, round_half_up
from gateway.core.record import record
from gateway.core.usage import Quantity, Usage

#: How a price is written in YAML -> (the unit of the quantity it prices, how many of them).
PER: Final[Mapping[str, tuple[str, int]]] = {
    "per_hour": ("second", 3600),
    "per_minute": ("second", 60),
    "per_second": ("second", 1),
    "per_hour_of_ms": ("millisecond", 3_600_000),
    "per_1m_tokens": ("token", 1_000_000),
    "per_1k_tokens": ("token", 1_000),
    "per_1m_characters": ("character", 1_000_000),
    "per_1k_characters": ("character", 1_000),
    "per_character": ("character", 1),
    "per_call": ("call", 1),
    "per_unit": ("unit", 1),
}


#: Wide enough for any difference and product of quantities (a float may be 1e-308): the default 28 digits would round.
_EXACT: Final = Context(prec=1000)


@record
class Price:
    """What one SKU costs in one price table: a fraction of nano-dollars per unit, and how it is written."""

    sku: str
    unit: str
    numerator: int
    denominator: int
    listed: str  # as in the price list, with any discount beside it: "0.21 per_hour", "0.21 per_hour -10%"

    def amount(self, quantity: Quantity) -> Nanos:
        """quantity x rate, multiplied exactly, rounded once."""
        if type(quantity) is int:  # the rule; `round_half_up` written out
            return Nanos((2 * quantity * self.numerator + self.denominator) // (2 * self.denominator))
        numerator, denominator = quantity.as_integer_ratio()
        return round_half_up(numerator * self.numerator, denominator * self.denominator)


@lru_cache(maxsize=16_384)  # each version, rate card and reload lists nearly all of them again
def make_price(sku: str, per: str, usd: str, discount_percent: str = "0") -> Price:
    """Compile a listed price. ValueError for text that is no decimal, KeyError for an unknown `per`."""
    unit, size = PER[per]
    rate = Fraction(*decimal_ratio(usd)) * NANOS_PER_USD / size
    rate *= 1 - Fraction(*decimal_ratio(discount_percent)) / 100
    if rate < 0:
        raise ValueError(f"a discount of {discount_percent}% is more than everything")
    listed = f"{usd} {per}" + (f" -{discount_percent}%" if rate and Fraction(*decimal_ratio(discount_percent)) else "")
    return Price(sku=sku, unit=unit, numerator=rate.numerator, denominator=rate.denominator, listed=listed)


@record
class Step:
    """What a unit costs above a volume of a calendar month, in millionths of a unit (see `core.steps`)."""

    above: int
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriceTable:
    """The prices of one price-list version as one rate card sees them. Pinned in every hold by (version, card).

    `steps`: SKU -> what is cheaper from which volume of a month on, in this order; `prices` are of the first unit.
    """

    version: str
    rate_card: str
    prices: Mapping[str, Price]
    steps: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    #: (id of the rules, model) -> the rules (so that the id stays theirs), and each with its price, as asked for.
    plans: dict[tuple[int, str], tuple["Rules", tuple[tuple["ChargeRule", "Price | None"], ...]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def priced(self, rules: "Rules", model: str) -> tuple[tuple["ChargeRule", "Price | None"], ...]:
        """Each rule with its price for a model, or None where there is none: a gap, never free."""
        plan = self.plans.get((id(rules), model))
        if plan is None or plan[0] is not rules:  # the id may be that of rules of another process
            prices = tuple((rule, rule.price(self, model)) for rule in rules)
            plan = self.plans[id(rules), model] = (rules, prices)
        return plan[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """When an add-on is on: the first reported of the fields is true, or equals `equals`; `also` is met too, and
    `unless` is not.
    """

    fields: tuple[Field, ...]
    equals: tuple[str, ...] = ()
    also: "Condition | None" = None
    unless: "Condition | None" = None

    def met(self, sources: Sources) -> bool:
        """Null, false, zero, empty text, empty lists and empty objects are off."""
        value = first_reported(self.fields, sources)
        on = value in self.equals if self.equals else bool(value)
        if not on or (self.also is not None and not self.also.met(sources)):
            return False
        return self.unless is None or not self.unless.met(sources)


@dataclass(frozen=True, kw_only=True)
class ChargeRule:
    """One line of a charge: which SKU, over which quantity, when.

    `{model}` in a SKU stands for the price name of the model that ran. `fallback_sku` is used where the first has
    no price (cached tokens without a price of their own are input tokens). `minus` are measures already charged by
    another line. `times` multiplies (channels). `only_models`/`not_models` restrict by the model's price name.
    """

    sku: str
    fallback_sku: str | None = None
    quantity: str = "calls"
    times: str | None = None
    minus: tuple[str, ...] = ()
    when: Condition | None = None
    only_models: tuple[str, ...] = ()
    not_models: tuple[str, ...] = ()
    part_of: str | None = None  # the product that an add-on belongs to, where it is another one

    @cached_property
    def always(self) -> bool:
        """Whether this line is part of every charge."""
        return self.when is None and not self.only_models and not self.not_models

    @cached_property
    def derived(self) -> bool:
        """Whether the quantity is more than its measure."""
        return bool(self.minus) or self.times is not None

    def fits(self, model: str) -> bool:
        """Whether this line can be part of a charge for a model."""
        return (not self.only_models or model in self.only_models) and model not in self.not_models

    def applies(self, sources: Sources, model: str) -> bool:
        """Whether this line is part of the charge."""
        return self.fits(model) and (self.when is None or self.when.met(sources))

    def price(self, table: PriceTable, model: str) -> Price | None:
        """The price of this line for a model, or None where there is none: a gap, never free."""
        found = table.prices.get(self.sku.replace("{model}", model))
        if found is None and self.fallback_sku is not None:
            found = table.prices.get(self.fallback_sku.replace("{model}", model))
        return found


Rules = tuple[ChargeRule, ...]


@record
class LineItem:
    """One line of a charge. `quantity` is in `unit`s; `unit_price` as listed; `amount` in nano-dollars."""

    sku: str
    quantity: str
    unit: str
    unit_price: str
    amount: Nanos


@record
class Charge:
    """Priced usage: the line items and their sum, by which price list and rate card."""

    amount: Nanos
    items: tuple[LineItem, ...]
    price_version: str
    rate_card: str
    basis: Literal["reported", "clock", "estimated"] = "reported"


def at_most(items: Iterable[LineItem], most: int) -> tuple[LineItem, ...]:
    """The lines with no more than `most` in all: what is beyond it is left out of the last ones."""
    found = list(items)
    over = max(0, sum(item.amount for item in found) - most)
    for index in range(len(found) - 1, -1, -1):
        less = min(over, found[index].amount)
        found[index] = replace(found[index], amount=Nanos(found[index].amount - less))
        over -= less
    return tuple(found)


@record
class Unpriced:
    """A SKU that ran and has no price in the table: refused or charged by policy, never free."""

    sku: str


def expected_rules(rules: Rules, never: frozenset[str]) -> Rules:
    """The rules as far as they matter to an estimate, where nothing is ever expected of some measures."""
    return tuple(
        replace(rule, minus=tuple(name for name in rule.minus if name not in never)) if never & {*rule.minus} else rule
        for rule in rules
        if rule.quantity not in never
    )


def amount_for(rules: Rules, usage: Usage, sources: Sources, model: str, table: PriceTable) -> Nanos | Unpriced:
    """What the usage costs, without line items."""
    total = 0
    quantities = usage.quantities
    for rule, price in table.priced(rules, model):
        quantity = quantities.get(rule.quantity)
        if not quantity or not (rule.always or rule.applies(sources, model)):
            continue
        if rule.derived and not (quantity := _derived(quantity, rule, quantities)):
            continue
        if price is None:
            return Unpriced(sku=rule.sku.replace("{model}", model))
        total += price.amount(quantity)
    return Nanos(total)


def charge_for(rules: Rules, usage: Usage, sources: Sources, model: str, table: PriceTable) -> Charge | Unpriced:
    """Price the usage: a line for each rule that applies, without those of quantity zero. Their sum is the charge."""
    items: list[LineItem] = []
    total = 0
    quantities = usage.quantities
    for rule, price in table.priced(rules, model):
        quantity = quantities.get(rule.quantity)
        if not quantity or not (rule.always or rule.applies(sources, model)):
            continue
        if rule.derived and not (quantity := _derived(quantity, rule, quantities)):
            continue
        if price is None:
            return Unpriced(sku=rule.sku.replace("{model}", model))
        amount = price.amount(quantity)
        total += amount
        items.append(
            LineItem(
                sku=price.sku, quantity=exact_text(quantity), unit=price.unit, unit_price=price.listed, amount=amount
            )
        )
    return Charge(amount=Nanos(total), items=tuple(items), price_version=table.version, rate_card=table.rate_card)


def _derived(quantity: Quantity, rule: ChargeRule, quantities: Mapping[str, Quantity]) -> Quantity:
    """Less what other lines charge, never below zero, times the multiplier: exactly."""
    for name in rule.minus:
        less = quantities.get(name, 0)
        if not less:
            continue
        both_whole = type(quantity) is int and type(less) is int
        quantity = max(0, quantity - less if both_whole else _EXACT.subtract(quantity, less))
    if rule.times is not None:
        times = quantities.get(rule.times, 1)
        both_whole = type(quantity) is int and type(times) is int
        quantity = quantity * times if both_whole else _EXACT.multiply(quantity, times)
    return quantity


def exact_text(quantity: Quantity) -> str:
    """A quantity as it stands in line items: no exponent, no trailing zeros."""
    return str(quantity) if type(quantity) is int else format(_EXACT.normalize(quantity), "f")
