"""`config/products/*.yaml`: one product each: upstream, dialect, models, jobs, routes, meters and charges."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from gateway.settings.schema.base import (
    Asked,
    AskedAll,
    AskedAllFields,
    AskedFields,
    ExpectedFields,
    Fields,
    Filled,
    Flag,
    InBody,
    InBodyAll,
    Money,
    Name,
    Names,
    Seconds,
    Settings,
    Sku,
    Texts,
    Told,
    Whole,
    key,
)
from gateway.settings.schema.callback import CallbackSettings
from gateway.settings.schema.queue import QueueSettings
from gateway.settings.schema.session import MintSettings, SessionSettings
from gateway.settings.schema.stream import StreamSettings

BODY_BYTES_MAX = 10 * 1024**3
KEEP_SECONDS_MAX = 10 * 366 * 86400


def _all(value: Any) -> Any:
    return {"any": value} if isinstance(value, str | list) else value


def _refuse(value: Any) -> Any:
    return {} if value == "refuse" else value


# ---- the dialect


class WordingSettings(Settings):
    """How one code is worded; what is left out is as for every code."""

    status: Whole | None = key("HTTP status", default=None, ge=400, le=599, shown="the code's own")
    message: Filled | None = key(
        "Sentence for people; `{name}` is filled from the refusal's details", default=None, shown="the code's own"
    )
    body: Any = key("Body in place of the dialect's", default=None, shown="the dialect's")


class ErrorsSettings(Settings):
    """A dialect of refusals."""

    body: Any = key("JSON body; `{message}`, `{code}`, `{status}` and `{call_id}` are filled")
    codes: dict[str, WordingSettings] = key("Single codes that are worded differently", default=dict, shown="none")


# ---- models


class ModelsSettings(Settings):
    """The models of a product."""

    asked: AskedAllFields = key("Fields that name models in a request; `*` is every element of a list", min_length=1)
    ran: Fields = key("Fields that name the model that ran; the first one reported counts", min_length=1)
    default: Filled = key("Model that runs where a request names none")
    unknown: Name = key("Name in SKUs that a model is charged as which ran and is not known")
    dated: Flag = key(
        "A name that ran with a date behind it (`-2026-01-31`, `-20260131`) is the name without", default=False
    )
    known: dict[Filled, Name] = key("The models: name in requests to name in SKUs", min_length=1)


# ---- usage and charges


class EstimateSettings(Settings):
    """How much to expect before anything is known: the first of what is given."""

    fields: ExpectedFields = key(
        "Fields that say it, of which the largest counts, and zero says nothing: of the request, or `resource.seconds` "
        "and `resource.channels` of an upload that it names",
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
    when: AskedFields = key(
        "Fields of the request of which the first given must be on; else it is the measure's `default`",
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


class JobSettings(Settings):
    """A resource whose charge comes with its terminal status."""

    id: Told = key("Where the creating reply names it")
    status: InBody = key("Where a reply says how it stands")
    completed: Texts = key("Statuses that settle it", min_length=1)
    failed: Texts = key("Statuses that release its hold", default=list, shown="none")
    content: list[InBodyAll] = key(
        "What counts as its result; name all that clients want. A reply that has some of it settles the job, unless "
        "its status is one of `failed`: a status that is new is no way to a result that nobody paid",
        default=list, shown="none: its status alone settles it",
    )  # fmt: skip
    look: Filled = key("Path at which the gateway itself asks, with `{id}`")
    look_first_seconds: Seconds = key(
        "When the gateway first asks by itself; then after half the job's age each time, and a fifth of jitter",
        default=10.0, unit="seconds", gt=0, le=86400,
    )  # fmt: skip
    look_seconds_max: Seconds = key("Longest pause between two looks", default=300.0, unit="seconds", gt=0, le=86400)
    seconds_max: Whole = key(
        "How long its hold is kept, and the gateway asks", default=86400, unit="seconds", ge=60, le=30 * 86400
    )
    gone_statuses: list[Whole] = key(
        "HTTP statuses that mean that the service does not know it", default=lambda: [404, 410], shown="`[404, 410]`"
    )
    gone_when: Condition | None = key(
        "What another 4xx reply says, where that means the same", default=None, shown="nothing"
    )
    gone_seconds: Whole = key(
        "How long it must be unknown to be gone: a service may learn of it late",
        default=120, unit="seconds", ge=0, le=86400,
    )  # fmt: skip
    gone: Literal["release", "charge_hold"] = key(
        "One that is gone, or not over after seconds_max: `release` gives its credit back, and a result that turns up "
        "all the same is charged then; `charge_hold` charges its hold",
        default="release",
    )
    queue: QueueSettings | None = key("What is said of those that wait for their place", default=None, shown="none")
    callback: CallbackSettings | None = key("How the service calls back when it is over", default=None, shown="none")
    usage: dict[Name, MeasureSettings] = key(
        "The measures, by name; `job.x` is the request's `x`", default=dict, shown="none"
    )
    charges: list[ChargeSettings] = key("The lines of its charge", min_length=1)
    unknown_usage: Literal["charge_hold", "charge_floor", "charge_nothing"] = key(
        "A success that reports no usage: `charge_hold`, `charge_floor` or `charge_nothing`", default="charge_hold"
    )


# ---- routes


class InjectionSettings(Settings):
    """Text of a job that the service itself puts into the request: estimates by the request's size count it."""

    tag: Filled = key("Where it is put: it counts as often as this text stands in the request, and at least once")
    measure: Name = key("Measure of the job that says how much it is; of one that is not settled nothing is known")
    bytes_per_unit: Whole = key("So many bytes for each unit of the measure", unit="bytes per unit", ge=1, le=10**6)


