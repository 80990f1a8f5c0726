"""What may be asked of the accounts' administration: one model per request, checked whole, every problem told at once.

Owns: the fields, their bounds and their reading (decimal dollars, times); the names that the config knows.
Does not know: HTTP, the command line (both read their input here), the ledger.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails

from gateway.core import overrides
from gateway.core.errors import Code, GatewayError
from gateway.core.money import BALANCE_MAX, Nanos, format_usd, parse_usd
from gateway.edge.keys import may_be_secret
from gateway.ports import AccountStatus
from gateway.settings.products import Product
from gateway.settings.runtime import Runtime

ID_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,62}"
PAGE_ITEMS_MAX: Final = 1000
PAGE_ITEMS_DEFAULT: Final = 100
_ID: Final = re.compile(ID_PATTERN)
_SECRET: Final = re.compile(r"[\x21-\x7e]{16,200}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[A-Za-z0-9_.:~+/=-]{1,128}")
_OVERRIDES_MAX: Final = 100
_OVER: Final = "this time is over"
#: What people get wrong in forms too, in words of ours.
_SAID: Final = {
    "int_type": "it must be a whole number",
    "greater_than_equal": "it must be at least {ge}",
    "less_than_equal": "it must be at most {le}",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with what was asked. `pointer` is the JSON pointer of the field, "" for the whole."""

    pointer: str
    detail: str


