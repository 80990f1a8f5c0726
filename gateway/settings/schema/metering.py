"""`usage`, `charges`, `hold`, `sample`: what a call or a job costs, and what to expect."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from gateway.settings.schema.base import (
    AskedAllFields,
    AskedFields,
    ExpectedFields,
    Fields,
    Filled,
    Flag,
    Money,
    Name,
    Names,
    Settings,
    Sku,
    Texts,
    Whole,
    key,
)


def _all(value: Any) -> Any:
    return {"any": value} if isinstance(value, str | list) else value


class EstimateSettings(Settings):
    """How much to expect before anything is known: the first of what is given."""

    fields: ExpectedFields = key(
        "Fields that say it, of which the largest counts, zero says nothing, and what is no quantity is `max`: of the "
        "request, or `resource.seconds` and `resource.channels` of an upload that it names",
        default=list, alias="from", shown="none",
    )  # fmt: skip
    size: ExpectedFields = key(
        "Field that says how many bytes the audio has: `resource.bytes`", default=list, alias="bytes", shown="none"
    )
    bytes_per_unit_min: Whole | None = key(
        "Lowest plausible rate: where `from` says nothing, the quantity is `bytes` divided by it, rounding up",
        default=None, unit="bytes per unit", ge=1, le=10**9, shown="none",
    )  # fmt: skip
    bytes_per_unit_max: Whole | None = key(
        "Highest plausible rate: `from` counts as no less than `bytes` divided by it",
        default=None, unit="bytes per unit", ge=1, le=10**9, shown="none",
    )  # fmt: skip
    when: ExpectedFields = key(
        "Fields of the request, or `part.NAME`: the first given must be on; else the measure's `default` counts",
        default=list, shown="always",
    )  # fmt: skip
    request_bytes_per_unit: Whole | None = key(
        "The body's length, or `body_bytes_max` where nobody says it, is divided by it, rounding up",
        default=None,
        unit="bytes per unit",
        ge=1,
        le=10**9,
        shown="none",
    )
    content_bytes_per_unit: Whole | None = key(
        "Where usage is not reported (`charge_estimate`), the delivered content's length is divided by it, rounding up",
        default=None,
        unit="bytes per unit",
        ge=1,
        le=10**9,
        shown="none",
    )
    default: Whole | None = key(
        "Quantity where nothing says it",
        default=None,
        unit="the measure's",
        ge=0,
        le=10**12,
        shown="the measure's default",
    )
    plus: ExpectedFields = key("Fields that come on top of it", default=list, shown="none")
    parts: dict[Filled, Whole] = key(
        "So much for each part of the request (see below) comes on top of it, by the part's name",
        default=dict, unit="the measure's", shown="none",
    )  # fmt: skip
    data: AskedAllFields = key(
        "Where parts of the request stand whose data does not count by its bytes, as `request.messages.*.content.*`",
        default=list, shown="none",
    )  # fmt: skip
    min: Whole | None = key(
        "It is no less than that, whatever a request says", default=None, unit="the measure's", ge=0, le=10**12,
        shown="none",
    )  # fmt: skip
    max: Whole | None = key(
        "Most that a request may claim of each", default=None, unit="the measure's", ge=0, le=10**12, shown="none"
    )
    times: AskedFields = key("Fields of the request that multiply it (how many answers)", default=list, shown="none")


class MeasureSettings(Settings):
    """Where one quantity comes from."""

    fields: Fields = key(
        "Fields that report it; the first one reported counts", default=list, alias="from", shown="none, with `clock`"
    )
    clock: Flag = key("Of a session: the seconds that it was open, until a field reports it", default=False)
    count: Literal["value", "characters", "bytes", "items"] = key(
        "The field's `value`, or the number of its `characters`, `bytes` or `items`", default="value"
    )
    default: Whole | None = key(
        "Quantity where nothing is reported; without, the usage is then unknown",
        default=None, unit="the measure's", ge=0, le=10**12, shown="none",
    )  # fmt: skip
    min: Whole | None = key(
        "A report of less counts as so much: `1` for what multiplies a price and is never none, as channels",
        default=None, unit="the measure's", ge=0, le=10**12, shown="`0`",
    )  # fmt: skip
    max: Whole | None = key(
        "A report of more counts as none",
        default=None, unit="the measure's", ge=1, le=10**15, shown="`1000000000000000`",
    )  # fmt: skip
    estimate: EstimateSettings | None = key(
        "What to expect before the call is forwarded", default=None, shown="the measure's default"
    )


class ConditionSettings(Settings):
    """When a charge applies. Short: a field, or a list of fields."""

    fields: Fields = key("Fields; the first one reported decides", alias="any", min_length=1)
    equals: Texts = key(
        "Values that mean on; without, everything but null, false, zero and empty", default=list, shown="on"
    )
    also: "Condition | None" = key("Another condition that must hold as well", default=None, shown="none")
    unless: "Condition | None" = key(
        "Another condition that must not hold: that the reply says that it failed", default=None, shown="none"
    )


Condition = Annotated[ConditionSettings, BeforeValidator(_all)]


class ChargeSettings(Settings):
    """One line of a charge."""

    sku: Sku = key("SKU of the price list; `{model}` stands for the model that ran")
    fallback_sku: Sku | None = key("SKU where the first has no price", default=None, shown="none")
    quantity: Name = key("Measure that is charged", default="calls")
    times: Name | None = key("Measure that multiplies it", default=None, shown="none")
    minus: Names = key("Measures that other lines charge already", default=list, shown="none")
    when: Condition | None = key("When the line applies", default=None, shown="always")
    only_models: Names = key("Names in SKUs of the models that it applies to", default=list, shown="all")
    not_models: Names = key("Names in SKUs of the models that it does not apply to", default=list, shown="none")
    part_of: Name | None = key(
        "Product that the add-on belongs to: a tier must have it too", default=None, shown="this one"
    )


class HoldSettings(Settings):
    """How much credit is set aside."""

    fixed: Money = key("The same for every call", unit="dollars")


class SampleSettings(Settings):
    """A call with its charge at list prices, tried when the config is read."""

    request: Any = key("Body of the request", default=None, shown="none")
    request_headers: dict[str, str] = key("Headers of the request", default=dict, shown="none")
    query: dict[str, str] = key("Query of the request", default=dict, shown="none")
    path: dict[str, str] = key("Parameters of the path", default=dict, shown="none")
    reply: Any = key("Body of the reply; of a job, when it is completed", default=None, shown="none")
    reply_headers: dict[str, str] = key("Headers of the reply", default=dict, shown="none")
    job: dict[str, Any] = key("Record of the job that the price depends on", default=dict, shown="none")
    usage: dict[Name, Whole] = key("Quantities that are reported (meter reported)", default=dict, shown="none")
    frame: Any = key("Fields of a session's frames, over one another", default=None, shown="none")
    charge: Money = key("What the call costs", unit="dollars")
    version: Filled | None = key("Version of the price list", default=None, shown="the first")