class RequirementSettings(Settings):
    """A resource that must be the caller's."""

    resource: Name = key("Kind of resource")
    id: Asked = key("Where the call names it; where that is absent, nothing is required")
    prefixes: Texts = key(
        "Only values that start with one of them name a resource", default=list, shown="every value does"
    )
    injected: InjectionSettings | None = key(
        "Text of it that the service puts into the request", default=None, shown="none"
    )


class CreationSettings(Settings):
    """A resource without a charge of its own."""

    resource: Name = key("Kind of resource")
    id: Told = key("Where the reply names it")
    keep_seconds: Whole = key(
        "How long the caller owns it; 0: for good", default=0, unit="seconds", ge=0, le=KEEP_SECONDS_MAX
    )
    audio: Flag = key(
        "The request's body is audio, whose duration, channels and bytes are read as it passes, for estimates",
        default=False,
    )


class ListingSettings(Settings):
    """A list of which a caller sees only its own items."""

    resource: Name = key("Kind of resource")
    items: InBody = key("The list in the reply")
    id: Filled = key("An item's id")
    url: Filled | None = key(
        "An item's field with its URL: shown with the gateway's address", default=None, shown="none"
    )
    limit: Filled | None = key("Query parameter: items on a page", default=None, shown="none: everything is shown")
    limit_default: Whole = key("Items on a page where none are asked for", default=10, unit="items", ge=1, le=10_000)
    limit_max: Whole = key("Most items on a page", default=200, unit="items", ge=1, le=10_000)
    before: Filled | None = key(
        "Query parameter: the id that the page starts after", default=None, shown="none: there is one page"
    )
    after: Filled | None = key("Query parameter: the id that the page ends before", default=None, shown="none")
    day: Filled | None = key(
        "Query parameter: the day (UTC) on which the items were made, for jobs that wait",
        default=None,
        shown="none",
    )
    count: InBody | None = key("Field that counts the page's items", default=None, shown="none")
    shown_limit: InBody | None = key("Field that repeats the limit", default=None, shown="none")
    current: InBody | None = key("Field with the page's own URL", default=None, shown="none")
    older: InBody | None = key("Field with the URL of the next older page", default=None, shown="none")
    newer: InBody | None = key("Field with the URL of the next newer page", default=None, shown="none")
    pages_max: Whole = key("Upstream pages read for one call", default=25, unit="pages", ge=1, le=1000)


class RejectionSettings(Settings):
    """Requests that are refused as unsupported."""

    field: AskedAll = key("Field that is looked at; `*` is every element of a list, and a header is each of its items")
    equals: Any = key("Value that is refused", default=None, shown="everything that is on")
    unless: Texts = key(
        "Texts that are not refused; one that ends with `*` is all that begin so", default=list, shown="none"
    )
    part_of: Name | None = key(
        "Product that it belongs to: tiers without that are told so instead", default=None, shown="this one"
    )
    message: Filled = key("Sentence for people")


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


