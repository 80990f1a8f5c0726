"""The ledger's port, as promises: here what the path of a call asks of it and what it does of itself, with its parts.

Owns: its methods and their docstrings, which are the contract that `tests/ledger` checks on every implementation.
Does not know: Redis.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from gateway.core.errors import Refused
from gateway.core.money import Nanos
from gateway.ports.administration import AdministrationLedger
from gateway.ports.exports import ExportLedger
from gateway.ports.jobs import JobLedger
from gateway.ports.named_calls import NamedCallLedger
from gateway.ports.outbox import OutboxLedger
from gateway.ports.payments import PaymentLedger
from gateway.ports.programmes import ProgrammeLedger
from gateway.ports.records import (
    AdmissionRequest,
    Admitted,
    Backlog,
    Identity,
    PlanChanged,
    Receipt,
    Renewal,
    Renewed,
    Resource,
    ResourceRef,
    Settlement,
    Swept,
)


class Ledger(
    NamedCallLedger,
    JobLedger,
    OutboxLedger,
    AdministrationLedger,
    PaymentLedger,
    ProgrammeLedger,
    ExportLedger,
    Protocol,
):
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

        First of all holds and grants of the account whose time is over are ended. What older holds rest on of such a
        grant stays, and ends with them: no other hold is given it. A free call (`metered` false)
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
        A hold that was released is an OperationConflict. What grants do not cover becomes debt. What is kept of grants
        that ended while the hold was open pays first; what the charge leaves of the hold's part expires.
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

    async def resource(self, *, account: str, ref: ResourceRef) -> Resource | None:
        """The account's record of it; None if it is not the account's (whether it exists or not)."""

    async def owned(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bool]:
        """For each, whether it is the account's."""

    async def forget(self, *, account: str, ref: ResourceRef) -> None:
        """The resource was deleted: the account no longer owns it. Its charge stays."""

    async def take_volume(self, *, account: str, hold_id: str, volumes: Mapping[str, int]) -> Mapping[str, int]:
        """Add what a hold's charge uses of each SKU to the account's month (UTC): what the month had of it before.

        In millionths of a unit, so that a charge can be priced by the steps that it is in; before it is settled. Once
        for a hold, whose first answer is remembered; other volumes, or a hold that was released, or settled without
        them, are an OperationConflict. No two charges get the same part of a step.
        """

    async def volumes(self, account: str, *, month: str) -> Mapping[str, int]:
        """What a month ("2026-11") had of each SKU that was counted, in millionths of a unit."""

    # ---- the store's own work

    async def sweep(self, account: str) -> Swept:
        """End what is over by the store's clock: holds and grants past their expiry. Old dead letters go too.

        The answer says how the account stands in its month.
        """

    def accounts(self) -> AsyncIterator[str]:
        """Every account's id, in no order, each at least once."""

    async def accounts_after(self, after: str, *, limit: int, containing: str = "") -> Sequence[str]:
        """Ids of accounts in their order, so many at most, that come after this one and have that text in them."""

    def server_of(self, account: str) -> str | None:
        """The server that has the account, as far as is known: all of one are away together. None: there is one."""

    async def lease_work(self, *, work: str, seconds: float) -> bool:
        """Whether this ledger's process is the one that does this work for all, for so many seconds from now."""

    async def ping(self) -> None:
        """Return if the ledger can answer; LedgerUnavailable if not."""

    async def backlog(self) -> Backlog:
        """What is due and nobody has claimed, of all accounts. An account may be in it whose work ended just now."""
