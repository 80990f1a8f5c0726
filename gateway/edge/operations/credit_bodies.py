"""What may be asked of the credit API: one model per request, checked whole, every problem told at once.

Owns: the fields, their bounds and their reading. Does not know: HTTP, holds, the ledger.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.core.usage import QUANTITY_MAX, Quantity, quantity
from gateway.edge.operations.bodies import Body
from gateway.edge.operations.fields import Id, Usd, Word

MEASURES_MAX: Final = 50
FIELDS_MAX: Final = 200


def _quantities(value: Any) -> Mapping[str, Quantity]:
    """Quantities by the names of measures: numbers, or decimals as text."""
    if not isinstance(value, dict) or len(value) > MEASURES_MAX:
        raise ValueError(f"an object of at most {MEASURES_MAX} measures, each with a number")
    found: dict[str, Quantity] = {}
    for name, given in value.items():
        read = None if isinstance(given, bool) else quantity(given)
        if read is None:
            raise ValueError(
                f"{name[:100]}: a quantity is a number from 0 to {QUANTITY_MAX}, or such a decimal as text"
            )
        found[name] = read
    return found


def _fields(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or len(value) > FIELDS_MAX:
        raise ValueError(f"a JSON object of at most {FIELDS_MAX} fields")
    return value


_QUANTITIES: Final = WithJsonSchema(
    {
        "type": "object",
        "maxProperties": MEASURES_MAX,
        "additionalProperties": {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": QUANTITY_MAX},
                {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,30})?$"},
            ]
        },
        "examples": [{"audio_seconds": 1800}],
    }
)
_FIELDS: Final = WithJsonSchema({"type": "object", "maxProperties": FIELDS_MAX})
Quantities = Annotated[Mapping[str, Quantity], BeforeValidator(_quantities), _QUANTITIES]
Fields = Annotated[Mapping[str, Any], BeforeValidator(_fields), _FIELDS]
Seconds = Annotated[int, Field(ge=1, le=30 * 86400)]


class OpenHold(Body):
    """Who pays, for what, and what it may cost: `estimate` in quantities by measure or as an `amount`, else as the
    route expects it of the `request`.

    An `account` pays by its `key`, which need not be named where it has only one; or by whom the `api_key` is.
    """

    account: Id | None = None
    key: Id | None = None
    api_key: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(default=None, repr=False)
    product: Word | None = None
    route: Word | None = None
    estimate: Quantities | None = None
    amount: Usd | None = None
    request: Fields | None = None
    seconds: Seconds | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> "OpenHold":
        if (self.account is None) == (self.api_key is None):
            raise ValueError("name either the account or the api_key of the one who pays")
        if self.key is not None and self.account is None:
            raise ValueError("a key is named with its account")
        if (self.product is None) == (self.route is None):
            raise ValueError("name either the route, or a product that has one paid route")
        if self.estimate is not None and self.amount is not None:
            raise ValueError("give either an estimate or an amount")
        return self


class SettleHold(Body):
    """What it came to: the `amount`, or the `usage` by measure, or the service's `reply`, which says it."""

    amount: Usd | None = None
    usage: Quantities | None = None
    reply: Fields | None = None

    @model_validator(mode="after")
    def _one(self) -> "SettleHold":
        if self.amount is not None and not (self.usage is None and self.reply is None):
            raise ValueError("give either an amount, or usage and reply")
        return self


class NextHold(Body):
    """What the next slice may cost: quantities by measure, or an `amount`."""

    estimate: Quantities | None = None
    amount: Usd | None = None

    @model_validator(mode="after")
    def _one(self) -> "NextHold":
        if (self.estimate is None) == (self.amount is None):
            raise ValueError("give either an estimate or an amount")
        return self


class RenewHold(Body):
    """For how long the hold is to live from now. Or, with what was `used` of it: charge that, and hold what is said of
    the `next` slice for so long, else as much as this one held.
    """

    seconds: Seconds | None = None
    used: SettleHold | None = None
    next: NextHold | None = None

    @model_validator(mode="after")
    def _next_of_used(self) -> "RenewHold":
        if self.next is not None and self.used is None:
            raise ValueError("say what was used before the next is held")
        return self


class ReleaseHold(Body):
    """Nothing more is to be said."""