class RouteSettings(Settings):
    """One thing that clients may do."""

    name: Name = key("Name in logs, metrics and entries")
    match: Filled | None = key(
        "`METHOD /path` or `METHOD host/path`; `{name}` is one segment, several methods by commas. Of a product "
        "without an upstream: what forward-auth finds it by",
        default=None, shown="**required** with an upstream",
    )  # fmt: skip
    host: Filled | None = key("Host that it is for", default=None, shown="every host")
    meter: Literal["none", "fixed", "response", "sse", "job", "session", "reported"] = key(
        "`none`: free; `fixed`: per success; `response`: by the reply; `sse`: by the reply, which may be a stream of "
        "events; `job`: by the job's end; `session`: while its socket is open; `reported`: by whoever settles it, of a "
        "product without an upstream",
        default="none",
    )
    public: Flag = key("Needs no key", default=False)
    region: Name | None = key("Region that its calls are bound to, whoever makes them", default=None, shown="none")
    job: Name | None = key("Job that it makes (meter job)", default=None, shown="none")
    reports: Name | None = key("Job whose status the reply is", default=None, shown="none")
    requires: list[RequirementSettings] = key("Resources that must be the caller's", default=list, shown="none")
    creates: CreationSettings | None = key("Resource that it makes", default=None, shown="none")
    session: SessionSettings | None = key("Socket that it opens (meter session)", default=None, shown="none")
    mints: MintSettings | None = key("Temporary tokens that it mints", default=None, shown="none")
    deletes: Name | None = key("Kind of resource that it deletes", default=None, shown="none")
    lists: ListingSettings | None = key("List of resources that the reply is", default=None, shown="none")
    stream: StreamSettings | None = key(
        "Stream of events that the reply may be (meter sse)", default=None, shown="none"
    )
    body: Literal["json", "stream"] | None = key(
        "`json`: read whole and parsed; `stream`: passed on as it comes", default=None,
        shown="json where a field of the request is read, else stream",
    )  # fmt: skip
    body_bytes_max: Whole = key(
        "Size of the request's body", default=10 * 1024 * 1024, unit="bytes", ge=0, le=BODY_BYTES_MAX
    )
    free_fields: list[Filled] | None = key(
        "Request fields (of a session: of its updates) without a price. One that is on, and neither here nor read by a "
        "charge, is refused",
        default=None, shown="all, where no charge depends on the request's flags",
    )  # fmt: skip
    free_parameters: list[Filled] | None = key(
        "Query parameters without a price, alike. A value that is JSON counts as what it says",
        default=None, shown="all, where no charge depends on the query",
    )  # fmt: skip
    rejects: list[RejectionSettings] = key("Requests that are refused as unsupported", default=list, shown="none")
    not_found: WordingSettings | None = key(
        "How it is worded that what the call names is not the caller's: the keys of "
        "[`errors.codes.CODE`](#errorscodescode)",
        default=None,
        shown="as the product words it",
    )
    hold: HoldSettings | None = key("Credit set aside", default=None, shown="the estimated charge")
    admission: Literal["available", "covers_estimate"] = key(
        "`available`: some credit is enough; `covers_estimate`: all of the estimate must be there", default="available"
    )
    usage: dict[Name, MeasureSettings] = key("The measures, by name", default=dict, shown="none")
    charges: list[ChargeSettings] = key("The lines of the charge", default=list, shown="none")
    unknown_usage: Literal["charge_hold", "charge_floor", "charge_estimate", "charge_nothing"] = key(
        "A success that reports no usage: `charge_hold`, `charge_floor`, `charge_estimate` or `charge_nothing`",
        default="charge_hold",
    )
    sample: SampleSettings | None = key("A call with its charge", default=None, shown="none")


class LedgerAwaySettings(Settings):
    """What is served while the ledger is away."""

    allow_up_to: Money | None = key("Per account and worker", default=None, unit="dollars", shown="nothing: `refuse`")
    in_all: Money | None = key(
        "Per worker, for all accounts together", default=None, unit="dollars", shown="100 times `allow_up_to`"
    )


class ProductSettings(Settings):
    """A product."""

    product: Name = key("Name in tiers, entries and metrics")
    title: Filled = key("Name for people")
    upstream: Name | None = key(
        "Service of `gateway.yaml` that calls are forwarded to", default=None,
        shown="none: the product is used over the credit API and forward-auth alone",
    )  # fmt: skip
    errors: ErrorsSettings = key("The dialect of refusals")
    models: ModelsSettings | None = key("The models", default=None, shown="none")
    strip_reply_fields: list[Filled] = key("Fields removed from JSON replies, at any depth", default=list, shown="none")
    refuses_us_when: Condition | None = key(
        "When a refusal (4xx) is of our own account at the service, beside 401 and 402: customers are told that the "
        "service cannot be reached, operators that it is us (`credential_refused`)",
        default=None, shown="never",
    )  # fmt: skip
    on_ledger_unavailable: Annotated[LedgerAwaySettings, BeforeValidator(_refuse)] = key(
        '`refuse`, or `{allow_up_to: "0.50"}` while the ledger is away', default=LedgerAwaySettings, shown="refuse"
    )
    on_unsettled: Literal["release", "charge_hold"] = key(
        "A hold of the credit API or of forward-auth that nobody ends in time: `release` gives it back, so that what "
        "was done is free unless it is settled later; `charge_hold` charges it",
        default="release",
    )
    metered_body_bytes_max: Whole = key(
        "Copy of a reply that is kept for metering", default=32 * 1024**2, unit="bytes", ge=1024, le=1024**3
    )
    whole_body_bytes_max: Whole = key(
        "Replies up to this size are answered whole, with the charge in a header",
        default=256 * 1024,
        unit="bytes",
        ge=0,
        le=1024**3,
    )
    drain_seconds_max: Seconds = key(
        "How long a reply is read on after the client left", default=60.0, unit="seconds", ge=0, le=3600
    )
    drain_bytes_max: Whole = key(
        "How much of a reply is read on after the client left", default=16 * 1024**2, unit="bytes", ge=0, le=1024**3
    )
    jobs: dict[Name, JobSettings] = key("Jobs, by kind of resource", default=dict, shown="none")
    routes: list[RouteSettings] = key("The routes", min_length=1)
