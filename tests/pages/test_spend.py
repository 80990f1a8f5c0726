"""What was spent: summed up by day, month and product."""

from datetime import UTC, datetime

from gateway.core.money import Nanos
from gateway.edge.pages.spend import DAYS, days_shown, spending
from gateway.ports import UsageDay

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()


def spent(day: str, product: str, charged: int) -> UsageDay:
    return UsageDay(day=day, product=product, key_id="k", calls=1, charged=Nanos(charged))


def test_days_and_months_add_up() -> None:
    """Thirty days that end today, this month and the last one, each product by itself and all together."""
    charges = [("2026-03-02", "a", 5), ("2026-03-01", "b", 7), ("2026-02-01", "a", 11), ("2026-02-01", "b", 1)]
    found = spending([spent(*each) for each in charges], {"a": "Product A"}, NOW)
    assert (found.days[0], found.days[-1], len(found.days)) == ("2026-02-01", "2026-03-02", DAYS)
    a, b = found.series
    assert (a.title, a.number, a.this_month, a.last_month) == ("Product A", 0, 5, 11)
    assert (b.title, b.number, b.this_month, b.last_month) == ("b", 1, 7, 1)
    assert (a.days[0], a.days[-1], b.days[-2]) == (11, 5, 7)
    assert (found.this_month, found.last_month, found.of_days) == (12, 12, 24)


def test_what_is_read_covers_both_months() -> None:
    """From the first day of the last month, or thirty days back where that is earlier."""
    assert days_shown(NOW) == ("2026-02-01", "2026-03-03")
    assert days_shown(datetime(2026, 1, 31, tzinfo=UTC).timestamp()) == ("2025-12-01", "2026-02-01")
    assert days_shown(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) == ("2026-01-31", "2026-03-02")


def test_small_products_are_one() -> None:
    """Six have a colour of their own; the others are summed up, and nothing is lost."""
    found = spending([spent("2026-03-02", f"p{n}", n) for n in range(1, 10)], {}, NOW)
    assert [one.title for one in found.series] == ["p9", "p8", "p7", "p6", "p5", "p4", "Other"]
    assert found.this_month == 45
    assert found.series[-1].this_month == 6


def test_nothing_was_spent() -> None:
    """No charges: no series, and a chart that can be drawn all the same."""
    found = spending([], {}, NOW)
    assert (found.series, found.of_days, len(found.wide.bars)) == ((), 0, DAYS)


def test_a_correction_that_gives_back_more_is_not_drawn_below_the_axis() -> None:
    """A day below zero is summed up as it is, and drawn as nothing."""
    found = spending([spent("2026-03-02", "", -5)], {}, NOW)
    assert (found.this_month, found.series[0].title) == (-5, "Corrections")
    assert found.wide.bars[-1].boxes == ()
