"""What crosses the ledger's port on the path of a call: plans, resources, calls at the gate, holds, charges, entries.

Owns: the records and what their fields mean, in units. Does not know: who makes or reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.core.admission import Concurrency, Rate, RateState
from gateway.core.errors import Refused
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Charge
from gateway.core.record import record

GrantKind = Literal["signup", "monthly", "purchase", "promotion", "goodwill", "correction"]
ResourceState = Literal["queued", "open", "settled", "released", "kept"]


@record
class Plan:
    """What decides an account's entitlements, limits and prices: its tier, its rate card ("" = the tier's), and what
    it has in place of the tier's (`core.overrides`; "": nothing).
    """

    tier: str
    rate_card: str = ""
    overrides: str = ""


@record
class TemporaryToken:
    """What a client may open sessions with instead of its key. `expires` in epoch seconds; 0 seconds: no cap.

    `once`: it opens one session. `plan` is the hint that its key had when it was made. `region` is that of the host
    where it was asked for: its sessions are nowhere else.
    """

    id: str
    account: str
    key_id: str
    plan: Plan
    product: str
    expires: int
    session_seconds_max: int = 0
    once: bool = False
    region: str = ""


@record
class Identity:
    """Whose key it is. The two ids never change for a key; `plan` is only a hint that `admit` checks.

    `token`: the caller showed not the key but a temporary token of it.
    """

    account: str
    key_id: str
    plan: Plan
    token: TemporaryToken | None = None


@record
class ResourceRef:
    """A job, upload or session by its kind and the upstream's id."""

    kind: str
    id: str


@record
class Resource:
    """What the ledger knows of something that an account made at the upstream.

    `state` is `open` while a job's charge is outstanding, `kept` for what never had one (uploads), `queued` while a job
    waits for its place at the upstream. A job that has waited has an id of ours; `upstream` is the upstream's then.
    `endpoint` names the endpoint of its service where it was made; empty: the first, or the only one.
    `hold` is the job's hold id, `facts` what its price needs of the request (of an upload: what is known of its audio,
    see `core.audio`) and which span made it (`core.tracecontext`), `usage` what it was settled on.
    `deadline_ms` is how long it is waited for, `gone_ms` since when the upstream does not know it (0: it does).
    """

    ref: ResourceRef
    state: ResourceState
    product: str
    hold: str = ""
    key_id: str = ""
    price_version: str = ""
    rate_card: str = ""
    created_ms: int = 0
    deadline_ms: int = 0
    gone_ms: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    upstream: str = ""
    endpoint: str = ""

    @property
    def upstream_id(self) -> str:
        """What the upstream calls it."""
        return self.upstream or self.ref.id

    @property
    def only_here(self) -> bool:
        """Whether it is a job that the upstream was not given: it waits for its place, or was rejected."""
        return self.state == "queued" or (self.state == "released" and not self.upstream and "error" in self.usage)


@record
class Lag:
    """What waits: accounts with some of it, and since when the one that has waited longest (store's clock, ms)."""

    accounts: int
    since_ms: int | None
    now_ms: int

    @property
    def seconds(self) -> float:
        """For how long that has waited."""
        return 0.0 if self.since_ms is None else max(0.0, (self.now_ms - self.since_ms) / 1000)


@record
class Backlog:
    """What is due and has not been taken up: looks at jobs, and deliveries."""

    looks: Lag
    deliveries: Lag


@record
class AdmissionTerms:
    """What calls of one plan to one route have alike at the gate. Whoever asks for many makes it once: a ledger knows
    it again by its identity.

    `entitled` is what the tier in `plan` says of the product and the models asked for. `overdraft` in nano-dollars.
    `lease_seconds` is the hold's time by the store's clock. `rates` are all checked before any is counted. `add_ons`
    are the other products of which the request uses something: a key's product list must have them too.
    """

    plan: Plan
    product: str
    entitled: bool
    metered: bool
    overdraft: Nanos
    covers_estimate: bool = False
    rates: tuple[Rate, ...] = ()
    concurrency: Concurrency | None = None
    lease_seconds: int = 60
    price_version: str = ""
    add_ons: tuple[str, ...] = ()


