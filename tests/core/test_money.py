"""Money: nano-dollars as integers, read and printed exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import BALANCE_MAX, NANOS_PER_USD, decimal_ratio, format_usd, parse_usd, round_half_up


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("50", 50_000_000_000),
        ("0", 0),
        ("-0", 0),
        ("0.000000001", 1),
        ("-1.5", -1_500_000_000),
        ("49.99875", 49_998_750_000),
        ("9000000", BALANCE_MAX),
        ("999999999.999999999", 999_999_999_999_999_999),
    ],
)
def test_parse(text: str, nanos: int) -> None:
    """Dollars with up to nine decimals are read exactly."""
    assert parse_usd(text) == nanos
    assert type(parse_usd(text)) is int


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "+1", "1.", ".5", "1e3", "1,5", "0.0000000001", "1_000", "0x1", "NaN", "١", "1\n", "--1"]
)
def test_parse_refuses(text: str) -> None:
    """Anything else is refused with what to write instead."""
    with pytest.raises(ValueError, match=r'write digits with at most nine decimals, like "12.50"'):
        parse_usd(text)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(0, "0.000000000"), (1, "0.000000001"), (-1, "-0.000000001"), (49_998_750_000, "49.998750000")],
)
def test_format(nanos: int, text: str) -> None:
    """Amounts are printed with all nine decimals."""
    assert format_usd(nanos) == text


@given(st.integers(-BALANCE_MAX, BALANCE_MAX))
def test_what_is_printed_is_read_back(nanos: int) -> None:
    """Printing and reading are each other's opposite."""
    assert parse_usd(format_usd(nanos)) == nanos


@given(st.integers(0, 10**30), st.integers(1, 10**18))
def test_rounding_is_half_up(numerator: int, denominator: int) -> None:
    """Rounded is the nearest whole nano, and of two that are as near the larger."""
    rounded = round_half_up(numerator, denominator)
    assert type(rounded) is int
    distance = rounded - Fraction(numerator, denominator)
    assert Fraction(-1, 2) < distance <= Fraction(1, 2)


@pytest.mark.parametrize(("numerator", "rounded"), [(0, 0), (1, 0), (2, 1), (3, 1), (5, 1), (6, 2)])
def test_halves(numerator: int, rounded: int) -> None:
    """Quarters of a nano: a half goes up."""
    assert round_half_up(numerator, 4) == rounded


@given(st.decimals(0, 10**12 - 1, places=18).map(lambda number: format(number, "f")))
def test_ratio(text: str) -> None:
    """A decimal is a fraction without loss."""
    assert Fraction(*decimal_ratio(text)) == Fraction(text)


@pytest.mark.parametrize("text", ["", "-1", "1.", ".1", "1e2", "1/2", "٣"])
def test_ratio_refuses(text: str) -> None:
    """A price is a plain decimal number, not below zero."""
    with pytest.raises(ValueError, match="is not a decimal number"):
        decimal_ratio(text)


@pytest.mark.parametrize("text", ["1" * 13, "0." + "1" * 19])
def test_ratio_is_bounded(text: str) -> None:
    """One of too many digits is a number, and told to be too long."""
    with pytest.raises(ValueError, match="at most 12 digits before the point and 18 after it"):
        decimal_ratio(text)


def test_the_largest_balance_is_exact_in_lua() -> None:
    """Lua's numbers are doubles: what an account may hold is well below where they lose digits."""
    assert BALANCE_MAX < 2**53
    assert int(float(BALANCE_MAX)) == BALANCE_MAX
    assert NANOS_PER_USD == 10**9
