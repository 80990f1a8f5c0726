"""The part of the ledger that people use: accounts, keys and grants are made, changed and looked at.

Owns: the promises of those verbs, which the contract's tests check, and their records.
Does not know: who asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gateway.core.money import ZERO, Nanos
from gateway.ports.records import Entry, Grant, GrantKind, Hold, Plan, Receipt

AccountStatus = Literal["active", "suspended"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A difference that `verify` found: which number of which account, as stored and as recomputed."""

    account: str
    what: str
    stored: int
    recomputed: int


class AdministrationLedger(Protocol):
    """What `Ledger` promises of its methods holds here too."""

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

    async def end_grant(self, *, operation: str, account: str, grant_id: str, data: Mapping[str, Any]) -> Receipt:
        """Take off what is left of a grant, now, by a `grant_expiry` entry. LedgerRefused if it is over or spent.

        What open holds rest on is taken off as they end, as at the end of its time. Receipt.charged: what went now.
        """

    async def put_key(self, *, operation: str, key: Key, digest: str, before_ms: int | None = None) -> Key:
        """Make a key of an account, found by its digest. LedgerRefused if it is over, or its digest or id in use.

        `before_ms`: LedgerRefused from then on too, but for a repeat.
        """

    async def change_key(
        self, *, operation: str, account: str, key_id: str, changes: Mapping[str, Any], before_ms: int | None = None
    ) -> Key:
        """Change what is named of a key. LedgerRefused for an unknown key, and for what cannot be changed.

        `before_ms`: LedgerRefused from then on too, but for a repeat. Without it an expiry may be over: the key ends.
        """

    # ---- what is seen

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
