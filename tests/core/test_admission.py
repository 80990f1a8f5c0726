"""The guards in their order, and the size of a hold."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.admission import (
    Concurrency,
    Demand,
    Rate,
    RateState,
    Scaling,
    Standing,
    Window,
    judge,
    next_quota,
    window_at,
)
from gateway.core.errors import Code, Refused
from gateway.core.money import Nanos

RATE = Rate(name="r", quota=10, window_seconds=60)
FULL = RateState(rate=RATE, remaining=0, reset_seconds=42)
OPEN = RateState(rate=RATE, remaining=1, reset_seconds=42)
GOOD = Standing(
    key_known=True, key_enabled=True, key_products=None, account_active=True,
    available=Nanos(1000), budget_left=None, rates=(OPEN,), open_holds=0,
)  # fmt: skip
CALL = Demand(product="p", entitled=True, metered=True, estimate=Nanos(300), concurrency=Concurrency(name="c", limit=2))

#: Each guard with the change of standing or demand that makes it refuse, in their order.
GUARDS: list[tuple[Code, dict[str, Any], dict[str, Any]]] = [
    (Code.UNAUTHORIZED, {"key_known": False}, {}),
    (Code.KEY_DISABLED, {"key_enabled": False}, {}),
    (Code.ACCOUNT_SUSPENDED, {"account_active": False}, {}),
    (Code.NOT_ENTITLED, {}, {"entitled": False}),
    (Code.INSUFFICIENT_CREDIT, {"available": Nanos(0)}, {}),
    (Code.KEY_BUDGET_EXCEEDED, {"budget_left": Nanos(0)}, {}),
    (Code.RATE_LIMITED, {"rates": (OPEN, FULL)}, {}),
    (Code.TOO_MANY_CONCURRENT, {"open_holds": 2}, {}),
]


@pytest.mark.parametrize("index", range(len(GUARDS)))
def test_each_guard_alone(index: int) -> None:
    """Each guard refuses by itself, with its own code."""
    code, standing, demand = GUARDS[index]
    verdict = judge(replace(CALL, **demand), replace(GOOD, **standing))
    assert isinstance(verdict, Refused)
    assert verdict.code is code


@given(st.sets(st.integers(0, len(GUARDS) - 1)))
def test_the_first_guard_speaks(failing: set[int]) -> None:
    """Of all guards that would refuse, the first in the written order does."""
    standing: dict[str, Any] = {}
    demand: dict[str, Any] = {}
    for index in failing:
        standing |= GUARDS[index][1]
        demand |= GUARDS[index][2]
    verdict = judge(replace(CALL, **demand), replace(GOOD, **standing))
    if failing:
        assert isinstance(verdict, Refused)
        assert verdict.code is GUARDS[min(failing)][0]
    else:
        assert verdict == 300


def test_a_key_for_other_products() -> None:
    """A key's own list of products narrows its tier's."""
    assert judge(CALL, replace(GOOD, key_products=frozenset({"p"}))) == 300
    verdict = judge(CALL, replace(GOOD, key_products=frozenset({"q"})))
    assert isinstance(verdict, Refused) and verdict.code is Code.NOT_ENTITLED


@pytest.mark.parametrize(
    ("available", "budget", "estimate", "hold"),
    [(1000, None, 300, 300), (200, None, 300, 200), (1000, 100, 300, 100), (1, None, 300, 1), (1000, None, 0, 0)],
)
def test_the_hold_is_what_is_left_at_most(available: int, budget: int | None, estimate: int, hold: int) -> None:
    """A hold is the estimate, but never more than is available or left of the key's budget."""
    standing = replace(GOOD, available=Nanos(available), budget_left=None if budget is None else Nanos(budget))
    assert judge(replace(CALL, estimate=Nanos(estimate)), standing) == hold


def test_an_estimate_that_must_be_covered() -> None:
    """Where the config says so, a call is refused that available credit does not cover."""
    demand = replace(CALL, covers_estimate=True)
    assert judge(demand, replace(GOOD, available=Nanos(300))) == 300
    verdict = judge(demand, replace(GOOD, available=Nanos(299)))
    assert isinstance(verdict, Refused) and verdict.code is Code.INSUFFICIENT_CREDIT


def test_a_free_call_needs_no_credit() -> None:
    """A free call passes by credit, budget and concurrency, but not by rates; it holds nothing."""
    free = replace(CALL, metered=False)
    poor = replace(GOOD, available=Nanos(-5), budget_left=Nanos(0), open_holds=99)
    assert judge(free, poor) == 0
    verdict = judge(free, replace(poor, rates=(FULL,)))
    assert isinstance(verdict, Refused) and verdict.code is Code.RATE_LIMITED


def test_refusals_that_pass_say_when() -> None:
    """A rate says when its window starts afresh and which it is; concurrency says to retry soon."""
    limited = judge(CALL, replace(GOOD, rates=(FULL,)))
    assert limited == Refused(code=Code.RATE_LIMITED, details={"rate": "r", "quota": "10"}, retry_after_seconds=42)
    crowded = judge(CALL, replace(GOOD, open_holds=2))
    assert crowded == Refused(code=Code.TOO_MANY_CONCURRENT, details={"limit": "2"}, retry_after_seconds=1)


