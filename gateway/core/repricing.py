"""What charges would have cost by other prices: from the quantities that their line items recorded.

Owns: the sums by SKU, and what is said of lines that the other prices have no price for.
Does not know: where the charges and the prices are from.

A line is priced for itself, as it was when it was charged: the quantity of it, multiplied exactly, rounded once. One
whose price is the same costs the same: a slice of a session is rounded with those before it. One of a volume step is
priced by the step above the same volume, or, where the other prices have none, as the first unit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.core.pricing import Price, PriceTable
from gateway.core.steps import ABOVE
from gateway.core.usage import Quantity


@dataclass(slots=True)
class Line:
    """All lines of one SKU: how many, what they cost (nano-dollars), what they would have cost.

    `unpriced` of them have no price there, or one of another unit: they are counted at what they cost.
    """

    lines: int = 0
    unpriced: int = 0
    charged: int = 0
    repriced: int = 0


@dataclass(slots=True)
class Repricing:
    """The charges so far."""

    charges: int = 0
    skus: dict[str, Line] = field(default_factory=dict)

    @property
    def charged(self) -> int:
        """What all of them cost."""
        return sum(line.charged for line in self.skus.values())

    @property
    def repriced(self) -> int:
        """What all of them would have cost."""
        return sum(line.repriced for line in self.skus.values())

    def add(self, items: Iterable[Mapping[str, Any]], table: PriceTable | None) -> None:
        """Count one charge by its line items; `table` None: its rate card is not among the other prices."""
        self.charges += 1
        for item in items:
            line = self.skus.setdefault(str(item["sku"]), Line())
            price = None if table is None else _price(table, str(item["sku"]), str(item["unit_price"]))
            quantity = _quantity(str(item["quantity"]))
            line.lines += 1
            line.charged += int(item["amount"])
            if price is None or quantity is None or price.unit != item["unit"]:
                line.unpriced += 1
                line.repriced += int(item["amount"])
            elif price.listed == item["unit_price"]:
                line.repriced += int(item["amount"])
            else:
                line.repriced += price.amount(quantity)


def _price(table: PriceTable, sku: str, paid: str) -> Price | None:
    """What a unit costs there that was paid at the price `paid`."""
    _, above, volume = paid.partition(ABOVE)
    for step in table.steps.get(sku, ()) if above else ():
        if step.price.listed.endswith(above + volume):
            return step.price
    return table.prices.get(sku)


def _quantity(text: str) -> Quantity | None:
    try:
        return int(text) if text.isdecimal() else Decimal(text)
    except InvalidOperation:
        return None
