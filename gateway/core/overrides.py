"""What an account has in place of its plan's: its overdraft, its limits and what it includes, as one text.

Owns: the names, what each may be, the text that they are kept as, how changes are laid over it.
Does not know: plans (settings/overriding), accounts. `ledger/scripts/change_account.lua` lays changes over in the same
way, and `claim_queued.lua` reads the places of a product.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from gateway.core import monthly
from gateway.core.money import BALANCE_MAX, Nanos, format_usd, parse_usd
from gateway.core.monthly import MonthlyGrant

_SEPARATOR: Final = "\x1f"  # as in ledger/rules
#: A limit that there is not, where the plan may have one.
NONE: Final = "none"
YES: Final = "yes"
#: The longest that the text may be.
TEXT_BYTES_MAX: Final = 4096
_COUNT_MAX: Final = 10**9
_SECONDS_MAX: Final = 86_400
_REQUESTS: Final = re.compile(r"([1-9][0-9]{0,9})/([1-9][0-9]{0,4})", re.ASCII)

#: What one may be given as, in JSON; on the command line it is always text.
Value = str | int | bool | list[str]


def _money(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError('dollars are written as text, like "12.50"')  # noqa: TRY004 - for people
    amount = parse_usd(value[:40])
    if not 0 <= amount <= BALANCE_MAX:
        raise ValueError(f"it is between 0 and {format_usd(BALANCE_MAX)} dollars")
    return str(amount)


def _count(value: Value, least: int) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= _COUNT_MAX:
        raise ValueError(f"it is a whole number from {least} to {_COUNT_MAX}")
    return str(int(text))


def _places(value: Value) -> str:
    return NONE if value == NONE else _count(value, 1)


def _any_count(value: Value) -> str:
    return _count(value, 0)


def _requests(value: Value) -> str:
    if value == NONE:
        return NONE
    match = _REQUESTS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > _COUNT_MAX or int(match[2]) > _SECONDS_MAX:
        raise ValueError('it is "QUOTA/SECONDS", like "100/60", or "none"')
    return match[0]


def _flag(value: Value) -> str:
    words: Mapping[object, str] = {True: YES, YES: YES, "true": YES, False: "no", "no": "no", "false": "no"}
    if isinstance(value, list) or (isinstance(value, int) and not isinstance(value, bool)) or value not in words:
        raise ValueError("it is true or false")
    return words[value]


def _models(value: Value) -> str:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(re.fullmatch(r"[\w.:/-]{1,128}", name) for name in names):
        raise ValueError('it is a list of models, or "all"')
    return ",".join(names)


def _grant(value: Value) -> str:
    if value == NONE:
        return NONE
    amount, slash, lasting = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash or _money(amount) == "0":
        raise ValueError('it is "DOLLARS/month" or "DOLLARS/DAYS", like "50/month", or "none"')
    return monthly.written(MonthlyGrant(amount=Nanos(int(_money(amount))), days=monthly.days_of(lasting)))


def _grant_shown(text: str) -> Value:
    if text == NONE:
        return text
    grant = monthly.read(text)
    return f"{format_usd(grant.amount)}/{grant.days or monthly.MONTH}"


def _region(value: Value) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", value):
        raise ValueError("it is the name of a region")
    return value


def _number_or_word(text: str) -> Value:
    return int(text) if text.isdigit() else text


def _as_it_is(text: str) -> Value:
    return text


_Reading = Callable[[Value], str]
_Showing = Callable[[str], Value]
#: Of the account as a whole, and of each product: how it is read, and how it is shown.
OF_ACCOUNT: Final[Mapping[str, tuple[_Reading, _Showing]]] = {
    "overdraft": (_money, lambda text: format_usd(Nanos(int(text)))),
    "monthly_grant": (_grant, _grant_shown),
    "requests": (_requests, _as_it_is),
    "requests_per_key": (_requests, _as_it_is),
    "region": (_region, _as_it_is),
}
OF_PRODUCT: Final[Mapping[str, tuple[_Reading, _Showing]]] = {
    "included": (_flag, lambda text: text == YES),
    "models": (_models, lambda text: text if text == "all" else list(text.split(","))),
    "concurrency": (_places, _number_or_word),
    "queued_max": (_any_count, _number_or_word),
    "when_negative": (_any_count, _number_or_word),
    "requests": (_requests, _as_it_is),
}


def _way(name: str) -> tuple[_Reading, _Showing]:
    product, _, limit = name.rpartition(".")
    return OF_PRODUCT[limit] if product else OF_ACCOUNT[limit]


def written(name: str, value: Value) -> str:
    """A value of a name that is known, as it is kept. ValueError says what it may be."""
    return _way(name)[0](value)


def read(text: str) -> dict[str, str]:
    """The names and what is kept of each."""
    return dict(part.split("=", 1) for part in text.split(_SEPARATOR)) if text else {}


def shown(text: str) -> dict[str, Value]:
    """The names and values, as people and programs are told them."""
    return {name: _way(name)[1](value) for name, value in read(text).items()}


def merged(text: str, changes: Mapping[str, str | None]) -> str:
    """The text with changes laid over it; None takes a name out."""
    named = {name: value for name, value in {**read(text), **changes}.items() if value is not None}
    return _SEPARATOR.join(f"{name}={named[name]}" for name in sorted(named))
