"""Prices and charges: exact, rounded once per line, half-up; nothing without a price is free."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.extract import Field
from gateway.core.pricing import PER, Charge, ChargeRule, Condition, PriceTable, Unpriced, charge_for, make_price
from gateway.core.usage import Quantity, Usage

AMOUNTS = st.decimals(0, 10**6, places=6).map(lambda number: format(number, "f"))
PERCENTS = st.decimals(0, 100, places=3).map(lambda number: format(number, "f"))
WHOLE = st.integers(0, 10**12)
FRACTIONS = st.floats(0, 10**12).map(lambda number: Decimal(repr(number)))
QUANTITIES: st.SearchStrategy[Quantity] = WHOLE | FRACTIONS


def table_of(**prices: tuple[str, str]) -> PriceTable:
    """A table of SKUs, each with its unit and price."""
    made = {sku: make_price(sku, per, usd) for sku, (per, usd) in prices.items()}
    return PriceTable(version="v", rate_card="c", prices=made)


def half_up(exact: Fraction) -> int:
    """The oracle: the nearest whole number, halves up."""
    return int((exact + Fraction(1, 2)).__floor__())


def charged(charge: Charge | Unpriced) -> Charge:
    """A charge, which it must be."""
    assert isinstance(charge, Charge), charge
    return charge


@given(st.sampled_from(sorted(PER)), AMOUNTS, PERCENTS, QUANTITIES)
def test_an_amount_is_exact_and_rounded_once(per: str, usd: str, discount: str, quantity: Quantity) -> None:
    """Against exact fractions: price x quantity x discount, one rounding, half-up, and no float."""
    price = make_price("s", per, usd, discount)
    _, size = PER[per]
    exact = Fraction(usd) * 10**9 / size * Fraction(quantity) * (1 - Fraction(discount) / 100)
    amount = price.amount(quantity)
    assert amount == half_up(exact)
    assert type(amount) is int
    assert type(price.numerator) is int and type(price.denominator) is int


@pytest.mark.parametrize(
    ("per", "usd", "quantity", "nanos"),
    [
        ("per_hour", "0.21", 1, 58_333),  # 0.21/3600 = 0.0000583333...
        ("per_hour", "0.15", 70, 2_916_667),  # 0.002916666...
        ("per_hour_of_ms", "0.30", 1280, 106_667),  # 1.28 s
        ("per_1m_tokens", "0.0005", 1, 1),  # half a nano goes up
        ("per_1m_tokens", "0.0005", 3, 2),
        ("per_1k_tokens", "0.002", 1500, 3_000_000),
        ("per_minute", "0.075", Decimal("14.084401"), 17_605_501),
        ("per_call", "0.000000001", 1, 1),
        ("per_character", "0.000015", 10, 150_000),
    ],
)
def test_amounts(per: str, usd: str, quantity: Quantity, nanos: int) -> None:
    """Prices of each kind, by hand."""
    assert make_price("s", per, usd).amount(quantity) == nanos


@pytest.mark.parametrize(
    ("discount", "listed"),
    [("0", "0.21 per_hour"), ("0.0", "0.21 per_hour"), ("10", "0.21 per_hour -10%"), ("2.5", "0.21 per_hour -2.5%")],
)
def test_how_a_price_is_written(discount: str, listed: str) -> None:
    """A price reads as in the list, with its discount beside it."""
    assert make_price("s", "per_hour", "0.21", discount).listed == listed


def test_a_discount_of_everything() -> None:
    """A hundred percent is free, more is an error."""
    assert make_price("s", "per_hour", "0.21", "100").amount(10**9) == 0
    with pytest.raises(ValueError, match="is more than everything"):
        make_price("s", "per_hour", "0.21", "100.1")


SECONDS = ChargeRule(sku="stt.{model}", quantity="seconds", times="channels")
TABLE = table_of(**{"stt.big": ("per_hour", "0.36"), "stt.small": ("per_hour", "0.18"), "extra": ("per_hour", "0.036")})


def test_lines_and_their_sum() -> None:
    """Each line says what was counted at which price, and the charge is their sum."""
    rules = (SECONDS, ChargeRule(sku="extra", quantity="seconds"))
    usage = Usage(quantities={"seconds": 10, "channels": 2})
    charge = charged(charge_for(rules, usage, {}, "big", TABLE))
    assert [(item.sku, item.quantity, item.unit, item.unit_price, item.amount) for item in charge.items] == [
        ("stt.big", "20", "second", "0.36 per_hour", 2_000_000),
        ("extra", "10", "second", "0.036 per_hour", 100_000),
    ]
    assert (charge.amount, charge.price_version, charge.rate_card, charge.basis) == (2_100_000, "v", "c", "reported")


def test_what_has_no_price_is_never_free() -> None:
    """A line without a price makes the whole charge unpriced; a line of nothing needs none."""
    usage = Usage(quantities={"seconds": 10})
    assert charge_for((SECONDS,), usage, {}, "new", TABLE) == Unpriced(sku="stt.new")
    assert charged(charge_for((SECONDS,), Usage(quantities={"seconds": 0}), {}, "new", TABLE)).items == ()


def test_fallbacks() -> None:
    """The second SKU is used where the first has no price, and the line says which it was."""
    rule = ChargeRule(sku="stt.{model}.cached", fallback_sku="stt.{model}", quantity="seconds")
    (item,) = charged(charge_for((rule,), Usage(quantities={"seconds": 1}), {}, "big", TABLE)).items
    assert item.sku == "stt.big"
    assert charge_for((rule,), Usage(quantities={"seconds": 1}), {}, "x", TABLE) == Unpriced(sku="stt.x.cached")


@pytest.mark.parametrize(
    ("quantities", "counted"),
    [({"all": 10, "part": 3}, "7"), ({"all": 10}, "10"), ({"all": 3, "part": 10}, None), ({"part": 3}, None),
     ({"all": 10, "part": 2, "other": 3}, "5"), ({"all": Decimal("1.5"), "part": 1}, "0.5")],
)  # fmt: skip
def test_minus(quantities: dict[str, Any], counted: str | None) -> None:
    """What other lines charge is taken off, never below zero."""
    rule = ChargeRule(sku="extra", quantity="all", minus=("part", "other"))
    items = charged(charge_for((rule,), Usage(quantities=quantities), {}, "", TABLE)).items
    assert [item.quantity for item in items] == ([counted] if counted else [])


@pytest.mark.parametrize(
    ("only", "without", "model", "applies"),
    [
        ((), (), "a", True), (("a",), (), "a", True), (("a",), (), "b", False), ((), ("a",), "a", False),
        ((), ("a",), "b", True),
    ],
)  # fmt: skip
def test_models(only: tuple[str, ...], without: tuple[str, ...], model: str, *, applies: bool) -> None:
    """A line may be for some models only, or for all but some."""
    assert ChargeRule(sku="extra", only_models=only, not_models=without).applies({}, model) == applies


ON = Condition(fields=(Field.parse("reply.a"), Field.parse("job.a")))


@pytest.mark.parametrize(
    ("reply", "job", "met"),
    [
        (True, None, True), (False, True, False), (None, True, True), (0, True, False), ("", True, False),
        ([], True, False), ({}, True, False), (["x"], None, True), ({"x": 1}, None, True), (None, None, False),
        ("false", None, True),
    ],
)  # fmt: skip
def test_conditions(reply: object, job: object, *, met: bool) -> None:
    """The first reported field decides; null is no report, false is one."""
    assert ON.met({"reply": {"a": reply}, "job": {"a": job}}) == met


@pytest.mark.parametrize(
    ("value", "met"),
    [("x", True), ("y", True), ("z", False), (True, False), (["x"], False), ({"x": 1}, False), (None, False)],
)
def test_conditions_on_values(value: object, *, met: bool) -> None:
    """With values named, only these are on; anything that cannot be one is off."""
    condition = Condition(fields=(Field.parse("reply.a"),), equals=("x", "y"))
    assert condition.met({"reply": {"a": value}}) == met


def test_conditions_together() -> None:
    """`also` must be met as well, to any depth."""
    also = Condition(fields=(Field.parse("reply.b"),), also=Condition(fields=(Field.parse("reply.c"),)))
    condition = Condition(fields=(Field.parse("reply.a"),), also=also)
    assert condition.met({"reply": {"a": 1, "b": 1, "c": 1}})
    for off in "abc":
        assert not condition.met({"reply": {name: int(name != off) for name in "abc"}})


def test_conditions_that_must_not_hold() -> None:
    """`unless` is off where it is not reported."""
    condition = Condition(
        fields=(Field.parse("reply.a"),), unless=Condition(fields=(Field.parse("reply.a.status"),), equals=("error",))
    )
    for status, met in (({"status": "error"}, False), ({"status": "success"}, True), ({"x": 1}, True), ("error", True)):
        assert condition.met({"reply": {"a": status}}) == met


@given(
    st.lists(st.tuples(st.sampled_from(sorted(PER)), AMOUNTS, st.sampled_from(["a", "b", "calls"])), max_size=5),
    QUANTITIES,
    QUANTITIES,
    QUANTITIES,
)
def test_the_charge_is_the_sum_of_its_lines(
    drawn: list[tuple[str, str, str]], first: Quantity, second: Quantity, times: Quantity
) -> None:
    """Against exact fractions: every line rounded once, their integers added, multipliers of any width exact."""
    prices = {f"s{index}": make_price(f"s{index}", per, usd) for index, (per, usd, _) in enumerate(drawn)}
    table = PriceTable(version="v", rate_card="c", prices=prices)
    rules = tuple(
        ChargeRule(sku=f"s{index}", quantity=name, times="times", minus=("b",) if name == "a" else ())
        for index, (_, _, name) in enumerate(drawn)
    )
    usage = Usage(quantities={"calls": 1, "a": first, "b": second, "times": times})
    charge = charged(charge_for(rules, usage, {}, "", table))
    assert charge.amount == sum(item.amount for item in charge.items)
    exact = {"calls": Fraction(1), "a": max(Fraction(0), Fraction(first) - Fraction(second)), "b": Fraction(second)}
    expected = 0
    for per, usd, name in drawn:
        counted = exact[name] * Fraction(times)
        expected += half_up(counted * Fraction(usd) * 10**9 / PER[per][1])
    assert charge.amount == expected
    for item in charge.items:
        assert type(item.amount) is int
        counted = next(exact[name] for index, (_, _, name) in enumerate(drawn) if item.sku == f"s{index}")
        assert Fraction(item.quantity) == counted * Fraction(times)