@record
class AdmissionRequest:
    """One call at the gate. `hold_id` is the call's id and the operation's id.

    `estimate` in nano-dollars. `resources` must belong to the account.
    """

    account: str
    key_id: str
    terms: AdmissionTerms
    hold_id: str
    estimate: Nanos
    resources: tuple[ResourceRef, ...] = ()


@record
class Admitted:
    """The call may be forwarded. `hold` is what was set aside (0 for a free call), `available` what is left.

    `queued`: it may not be yet. It is to be put into the queue of its class (`enqueue`), else it ends with its lease.
    """

    hold: Nanos
    available: Nanos
    rates: tuple[RateState, ...] = ()
    resources: tuple[Resource, ...] = ()
    queued: bool = False


@record
class PlanChanged:
    """The account's plan is another one than the request was made for. Nothing was written; ask again with it."""

    plan: Plan


@record
class Settlement:
    """One charge for one hold. The operation's id is the hold's: a hold is settled at most once.

    Carries everything that the entry explains, so that it can be replayed from a spool long after.
    `resource_usage` is kept with the job (audio seconds for a later product priced by them). `volumes` is what it took
    of its month (`take_volume`), if anything.
    """

    account: str
    hold_id: str
    key_id: str
    product: str
    route: str
    call_id: str
    charge: Charge
    upstream_id: str = ""
    resource: ResourceRef | None = None
    resource_usage: Mapping[str, Any] = field(default_factory=dict)
    volumes: Mapping[str, int] | None = None

    @property
    def begins_call(self) -> bool:
        """Whether it is its call's first charge: later slices of a session have holds of other names."""
        return self.hold_id == self.call_id


@record
class Receipt:
    """What a settlement did. `late`: its hold had ended before by expiry. Amounts in nano-dollars.

    `repeated`: this charge was made before, and this is its first receipt again, equal to that.
    """

    entry_id: str
    charged: Nanos
    balance: Nanos
    late: bool = False
    repeated: bool = field(default=False, compare=False)


@record
class Renewal:
    """A session's next slice: `settlement` charges the slice whose hold is open, `request` asks for the next hold.

    `request.hold_id` is the next hold's own id. Its rates and resources are empty: a session is counted when it opens.
    """

    settlement: Settlement
    request: AdmissionRequest


@record
class Renewed:
    """What a renewal did. The slice is charged in any case; `refused` says why there is no next one (`hold` is 0)."""

    receipt: Receipt
    hold: Nanos
    available: Nanos
    refused: Refused | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Credit given. Burns by priority (lower first), then soonest expiry, then oldest."""

    id: str
    kind: GrantKind
    amount: Nanos
    remaining: Nanos
    priority: int = 50
    expires_ms: int | None = None
    created_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Credit set aside for one call or job, and until when (store's clock, ms). `resource`: the job, once accepted."""

    id: str
    account: str
    amount: Nanos
    product: str
    key_id: str
    price_version: str
    concurrency_class: str
    created_ms: int
    expires_ms: int
    resource: ResourceRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One immutable line of an account's ledger. `amount` is signed; `balance` is the balance after it.

    `kind`: grant, charge, correction, commitment, grant_expiry. `data` explains it: items, price_version, call_id,
    key_id, ...
    """

    id: str
    kind: str
    amount: Nanos
    balance: Nanos
    operation: str
    at_ms: int
    data: Mapping[str, Any]


@record
class Monthly:
    """How an account stands in its month: which it is by the store's clock, and the last that had its plan's grant
    ("": none), the first of its commitment that is not closed ("": it has none).
    """

    plan: Plan
    now: str
    granted: str = ""
    closing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep of one account ended: holds expired (and their nano-dollars), grants expired. And how the account
    stands in its month.
    """

    holds: int = 0
    held: Nanos = ZERO
    grants: int = 0
    monthly: Monthly | None = field(default=None, compare=False)
