"""The ledger's port: balances, holds, entries, keys and ownership, as promises.

Owns: its methods and their docstrings, which are the contract that `tests/ledger` checks on every implementation.
Does not know: Redis.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Protocol

from gateway.core.errors import Refused
from gateway.core.money import ZERO, Nanos
from gateway.ports.exports import ExportLedger
from gateway.ports.payments import PaymentLedger
from gateway.ports.programmes import ProgrammeLedger
from gateway.ports.records import (
    Account,
    AccountStatus,
    AdmissionRequest,
    Admitted,
    AuditLine,
    Backlog,
    Delivery,
    Drift,
    Entry,
    FollowedJob,
    Grant,
    GrantKind,
    Hold,
    Identity,
    Key,
    NamedCall,
    Naming,
    Plan,
    PlanChanged,
    QueuedJob,
    Receipt,
    Renewal,
    Renewed,
    Resource,
    ResourceRef,
    Settlement,
    Swept,
    UsageDay,
    Watch,
)


class Ledger(PaymentLedger, ProgrammeLedger, ExportLedger, Protocol):
    """Balances, holds, entries, keys and ownership. Every mutation has an operation id.

    A replay of an operation gets the first answer and changes nothing; the same id with other content raises
    OperationConflict. Every method may raise LedgerUnavailable: then nothing is known of the outcome, and the same
    call may be made again. Methods on an account that is not there raise UnknownAccount, unless they say otherwise.
    Time is the store's.
    """

    # ---- the path of a call

    async def identify(self, digest: str) -> Identity | None:
        """Whose key has this digest; None if nobody's."""

    def known(self, digest: str) -> Identity | None:
        """What `identify` would answer, where that is known without asking anybody; None says nothing."""

    async def move_key(self, *, identity: Identity, old: str, new: str, pepper: str) -> None:
        """Have a key that one digest finds be found by another, which is made with this pepper.

        At every moment one of the two finds it. The old one finds it for a week more, for those whose config is older,
        and is then forgotten. Done again, or by many at once, it is done once.
        """

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
        call_seconds: int = 0,
    ) -> None:
        """Record what an upstream made for the account: from now on the account owns it.

        With `resource.hold` (an open job) that hold gets the deadline as its expiry, if it is still open, and the job
        is followed until its record is no longer open: `claim_jobs` answers it after `look_seconds`. For `call_seconds`
        `made_by` finds it by that hold's id, which is its call's.
        `keep_seconds` 0 keeps the record until it is forgotten. Accepting the same id again with the same hold
        changes nothing; with another hold it is an OperationConflict.
        """

    async def made_by(self, *, account: str, call_id: str) -> ResourceRef | None:
        """What was accepted for a call, whatever became of it since; None if nothing is known (yet, or any more).

        An account that is not there has made nothing.
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
        self, *, operation: str, account: str, key_id: str, amount: Nanos, data: Mapping[str, Any], of_call: str = ""
    ) -> Receipt:
        """Add a `correction` entry: what a later receipt changes of a charge, which itself stays as it is.

        A positive `amount` gives credit back (debt first, the rest as a grant of kind correction that burns first and
        never expires), a negative one charges more, like a charge. The key's month moves with it, not below zero.
        `data` says what is corrected and why (JSON data: `call_id`, `reason`, ...). Receipt.charged is -amount.
        LedgerRefused if the balance would pass BALANCE_MAX, or the amount is 0 or cannot be counted. With `of_call`,
        also if the account has no charge of that call (that was not trimmed), or if more would come back than is left
        of its charges after all corrections and refunds of them.
        """

    async def refund(
        self, *, operation: str, account: str, entry_id: str, amount: Nanos | None, data: Mapping[str, Any]
    ) -> Receipt:
        """Give the charge of this entry back, or a part of it (None: all that is left), as a correction that says why.

        All refunds of a charge together are never more than it was, and with all corrections of its call never more
        than that was charged: LedgerRefused, also for what is no charge of the account. The credit comes back as that
        of `correct`. Receipt.charged is what came back, below zero.
        """

    async def changes(self, accounts: Sequence[str]) -> Sequence[int]:
        """For each account a number that grows with every change that administration makes of it: plan, status, keys,
        grants, corrections. 0 for an unknown account.
        """

    async def use_once(self, *, account: str, name: str, by: str, seconds: int) -> bool:
        """Whether `name` (a one-time token's) was not used before, or by `by` itself. From the first use on it is used,
        for `seconds`.
        """

    async def unuse(self, *, account: str, name: str, by: str) -> None:
        """Forget that `by` used `name`: what it was used for was not done. Nothing, where another one did."""

    async def used(self, *, account: str, name: str) -> bool:
        """Whether `name` was used (`use_once`, by anybody), and that is remembered."""

    async def name_call(self, named: NamedCall) -> Naming:
        """Take a name for a call, unless the call that has it is under way or was charged.

        That is told by that call's hold: settled, or a job's from `accept` on, the call is done; open, it is running;
        released or expired, it came to nothing and the name is free. One that is done is said to run while its answer
        may be about to be kept. Replay by the same hold: taken; with other content an OperationConflict.
        """

    async def has_name(self, *, account: str, name: str) -> bool:
        """Whether a call has this name now."""

    async def keep_answer(self, *, account: str, name: str, hold_id: str, answer: bytes, bytes_max: int) -> bool:
        """Keep the answer of a call, for as long as its name. False: the name is not its own any more, the answers of
        the account would have more than `bytes_max` together, or it is empty: none comes, and repeats need not wait.
        """

    async def free_name(self, *, account: str, name: str, hold_id: str) -> None:
        """The call came to nothing: forget its name. That of a call which has an open hold or was charged stays."""

    async def resource(self, *, account: str, ref: ResourceRef) -> Resource | None:
        """The account's record of it; None if it is not the account's (whether it exists or not)."""

    async def owned(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bool]:
        """For each, whether it is the account's."""

    async def forget(self, *, account: str, ref: ResourceRef) -> None:
        """The resource was deleted: the account no longer owns it. Its charge stays."""

    # ---- jobs that wait for their place

    async def enqueue(
        self, *, account: str, resource: Resource, body: bytes, deadline_seconds: int, call_seconds: int = 0
    ) -> bool:
        """Put a call that was admitted `queued` into its queue, as a job under an id of ours: from now on the account
        owns it, and its hold has the deadline as its expiry. False: its hold is not open and queued (any more).

        `body` is kept for whom `claim_queued` gives the job to. The order is that of the admissions. Replay: True.
        """

    async def claim_queued(
        self,
        *,
        limit: int,
        lease_seconds: float,
        limits: Mapping[tuple[str, str], int],
        when_negative: Mapping[tuple[str, str], int] | None = None,
    ) -> Sequence[QueuedJob]:
        """Jobs of any account whose turn it is, at most `limit`, first in, first out: each takes a place of its class,
        and nobody else gets it within the lease. One whose claimer was lost is claimed again after the lease.

        `limits`: the places by class and tier; a pair that is not there has no limit, and an account's overrides stand
        in place of both. While an account has no credit, a
        job for which nothing is held has only the places of `when_negative`, or one. The queue of a suspended account
        waits.
        """

    async def submitted(
        self, *, account: str, ref: ResourceRef, hold_id: str, upstream: str, look_seconds: float, endpoint: str = ""
    ) -> None:
        """A claimed job is at the upstream, which calls it `upstream`, at its `endpoint`; it is followed from now on,
        like one that was accepted. Of one that was ended meanwhile nothing changes.
        """

    async def submit_later(self, *, account: str, ref: ResourceRef, seconds: float) -> None:
        """A claimed job could not be submitted: claim it again after so many seconds. It keeps its place."""

    async def reject(self, *, account: str, ref: ResourceRef, hold_id: str, reason: str) -> None:
        """A queued job will not run: its hold is given back, and its record says why (`usage["error"]`)."""

    async def queued(self, account: str, *, limit: int = ...) -> Sequence[ResourceRef]:
        """The account's jobs that wait for their place, so many at most, the next one of each product first."""

    async def queued_bodies(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bytes | None]:
        """What is kept of the request of each; None where nothing is (any more)."""

    async def ids_of_ours(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[str | None]:
        """For each, named by the upstream's id, the id that we gave it; None where the account knows it by the
        upstream's.
        """

    async def take_volume(self, *, account: str, hold_id: str, volumes: Mapping[str, int]) -> Mapping[str, int]:
        """Add what a hold's charge uses of each SKU to the account's month (UTC): what the month had of it before.

        In millionths of a unit, so that a charge can be priced by the steps that it is in; before it is settled. Once
        for a hold, whose first answer is remembered; other volumes, or a hold that was released, or settled without
        them, are an OperationConflict. No two charges get the same part of a step.
        """

    async def volumes(self, account: str, *, month: str) -> Mapping[str, int]:
        """What a month ("2026-11") had of each SKU that was counted, in millionths of a unit."""

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

    # ---- the outbox: what is to be told to somebody outside

    async def post(
        self, *, account: str, delivery_id: str, channel: str, payload: Mapping[str, Any], seconds: float = 0.0
    ) -> bool:
        """Post a delivery that is due in so many seconds; True if it is new.

        The same id again changes nothing, but one that still waits for its first attempt is due at the earlier of the
        two, with the payload that was posted for that time. The id of one that was delivered is remembered like an
        operation's. Where too many wait already, it is a dead letter at once.
        """

    async def claim_deliveries(
        self, *, limit: int, lease_seconds: float, account_max: int = 1000, busy: Collection[str] = ()
    ) -> Sequence[Delivery]:
        """Deliveries of any account that are due, at most `limit`; nobody else gets them within the lease.

        At most `account_max` of one account, and none of those that are `busy`.

        Each is to be ended by `delivered`, `put_off` or `bury`; else it is due again after the lease. Deliveries of an
        account that lost its place in the index of accounts come back with the account's next `sweep`.
        """

    async def delivered(self, *, account: str, delivery_id: str) -> None:
        """It has arrived."""

    async def put_off(
        self, *, account: str, delivery_id: str, seconds: float, why: str = "", attempted: bool = True
    ) -> None:
        """It has not arrived: claim it again after so many seconds. `why` "" keeps the last reason; `attempted` false
        counts no attempt.
        """

    async def bury(self, *, account: str, delivery_id: str, why: str) -> None:
        """It is given up after an attempt more: a dead letter, kept for a while, the newest of them."""

    async def revive(self, *, account: str, delivery_id: str) -> bool:
        """Deliver a dead letter after all, with all attempts anew; False if it is none."""

    async def deliveries(self, account: str, *, dead: bool = False, limit: int = 100) -> Sequence[Delivery]:
        """The account's deliveries that wait, the first one due first; or its dead letters, the newest first."""

    async def delivery(self, *, account: str, delivery_id: str) -> Delivery | None:
        """One of them; None if it neither waits nor is a dead letter."""

    # ---- watches

    async def put_watch(self, *, account: str, watch: Watch) -> Watch:
        """Watch something of the account from now on; the watch as it stands. `watch.told` is not looked at.

        A crossing is found in the step that makes it (a charge, a correction, a grant's expiry; of grants that will
        expire, a sweep), and posted in it. What was told is told again only after it has recovered: by a grant that
        lifts the balance to the threshold or above, by a correction that lifts it well above; by another day, month,
        grant. The same id with the same kind and amount keeps what it has told; with others it begins anew, and tells
        at once of a balance that is below or of what is spent already. LedgerRefused for what cannot be watched, or
        for too many.
        """

    async def drop_watch(self, *, account: str, watch_id: str) -> None:
        """Watch it no longer. What was posted is delivered all the same."""

    async def watches(self, account: str) -> Sequence[Watch]:
        """What is watched of the account, in the order of their ids."""

    # ---- the store's own work

    async def sweep(self, account: str) -> Swept:
        """End what is over by the store's clock: holds and grants past their expiry. Old dead letters go too.

        The answer says how the account stands in its month.
        """

    def accounts(self) -> AsyncIterator[str]:
        """Every account's id, in no order, each at least once."""

    async def accounts_after(self, after: str, *, limit: int, containing: str = "") -> Sequence[str]:
        """Ids of accounts in their order, so many at most, that come after this one and have that text in them."""

    async def lease_work(self, *, work: str, seconds: float) -> bool:
        """Whether this ledger's process is the one that does this work for all, for so many seconds from now."""

    async def ping(self) -> None:
        """Return if the ledger can answer; LedgerUnavailable if not."""

    async def backlog(self) -> Backlog:
        """What is due and nobody has claimed, of all accounts. An account may be in it whose work ended just now."""

    # ---- administration

    async def open_account(self, *, operation: str, account: str, plan: Plan, signup: Nanos = ZERO) -> Account:
        """Open an account with its signup grant (0: none). LedgerRefused if it exists by another operation."""

    async def change_account(
        self,
        *,
        operation: str,
        account: str,
        plan: Plan | None = None,
        tier: str | None = None,
        rate_card: str | None = None,
        status: AccountStatus | None = None,
        overrides: Mapping[str, str | None] | None = None,
    ) -> Account:
        """Change what is given of tier, rate card ("": the tier's) and status; `plan` is the first two together.

        Of `overrides`, each that is named is put in place of what was there, or taken away (None). What is not given
        stays, whoever changes it meanwhile. In force for the next admission of every process. LedgerRefused if the
        overrides are more than an account may have.
        """

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
        """Change what is named of a key. LedgerRefused for an unknown key, and for what cannot be changed."""

    async def account(self, account: str) -> Account:
        """The account as it stands now, grants included, in burn order."""

    async def keys(self, account: str) -> Sequence[Key]:
        """The account's keys."""

    async def holds(self, account: str) -> Sequence[Hold]:
        """The account's open holds, soonest expiry first."""

    async def entries(
        self, account: str, *, after: str = "", before: str = "", limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        """The first entries, in the order they were made or in reverse, of those after and before the given ids.

        LedgerRefused for what is no entry's id.
        """

    async def usage(self, account: str, *, since: str, until: str) -> Sequence[UsageDay]:
        """What was charged from the day `since` to the one before `until` ("2026-11-27", UTC), by day, product and key.

        Counted in the same step as each charge and correction; a month is kept for USAGE_DAYS after its last new line.
        LedgerRefused for what is no day, or more than USAGE_DAYS apart.
        """

    async def audit(self, line: AuditLine) -> None:
        """Append a line to the log of what administrators did. The store says its id and time.

        It has the newest AUDIT_LINES_MAX lines. A repeat over a lost reply may append it twice: it has one `deed`.
        """

    async def audited(self, *, account: str = "", before: str = "", limit: int = 100) -> Sequence[AuditLine]:
        """Lines of the log, the newest first, before the given id; of this account alone, where one is given.

        LedgerRefused for what is no line's id.
        """

    async def verify(self, account: str, *, entries: bool = True) -> Sequence[Drift]:
        """Recompute balance, holds and counters from the entries and records; every difference.

        Without `entries` the last one is believed: of few steps, however many there are; what is counted by month is
        then not looked at.
        """
