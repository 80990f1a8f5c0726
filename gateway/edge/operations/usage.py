"""What was used, by day, product, key and project, once, for both APIs and for the command line.

Owns: which days are told where none are named, the rows, how they are summed up, their form as CSV.
Does not know: HTTP, the command line, how usage is counted (the ledger).
"""

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from gateway.core.money import Nanos, format_usd, parse_usd
from gateway.edge.operations.bodies import Invalid, Problem
from gateway.edge.operations.views import CURRENCY, Data
from gateway.ledger.rules import USAGE_DAYS
from gateway.ports import Clock, Ledger

COLUMNS: Final = ("day", "product", "key", "project", "calls", "charged", "currency")
_DAYS_DEFAULT: Final = 30


class UsageOperations:
    """What was used. Answers plain data; raises Invalid, and what the ledger raises."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def show_usage(self, account: str, *, since: str = "", until: str = "") -> Data:
        """From the day `since` to the one before `until`. Default: the last thirty days, today included."""
        begin, end = days_of(since, until, self._clock.now())
        days = await self._ledger.usage(account, since=begin, until=end)
        projects = {key.id: key.project for key in await self._ledger.keys(account)}
        items = [
            {
                "day": day.day,
                "product": day.product or None,
                "key": day.key_id,
                "project": projects.get(day.key_id, "") or None,
                "calls": day.calls,
                "charged": format_usd(day.charged),
                **CURRENCY,
            }
            for day in days
        ]
        total = {"calls": sum(day.calls for day in days), "charged": format_usd(sum(day.charged for day in days))}
        return {"account": account, "since": begin, "until": end, "items": items, "total": total, **CURRENCY}


def days_of(since: str, until: str, now: float) -> tuple[str, str]:
    """The period that was asked for, until and without its last day. Raises Invalid."""
    today = datetime.fromtimestamp(now, UTC).date()
    try:
        end = date.fromisoformat(until) if until else today + timedelta(days=1)
        begin = date.fromisoformat(since) if since else end - timedelta(days=_DAYS_DEFAULT)
    except (ValueError, OverflowError):
        raise Invalid([Problem("since", "days are written like 2026-11-27")]) from None
    if not 0 <= (end - begin).days <= USAGE_DAYS:
        raise Invalid([Problem("until", f"it is after `since`, and by at most {USAGE_DAYS} days")])
    return begin.isoformat(), end.isoformat()


def summed(rows: Sequence[Data], by: str) -> list[Data]:
    """Rows of usage, summed up by one of their columns, in its order."""
    calls: dict[str, int] = defaultdict(int)
    charged: dict[str, int] = defaultdict(int)
    for row in rows:
        of = row[by] or ""
        calls[of] += row["calls"]
        charged[of] += parse_usd(row["charged"])
    return [
        {by: of or None, "calls": calls[of], "charged": format_usd(Nanos(charged[of])), **CURRENCY}
        for of in sorted(calls)
    ]


def usage_csv(shown: Data, columns: Sequence[str] = COLUMNS) -> str:
    """The rows as CSV (RFC 4180), with a head. What a spreadsheet would take for a formula is text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({name: _cell(name, row[name]) for name in columns} for row in shown["items"])
    return text.getvalue()


def _cell(name: str, value: object) -> object:
    if name == "project" and isinstance(value, str) and value[:1] in "=+-@\t\r":
        return f"'{value}"
    return value
