"""The products, compiled: where each is forwarded to, how it words errors, which models it has.

Owns: the shape of them, and how a model's name is known again.
Does not know: YAML, what may be called of a product (routes), what it costs (metering, plans).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.core.errors import Code, ServiceRefusesUs
from gateway.core.extract import Field
from gateway.core.money import Nanos
from gateway.core.pricing import Condition
from gateway.core.upstreams import REFUSES_US, Upstream

#: What services put behind a model's name: `-20260131`, `-2026-01-31`.
_DATE: Final = re.compile(r"-[0-9]{4}(-?)[0-9]{2}\1[0-9]{2}$")
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
    #: When a refusal of the service's is of our own account, beside those that its status shows. None: never.
    refuses_us_when: Condition | None = None
    #: Query parameters that are ours, such as temporary tokens: the service sees none of them, at whatever route.
    dropped_query: frozenset[str] = frozenset()

    def may_refuse_us(self, status: int) -> bool:
        """Whether a refusal's words may be about us."""
        return status in REFUSES_US or (self.refuses_us_when is not None and 400 <= status < 500)

    def refuses_us(self, status: int, reply: Any) -> bool:
        """Whether what the service says of itself is that it does not serve us, whoever the customer is."""
        if status in REFUSES_US:
            return True
        when = self.refuses_us_when
        return when is not None and 400 <= status < 500 and when.met({"reply": reply})

    def require_service(self, status: int, reply: Any) -> None:
        """Raise ServiceRefusesUs where it says so."""
        if self.refuses_us(status, reply):
            raise ServiceRefusesUs("the service does not serve our own account")

    @property
    def forwarded(self) -> bool:
        """Whether there is a service that calls are forwarded to."""
        return bool(self.upstream.name)
