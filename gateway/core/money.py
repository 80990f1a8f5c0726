"""Money as integers of nano-dollars; the only module that reads or prints decimals.

Owns: the unit, parsing, printing, exact multiplication with one rounding, the largest sum an account may hold.
Does not know: prices, accounts, ledgers.
"""

import re
from decimal import Decimal
from typing import NewType

Nanos = NewType("Nanos", int)

NANOS_PER_USD = 1_000_000_000
ZERO = Nanos(0)

#: No account holds more. Lua numbers are doubles, exact below 2^53 = 9 007 199 254 740 992 nano-dollars.
BALANCE_MAX = Nanos(9_000_000 * NANOS_PER_USD)

#: Of prices and percentages.
_WHOLE_DIGITS_MAX = 12
_FRACTION_DIGITS_MAX = 18

_USD = re.compile(r"(?P<sign>-?)(?P<whole>[0-9]{1,9})(?:\.(?P<fraction>[0-9]{1,9}))?")


def parse_usd(text: str) -> Nanos:
    """Read a decimal string of dollars ("49.99875") exactly. ValueError says what is wrong with it."""
    match = _USD.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is not an amount of dollars: write digits with at most nine decimals, like "12.50"')
    nanos = int(match["whole"]) * NANOS_PER_USD + int((match["fraction"] or "").ljust(9, "0"))
    return Nanos(-nanos if match["sign"] else nanos)


def format_usd(nanos: int) -> str:
    """Print nano-dollars as a decimal string with all nine decimals ("49.998750000")."""
    whole, fraction = divmod(abs(nanos), NANOS_PER_USD)
    return f"{'-' if nanos < 0 else ''}{whole}.{fraction:09d}"


def round_half_up(numerator: int, denominator: int) -> Nanos:
    """Divide two non-negative integers (denominator above zero), rounding half up to the nano."""
    return Nanos((2 * numerator + denominator) // (2 * denominator))


def decimal_ratio(text: str) -> tuple[int, int]:
    """A decimal string of any length as an exact fraction (numerator, denominator); ValueError if it is none."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ValueError(f'{text!r} is not a decimal number: write it like "0.21"')
    whole, _, fraction = text.partition(".")
    if len(whole) > _WHOLE_DIGITS_MAX or len(fraction) > _FRACTION_DIGITS_MAX:
        raise ValueError(
            f"a number has at most {_WHOLE_DIGITS_MAX} digits before the point and {_FRACTION_DIGITS_MAX} after it"
        )
    return Decimal(text).as_integer_ratio()
