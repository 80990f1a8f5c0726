"""The fields that bodies are made of: amounts, times, ids, and names that the config knows.

Owns: how each is written, its bounds, what is said if it is wrong, and its JSON schema.
Does not know: which request has which.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from gateway.core import overrides
from gateway.core.money import BALANCE_MAX, Nanos, format_usd, parse_usd
from gateway.edge.keys import may_be_secret
from gateway.edge.operations.bodies import Setting
from gateway.settings.products import Product
from gateway.settings.runtime import Runtime

ID_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,62}"
_ID: Final = re.compile(ID_PATTERN)
_SECRET: Final = re.compile(r"[\x21-\x7e]{16,200}")
_OVERRIDES_MAX: Final = 100
_OVER: Final = "this time is over"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _named(value: str, what: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if value not in names:
        raise ValueError(f"there is no {what} {value!r}; there are: {', '.join(names)}")
    return value


def rate_cards(runtime: Runtime) -> frozenset[str]:
    """The names of the rate cards that the price list has."""
    return frozenset(card for _, card in runtime.prices.tables)


def _tier(value: str, info: ValidationInfo) -> str:
    return _named(value, "tier", Setting.of(info).runtime.tiers)


def _rate_card(value: str, info: ValidationInfo) -> str:
    return _named(value, "rate card", rate_cards(Setting.of(info).runtime))


def _product(value: str, info: ValidationInfo) -> str:
    return _named(value, "product", Setting.of(info).runtime.products)


def _signed_usd(value: Any) -> Nanos:
    if not isinstance(value, str):
        raise ValueError('an amount is a string of decimal dollars, like "12.50"')  # noqa: TRY004 - for pydantic
    amount = parse_usd(value[:40])
    if not -BALANCE_MAX <= amount <= BALANCE_MAX:
        raise ValueError(f"an amount is at most {format_usd(BALANCE_MAX)} dollars")
    return amount


def _usd(value: Any) -> Nanos:
    amount = _signed_usd(value)
    if amount < 0:
        raise ValueError(f"an amount is between 0 and {format_usd(BALANCE_MAX)} dollars")
    return amount


def _not_zero(value: Nanos) -> Nanos:
    if value == 0:
        raise ValueError("the amount must not be zero: above it credit comes back, below it more is charged")
    return value


def _above_zero(value: Nanos) -> Nanos:
    if value <= 0:
        raise ValueError("the amount must be above zero")
    return value


def _future_ms(value: Any, info: ValidationInfo) -> int:
    """A time with its offset, in the future, as ms since the epoch."""
    moment = _time_ms(value)
    if moment <= Setting.of(info).now_ms:
        raise ValueError(_OVER)
    return moment


def _future_once_ms(value: Any, info: ValidationInfo) -> int:
    """The same, but for a repeat: the ledger knows whether it is one, and refuses what is over otherwise."""
    return _time_ms(value) if Setting.of(info).named else _future_ms(value, info)


def _time_ms(value: Any) -> int:
    """A time with its offset, as ms since the epoch."""
    wrong = 'a time is a string with its offset, like "2027-01-31T00:00:00Z"'
    if not isinstance(value, str):
        raise ValueError(wrong)  # noqa: TRY004 - for pydantic
    try:
        when = datetime.fromisoformat(value[:40])
    except ValueError:
        raise ValueError(wrong) from None
    if when.tzinfo is None:
        raise ValueError(wrong)
    return (when - _EPOCH) // timedelta(milliseconds=1)


def _overrides(value: Any, info: ValidationInfo) -> dict[str, str | None]:
    """By name, as they are kept; None takes one away."""
    if not isinstance(value, dict) or len(value) > _OVERRIDES_MAX:
        raise ValueError(f"overrides are an object of at most {_OVERRIDES_MAX} names")
    products = Setting.of(info).runtime.products
    wrong: list[str] = []
    found: dict[str, str | None] = {}
    for name, given in value.items():
        try:
            found[name] = _override(name, given, products)
        except ValueError as error:
            wrong.append(f"{name[:100]}: {error}")
    if wrong:
        raise ValueError("; ".join(wrong[:10]))
    return found


def _override(name: str, given: Any, products: Mapping[str, Product]) -> str | None:
    product, dot, limit = name.rpartition(".")
    if product not in products if dot else limit not in overrides.OF_ACCOUNT:
        raise ValueError(
            f"there is no such override; there are: {', '.join(overrides.OF_ACCOUNT)}, and of each product "
            f"(like {min(products, default='product')}.concurrency): {', '.join(overrides.OF_PRODUCT)}"
        )
    if dot and limit not in overrides.OF_PRODUCT:
        raise ValueError(f"of a product there are: {', '.join(overrides.OF_PRODUCT)}")
    if given is None:
        return None
    text = overrides.written(name, given)
    if not dot and limit == "region":
        regions = {place.region for each in products.values() for place in each.upstream.places} - {""}
        _named(text, "region", regions)
    if dot and limit in ("queued_max", "when_negative") and not products[product].queues:
        raise ValueError(f"{product} has no jobs with a queue")
    if dot and limit == "models" and text != "all":
        models = products[product].models
        if models is None:
            raise ValueError(f"{product} has no models")
        for model in text.split(","):
            _named(model, "model", models.known)
    return text


def _id(value: str) -> str:
    if not is_id(value):
        raise ValueError("an id has 1 to 63 of a-z, 0-9, _ and -, and begins with a letter or a digit")
    return value


def _secret(value: str) -> str:
    if not _SECRET.fullmatch(value):
        raise ValueError("a secret has 16 to 200 printable ASCII characters and no spaces")
    if not may_be_secret(value):
        raise ValueError("a secret that begins like those made here has their checksum")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("only printable characters")
    return value


def is_id(text: str) -> bool:
    """Whether this can be the id of an account or a key."""
    return _ID.fullmatch(text) is not None


_DOLLARS: Final = WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,7}(\.[0-9]{1,9})?$", "examples": ["12.50"]})
_SIGNED: Final = WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]{1,7}(\.[0-9]{1,9})?$", "examples": ["-0.25"]})
_MOMENT: Final = WithJsonSchema({"type": "string", "format": "date-time"})
_OVERRIDES: Final = WithJsonSchema(
    {
        "type": "object",
        "maxProperties": _OVERRIDES_MAX,
        "additionalProperties": {
            "anyOf": [
                *({"type": kind} for kind in ("string", "integer", "boolean", "null")),
                {"type": "array", "items": {"type": "string"}},
            ]
        },
        "examples": [{"overdraft": "500", "speech-to-text.concurrency": 400}],
    }
)
_AN_ID: Final = WithJsonSchema({"type": "string", "pattern": f"^{ID_PATTERN}$"})

Word = Annotated[str, Field(max_length=100)]
Id = Annotated[Word, AfterValidator(_id), _AN_ID]
TierName = Annotated[Word, AfterValidator(_tier)]
RateCardName = Annotated[Word, AfterValidator(_rate_card)]
Products = Annotated[list[Annotated[Word, AfterValidator(_product)]], Field(min_length=1, max_length=100)]
Usd = Annotated[Nanos, BeforeValidator(_usd), _DOLLARS]
UsdAboveZero = Annotated[Usd, AfterValidator(_above_zero)]
UsdNotZero = Annotated[Nanos, BeforeValidator(_signed_usd), AfterValidator(_not_zero), _SIGNED]
Overrides = Annotated[dict[str, str | None], BeforeValidator(_overrides), _OVERRIDES]
FutureOnceMs = Annotated[int, BeforeValidator(_future_once_ms), _MOMENT]
Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Day = Annotated[str, Field(max_length=10)]
Billing = Literal["manage", "read", "none"]
Secret = Annotated[str, AfterValidator(_secret)]
Project = Annotated[Word, AfterValidator(_printable)]
Note = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
Given = Field(min_length=1)
