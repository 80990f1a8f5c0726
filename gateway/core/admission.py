"""The guards of admission, in their order.

Owns: who is refused and why, how large a hold is, how a quota follows its use. `ledger/scripts/guards.lua` and
`admit.lua` are the same rules next to the live numbers; the stateful ledger test holds the two together.
Does not know: where the numbers come from. Everything, now included, is handed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from gateway.core.errors import Code, Refused
from gateway.core.money import Nanos, round_half_up
from gateway.core.record import record

#: After so many windows that nobody used, a quota is the configured one again, however large it was.
IDLE_WINDOWS_MAX: Final = 100
#: The rate of this name is each key's own; those of all other names are the account's, whichever key is used.
KEY_RATE: Final = "key"


@record
class Scaling:
    """How a rate's quota follows its use. All in percent of the quota in force, whole.

    A window of which at least `grow_at_percent` was used makes the next one's quota larger by `grow_percent` (rounded
    half up, at most `quota_max`); one of which less than `shrink_below_percent` was used takes the same step back,
    never below the configured quota. Windows that nobody used count as such.
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
class Window:
    """A window of a rate: when it started (milliseconds), how many requests were counted in it, its quota."""

    start_ms: int
    count: int
    quota: int


@record
class RateState:
    """How a rate (with the quota in force) stands after this call: requests left, seconds until it starts afresh."""

    rate: Rate
    remaining: int
    reset_seconds: int


@record
class Concurrency:
    """A limit of open holds of one class.

    Beyond it a call waits in the class's queue, first in, first out, if there are less than `queued_max` in it. With
    `when_negative` an account without credit has that limit (and holds nothing), where it would else be refused.
    """

    name: str
    limit: int
    queued_max: int = 0
    when_negative: int = 0


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
    queued: int = 0  # calls that wait in the queue of the class


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a call asks for. `metered` calls need credit and take a hold; free ones pass by guards 4, 5 and 7."""

    product: str
    entitled: bool
    metered: bool
    estimate: Nanos
    add_ons: Sequence[str] = ()  # other products of which it uses something
    covers_estimate: bool = False
    concurrency: Concurrency | None = None


def window_at(rate: Rate, last: Window | None, now_ms: int) -> Window:
    """The window that a request is in: the last one that was counted in, or one that starts now."""
    if last is None:
        return Window(start_ms=now_ms, count=0, quota=rate.quota)
    quota, elapsed, length = _in_bounds(rate, last.quota), now_ms - last.start_ms, rate.window_seconds * 1000
    if 0 <= elapsed < length:
        return replace(last, quota=quota)
    if elapsed > 0:
        quota = next_quota(rate, quota, last.count, idle=elapsed // length - 1)
    return Window(start_ms=now_ms, count=0, quota=quota)


def next_quota(rate: Rate, quota: int, used: int, *, idle: int) -> int:
    """The quota after a window in which `used` of `quota` were counted, and `idle` more in which nothing was."""
    if rate.scaling is None or idle >= IDLE_WINDOWS_MAX:
        return rate.quota
    quota = _followed(rate, rate.scaling, quota, used)
    while idle > 0 and quota > rate.quota:
        quota = _followed(rate, rate.scaling, quota, 0)
        idle -= 1
    return quota


def _followed(rate: Rate, scaling: Scaling, quota: int, used: int) -> int:
    step = 100 + scaling.grow_percent
    if used * 100 >= quota * scaling.grow_at_percent:
        return _in_bounds(rate, round_half_up(quota * step, 100))
    if used * 100 < quota * scaling.shrink_below_percent:
        return _in_bounds(rate, min(quota - 1, round_half_up(quota * 100, step)))
    return quota


def _in_bounds(rate: Rate, quota: int) -> int:
    most = rate.quota if rate.scaling is None else rate.scaling.quota_max
    return max(rate.quota, min(quota, most))


def crowded(limit: Concurrency) -> Refused:
    """The refusal of a call whose class is full: a place may be free at any moment."""
    return Refused(code=Code.TOO_MANY_CONCURRENT, details={"limit": str(limit.limit)}, retry_after_seconds=1)


def waits(demand: Demand, standing: Standing) -> bool:
    """Whether there is no place for the call: its class is full, or others wait for one."""
    limit = demand.concurrency
    if not demand.metered or limit is None:
        return False
    most = limit.limit if standing.available > 0 else min(limit.limit, limit.when_negative)
    return standing.open_holds >= most or standing.queued > 0


def judge(demand: Demand, standing: Standing) -> Refused | Nanos:
    """The size of the hold to take (0 for a free call), or the first guard that refuses. One that `waits` is queued."""
    if not standing.key_known:
        return Refused(code=Code.UNAUTHORIZED)
    if not standing.key_enabled:
        return Refused(code=Code.KEY_DISABLED)
    if not standing.account_active:
        return Refused(code=Code.ACCOUNT_SUSPENDED)
    of_key = standing.key_products
    if not demand.entitled or (of_key is not None and not of_key.issuperset((demand.product, *demand.add_ons))):
        return Refused(code=Code.NOT_ENTITLED)
    limit, available = demand.concurrency, standing.available
    tolerated = limit is not None and limit.when_negative > 0 and available <= 0
    short = available <= 0 or (demand.covers_estimate and demand.estimate > available)
    if demand.metered and short and not tolerated:
        return Refused(code=Code.INSUFFICIENT_CREDIT)
    if demand.metered and standing.budget_left is not None and standing.budget_left <= 0:
        return Refused(code=Code.KEY_BUDGET_EXCEEDED)
    for state in standing.rates:
        if state.remaining <= 0:
            return Refused(
                code=Code.RATE_LIMITED,
                details={"rate": state.rate.name, "quota": str(state.rate.quota)},
                retry_after_seconds=max(1, state.reset_seconds),
            )
    if limit is not None and waits(demand, standing) and standing.queued >= limit.queued_max:
        return crowded(limit)
    if not demand.metered:
        return Nanos(0)
    hold = min(demand.estimate, max(available, Nanos(0)))
    return hold if standing.budget_left is None else min(hold, standing.budget_left)
