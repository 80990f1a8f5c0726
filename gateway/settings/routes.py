"""The routes, compiled: one thing each that clients may do, and all that the path of a call looks at for it.

Owns: the shape of them, and what is found out once about the fields that are looked at.
Does not know: YAML, which route a path is (routing).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from multidict import MultiMapping

from gateway.core.extract import Field, Sources, first_reported
from gateway.core.money import Nanos
from gateway.core.parts import Parts
from gateway.settings.jobs import Job
from gateway.settings.metering import Metering, Stream
from gateway.settings.products import ErrorStyle, Product
from gateway.settings.resources import Creation, Injection, Listing, Requirement
from gateway.settings.sessions import Session, TokenMint

MeterKind = Literal["none", "fixed", "response", "sse", "job", "session", "reported"]


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
        # An empty object is on, too: it may switch something on with its defaults.
        if not (bool(value) or value == {} if self.equals is None else value == self.equals):
            return False
        if type(value) is not str:
            return True
        return not any(value == text or (text[-1] == "*" and value.startswith(text[:-1])) for text in self.unless)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One thing that clients may do. `segments`: literal text, or None for a `{parameter}`.

    `body`: "json" is read whole and parsed, "stream" passes by as it comes. `job` is what a job-creating route makes,
    `reports` the job whose status the reply is. `known_fields` is the tree of request fields that may be on (None:
    all), `known_parameters` the query parameters that may be; those in `read_parameters` may stand only once, but for
    `switch_parameters`, of which only matters whether they are on.
    `read_fields` are the request's fields, by their top name, of which anything is read.
    `hold` is a fixed estimate in nano-dollars; where None the estimate is priced from the measures.
    `needs_record`: the price depends on the record of the required job, which is read before admission.
    `estimates_by`: the kinds of required resources whose facts the estimate depends on, which are read before as well;
    `injects`: the kinds of required jobs whose text the service puts into the request, alike.
    """

    name: str
    product: Product
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
    switch_parameters: frozenset[str] = frozenset()
    read_fields: frozenset[str] = frozenset()
    rejections: tuple[Rejection, ...] = ()
    hold: Nanos | None = None
    covers_estimate: bool = False
    needs_record: bool = False
    estimates_by: frozenset[str] = frozenset()
    injects: Mapping[str, Injection] = field(default_factory=dict)
    public: bool = False  # needs no key
    region: str = ""  # what its calls are bound to, whoever makes them
    errors: ErrorStyle | None = None  # in place of the product's
    #: The fields at the top of a request that requirements and rejections look at; None where some look elsewhere.
    looks_at: frozenset[str] | None = field(init=False, repr=False, compare=False)
    #: The fields at the top of a request that may be on, whatever is below them.
    free_fields: frozenset[str] = field(init=False, repr=False, compare=False)
    metered: bool = field(init=False, repr=False, compare=False)  # whether a call needs credit
    makes: bool = field(init=False, repr=False, compare=False)  # whether its replies name what an account owns then
    reads_replies: bool = field(init=False, repr=False, compare=False)  # whether they say what we have to know
    #: What counts the parts of a request that its estimate asks for.
    parts: Parts | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = [each.field for each in self.requires] + [each.field for each in self.rejections]
        # Where not all fields are known, a requirement looks at every field that resembles its own.
        elsewhere = (self.requires and self.known_fields is None) or any(each.source != "request" for each in fields)
        names = None if elsewhere else frozenset(str(each.steps[0]) for each in fields)
        object.__setattr__(self, "looks_at", names)
        free = frozenset(name for name, below in (self.known_fields or {}).items() if not below)
        object.__setattr__(self, "free_fields", free)
        object.__setattr__(self, "metered", self.meter != "none")
        makes = self.job is not None or self.creates is not None
        object.__setattr__(self, "makes", makes)
        object.__setattr__(self, "reads_replies", makes or (self.metering is not None and self.metering.reads_reply))
        object.__setattr__(self, "parts", None if self.metering is None else self.metering.parts)

    def passes_over(self, request: Any) -> bool:
        """Whether a request has none of the fields that requirements and rejections look at."""
        return self.looks_at is not None and type(request) is dict and self.looks_at.isdisjoint(request)
