"""What an account spent: by day and product, by month.

Owns: how spending is summed up and drawn. Pure.
Does not know: the ledger, HTTP, words, colours.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from gateway.core.money import ZERO, Nanos
from gateway.core.record import record
from gateway.edge.pages.chart import Chart, draw
from gateway.edge.pages.wording import day as day_word
from gateway.ports import UsageDay

DAYS: Final = 30
#: So many products have a colour of their own; the rest are one.
_SERIES_MAX: Final = 6
_SCALE_UNIT: Final = 1_000_000  # a tenth of a cent


@record
class Series:
    """A product's spending: on each of the days, and in this month and the last one. `number` is its colour."""

    number: int
    title: str
    days: tuple[int, ...]
    this_month: Nanos
    last_month: Nanos


@record
class Spending:
    """Spending as it is shown."""

    days: tuple[str, ...]
    series: tuple[Series, ...]
    month: str
    month_before: str
    this_month: Nanos
    last_month: Nanos
    of_days: Nanos
    wide: Chart
    narrow: Chart


def days_shown(now: float) -> tuple[str, str]:
    """The first day that `spending` shows (thirty days ago, or when the last month began), and the one after today."""
    today = _today(now)
    since = min(today - timedelta(days=DAYS - 1), _first(_first(today) - timedelta(days=1)))
    return since.isoformat(), (today + timedelta(days=1)).isoformat()


def spending(spent: Sequence[UsageDay], titles: Mapping[str, str], now: float) -> Spending:
    """The last thirty days and the two months, by product: those that cost most first, small ones as one."""
    today = _today(now)
    days = [(today - timedelta(days=DAYS - 1 - number)).isoformat() for number in range(DAYS)]
    month, before = today.isoformat()[:7], (_first(today) - timedelta(days=1)).isoformat()[:7]
    totals: dict[str, int] = defaultdict(int)
    for each in spent:
        totals[each.product] += each.charged
    ranked = sorted(totals, key=lambda product: (-totals[product], product))
    groups = [[product] for product in ranked[:_SERIES_MAX]]
    if len(ranked) > _SERIES_MAX:
        groups.append(ranked[_SERIES_MAX:])
    series = []
    for number, products in enumerate(groups):
        of_group = [each for each in spent if each.product in products]
        title = titles.get(products[0], products[0] or "Corrections") if len(products) == 1 else "Other"
        series.append(
            Series(
                number=number,
                title=title,
                days=tuple(_sum(of_group, day) for day in days),
                this_month=_sum(of_group, month),
                last_month=_sum(of_group, before),
            )
        )
    names, values = [day_word(day) for day in days], [[max(0, each) for each in one.days] for one in series]
    return Spending(
        days=tuple(days),
        series=tuple(series),
        month=month,
        month_before=before,
        this_month=_sum(spent, month),
        last_month=_sum(spent, before),
        of_days=Nanos(sum(sum(one.days) for one in series)),
        wide=draw(names, values, width=980, height=250, label_every=5, unit=_SCALE_UNIT),
        narrow=draw(names, values, width=340, height=210, label_every=10, unit=_SCALE_UNIT),
    )


def _sum(spent: Iterable[UsageDay], period: str) -> Nanos:
    """What was spent on a day or in a month."""
    return Nanos(sum((each.charged for each in spent if each.day.startswith(period)), ZERO))


def _today(now: float) -> date:
    return datetime.fromtimestamp(now, UTC).date()


def _first(day: date) -> date:
    return day.replace(day=1)
