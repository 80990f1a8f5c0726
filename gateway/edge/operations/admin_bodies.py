"""What may be asked of the accounts' administration: one model per request.

Owns: the fields of each request, and which of them may be left out.
Does not know: how a field is read (fields) or a body (bodies), the ledger.
"""

from typing import Annotated, Literal

from pydantic import Field

from gateway.edge.operations.bodies import Body, Change
from gateway.edge.operations.fields import (
    Billing,
    Day,
    FutureOnceMs,
    Given,
    Id,
    Name,
    Note,
    Overrides,
    Products,
    Project,
    RateCardName,
    Secret,
    TierName,
    Usd,
    UsdAboveZero,
    UsdNotZero,
    Word,
)
from gateway.ports import AccountStatus


class OpenAccount(Body):
    """A new account. Without a tier it gets the config's default one; without a rate card, its tier's."""

    id: Id
    tier: TierName | None = None
    rate_card: RateCardName | None = None


class ChangeAccount(Change):
    """Another tier, rate card (null: the tier's) or status; overrides of its tier (null: as the tier has it)."""

    tier: TierName = ""
    rate_card: RateCardName | None = None
    status: AccountStatus = "active"
    overrides: Overrides = Field(default_factory=dict)


class AddKey(Body):
    """A new key. Without an id and a secret it is given them."""

    id: Id | None = None
    name: Name = ""
    project: Project = ""
    secret: Secret | None = Field(default=None, repr=False)
    expires_at: FutureOnceMs | None = None
    products: Products | None = None
    monthly_budget: Usd | None = None
    billing: Billing = "manage"


class ChangeKey(Change):
    """Other facts of a key. Null takes away the expiry, the allow-list of products, the monthly budget."""

    name: Name = ""
    project: Project = ""
    disabled: bool = False
    expires_at: FutureOnceMs | None = None
    products: Products | None = None
    monthly_budget: Usd | None = None
    billing: Billing = "manage"


class SettleJob(Body):
    """How to end a job. `charge_hold`: one that is not over costs its hold."""

    charge_hold: bool = False


class GiveGrant(Body):
    """Credit to give. Lower priorities burn first."""

    kind: Literal["signup", "purchase", "promotion", "goodwill"]
    amount: UsdAboveZero
    priority: Annotated[int, Field(ge=0, le=1000)] = 50
    expires_at: FutureOnceMs | None = None
    note: Note = ""


class EndGrant(Body):
    """Why a grant ends before its time: what is left of it is taken off."""

    reason: Annotated[Note, Given]


class Refund(Body):
    """A charge to give back, by its entry: how much (null: all that is left of it), and why."""

    entry: Annotated[Word, Given]
    amount: UsdAboveZero | None = None
    reason: Annotated[Note, Given]


class PriceDryRun(Body):
    """Charges to price again: whose, of which days (UTC; default: the last thirty), by which file (YAML).

    Each as the rate card that it was charged by, or all as `rate_card`.
    """

    account: Id
    prices: Annotated[str, Field(min_length=1, max_length=60_000)]
    since: Day = ""
    until: Day = ""
    rate_card: Word | None = None


class RotateKey(Body):
    """A new key in the place of one, which is good until then (null: it ends now). `expires_at` is the new one's."""

    old_until: FutureOnceMs | None = None
    expires_at: FutureOnceMs | None = None


class Correct(Body):
    """A charge to correct: by how much, why, and who says so. `key` is the one whose month moves with it."""

    call_id: Annotated[Name, Given]
    amount: UsdNotZero
    reason: Annotated[Note, Given]
    actor: Annotated[Name, Given]
    key: Id | None = None
