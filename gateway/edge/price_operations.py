"""What a period would have cost by other prices, once, for the admin API and for the command line.

Owns: which charges are looked at, how many at most, by which table each is priced.
Does not know: HTTP, the command line, how a line is priced (core/repricing). Nothing is changed.
"""

from datetime import UTC, datetime
from typing import Final

from gateway.core.money import format_usd
from gateway.core.repricing import Line, Repricing
from gateway.edge.admin_bodies import Invalid, PriceDryRun, Problem
from gateway.edge.admin_views import CURRENCY, Data
from gateway.edge.usage_operations import days_of
from gateway.ports import Clock, Ledger
from gateway.settings.problems import SettingsError
from gateway.settings.proposal import proposed_prices
from gateway.settings.runtime import PriceBook, Runtime

#: So many entries are read for one dry run; of a longer period it says that it is not complete.
ENTRIES_MAX: Final = 50_000
_PAGE: Final = 1000


class PriceOperations:
    """Answers plain data; raises Invalid, and what the ledger raises."""

    def __init__(self, *, ledger: Ledger, runtime: Runtime, clock: Clock) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._clock = clock

    async def dry_run(self, body: PriceDryRun) -> Data:
        """Price an account's charges of a period again, by the newest list of a price file."""
        since, until = days_of(body.since, body.until, self._clock.now())
        book = self._book(body.prices)
        version = book.versions[-1]
        if body.rate_card and (version, body.rate_card) not in book.tables:
            raise Invalid([Problem("/rate_card", f"the price file has no rate card {body.rate_card!r}")])
        found = Repricing()
        complete = await self._read(body, book, found, (_ms(since), _ms(until)))
        return {
            "account": body.account,
            "since": since,
            "until": until,
            "price_version": version,
            "rate_card": body.rate_card or None,
            "complete": complete,
            "charges": found.charges,
            "charged": format_usd(found.charged),
            "repriced": format_usd(found.repriced),
            "difference": format_usd(found.repriced - found.charged),
            **CURRENCY,
            "items": [_line(sku, line) for sku, line in sorted(found.skus.items())],
        }

    async def _read(self, body: PriceDryRun, book: PriceBook, found: Repricing, period: tuple[int, int]) -> bool:
        """Count the charges of the period, the newest first; whether all of them were read."""
        before, left = "", ENTRIES_MAX
        while left:
            page = await self._ledger.entries(body.account, before=before, limit=min(_PAGE, left), newest_first=True)
            for entry in page:
                if entry.at_ms < period[0]:
                    return True
                if entry.kind == "charge" and entry.at_ms < period[1]:
                    card = body.rate_card or entry.data["rate_card"]
                    found.add(entry.data["items"], book.tables.get((book.versions[-1], card)))
            if len(page) < min(_PAGE, left):
                return True
            left -= len(page)
            before = page[-1].id
        return False

    def _book(self, text: str) -> PriceBook:
        try:
            return proposed_prices(text.encode(), self._runtime)
        except SettingsError as error:
            told = [f"{problem.line}:{problem.column}: {problem.path}: {problem.message}" for problem in error.problems]
            raise Invalid([Problem("/prices", line) for line in told]) from None


def _ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000


def _line(sku: str, line: Line) -> Data:
    return {
        "sku": sku,
        "lines": line.lines,
        "unpriced": line.unpriced,
        "charged": format_usd(line.charged),
        "repriced": format_usd(line.repriced),
        "difference": format_usd(line.repriced - line.charged),
    }
