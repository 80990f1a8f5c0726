"""Calendar months, and what is granted in each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import Nanos
from gateway.core.monthly import MonthlyGrant, days_of, expires_ms, read, written
from gateway.core.months import begins_ms, following, is_month, month_of

DAY_MS = 86_400_000
TIMES = st.integers(0, 7_258_118_400_000)  # to the year 2200


@given(TIMES)
def test_a_time_is_in_its_month(at_ms: int) -> None:
    """From its first moment on, and before the first of the following one, whose name sorts after."""
    month = month_of(at_ms)
    assert is_month(month) and (month < following(month))
    assert begins_ms(month) <= at_ms < begins_ms(following(month))
    assert month_of(begins_ms(following(month)) - 1) == month


@given(TIMES)
def test_a_grant_expires_with_its_month_or_after_days(at_ms: int) -> None:
    """At the first moment of the next month; or so many days after it was given."""
    assert expires_ms(MonthlyGrant(amount=Nanos(1)), at_ms) == begins_ms(following(month_of(at_ms)))
    assert expires_ms(MonthlyGrant(amount=Nanos(1), days=30), at_ms) == at_ms + 30 * DAY_MS


@pytest.mark.parametrize("grant", [MonthlyGrant(amount=Nanos(5)), MonthlyGrant(amount=Nanos(10**15), days=30)])
def test_what_is_kept_of_a_grant_is_read_again(grant: MonthlyGrant) -> None:
    """As it was."""
    assert read(written(grant)) == grant


@pytest.mark.parametrize("text", ["", "0", "0 days", "-1", "367 days", "months", "30 weeks", "1.5", "\u0663"])
def test_how_long_it_lasts_is_written_in_two_ways(text: str) -> None:
    """Everything else is refused with how it is written."""
    with pytest.raises(ValueError, match="30 days"):
        days_of(text)
    assert (days_of("month"), days_of("30 days"), days_of("1 day"), days_of("30")) == (0, 30, 1, 30)
