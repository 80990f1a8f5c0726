"""What a period would have cost by other prices, once, for the admin API and for the command line.

Owns: which charges are looked at, how many at most, by which table each is priced.
Does not know: HTTP, the command line, how a line is priced (core/repricing). Nothing is changed.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.core.money import format_usd
from gateway.core.repricing import Line, Repricing
from gateway.edge.operations.admin_bodies import PriceDryRun
from gateway.edge.operations.bodies import Invalid, Problem
from gateway.edge.operations.usage import days_of
from gateway.edge.operations.views import CURRENCY, Data
from gateway.ports import Clock, Entry, Ledger
from gateway.settings.plans import PriceBook
from gateway.settings.problems import SettingsError
from gateway.settings.proposal import proposed_prices
from gateway.settings.runtime import Runtime

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
        reading = _Reading(book, (_ms(since), _ms(until)), body.rate_card)
        await self._read(body.account, reading)
        return {"account": body.account, "since": since, "until": until, **reading.told()}

    async def dry_run_of_all(self) -> Data:
        """Price yesterday's charges of all accounts again, by the newest list of the config."""
        today = datetime.fromtimestamp(self._clock.now(), UTC).date()
        since, until = (today - timedelta(days=1)).isoformat(), today.isoformat()
        reading = _Reading(self._runtime.prices, (_ms(since), _ms(until)))
        async for account in self._ledger.accounts():
            await self._read(account, reading)
            if not reading.left:
                break
        return {"since": since, "until": until, **reading.told()}

    async def _read(self, account: str, reading: "_Reading") -> None:
        """Count the charges of an account, the newest first."""
        before = ""
        while reading.left:
            asked = min(_PAGE, reading.left)
            page = await self._ledger.entries(account, before=before, limit=asked, newest_first=True)
            if not all(map(reading.add, page)) or len(page) < asked:
                return
            before = page[-1].id

    def _book(self, text: str) -> PriceBook:
        try:
            return proposed_prices(text.encode(), self._runtime)
        except SettingsError as error:
            told = [(f"{each.line}:{each.column}", each.path, each.message) for each in error.problems]
            raise Invalid([Problem("/prices", ": ".join(filter(None, parts))) for parts in told]) from None


class _Reading:
    """The charges of a period as they are read: `left` more entries may be."""

    def __init__(self, book: PriceBook, period: tuple[int, int], rate_card: str | None = None) -> None:
        self.left = ENTRIES_MAX
        self._book = book
        self._period = period
        self._rate_card = rate_card or None
        self._found = Repricing()

    def add(self, entry: Entry) -> bool:
        """Count an entry; False: it is older than the period, and so are those before it."""
        since, until = self._period
        self.left -= 1
        if since <= entry.at_ms < until and entry.kind == "charge":
            card = self._rate_card or entry.data["rate_card"]
            self._found.add(entry.data["items"], self._book.tables.get((self._book.versions[-1], card)))
        return entry.at_ms >= since

    def told(self) -> Data:
        """What came of it."""
        found = self._found
        return {
            "price_version": self._book.versions[-1],
            "rate_card": self._rate_card,
            "complete": self.left > 0,
            "charges": found.charges,
            "charged": format_usd(found.charged),
            "repriced": format_usd(found.repriced),
            "difference": format_usd(found.repriced - found.charged),
            **CURRENCY,
            "items": [_line(sku, line) for sku, line in sorted(found.skus.items())],
        }


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
