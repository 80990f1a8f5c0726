"""What crosses the ledger's port: plans, keys, calls at the gate, holds, charges, entries, jobs, deliveries, watches.

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
WatchKind = Literal[
    "balance_below",
    "balance_below_percent",
    "grant_nearly_spent",
    "grant_expiring",
    "spent_day",
    "spent_month",
    "key_budget",
    "job_anomaly",
    "session_anomaly",
    "autopay_failed",
    "autopay_disabled",
]
AccountStatus = Literal["active", "suspended"]
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


@record
class QueuedJob:
    """A job whose turn it is: its place is taken, and it is to be submitted. `body` is what was kept of its request.

    `allowed`: its key is still in use.
    """

    account: str
    record: Resource
    body: bytes
    allowed: bool


@record
class FollowedJob:
    """An open job that the gateway follows: when its next look is, or was, due, and the time (store's clock, ms)."""

    account: str
    record: Resource
    look_ms: int
    now_ms: int


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
class AdmissionRequest:
    """One call at the gate. `hold_id` is the call's id and the operation's id.

    `entitled` is what the tier in `plan` says of the product and the models asked for. `estimate` in nano-dollars.
    `lease_seconds` is the hold's time by the store's clock. `rates` are all checked before any is counted.
    `resources` must belong to the account. `add_ons` are the other products of which the request uses something: a
    key's product list must have them too.
    """

    account: str
    key_id: str
    plan: Plan
    hold_id: str
    product: str
    entitled: bool
    metered: bool
    estimate: Nanos
    overdraft: Nanos
    covers_estimate: bool = False
    rates: tuple[Rate, ...] = ()
    concurrency: Concurrency | None = None
    lease_seconds: int = 60
    price_version: str = ""
    resources: tuple[ResourceRef, ...] = ()
    add_ons: tuple[str, ...] = ()


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

    `repeated`: `settle` made this charge before, and this is its first receipt again, equal to that.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One line of what administrators did: who, what, on which account, under which operation, and what came of it.

    A deed has two lines with one `deed`: `outcome` is first `begun`, then `done` or the code of a problem. One that
    was only begun was cut off: whether it was done is told by its operation. `about` is what it was about (key, hold,
    job, ...). No secret and no body is in it.
    """

    deed: str
    actor: str
    action: str
    outcome: str
    account: str = ""
    operation: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDay:
    """What one key was charged for one product on one day (UTC, "2026-11-27"), and how many calls were first charged.

    A session is one call, on the day of its first slice; corrections are none. `product` is empty for corrections,
    whose `charged` is below zero where credit came back. One of no key is not here.
    """

    day: str
    product: str
    key_id: str
    calls: int
    charged: Nanos


KeyBilling = Literal["manage", "read", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key without its secret. `monthly_budget` and the month's `spent`/`held` in nano-dollars.

    `billing`: whether it may change the account's settings and pay, only read what is billed, or neither.
    """

    id: str
    account: str
    name: str = ""
    project: str = ""
    disabled: bool = False
    expires_ms: int | None = None
    products: tuple[str, ...] | None = None
    monthly_budget: Nanos | None = None
    spent: Nanos = ZERO
    held: Nanos = ZERO
    created_ms: int = 0
    pepper: str = ""  # what the pepper is called that its digest is made with; "": made before they had names
    billing: KeyBilling = "manage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account and its credit: `available` = balance - held + overdraft (which the tier adds, not counted here)."""

    id: str
    plan: Plan
    status: AccountStatus
    balance: Nanos
    held: Nanos
    debt: Nanos
    open_holds: int
    created_ms: int
    grants: tuple[Grant, ...] = ()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A difference that `verify` found: which number of which account, as stored and as recomputed."""

    account: str
    what: str
    stored: int
    recomputed: int


@record
class NamedCall:
    """A call that its client gave a name of its own, so that a repeat is told from a second call.

    `name` and `content` are digests: of the client's word for the call, and of what it asks. `hold_id` is that of the
    hold which the call is about to take. Its name is taken for `lease_seconds` without one, is kept for `keep_seconds`,
    and an account has at most `names_max`.
    """

    account: str
    name: str
    content: str
    hold_id: str
    lease_seconds: int
    keep_seconds: int
    names_max: int


@record
class Naming:
    """What the ledger says to a name: `taken` by this call, which may go on. Else the call with that name is `running`
    or `done` (`hold_id` is its hold's id, `answer` its answer, None if that is not kept) or asked something `other`; or
    the account's names are `full`, for so many seconds.
    """

    state: Literal["taken", "running", "done", "other", "full"]
    hold_id: str = ""
    answer: bytes | None = None
    retry_after_seconds: int = 0


@record
class Delivery:
    """Something that is to be told to somebody outside, by the courier of its channel, at least once.

    `payload` is JSON data and may hold secrets: it is never shown whole. `attempts` were made and failed, the last one
    because of `why`. A `dead` one was given up at `due_ms`. `now_ms` is the store's time at which it was read.
    """

    account: str
    id: str
    channel: str
    payload: Mapping[str, Any]
    created_ms: int
    due_ms: int
    attempts: int = 0
    why: str = ""
    dead: bool = False
    now_ms: int = 0


@record
class Watch:
    """Something of an account that is watched: each crossing is one delivery on `channel`, until it has recovered.

    `amount` by kind: nano-dollars (`balance_below`, `spent_day`, `spent_month`), percent of the last purchase
    (`balance_below_percent`), percent of a grant that is spent (`grant_nearly_spent`), days before (`grant_expiring`),
    percent of a key's monthly budget (`key_budget`). `data` is its owner's (JSON data, may hold secrets). `told` is
    what was told and has not recovered: "below", the day, the month, grants, keys with their month.
    The last three kinds compare nothing (`amount` 0): whoever learns of such an event posts it.

    The delivery is `alert:<id>:<number>`; its payload has `watch`, `kind`, `amount`, `subject` (grant, key, day, month
    or ""), `value` (what crossed), `balance` (all of them text, nano-dollars) and `at` (ms).
    """

    id: str
    kind: WatchKind
    amount: int
    channel: str
    data: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()
