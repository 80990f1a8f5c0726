"""The compiled settings: everything that the path of a call looks at, frozen.

Owns: the shape of compiled products, routes, tiers and prices, and the look-ups on them.
Does not know: YAML, files, or how any of it was checked (see `load`).
"""

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from multidict import MultiMapping

from gateway.core.admission import Concurrency, Rate
from gateway.core.errors import Code
from gateway.core.extract import Field, Sources, first_reported
from gateway.core.money import Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.pricing import ChargeRule, Condition, PriceTable, expected_rules
from gateway.core.upstreams import Upstream
from gateway.core.usage import Measure, never_expected
from gateway.settings.exports import Exports
from gateway.settings.origins import Origins
from gateway.settings.payments import Payments
from gateway.settings.tls import Tls
from gateway.settings.tracing import Tracing

#: What services put behind a model's name: `-20260131`, `-2026-01-31`.
_DATE: Final = re.compile(r"-[0-9]{4}(-?)[0-9]{2}\1[0-9]{2}$")

#: A field's name that JSON writes as it is, or with escapes that begin with `\u00`.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")

MeterKind = Literal["none", "fixed", "response", "sse", "job", "session", "reported"]
UnknownUsage = Literal["charge_hold", "charge_floor", "charge_estimate", "charge_nothing"]


