"""Calendar months (UTC): "2026-11", and where they begin.

Owns: their names, their order, their first moments. Does not know: what time it is.
"""

import re
from datetime import UTC, datetime
from typing import Final

_MONTH: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)


def is_month(text: str) -> bool:
    """Whether this is the name of a month. Names sort like the months."""
    return _MONTH.fullmatch(text) is not None


def month_of(at_ms: int) -> str:
    """The month of a time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m")


def following(month: str) -> str:
    """The month after."""
    year, number = map(int, month.split("-"))
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def begins_ms(month: str) -> int:
    """Its first moment, in milliseconds."""
    year, number = map(int, month.split("-"))
    return int(datetime(year, number, 1, tzinfo=UTC).timestamp()) * 1000
