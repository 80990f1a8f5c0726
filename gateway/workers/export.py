"""The exporter: puts what the ledger has of accounts to one sink, in order for each account, at least once.

Owns: how much is put at once, when a sink that failed is tried again, the walk over all accounts that finds what was
not noted. Which accounts wait, and how far each was exported, stands in the ledger: a killed exporter's successor goes
on there. One process exports to a sink at a time, by a lease; should two do so all the same, a sink has things twice.
Does not know: where things are kept (sinks).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from gateway.core.errors import GatewayError, LedgerUnavailable, UnknownAccount
from gateway.ports import Clock, ExportFailed, ExportPage, ExportTried, Ledger, Observer, Sink

#: Together two thousand entries at most: a tenth of a second of a process that serves operators, too.
ACCOUNTS_TOGETHER_MAX: Final = 20
#: Entries of one account in a batch.
ENTRIES_MAX: Final = 100
LEASE_SECONDS: Final = 5.0
#: Batches of one round.
_CLAIMS_MAX: Final = 100
_PAUSE_SECONDS: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 60.0


def pause_seconds(failures: int) -> float:
    """How long a sink is left alone after so many failures in a row."""
    return min(_PAUSE_SECONDS * 2.0 ** (min(failures, 20) - 1), _PAUSE_SECONDS_MAX) if failures else 0.0


class Exporter:
    """Exports to one sink. `trims`: the sinks that must have entries before they are forgotten, and their age (s)."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sink: Sink,
        observer: Observer,
        clock: Clock,
        walk_accounts: int,
        trims: tuple[Sequence[str], int] | None = None,
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._observer = observer
        self._clock = clock
        self._walk_accounts = walk_accounts
        self._trims = trims
        self._failures = 0
        self._resume = 0.0
        self._leads = False
        self._walk: AsyncIterator[str] | None = None
        self._walked = False  # all accounts, once
        self.lag_accounts = 0
        self.lag_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Exporter {self._sink!r} leads={self._leads} failures={self._failures} lag={self.lag_seconds:.1f}>"

    @property
    def caught_up(self) -> bool:
        """Whether nothing waited when it was last looked, and this process is the one that exports."""
        return self._leads and not self.lag_accounts and not self._failures

    @property
    def complete(self) -> bool:
        """Whether the sink has everything: all accounts were walked once. Nothing waits for one that is new, before."""
        return self.caught_up and self._walked

    async def round(self) -> None:
        """Export what waits, if this process is the one to do it and the sink is not left alone for a while."""
        name = self._sink.name
        if self._clock.monotonic() >= self._resume:
            for _ in range(_CLAIMS_MAX):
                self._leads = await self._ledger.lease_export(sink=name, seconds=LEASE_SECONDS)
                if not self._leads:
                    self.lag_accounts, self.lag_seconds = 0, 0.0  # another process tells of it
                    return
                claimed = await self._ledger.claim_exports(sink=name, limit=ACCOUNTS_TOGETHER_MAX)
                if not claimed or not await self._export(claimed):
                    break
        lag = await self._ledger.export_lag(sink=name)
        self.lag_accounts, self.lag_seconds = lag.accounts, lag.seconds

    async def walk(self) -> None:
        """Look at the next accounts: what was not noted waits from now on, what is old enough is forgotten."""
        if not self._leads:
            return
        walk = self._walk = self._walk or self._ledger.accounts()
        batch: list[str] = []
        whole = False
        try:
            async for account in walk:
                batch.append(account)
                if len(batch) >= self._walk_accounts:
                    break
            else:
                self._walk, whole = None, True
        except Exception:
            self._walk = None  # an iterator that raised is over
            raise
        name = self._sink.name
        behind = await asyncio.gather(*(self._ledger.export_behind(sink=name, account=one) for one in batch))
        lag = await self._ledger.export_lag(sink=name)
        late = {account: lag.now_ms for account, is_behind in zip(batch, behind, strict=True) if is_behind}
        await self._ledger.put_back_exports(sink=name, accounts=late)
        self.lag_accounts = max(self.lag_accounts, len(late))
        self._walked = self._walked or whole
        if self._trims is not None:
            sinks, keep_seconds = self._trims
            for account in batch:
                with suppress(UnknownAccount):
                    await self._ledger.trim(account=account, sinks=sinks, keep_seconds=keep_seconds)

    async def _export(self, claimed: Mapping[str, int]) -> bool:
        """Put all that these accounts have; whether it was kept."""
        begun, entries, why = self._clock.monotonic(), 0, ""
        try:
            accounts: Sequence[str] = tuple(claimed)
            while accounts:
                pages = await self._pages(accounts)
                await self._put(pages)
                entries += sum(len(page.entries) for page in pages)
                accounts = [page.account for page in pages if page.more]
        except ExportFailed as error:
            why = str(error)
        except GatewayError as error:
            why = type(error).__name__
        except BaseException:
            await self._put_back(claimed)
            raise
        self._failures = self._failures + 1 if why else 0
        self._resume = self._clock.monotonic() + pause_seconds(self._failures)
        if why:
            await self._put_back(claimed)
        self._observer.export_tried(
            ExportTried(
                sink=self._sink.name,
                outcome="failed" if why else "kept",
                accounts=len(claimed),
                entries=entries,
                why=why,
                seconds=self._clock.monotonic() - begun,
                lag_seconds=self.lag_seconds,
            )
        )
        return not why

    async def _pages(self, accounts: Sequence[str]) -> list[ExportPage]:
        sink = self._sink
        reads = (
            self._ledger.exportable(sink=sink.name, account=account, limit=ENTRIES_MAX, standing=sink.keeps_standing)
            for account in accounts
        )
        found = await asyncio.gather(*reads, return_exceptions=True)
        pages = []
        for page in found:
            if isinstance(page, ExportPage):
                pages.append(page)
            elif isinstance(page, LedgerUnavailable) or not isinstance(page, GatewayError):
                raise page
            elif not isinstance(page, UnknownAccount):  # a record that cannot be read holds up no other account
                self._observer.event("export_unreadable", error=type(page).__name__)
        return pages

    async def _put(self, pages: Sequence[ExportPage]) -> None:
        """Have them kept, then remember that they were: should this process end in between, they are put again."""
        told = [page for page in pages if page.entries or page.standing is not None]
        if told:
            await self._sink.put(told)
        marks = (
            self._ledger.exported(
                sink=self._sink.name,
                account=page.account,
                entry_id=page.entries[-1].id if page.entries else "",
                changes=page.changes,
            )
            for page in pages
        )
        await asyncio.gather(*marks)

    async def _put_back(self, claimed: Mapping[str, int]) -> None:
        with suppress(LedgerUnavailable):  # the walk finds them
            await self._ledger.put_back_exports(sink=self._sink.name, accounts=claimed)

    async def close(self) -> None:
        """Let go of the sink."""
        await self._sink.close()