def test_a_key_must_have_the_add_ons_products_too() -> None:
    """A key's list of products holds for everything that a request uses; a key without a list has all."""
    demand = replace(CALL, add_ons=("extra",))
    assert judge(demand, GOOD) == 300
    assert judge(demand, replace(GOOD, key_products=frozenset({"p", "extra"}))) == 300
    for products in ({"p"}, {"extra"}, set[str]()):
        verdict = judge(demand, replace(GOOD, key_products=frozenset(products)))
        assert isinstance(verdict, Refused) and verdict.code is Code.NOT_ENTITLED


@given(st.integers(-(10**18), 10**18), st.none() | st.integers(-(10**9), 10**18), st.integers(0, 10**18))
def test_a_hold_never_exceeds_what_covers_it(available: int, budget: int | None, estimate: int) -> None:
    """Whatever the numbers: the hold is an integer from zero to what is available, or there is none."""
    standing = replace(GOOD, available=Nanos(available), budget_left=None if budget is None else Nanos(budget))
    verdict = judge(replace(CALL, estimate=Nanos(estimate)), standing)
    if isinstance(verdict, Refused):
        assert available <= 0 or (budget is not None and budget <= 0)
    else:
        assert type(verdict) is int
        assert 0 <= verdict <= min(available, estimate)


STREAMS = Rate(name="streams", quota=100, window_seconds=60, scaling=Scaling())
MINUTE = 60_000


def used(rate: Rate, window: Window | None, now_ms: int, count: int) -> Window:
    """The window at a time, after so many requests in it."""
    return replace(window_at(rate, window, now_ms), count=count)


def test_a_quota_grows_with_its_use_as_the_vendor_says() -> None:
    """From minute to minute at 70 % of use: 100, 110, 121, 133, 146, 161; and back by the same steps when unused."""
    quotas, window = [], None
    for minute in range(6):
        window = used(STREAMS, window, minute * MINUTE, 0)
        quotas.append(window.quota)
        window = replace(window, count=-(-window.quota * 7 // 10))
    assert quotas == [100, 110, 121, 133, 146, 161]
    back = [next_quota(STREAMS, 161, 0, idle=idle) for idle in range(6)]
    assert back == [146, 133, 121, 110, 100, 100]


@pytest.mark.parametrize(("count", "then"), [(70, 110), (69, 100), (50, 100), (49, 100), (0, 100), (100, 110)])
def test_the_configured_quota_grows_from_seventy_percent(count: int, then: int) -> None:
    """At 70 % and not below; it never falls below what is configured."""
    assert used(STREAMS, Window(start_ms=0, count=count, quota=100), MINUTE, 0).quota == then


@pytest.mark.parametrize(("count", "then"), [(85, 133), (84, 121), (61, 121), (60, 110)])
def test_a_grown_quota_stays_between_half_and_seventy_percent(count: int, then: int) -> None:
    """Of 121: 85 are 70 %, 61 are half."""
    assert used(STREAMS, Window(start_ms=0, count=count, quota=121), MINUTE, 0).quota == then


def test_windows_that_nobody_used_count() -> None:
    """A quota that grew sinks for each window in which there was no request, down to the configured one."""
    last = Window(start_ms=0, count=146, quota=146)
    for minutes, quota in ((0.99, 146), (1, 161), (1.99, 161), (2, 146), (3, 133), (7, 100), (10**6, 100)):
        assert window_at(STREAMS, last, round(minutes * MINUTE)).quota == quota


def test_a_quota_is_never_out_of_the_bounds_of_its_config() -> None:
    """A stored quota from before a change of config is brought into bounds; a clock that went back changes none."""
    capped = replace(STREAMS, scaling=Scaling(quota_max=120))
    assert window_at(capped, Window(start_ms=0, count=0, quota=500), 5).quota == 120
    assert next_quota(capped, 118, 118, idle=0) == 120
    assert window_at(STREAMS, Window(start_ms=0, count=0, quota=5), 5).quota == 100
    assert window_at(STREAMS, Window(start_ms=9, count=99, quota=121), 5) == Window(start_ms=5, count=0, quota=121)
    plain = replace(STREAMS, scaling=None)
    assert window_at(plain, Window(start_ms=0, count=99, quota=100), MINUTE).quota == 100


@given(
    st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6),
    st.integers(1, 100), st.integers(1, 100), st.integers(0, 100),
)  # fmt: skip
def test_a_quota_follows_within_its_bounds(
    least: int, extra: int, count: int, idle: int, grow_at: int, grow: int, shrink_below: int
) -> None:
    """Whatever the numbers: between the configured quota and the most, found in a bounded time."""
    scaling = Scaling(
        grow_at_percent=grow_at, grow_percent=grow, shrink_below_percent=min(grow_at, shrink_below), quota_max=10**9
    )
    rate = Rate(name="r", quota=least, window_seconds=1, scaling=scaling)
    assert least <= next_quota(rate, min(least + extra, 10**9), count, idle=idle) <= 10**9
