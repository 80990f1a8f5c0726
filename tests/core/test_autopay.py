"""When an account's card is charged by itself: the table, and the decision."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.autopay import (
    CENT,
    TABLE,
    Autopay,
    AutopayMove,
    AutopayState,
    after,
    diagram,
    failed,
    judge,
    whole_cents,
)
from gateway.core.errors import IllegalMove
from gateway.core.money import Nanos

DOLLAR = 1_000_000_000
PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "autopay.md"
ON = Autopay(enabled=True, threshold=Nanos(25 * DOLLAR), target=Nanos(50 * DOLLAR), provider="stripe")


def judged(balance: int, autopay: Autopay = ON, **changes: Any) -> tuple[str, int]:
    bounds: dict[str, Any] = {
        "active": True,
        "now_ms": 1000, "month": "2026-11", "amount_min": Nanos(5 * DOLLAR), "amount_max": Nanos(1000 * DOLLAR),
    }  # fmt: skip
    return judge(autopay, "a1", balance=balance, **bounds | changes)


@pytest.mark.parametrize(("state", "move"), list(product(AutopayState, AutopayMove)))
def test_only_the_moves_of_the_table_are_made(state: AutopayState, move: AutopayMove) -> None:
    """Every other one raises; every state can be left."""
    if move in TABLE[state]:
        assert after(state, move) is TABLE[state][move]
    else:
        with pytest.raises(IllegalMove):
            after(state, move)
    assert any(target is not state for target in TABLE[state].values())


def test_the_vendors_example() -> None:
    """Threshold 25, target 50: 26 dollars are enough, 21 are charged 29."""
    assert judged(26 * DOLLAR) == ("enough", 0)
    assert judged(25 * DOLLAR) == ("enough", 0)
    assert judged(21 * DOLLAR) == ("begun", 29 * DOLLAR)


@given(balance=st.integers(-(10**15), 25 * DOLLAR - 1), cap=st.none() | st.integers(0, 10**6))
def test_an_amount_is_whole_cents_within_its_bounds(balance: int, cap: int | None) -> None:
    """It reaches the target, unless a bound is in the way; a cent less would not."""
    limit = None if cap is None else Nanos(cap * CENT)
    autopay = Autopay(enabled=True, threshold=ON.threshold, target=ON.target, provider="stripe", monthly_cap=limit)
    verdict, amount = judged(balance, autopay)
    bounds = [1000 * DOLLAR] + ([] if limit is None else [limit])
    if verdict == "capped":
        assert limit is not None
        assert limit < 5 * DOLLAR
    else:
        assert amount % CENT == 0
        assert amount in bounds or ON.target <= balance + amount < ON.target + CENT
        assert amount <= min(bounds)


@given(st.integers(-(10**16), 10**16))
def test_whole_cents_are_never_less(amount: int) -> None:
    """And less than a cent more."""
    assert 0 <= whole_cents(amount) - amount < CENT
    assert whole_cents(amount) % CENT == 0


def test_a_failure_is_waited_out_ever_longer_but_a_day_at_most() -> None:
    """Doubled by each, up to the largest; the last one disables."""
    waits, autopay = [], ON
    for _ in range(9):
        charging = Autopay(enabled=True, state=AutopayState.CHARGING, failures=autopay.failures)
        autopay = failed(charging, why="declined", now_ms=0, retry_seconds=3600, failures_max=9)
        waits.append(autopay.retry_ms // 3_600_000)
    assert waits == [1, 2, 4, 8, 16, 24, 24, 24, 24]
    assert autopay.state is AutopayState.DISABLED


def test_the_diagram_on_the_page_is_the_table() -> None:
    """The states in docs/concepts/autopay.md are printed from the code."""
    found = re.search(r"```mermaid\n(.*?)\n?```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == diagram()
