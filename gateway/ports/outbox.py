"""The part of the ledger that keeps what is to be told to somebody outside, and what is watched so that it is told.

Owns: the promises of those verbs, which the contract's tests check, and their records.
Does not know: how anything is delivered (courier), or what it says.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, Protocol

from gateway.core.record import record

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


class OutboxLedger(Protocol):
    """What `Ledger` promises of its methods holds here too."""

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

    async def put_watch(self, *, account: str, watch: Watch, anew: bool = False) -> Watch:
        """Watch something of the account from now on; the watch as it stands. `watch.told` is not looked at.

        A crossing is found in the step that makes it (a charge, a correction, a grant's expiry; of grants that will
        expire, a sweep), and posted in it. What was told is told again only after it has recovered: by a grant that
        lifts the balance to the threshold or above, by a correction that lifts it well above; by another day, month,
        grant. The same id with the same kind and amount keeps what it has told; with others, or with `anew`, it begins
        anew, and tells at once of a balance that is below or of what is spent already. LedgerRefused for what cannot be
        watched, or for too many.
        """

    async def drop_watch(self, *, account: str, watch_id: str) -> None:
        """Watch it no longer. What was posted is delivered all the same."""

    async def watches(self, account: str) -> Sequence[Watch]:
        """What is watched of the account, in the order of their ids."""
