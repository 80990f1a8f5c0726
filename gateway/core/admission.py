"""The guards of admission, in their order.

Owns: who is refused and why, and how large a hold is. `ledger/scripts/admit.lua` is the same rule next to the
live numbers; the stateful ledger test holds the two together.
Does not know: where the numbers come from. Everything, now included, is handed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gateway.core.errors import Code, Refused
from gateway.core.money import Nanos
from gateway.core.record import record


@record
class Scaling:
    """How a rate's quota follows its use. All in percent of the quota in force, whole.

    A window of which at least `grow_at_percent` was used makes the next one's quota larger by `grow_percent` (rounded
    half up, at most `quota_max`); one of which less than `shrink_below_percent` was used makes it smaller by the same
    step, never below the configured quota. Windows that nobody used count as such.
    """

    grow_at_percent: int = 70
    grow_percent: int = 10
    shrink_below_percent: int = 50
    quota_max: int = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A limit of requests per window. `name` is the policy's name, fixed by config."""

    name: str
    quota: int
    window_seconds: int
    scaling: Scaling | None = None

    @cached_property
    def policy(self) -> str:
        """Its item of the `RateLimit-Policy` field (draft-ietf-httpapi-ratelimit-headers-10)."""
        return f'"{self.name}";q={self.quota};w={self.window_seconds}'


@record
class RateState:
    """How a rate stands after this call: requests left in the window, and seconds until it starts afresh."""

    rate: Rate
    remaining: int
    reset_seconds: int


@record
class Concurrency:
    """A limit of open holds of one class."""

    name: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The live facts that the guards look at. Amounts in nano-dollars."""

    key_known: bool
    key_enabled: bool
    key_products: frozenset[str] | None  # None: every product
    account_active: bool
    available: Nanos
    budget_left: Nanos | None  # None: the key has no budget
    rates: Sequence[RateState]  # as they stand before this call
    open_holds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a call asks for. `metered` calls need credit and take a hold; free ones pass by guards 4, 5 and 7."""

    product: str
    entitled: bool
    metered: bool
    estimate: Nanos
    covers_estimate: bool = False
    concurrency: Concurrency | None = None


def crowded(limit: Concurrency) -> Refused:
    """The refusal of a call whose class is full: a place may be free at any moment."""
    return Refused(code=Code.TOO_MANY_CONCURRENT, details={"limit": str(limit.limit)}, retry_after_seconds=1)


def judge(demand: Demand, standing: Standing) -> Refused | Nanos:
    """The size of the hold to take (0 for a free call), or the first guard that refuses."""
    if not standing.key_known:
        return Refused(code=Code.UNAUTHORIZED)
    if not standing.key_enabled:
        return Refused(code=Code.KEY_DISABLED)
    if not standing.account_active:
        return Refused(code=Code.ACCOUNT_SUSPENDED)
    if not demand.entitled or (standing.key_products is not None and demand.product not in standing.key_products):
        return Refused(code=Code.NOT_ENTITLED)
    if demand.metered and (
        standing.available <= 0 or (demand.covers_estimate and demand.estimate > standing.available)
    ):
        return Refused(code=Code.INSUFFICIENT_CREDIT)
    if demand.metered and standing.budget_left is not None and standing.budget_left <= 0:
        return Refused(code=Code.KEY_BUDGET_EXCEEDED)
    for state in standing.rates:
        if state.remaining <= 0:
            return Refused(
                code=Code.RATE_LIMITED,
                details={"rate": state.rate.name},
                retry_after_seconds=max(1, state.reset_seconds),
            )
    limit = demand.concurrency
    if demand.metered and limit is not None and standing.open_holds >= limit.limit:
        return crowded(limit)
    if not demand.metered:
        return Nanos(0)
    hold = min(demand.estimate, standing.available)
    return hold if standing.budget_left is None else min(hold, standing.budget_left)
