"""How pages word amounts, times and names for people.

Owns: what stands in a page for a value. Does not know: where it comes from. Nothing here is read back by a program.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.core.money import format_usd

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CENT: Final = 10_000_000
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def usd(nanos: int) -> str:
    """Dollars and cents, never more than there are: "$1,204.99"."""
    cents = nanos // _CENT * _CENT
    return _grouped(format_usd(cents)[:-7])


def usd_exact(nanos: int) -> str:
    """Every decimal that is not a trailing zero, but at least two: "$0.000175"."""
    whole, _, fraction = format_usd(nanos).partition(".")
    return _grouped(f"{whole}.{fraction.rstrip('0').ljust(2, '0')}")


def usd_near(nanos: int) -> str:
    """Dollars and cents, rounded half up, for what was spent; to the last decimal where that is less than a cent."""
    if -_CENT < nanos < _CENT:
        return usd_exact(nanos)
    sign = -1 if nanos < 0 else 1
    return usd(sign * ((abs(nanos) + _CENT // 2) // _CENT * _CENT))


def usd_short(nanos: int) -> str:
    """A round amount in few characters: "$2", "$0.50"."""
    return usd_exact(nanos).removesuffix(".00")


def usd_signed(nanos: int) -> str:
    """As `usd_exact`, with its sign in any case."""
    return f"+{usd_exact(nanos)}" if nanos > 0 else usd_exact(nanos)


def moment(ms: int) -> datetime:
    """A moment of the store's clock."""
    return _EPOCH + timedelta(milliseconds=ms)


def iso(ms: int) -> str:
    """A moment as programs read it."""
    return moment(ms).isoformat(timespec="seconds").replace("+00:00", "Z")


def date(ms: int) -> str:
    """A day: "27 Nov 2026"."""
    found = moment(ms)
    return f"{found.day} {_MONTHS[found.month - 1]} {found.year}"


def date_time(ms: int) -> str:
    """A minute: "27 Nov 2026, 09:41 UTC"."""
    return f"{date(ms)}, {moment(ms):%H:%M} UTC"


def day(text: str) -> str:
    """An ISO day in short: "27 Nov"."""
    _, month, number = text.split("-")
    return f"{int(number)} {_MONTHS[int(month) - 1]}"


def month(text: str) -> str:
    """An ISO month: "Nov 2026"."""
    year, number = text.split("-")[:2]
    return f"{_MONTHS[int(number) - 1]} {year}"


def span(seconds: float) -> str:
    """A span of time, roughly: "3 min"."""
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{max(0, int(seconds))} s"


def spoken(name: str) -> str:
    """A word of ours in plain English: "grant_expiry" is "Grant expiry"."""
    return name.replace("_", " ").replace("-", " ").capitalize()


def per_unit(text: str) -> str:
    """A price as it is listed: "1.75 per_1m_tokens -10%" is "$1.75 per 1M tokens, less 10%"."""
    listed, _, discount = text.partition(" -")
    return f"${listed.replace('_', ' ').replace(' 1m ', ' 1M ')}" + (f", less {discount}" if discount else "")


def units(unit: str, count: object) -> str:
    """The unit's name for so many: "1 token", "2 tokens"."""
    return unit if str(count) == "1" else f"{unit}s"


def quantity(text: object) -> str:
    """A number of units as it is in an entry, in groups of three."""
    whole, dot, fraction = str(text).partition(".")
    return f"{int(whole):,}{dot}{fraction}" if whole.isdecimal() else str(text)


def gauge(value: float, name: str) -> str:
    """The value of a gauge, by the unit that its name ends with."""
    if name.endswith("_timestamp_seconds"):
        return date_time(int(value * 1000)) if value else "never"
    if name.endswith("_bytes"):
        return f"{value / 1_048_576:,.1f} MiB"
    if name.endswith("_nanos"):
        return usd_exact(int(value))
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def _grouped(text: str) -> str:
    """Digits in groups of three, with the currency's sign."""
    sign, digits = ("−", text[1:]) if text.startswith("-") else ("", text)
    whole, dot, fraction = digits.partition(".")
    return f"{sign}${int(whole):,}{dot}{fraction}"
