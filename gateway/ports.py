"""The ports: what the path of a call needs of the world outside, as promises.

Owns: the records that cross them and their docstrings, which are the contract that `tests/ledger` checks on every
implementation.
Does not know: Redis, aiohttp, Prometheus.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gateway.core.admission import Concurrency, Rate, RateState
from gateway.core.errors import Refused
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Charge
from gateway.core.record import open_record, record

GrantKind = Literal["signup", "purchase", "promotion", "goodwill", "correction"]
AccountStatus = Literal["active", "suspended"]
ResourceState = Literal["open", "settled", "released", "kept"]


@record
class Plan:
    """What decides an account's entitlements, limits and prices: its tier and its rate card ("" = the tier's)."""

    tier: str
    rate_card: str = ""


@record
class TemporaryToken:
    """What a client may open sessions with instead of its key. `expires` in epoch seconds; 0 seconds: no cap.

    `once`: it opens one session. `plan` is the hint that its key had when it was made.
    """

    id: str
    account: str
    key_id: str
    plan: Plan
    product: str
    expires: int
    session_seconds_max: int = 0
    once: bool = False


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

    `state` is `open` while a job's charge is outstanding, `kept` for what never had one (uploads).
    `hold` is the job's hold id, `facts` what its price needs of the request (of an upload: what is known of its audio,
    see `core.audio`), `usage` what it was settled on.
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


@record
class FollowedJob:
    """An open job that the gateway follows: when its next look is, or was, due, and the time (store's clock, ms)."""

    account: str
    record: Resource
    look_ms: int
    now_ms: int


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
    """The call may be forwarded. `hold` is what was set aside (0 for a free call), `available` what is left."""

    hold: Nanos
    available: Nanos
    rates: tuple[RateState, ...] = ()
    resources: tuple[Resource, ...] = ()


@record
class PlanChanged:
    """The account's plan is another one than the request was made for. Nothing was written; ask again with it."""

    plan: Plan


@record
class Settlement:
    """One charge for one hold. The operation's id is the hold's: a hold is settled at most once.

    Carries everything that the entry explains, so that it can be replayed from a spool long after.
    `resource_usage` is kept with the job (audio seconds for a later product priced by them).
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


@record
class Receipt:
    """What a settlement did. `late`: its hold had ended before by expiry. Amounts in nano-dollars."""

    entry_id: str
    charged: Nanos
    balance: Nanos
    late: bool = False


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

    `kind`: grant, charge, correction, grant_expiry. `data` explains it: items, price_version, call_id, key_id, ...
    """

    id: str
    kind: str
    amount: Nanos
    balance: Nanos
    operation: str
    at_ms: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key without its secret. `monthly_budget` and the month's `spent`/`held` in nano-dollars."""

    id: str
    account: str
    name: str = ""
    disabled: bool = False
    expires_ms: int | None = None
    products: tuple[str, ...] | None = None
    monthly_budget: Nanos | None = None
    spent: Nanos = ZERO
    held: Nanos = ZERO
    created_ms: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep of one account ended: holds expired (and their nano-dollars), grants expired."""

    holds: int = 0
    held: Nanos = ZERO
    grants: int = 0


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


class Ledger(Protocol):
    """Balances, holds, entries, keys and ownership. Every mutation has an operation id.

    A replay of an operation gets the first answer and changes nothing; the same id with other content raises
    OperationConflict. Every method may raise LedgerUnavailable: then nothing is known of the outcome, and the same
    call may be made again. Methods on an account that is not there raise UnknownAccount, unless they say otherwise.
    Time is the store's.
    """

    # ---- the path of a call

    async def identify(self, digest: str) -> Identity | None:
        """Whose key has this digest; None if nobody's."""

    async def admit(self, request: AdmissionRequest) -> Admitted | Refused | PlanChanged:
        """Judge the guards in their order and take the hold, in one atomic step. A refusal writes nothing.

        First of all holds and grants of the account whose time is over are ended. A free call (`metered` false)
        takes no hold. A resource that is not the account's refuses with NOT_FOUND, after every other guard.
        Unknown accounts and keys are refused (UNAUTHORIZED), not raised. Replay: while the hold is open, the first
        answer's hold; after it has ended, OperationConflict.
        """

    async def accept(
        self,
        *,
        account: str,
        resource: Resource,
        deadline_seconds: int,
        keep_seconds: int,
        look_seconds: float = 0.0,
    ) -> None:
        """Record what an upstream made for the account: from now on the account owns it.

        With `resource.hold` (an open job) that hold gets the deadline as its expiry, if it is still open, and the job
        is followed until its record is no longer open: `claim_jobs` answers it after `look_seconds`.
        `keep_seconds` 0 keeps the record until it is forgotten. Accepting the same id again with the same hold
        changes nothing; with another hold it is an OperationConflict.
        """

    async def settle(self, settlement: Settlement) -> Receipt:
        """Charge a hold's usage: end the hold, burn grants, write the entry. Once; a replay gets the first receipt.

        A hold that has expired, or that the ledger does not know, is charged all the same and the receipt is late.
        A hold that was released is an OperationConflict. What grants do not cover becomes debt.
        """

    async def release(self, *, account: str, hold_id: str, resource: ResourceRef | None = None) -> bool:
        """Give a hold back; True if this ended it. False if it had ended before, whatever the end."""

    async def extend(self, *, account: str, hold_ids: Sequence[str], lease_seconds: int) -> Sequence[str]:
        """Extend the leases of open holds; the ids that are not open any more come back."""

    async def renew(self, renewal: Renewal) -> Renewed | PlanChanged:
        """Charge the slice that was used and hold the next one, in one atomic step.

        The charge is made as `settle` makes it. Then guards 1 to 5 are judged for the next hold, with the credit that
        is left; rates are not counted, and the place in the concurrency class passes from hold to hold. PlanChanged:
        nothing was written, not even the charge; ask again with that plan. Replay: the first answer, also after the
        next hold has ended; other content is an OperationConflict, and so is a next hold that is in use or has ended.
        An old hold that had expired is charged late, and the next one is judged all the same, concurrency included; so
        it is where `settle` made this charge before, whose receipt is then the first one. `settle` after `renew` gets
        the receipt of `renew`. After a refusal, `admit` may ask for that next hold once more.
        """

    async def correct(
        self, *, operation: str, account: str, key_id: str, amount: Nanos, data: Mapping[str, Any]
    ) -> Receipt:
        """Add a `correction` entry: what a later receipt changes of a charge, which itself stays as it is.

        A positive `amount` gives credit back (debt first, the rest as a grant of kind correction that burns first and
        never expires), a negative one charges more, like a charge. The key's month moves with it, not below zero.
        `data` says what is corrected and why (JSON data: `call_id`, `reason`, ...). Receipt.charged is -amount.
        LedgerRefused if the balance would pass BALANCE_MAX, or the amount is 0 or cannot be counted.
        """

    async def changes(self, accounts: Sequence[str]) -> Sequence[int]:
        """For each account a number that grows with every change that administration makes of it: plan, status, keys,
        grants, corrections. 0 for an unknown account.
        """

    async def use_once(self, *, account: str, name: str, by: str, seconds: int) -> bool:
        """Whether `name` (a one-time token's) was not used before, or by `by` itself. From the first use on it is used,
        for `seconds`.
        """

    async def name_call(self, named: NamedCall) -> Naming:
        """Take a name for a call, unless the call that has it is under way or was charged.

        That is told by that call's hold: settled, or a job's from `accept` on, the call is done; open, it is running;
        released or expired, it came to nothing and the name is free. Replay by the same hold: taken; with other content
        an OperationConflict.
        """

    async def keep_answer(self, *, account: str, name: str, hold_id: str, answer: bytes, bytes_max: int) -> bool:
        """Keep the answer of a call, for as long as its name. False: the name is not its own any more, or the answers
        of the account would have more than `bytes_max` together.
        """

    async def free_name(self, *, account: str, name: str, hold_id: str) -> None:
        """The call came to nothing: forget its name. That of a call which has an open hold or was charged stays."""

    async def resource(self, *, account: str, ref: ResourceRef) -> Resource | None:
        """The account's record of it; None if it is not the account's (whether it exists or not)."""

    async def owned(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bool]:
        """For each, whether it is the account's."""

    async def forget(self, *, account: str, ref: ResourceRef) -> None:
        """The resource was deleted: the account no longer owns it. Its charge stays."""

    # ---- jobs that are followed

    async def claim_jobs(self, *, limit: int, lease_seconds: float) -> Sequence[FollowedJob]:
        """Open jobs of any account whose look is due, at most `limit`; nobody else gets them within the lease.

        What a lost process had claimed is due again after the lease. A job whose account lost its place in the index
        of accounts comes back with the account's next `sweep`.
        """

    async def look_later(self, *, account: str, ref: ResourceRef, seconds: float, gone: bool | None = None) -> None:
        """A job was looked at (or, with `gone` None, was not): claim it again after so many seconds, if it is followed.

        `gone`: whether the upstream does not know it; Resource.gone_ms is when it was first said and not denied since.
        """

    async def give_up(self, *, account: str, ref: ResourceRef, hold_id: str) -> bool:
        """Follow a job no longer, and end its hold as if its time were over; True if it was followed until now.

        Its record stays open: a result that turns up all the same is charged, late.
        """

    async def jobs(self, account: str, *, limit: int = 1000) -> Sequence[FollowedJob]:
        """The account's jobs that are followed, the next one to be looked at first."""

    # ---- the store's own work

    async def sweep(self, account: str) -> Swept:
        """End what is over by the store's clock: holds past their expiry, grants past theirs."""

    def accounts(self) -> AsyncIterator[str]:
        """Every account's id, in no order, each at least once."""

    async def ping(self) -> None:
        """Return if the ledger can answer; LedgerUnavailable if not."""

    # ---- administration

    async def open_account(self, *, operation: str, account: str, plan: Plan, signup: Nanos = ZERO) -> Account:
        """Open an account with its signup grant (0: none). LedgerRefused if it exists by another operation."""

    async def change_account(
        self, *, operation: str, account: str, plan: Plan | None = None, status: AccountStatus | None = None
    ) -> Account:
        """Change tier, rate card or status; in force for the next admission of every process."""

    async def grant(
        self,
        *,
        operation: str,
        account: str,
        kind: GrantKind,
        amount: Nanos,
        priority: int = 50,
        expires_ms: int | None = None,
        note: str = "",
    ) -> Grant:
        """Give credit. Debt is paid first. LedgerRefused if the balance would pass BALANCE_MAX, or amount <= 0."""

    async def put_key(self, *, operation: str, key: Key, digest: str) -> Key:
        """Make a key of an account, found by its digest. LedgerRefused if the digest or id is in use."""

    async def change_key(self, *, operation: str, account: str, key_id: str, changes: Mapping[str, Any]) -> Key:
        """Change name, disabled, expires_ms, products or monthly_budget. LedgerRefused for an unknown key."""

    async def account(self, account: str) -> Account:
        """The account as it stands now, grants included, in burn order."""

    async def keys(self, account: str) -> Sequence[Key]:
        """The account's keys."""

    async def holds(self, account: str) -> Sequence[Hold]:
        """The account's open holds, soonest expiry first."""

    async def entries(self, account: str, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        """Entries in the order they were made, after the given entry id."""

    async def verify(self, account: str) -> Sequence[Drift]:
        """Recompute balance, holds and counters from the entries and records; every difference."""


class Clock(Protocol):
    """Time of this process."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


@open_record
class CallFinished:
    """One call, told to observers when it is over. No key, token, URL query or body is in it.

    `outcome`: refused, passed (free), settled, released, job_accepted, spooled, repeated (an answer given before),
    conflict (the ledger refused the charge). Seconds and nano-dollars.
    """

    time: float  # seconds since the epoch, when it was over
    call_id: str
    account: str
    key_id: str
    product: str
    route: str
    method: str
    status: int
    outcome: str
    code: str
    held: Nanos
    charged: Nanos
    late: bool
    estimated: bool
    client_gone: bool
    seconds: float
    upstream_seconds: float
    settle_seconds: float
    request_bytes: int
    reply_bytes: int
    upstream_status: int


@record
class SessionFinished:
    """One session, told to observers when it is over, beside its call.

    `ended`: client, client_lost, upstream, upstream_lost, or the code for which the gateway ended it. `seconds` by our
    clock from its beginning; `difference_seconds` is how far the upstream's report was from that, where there was one.
    """

    product: str
    ended: str
    begun: bool
    reported: bool
    seconds: float
    difference_seconds: float
    slices: int
    warned: bool


@record
class JobLooked:
    """A look of the gateway itself at an open job, told to observers. No id of the upstream's is in it.

    `outcome` while it is open: running, unknown (to the service), silent (the service said nothing); when it is `over`:
    settled, released, spooled, gone, expired, conflict (its hold had another end). `seconds` since it was accepted.
    """

    account: str
    key_id: str
    call_id: str
    product: str
    outcome: str
    over: bool
    charged: Nanos
    estimated: bool
    late: bool
    seconds: float


class Observer(Protocol):
    """Told of what happened, after the fact. Must not raise and must not block."""

    def call_finished(self, record: CallFinished) -> None:
        """A call is over."""

    def session_finished(self, record: SessionFinished) -> None:
        """A session is over."""

    def job_looked(self, record: JobLooked) -> None:
        """The gateway looked at a job by itself."""

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """Something that ops count: `hold_expired`, `spool_replayed`, `ledger_error`, ... Facts are bounded words."""
