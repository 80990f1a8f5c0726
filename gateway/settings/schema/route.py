"""`routes[]`: one thing that clients may do."""

from typing import Any, Literal

from gateway.settings.schema.base import Asked, AskedAll, Filled, Flag, InBody, Name, Settings, Texts, Told, Whole, key
from gateway.settings.schema.errors import WordingSettings
from gateway.settings.schema.metering import ChargeSettings, HoldSettings, MeasureSettings, SampleSettings
from gateway.settings.schema.session import MintSettings, SessionSettings
from gateway.settings.schema.stream import StreamSettings

BODY_BYTES_MAX = 10 * 1024**3
KEEP_SECONDS_MAX = 10 * 366 * 86400


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
