"""Volume steps: the boundary inside a charge is split exactly; how a total is divided into charges does not matter."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import Nanos
from gateway.core.pricing import Charge, LineItem, PriceTable, exact_text, make_price
from gateway.core.steps import MILLIONTHS, make_step, stepped, volumes
from gateway.core.usage import Quantity

HOUR = 3600
SPEECH = make_price("speech", "per_hour", "0.20", "10")  # $0.18 an hour on this card
TENTH = make_price("speech", "per_hour", "0.10")
TOKENS = make_price("tokens", "per_1m_tokens", "3")
TABLE = PriceTable(
    version="v",
    rate_card="c",
    prices={"speech": SPEECH, "tokens": TOKENS, "plain": make_price("plain", "per_call", "0.01")},
    steps={
        "speech": (
            make_step(1000 * HOUR * MILLIONTHS, SPEECH, words="1000 hours", percent="25"),
            make_step(5000 * HOUR * MILLIONTHS, SPEECH, words="5000 hours", price=TENTH),
        ),
        "tokens": (make_step(7 * MILLIONTHS, TOKENS, words="7 tokens", percent="33.3"),),
    },
)


def charge_of(*used: tuple[str, Quantity]) -> Charge:
    """A charge at the prices of the first unit, as pricing makes it."""
    items = tuple(
        LineItem(
            sku=sku, quantity=exact_text(quantity), unit=TABLE.prices[sku].unit, unit_price=TABLE.prices[sku].listed,
            amount=TABLE.prices[sku].amount(quantity),
        )
        for sku, quantity in used
    )  # fmt: skip
    total = Nanos(sum(item.amount for item in items))
    return Charge(amount=total, items=items, price_version="v", rate_card="c")


def lines(charge: Charge) -> list[tuple[str, str, int]]:
    """Quantity, unit price and amount of each line."""
    assert charge.amount == sum(item.amount for item in charge.items)
    return [(item.quantity, item.unit_price, item.amount) for item in charge.items]


@pytest.mark.parametrize(
    ("hours_before", "seconds", "wanted"),
    [
        (0, 3600, [("3600", "0.20 per_hour -10%", 180_000_000)]),
        (999, 3600, [("3600", "0.20 per_hour -10%", 180_000_000)]),
        (1000, 3600, [("3600", "0.20 per_hour -10% -25% above 1000 hours", 135_000_000)]),
        (
            999,
            Decimal("5400.5"),  # an hour at $0.18, half an hour and half a second at $0.135
            [
                ("3600", "0.20 per_hour -10%", 180_000_000),
                ("1800.5", "0.20 per_hour -10% -25% above 1000 hours", 67_518_750),
            ],
        ),
        (
            0,
            6000 * HOUR,  # all three: 1000 x $0.18, 4000 x $0.135, 1000 x $0.10
            [
                ("3600000", "0.20 per_hour -10%", 180 * 10**9),
                ("14400000", "0.20 per_hour -10% -25% above 1000 hours", 540 * 10**9),
                ("3600000", "0.10 per_hour above 5000 hours", 100 * 10**9),
            ],
        ),
    ],
)
def test_golden_receipts(hours_before: int, seconds: Quantity, wanted: list[tuple[str, str, int]]) -> None:
    """Worked out by hand: below, at, across one and across both boundaries."""
    charge = charge_of(("speech", seconds))
    assert lines(stepped(charge, TABLE, {"speech": hours_before * HOUR * MILLIONTHS})) == wanted


def test_what_has_no_steps_stays_as_it_is_and_lines_of_one_sku_go_on_from_each_other() -> None:
    """Two lines of one SKU share its volume; another SKU's line is untouched, and nothing is taken for it."""
    charge = charge_of(("tokens", 5), ("plain", 1), ("tokens", 5))
    assert volumes(charge, TABLE) == {"tokens": 10 * MILLIONTHS}
    assert [(item.sku, item.quantity) for item in stepped(charge, TABLE, {"tokens": 0}).items] == [
        ("tokens", "5"), ("plain", "1"), ("tokens", "2"), ("tokens", "3"),
    ]  # fmt: skip
    free = charge_of(("plain", 3))
    assert volumes(free, TABLE) == {} and stepped(free, TABLE, {}) == free


@given(st.lists(st.integers(1, 9_000 * HOUR * 1000), min_size=1, max_size=12))
def test_any_division_of_a_total_costs_the_same(milliseconds: list[int]) -> None:
    """Charges one after the other cost what one charge of all would, but for the rounding of each of their lines."""
    parts = [Decimal(part).scaleb(-3) for part in milliseconds]
    before, total, rounded = 0, 0, 0
    for part in parts:
        charge = charge_of(("speech", part))
        split = stepped(charge, TABLE, {"speech": before})
        assert sum(Fraction(item.quantity) for item in split.items) == Fraction(part)
        total, rounded = total + split.amount, rounded + len(split.items)
        before += volumes(charge, TABLE)["speech"]
    whole = stepped(charge_of(("speech", sum(parts, Decimal(0)))), TABLE, {"speech": 0})
    assert 2 * abs(total - whole.amount) <= rounded + len(whole.items)