class Invalid(GatewayError):
    """What was asked cannot be read; `problems` has everything that is wrong. No input that may be secret is in it."""

    code = Code.INVALID_REQUEST

    def __init__(self, problems: Iterable[Problem], *, malformed: bool = False) -> None:
        self.problems = tuple(problems)
        self.malformed = malformed  # no JSON at all
        super().__init__("; ".join(f"{p.pointer}: {p.detail}" if p.pointer else p.detail for p in self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the checks look at beside the input: the config, and the time (ms).

    `named`: it may be the repeat of a request, whose times were to come when it was made first.
    """

    runtime: Runtime
    now_ms: int
    named: bool = False


def _setting(info: ValidationInfo) -> Setting:
    assert isinstance(info.context, Setting)
    return info.context


def _named(value: str, what: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if value not in names:
        raise ValueError(f"there is no {what} {value!r}; there are: {', '.join(names)}")
    return value


def rate_cards(runtime: Runtime) -> frozenset[str]:
    """The names of the rate cards that the price list has."""
    return frozenset(card for _, card in runtime.prices.tables)


def _tier(value: str, info: ValidationInfo) -> str:
    return _named(value, "tier", _setting(info).runtime.tiers)


def _rate_card(value: str, info: ValidationInfo) -> str:
    return _named(value, "rate card", rate_cards(_setting(info).runtime))


def _product(value: str, info: ValidationInfo) -> str:
    return _named(value, "product", _setting(info).runtime.products)


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
    if moment <= _setting(info).now_ms:
        raise ValueError(_OVER)
    return moment


def _future_once_ms(value: Any, info: ValidationInfo) -> int:
    """The same, but for a repeat: the ledger knows whether it is one, and refuses what is over otherwise."""
    return _time_ms(value) if _setting(info).named else _future_ms(value, info)


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
    products = _setting(info).runtime.products
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
FutureMs = Annotated[int, BeforeValidator(_future_ms), _MOMENT]
FutureOnceMs = Annotated[int, BeforeValidator(_future_once_ms), _MOMENT]
Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Day = Annotated[str, Field(max_length=10)]
Billing = Literal["manage", "read", "none"]
Project = Annotated[Word, AfterValidator(_printable)]
Note = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
Given = Field(min_length=1)


class Body(BaseModel):
    """A request. Fields that it does not have are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    @classmethod
    def may_be_left_out(cls) -> bool:
        """Whether it has to say nothing."""
        return not any(field.is_required() for field in cls.model_fields.values())


class Change(Body):
    """A request to change what it names, and only that. Null is a value: it takes a limit or a rate card away."""

    @classmethod
    def may_be_left_out(cls) -> bool:
        """It has to name something."""
        return False

    @model_validator(mode="after")
    def _names_something(self) -> "Change":
        if not self.model_fields_set:
            raise ValueError(f"name at least one of: {', '.join(type(self).model_fields)}")
        return self


class OpenAccount(Body):
    """A new account. Without a tier it gets the config's default one; without a rate card, its tier's."""

    id: Id
    tier: TierName | None = None
    rate_card: RateCardName | None = None


class ChangeAccount(Change):
    """Another tier, rate card (null: the tier's) or status; overrides of its tier (null: as the tier has it)."""

    tier: TierName = ""
    rate_card: RateCardName | None = None
    status: AccountStatus = "active"
    overrides: Overrides = Field(default_factory=dict)


class AddKey(Body):
    """A new key. Without an id and a secret it is given them."""

    id: Id | None = None
    name: Name = ""
    project: Project = ""
    secret: Annotated[str, AfterValidator(_secret)] | None = Field(default=None, repr=False)
    expires_at: FutureMs | None = None
    products: Products | None = None
    monthly_budget: Usd | None = None
    billing: Billing = "manage"


class ChangeKey(Change):
    """Other facts of a key. Null takes away the expiry, the allow-list of products, the monthly budget."""

    name: Name = ""
    project: Project = ""
    disabled: bool = False
    expires_at: FutureMs | None = None
    products: Products | None = None
    monthly_budget: Usd | None = None
    billing: Billing = "manage"


class SettleJob(Body):
    """How to end a job. `charge_hold`: one that is not over costs its hold."""

    charge_hold: bool = False


class GiveGrant(Body):
    """Credit to give. Lower priorities burn first."""

    kind: Literal["signup", "purchase", "promotion", "goodwill"]
    amount: UsdAboveZero
    priority: Annotated[int, Field(ge=0, le=1000)] = 50
    expires_at: FutureOnceMs | None = None
    note: Note = ""


class Refund(Body):
    """A charge to give back, by its entry: how much (null: all that is left of it), and why."""

    entry: Annotated[Word, Given]
    amount: UsdAboveZero | None = None
    reason: Annotated[Note, Given]


class PriceDryRun(Body):
    """Charges to price again: whose, of which days (UTC; default: the last thirty), by which file (YAML).

    Each as the rate card that it was charged by, or all as `rate_card`.
    """

    account: Id
    prices: Annotated[str, Field(min_length=1, max_length=60_000)]
    since: Day = ""
    until: Day = ""
    rate_card: Word | None = None


class RotateKey(Body):
    """A new key in the place of one, which is good until then (null: it ends now). `expires_at` is the new one's."""

    old_until: FutureMs | None = None
    expires_at: FutureMs | None = None


class Correct(Body):
    """A charge to correct: by how much, why, and who says so. `key` is the one whose month moves with it."""

    call_id: Annotated[Name, Given]
    amount: UsdNotZero
    reason: Annotated[Note, Given]
    actor: Annotated[Name, Given]
    key: Id | None = None


Model = TypeVar("Model", bound=Body)


def read_body(model: type[Model], raw: bytes, setting: Setting) -> Model:
    """The request in the JSON text. Raises Invalid with everything that is wrong."""
    try:
        return model.model_validate_json(raw, context=setting)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems = [Problem(_pointer(d["loc"]), _detail(d)) for d in details]
        raise Invalid(problems, malformed=details[0]["type"] == "json_invalid") from None


def read_page(after: str, limit: str) -> tuple[str, int]:
    """Where a page begins and how many items it has. Raises Invalid."""
    problems = []
    if len(after) > 200:
        problems.append(Problem("after", "this is not an id of ours"))
    if not re.fullmatch(r"\d{1,4}", limit, re.ASCII) or not 1 <= int(limit) <= PAGE_ITEMS_MAX:
        problems.append(Problem("limit", f"a page has 1 to {PAGE_ITEMS_MAX} items"))
    if problems:
        raise Invalid(problems)
    return after, int(limit)


def read_idempotency_key(text: str) -> str:
    """The key without the quotes that the header's draft standard puts around it. Raises Invalid."""
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not _IDEMPOTENCY_KEY.fullmatch(bare):
        raise Invalid([Problem("Idempotency-Key", "1 to 128 letters, digits and _ . : ~ + / = -, best a UUID")])
    return bare


def _detail(error: ErrorDetails) -> str:
    said = _SAID.get(error["type"], "").format_map(error.get("ctx", {}))
    return said or error["msg"].removeprefix("Value error, ")


def _pointer(location: tuple[int | str, ...]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location)
