"""The guards in their order, and the size of a hold."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.admission import Concurrency, Demand, Rate, RateState, Standing, judge
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
    assert limited == Refused(code=Code.RATE_LIMITED, details={"rate": "r"}, retry_after_seconds=42)
    crowded = judge(CALL, replace(GOOD, open_holds=2))
    assert crowded == Refused(code=Code.TOO_MANY_CONCURRENT, details={"limit": "2"}, retry_after_seconds=1)


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