#: Of a product that is not forwarded anywhere: its calls are told over the credit API, or by forward-auth.
NO_UPSTREAM: Final = Upstream(name="", base_url="", credential="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorWording:
    """How a product words one code: any part that is None is the default's."""

    status: int | None = None
    message: str | None = None
    body: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStyle:
    """A product's dialect. `body` is JSON data in which "{message}", "{code}", "{status}" and "{call_id}" are filled.

    A string that is exactly "{status}" becomes the number. `codes` words single codes differently.
    """

    body: Any
    codes: Mapping[Code, ErrorWording] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of a product. `known`: name as clients write it -> name in SKUs.

    `asked` reads every model that a request names, `ran` the one that answered; `default` runs where none is named;
    `unknown` is the SKU name that a model is charged as which ran and is not known (never free). `dated`: a name that
    ran with a date behind it is the name without.
    """

    asked: tuple[Field, ...]
    ran: tuple[Field, ...]
    default: str
    unknown: str
    known: Mapping[str, str]
    dated: bool = False
    #: Where `asked` begins with a field at the top of the request: its name, and those under which the others are.
    first: str = field(init=False, default="")
    others: frozenset[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.asked and len(self.asked[0].steps) == 1 and all(each.source == "request" for each in self.asked):
            first, *others = (str(each.steps[0]) for each in self.asked)
            object.__setattr__(self, "first", first)
            object.__setattr__(self, "others", frozenset(others))

    def charged_as(self, ran: Any) -> tuple[str, bool]:
        """The name in SKUs of the model that ran, by what the reply says (None: nothing), and whether it is known.

        One that is not is charged as `unknown`, maybe too much.
        """
        if ran is None:
            return self.known[self.default], True
        found = self.found(ran)
        return (self.unknown, False) if found is None else (found, True)

    def found(self, ran: Any) -> str | None:
        """The name in SKUs of a model that is known."""
        if type(ran) is not str:
            return None
        name = self.known.get(ran)
        return self.known.get(_DATE.sub("", ran)) if name is None and self.dated else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A resource that must belong to the caller. Where the field is absent or null, nothing is required.

    With `prefixes`, only values that start with one of them name a resource; others are no business of ours.
    """

    kind: str
    field: Field
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A resource that a successful reply names, without a charge of its own (an upload). 0: kept for good.

    `audio`: the request's body is audio, of which is kept how long it is.
    """

    kind: str
    field: Field
    keep_seconds: int
    audio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list of which a caller sees only its own items: pages of the upstream are read until the page is full.

    `items` is the list in the reply and `id` the item's id. `limit`, `before` and `after` are the query parameters of
    paging; without `limit` all items are shown, without `before` there is one page. `count` is the field that says how
    many items the page has, `shown_limit` the one that repeats the limit. `older` holds the URL that leads on;
    `current` and `newer` are rebuilt or nulled. `pages_max` bounds the upstream pages read for one call.
    """

    kind: str
    items: Field
    id: str
    limit: str | None
    limit_default: int
    limit_max: int
    before: str | None
    after: str | None
    count: Field | None
    shown_limit: Field | None
    current: Field | None
    older: Field | None
    newer: Field | None
    pages_max: int

    @property
    def anchors(self) -> tuple[str, ...]:
        """The query parameters that name an item to page on from."""
        return tuple(name for name in (self.before, self.after) if name is not None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metering:
    """How usage is read and priced. `unknown_usage` answers "success, but no usage".

    `expected_rules` are the rules as far as estimates go: without the lines of which nothing is ever expected.
    `counted`: measures that count something of the request. What cannot be counted has no price.
    """

    measures: tuple[Measure, ...]
    rules: tuple[ChargeRule, ...]
    unknown_usage: UnknownUsage = "charge_hold"
    reads_reply: bool = True  # some measure, rule or model is read from the reply's body
    expected_rules: tuple[ChargeRule, ...] = field(init=False, repr=False, compare=False)
    counted: tuple[Measure, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counted = (each for each in self.measures if each.count != "value" and each.known_before)
        object.__setattr__(self, "counted", tuple(counted))
        object.__setattr__(self, "expected_rules", expected_rules(self.rules, never_expected(self.measures)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A reply that may be a stream of events (meter sse). Of an event, `reply.x` is the field `x` of its data.

    A request in which `when` is on asks for a stream: `asks` are set in its forwarded body, each by its path. For a
    client that did not say all of them itself, events that report `drops_has`, and `drops_lacks` not or empty, are
    taken out. `end` is the data of the last event. An event that reports one of `errors`, or whose type is error, says
    that the service failed. `content`: texts that count as delivered (none: all of an event's data), with
    `counts_content` to the byte. `reads`: fields at the top of an event that are kept, each as the last event says it.
    """

    when: Field
    asks: tuple[tuple[tuple[str, ...], Any], ...] = ()
    drops_has: Field | None = None
    drops_lacks: Field | None = None
    end: bytes | None = None
    errors: tuple[Field, ...] = ()
    content: tuple[Field, ...] = ()
    counts_content: bool = False
    reads: frozenset[str] = frozenset()
    event_bytes_max: int = 1024 * 1024
    charge_comment: bool = False
    #: The fields at the top of an event that tell more of it than its size; None where any may.
    looks_at: frozenset[str] | None = field(init=False, repr=False, compare=False)
    #: The fields at the top of an event that are looked at or kept. What finds bytes that may be one of them, with a
    #: value, or that may hide one; None where that is not to be told from bytes.
    told: frozenset[str] = field(init=False, repr=False, compare=False)
    tells: re.Pattern[bytes] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = [*self.errors] if self.drops_has is None else [*self.errors, self.drops_has]
        elsewhere = (self.content and self.counts_content) or any(each.source != "reply" for each in fields)
        names = None if elsewhere else frozenset(str(each.steps[0]) for each in fields)
        told = (names or frozenset()) | self.reads
        tells = None
        if names is not None and all(map(_PLAIN_NAME.fullmatch, told)):
            either = "|".join(sorted(told)).encode()
            tells = re.compile(rb'[\n\r\x00]|\\u00|"(?:%b)"(?!\s*:\s*null)' % either)
        object.__setattr__(self, "looks_at", names)
        object.__setattr__(self, "told", told)
        object.__setattr__(self, "tells", tells)

    def passes_over(self, event: Mapping[str, Any]) -> bool:
        """Whether an event has none of the fields that say that the service failed, or that it is to be taken out."""
        return self.looks_at is not None and self.looks_at.isdisjoint(event)

    def told_nothing(self, event: Mapping[str, Any]) -> bool:
        """Whether none of these fields has a value."""
        return self.looks_at is not None and all(event.get(name) is None for name in self.looks_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """How a service calls back when a job is over: names of fields of the request, of replies, and of its body.

    `url`, `header_name` and `header_value` are what a client gives; replies repeat the first two, and say in
    `has_header` whether there is a header, in `answered` what the client's server answered. Of the callback's body are
    `id` and `status`. With `always` the gateway is called back where a client gives no URL, too.
    """

    url: str
    header_name: str | None = None
    header_value: str | None = None
    has_header: str | None = None
    answered: str | None = None
    id: str
    status: str
    always: bool = False
    grace_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What clients are told of a job that waits for its place: see settings/schema/queue."""

    reply: Mapping[str, Any]
    kept_bytes_max: int
    status: str
    failed: str
    error: Field
    item: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A resource whose charge comes with its terminal status, whoever sees it first.

    `status` in a reply: one of `completed` settles, one of `failed` releases, anything else is still open, unless the
    reply has some of its `content`: then it is completed, whatever the service calls that.
    `look` is the path, with `{id}`, at which the gateway itself asks. `facts` are the request's fields to keep for
    pricing. Job holds live `seconds_max`, and so long the gateway looks: first after `look_first_seconds`, then ever
    more rarely. A job that is unknown there (`gone_statuses`, `gone_when`) for `gone_seconds`, or not over in time,
    ends as `gone` says.
    """

    kind: str
    product: str
    id: Field
    status: Field
    completed: frozenset[str]
    failed: frozenset[str]
    look: str
    seconds_max: int
    metering: Metering
    facts: tuple[Field, ...]
    look_first_seconds: float = 10.0
    look_seconds_max: float = 300.0
    gone_statuses: frozenset[int] = frozenset({404, 410})
    gone_when: Condition | None = None
    gone_seconds: int = 120
    gone: Literal["release", "charge_hold"] = "release"
    content: tuple[Field, ...] = ()
    callback: Callback | None = None
    queue: Queue | None = None

    def has_content(self, sources: Sources) -> bool:
        """Whether a reply has something of its result."""
        return any(value for field in self.content for value in field.read_all(sources))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameWording:
    """A text frame of ours, and how the socket is closed after it.

    `body`: JSON data in which "{message}", "{code}", "{close_code}", "{call_id}" and "{session_id}" are filled; None:
    no frame. A string that is exactly one of them becomes its value (a number, or null where there is no session yet).
    In `close_reason` "{code}" and "{message}" are filled. `message` None: as the product's dialect words the code.
    """

    body: Any
    close_code: int
    close_reason: str
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedFrame:
    """A client's text frame of this type that names a resource: passed on only if the resource is the caller's.

    The requirement reads the frame as source `frame`. `refusal` words that there is no such resource; None: as
    NOT_FOUND of the session.
    """

    type: str
    requirement: Requirement
    refusal: FrameWording | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A socket that is paid for while it is open, in slices. Seconds, bytes and counts as named.

    Text frames are told apart by the JSON field `type_field`. Of the upstream's, those of type `begins` name the
    session (`id`), those of `ends` and of `reports` carry usage; the fields of all of them, laid over one another, are
    the source `frame`. Of the client's, those of `updates` change what is charged from then on (their fields, laid over
    one another, are the source `request`; `Route.known_fields` knows them), and `judged` ones must name the caller's
    own resources. Frames of other types are never parsed, binary ones never looked at.
    `terminate` is the text frame that makes the upstream end the session; empty: it has none, and is closed.
    `refusals` words refusals in band by code, `refusal` the others; where `refusal` is None, refusals before the
    upgrade are HTTP errors. `kind`: the kind of resource that the session is to its account; "" is none.
    """

    slice_seconds: float
    renew_before_seconds: float
    warn_seconds: float
    grace_seconds: float
    redis_grace_seconds: float
    seconds_max: float
    idle_seconds_max: float  # 0: no limit
    ping_seconds: float  # 0: never
    message_bytes_max: int
    buffer_bytes_max: int
    stalled_seconds_max: float
    kind: str
    id: Field | None
    type_field: str
    begins: str
    ends: str
    reports: frozenset[str]
    updates: frozenset[str]
    judged: tuple[JudgedFrame, ...]
    client_binary: bool  # whether clients may send binary frames
    terminate: str
    refusal: FrameWording | None
    refusals: Mapping[Code, FrameWording]
    #: JSON body of a text frame in which "{seconds_left}" is filled; None: the dialect has no room for one.
    warning: Any = None
    dropped_query: tuple[str, ...] = ()  # query parameters that are ours and not the upstream's (temporary tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMint:
    """A route at which the gateway itself mints a temporary token for its caller's sessions of `product`.

    Query parameters name the seconds for which it may be used, and the longest session that it opens.
    `once`: it opens one session; else as many as it lives for. `reply` is the JSON body, in which "{token}" and
    "{expires_in_seconds}" are filled.
    """

    product: str
    expires_parameter: str
    expires_seconds_min: int
    expires_seconds_max: int
    expires_seconds_default: int | None  # None: the parameter is required
    session_parameter: str
    session_seconds_min: int
    session_seconds_max: int
    once: bool
    reply: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A request that is refused as unsupported when the field equals `equals` (or is on, where that is None).

    A field with `*` is each of several values, and so is a header that is a list. What is in `unless` is not refused:
    texts, of which one that ends with `*` stands for all that begin so.
    `part_of`: the product that it belongs to, where it is another one; who does not have that is not entitled.
    """

    field: Field
    equals: Any
    message: str
    part_of: str | None = None
    unless: tuple[str, ...] = ()

    def meets(self, sources: Sources) -> bool:
        """Whether the request is one of these."""
        return any(map(self._refuses, self._values(sources)))

    def _values(self, sources: Sources) -> list[Any]:
        if self.field.source == "request_header":
            headers = sources.get("request_header")
            name = str(self.field.steps[0])
            lines = headers.getall(name, []) if isinstance(headers, MultiMapping) else []
            return [item.strip() for line in lines for item in line.split(",")]
        if "*" in self.field.steps:
            return self.field.read_all(sources)
        value = first_reported((self.field,), sources)
        return [] if value is None else [value]

    def _refuses(self, value: Any) -> bool:
        if not (bool(value) if self.equals is None else value == self.equals):
            return False
        if type(value) is not str:
            return True
        return not any(value == text or (text[-1] == "*" and value.startswith(text[:-1])) for text in self.unless)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One thing that clients may do. `segments`: literal text, or None for a `{parameter}`.

    `body`: "json" is read whole and parsed, "stream" passes by as it comes. `job` is what a job-creating route makes,
    `reports` the job whose status the reply is. `known_fields` is the tree of request fields that may be on (None:
    all), `known_parameters` the query parameters that may be; those in `read_parameters` may stand only once.
    `read_fields` are the request's fields, by their top name, of which anything is read.
    `hold` is a fixed estimate in nano-dollars; where None the estimate is priced from the measures.
    `needs_record`: the price depends on the record of the required job, which is read before admission.
    `estimates_by`: the kinds of required resources whose facts the estimate depends on, which are read before as well.
    """

    name: str
    product: "Product"
    methods: frozenset[str]
    host: str | None
    segments: tuple[str | None, ...]
    parameters: tuple[str, ...]
    meter: MeterKind
    metering: Metering | None = None
    job: Job | None = None
    reports: Job | None = None
    requires: tuple[Requirement, ...] = ()
    creates: Creation | None = None
    stream: Stream | None = None  # with meter sse
    session: Session | None = None  # a WebSocket, with meter session
    mints: TokenMint | None = None
    deletes: str | None = None
    listing: Listing | None = None
    body: Literal["json", "stream"] = "stream"
    body_bytes_max: int = 10 * 1024 * 1024
    known_fields: Mapping[str, Any] | None = None
    known_parameters: frozenset[str] | None = None
    read_parameters: frozenset[str] = frozenset()
    read_fields: frozenset[str] = frozenset()
    rejections: tuple[Rejection, ...] = ()
    hold: Nanos | None = None
    covers_estimate: bool = False
    needs_record: bool = False
    estimates_by: frozenset[str] = frozenset()
    public: bool = False  # needs no key
    region: str = ""  # what its calls are bound to, whoever makes them
    #: The fields at the top of a request that requirements and rejections look at; None where some look elsewhere.
    looks_at: frozenset[str] | None = field(init=False, repr=False, compare=False)
    #: The fields at the top of a request that may be on, whatever is below them.
    free_fields: frozenset[str] = field(init=False, repr=False, compare=False)
    metered: bool = field(init=False, repr=False, compare=False)  # whether a call needs credit

    def __post_init__(self) -> None:
        fields = [each.field for each in self.requires] + [each.field for each in self.rejections]
        # Where not all fields are known, a requirement looks at every field that resembles its own.
        elsewhere = (self.requires and self.known_fields is None) or any(each.source != "request" for each in fields)
        names = None if elsewhere else frozenset(str(each.steps[0]) for each in fields)
        object.__setattr__(self, "looks_at", names)
        free = frozenset(name for name, below in (self.known_fields or {}).items() if not below)
        object.__setattr__(self, "free_fields", free)
        object.__setattr__(self, "metered", self.meter != "none")

    def passes_over(self, request: Any) -> bool:
        """Whether a request has none of the fields that requirements and rejections look at."""
        return self.looks_at is not None and type(request) is dict and self.looks_at.isdisjoint(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutLedger:
    """The most that one process serves of a product while the ledger is away: to one account, and in all."""

    account: Nanos
    in_all: Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product: its upstream, dialect, models and limits. Bytes and seconds as named."""

    name: str
    title: str
    upstream: Upstream
    errors: ErrorStyle
    models: Models | None = None
    strip_reply_fields: tuple[str, ...] = ()
    metered_body_bytes_max: int = 32 * 1024 * 1024
    whole_body_bytes_max: int = 256 * 1024
    drain_seconds_max: float = 60.0
    drain_bytes_max: int = 16 * 1024 * 1024
    #: None: refuse. Else what one process may serve while the ledger is away.
    without_ledger: WithoutLedger | None = None
    queues: bool = False  # it has jobs that may wait for their place
    #: What becomes of a hold of the credit API or of forward-auth that nobody ends in time.
    on_unsettled: Literal["release", "charge_hold"] = "release"

    @property
    def forwarded(self) -> bool:
        """Whether there is a service that calls are forwarded to."""
        return bool(self.upstream.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierProduct:
    """What a tier gives of one product. `models` None: all. `rates` hold for this product only.

    `per_model` rates are named after the model asked for.
    """

    models: frozenset[str] | None = None
    concurrency: Concurrency | None = None
    rates: tuple[Rate, ...] = ()
    per_model: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A named plan. Amounts in nano-dollars; `rates` count every request of an account, `per_key` those of each key."""

    name: str
    title: str
    signup_grant: Nanos
    rate_card: str
    overdraft: Nanos
    rates: tuple[Rate, ...]
    products: Mapping[str, TierProduct]
    monthly_grant: MonthlyGrant | None = None
    per_key: tuple[Rate, ...] = ()
    region: str = ""  # what is never sent elsewhere; only accounts have one


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Every price table there is, by version and rate card. `starts` (epoch seconds) and `versions` go in step."""

    starts: tuple[float, ...]
    versions: tuple[str, ...]
    tables: Mapping[tuple[str, str], PriceTable]

    def current(self, now: float, rate_card: str) -> PriceTable:
        """The table in force at `now` for a rate card that exists."""
        return self.tables[self.versions[max(0, bisect_right(self.starts, now) - 1)], rate_card]

    def pinned(self, version: str, rate_card: str) -> PriceTable | None:
        """The table that a hold was priced by; None if the config no longer has it."""
        return self.tables.get((version, rate_card))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where the gateway listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """The ledger's server. `url` empty: an embedded server under `directory`. Seconds as named."""

    url: str = field(default="", repr=False)
    directory: Path = Path("data/redis")
    prefix: str = "gw"
    connect_seconds_max: float = 1.0
    command_seconds_max: float = 2.0
    operation_seconds: int = 7 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one worker. Bytes, seconds and counts as named."""

    hold_lease_seconds: int = 60
    connections_max: int = 10_000
    connections_per_address_max: int = 2_500
    calls_max: int = 5_000
    calls_per_account_max: int = 2_500
    handshakes_max: int = 500
    billing_requests_per_minute_max: int = 120
    unknown_keys_per_minute_max: int = 300
    drains_max: int = 500
    header_bytes_max: int = 32 * 1024
    head_seconds_max: float = 20.0
    body_read_seconds_max: float = 60.0
    json_items_max: int = 250_000
    shutdown_seconds_max: float = 30.0
    drain_seconds: float = 600.0
    sweep_seconds: float = 1.0
    sweep_accounts: int = 200
    verify_accounts: int = 5
    spool_bytes_max: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """What is remembered of calls with an Idempotency-Key. Counts and bytes are of one account, or of one answer."""

    seconds: int = 86_400
    keys_max: int = 10_000
    answer_bytes_max: int = 64 * 1024
    account_bytes_max: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Smtp:
    """The server that mails are sent through. `sender` is an address; `security` is how TLS begins."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    username: str
    password: str = field(repr=False)
    sender: str
    sender_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outward:
    """Whom requests to addresses that customers name may reach, beside public addresses over HTTPS."""

    allow: tuple[str, ...] = ()  # addresses, networks and names
    plain_http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages for people. `contact` is whom customers ask, in words. Seconds as named."""

    title: str = "Gateway"
    contact: str = "your provider"
    visit_seconds: int = 28_800
    secure_cookies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlugIn:
    """Ways to the ledger for what is not proxied: which are on, whom they trust, how long their holds live.

    `trusted` are addresses and networks whose requests to /authz need no token. Seconds as named.
    """

    credit_api: bool = False
    forward_auth: bool = False
    trusted: tuple[str, ...] = ()
    uri_header: str = "X-Forwarded-Uri"
    method_header: str = "X-Forwarded-Method"
    host_header: str = "Host"
    hold_seconds: int = 60
    hold_seconds_max: int = 86_400


AdminScope = Literal["read", "billing", "admin", "credit"]
#: Which files are taken up when they change, without being asked.
ReloadOnChange = Literal["certificates", "everything", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminToken:
    """A token of the admin API, by its digest (hex SHA-256)."""

    name: str
    scopes: frozenset[AdminScope]
    sha256: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Everything, compiled. Replaced as a whole, never changed."""

    customers: Listener
    customers_tls: Tls | None = None
    regions: Mapping[str, str] = field(default_factory=dict)  # of hosts that clients call
    public_url: str = ""  # where services reach the customers' listener; "": they do not, and there are no callbacks
    ops: Listener
    ops_tls: Tls | None = None
    workers: int = 0  # 0: one for each core
    redis: RedisSettings
    spool_directory: Path
    admin_token: str = field(repr=False)
    admin_tokens: tuple[AdminToken, ...] = ()
    key_pepper: str = field(repr=False)
    key_peppers_accepted: tuple[str, ...] = field(default=(), repr=False)
    trust_forwarded_for: bool
    log_level: str
    limits: Limits
    idempotency: Idempotency = field(default_factory=Idempotency)
    payments: Payments = field(default_factory=Payments)
    outward: Outward = field(default_factory=Outward)
    exports: Exports = field(default_factory=Exports)
    tracing: Tracing | None = None  # None: calls are not traced
    smtp: Smtp | None = None  # None: no mails are sent
    pages: Pages = field(default_factory=Pages)
    plug_in: PlugIn = field(default_factory=PlugIn)
    products: Mapping[str, Product]
    routes: tuple[Route, ...]
    tiers: Mapping[str, Tier]
    default_tier: str
    prices: PriceBook
    default_errors: ErrorStyle
    digest: str  # of the files read, for /readyz and metrics
    reload_on_change: ReloadOnChange = "certificates"
    origins: Origins = field(default_factory=Origins, repr=False, compare=False)

    @property
    def forwarded(self) -> tuple[Route, ...]:
        """The routes whose calls are forwarded."""
        return tuple(route for route in self.routes if route.product.forwarded)

    @property
    def peppers(self) -> tuple[str, ...]:
        """All that are accepted; the first is the one that everything new is made with."""
        return (self.key_pepper, *self.key_peppers_accepted)
