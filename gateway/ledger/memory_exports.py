"""The ledger in memory: exports.

Owns: the meaning of those verbs. Does not know: sinks, or other processes.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.ledger import rules
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import ExportPage, Lag


class MemoryExports(MemoryStore):
    """See ports.Ledger."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._sinks: tuple[str, ...] = ()
        self._waiting: dict[str, dict[str, int]] = defaultdict(dict)  # by sink: accounts, and since when

    def export_to(self, sinks: Sequence[str]) -> None:
        """See ports.Ledger."""
        self._sinks = tuple(sinks)

    async def note_exports(self) -> None:
        """See ports.Ledger. Every account that is behind was changed through this ledger."""
        for sink in self._sinks:
            for account in self._books:
                if await self.export_behind(sink=sink, account=account):
                    self._waiting[sink].setdefault(account, self._clock())

    async def claim_exports(self, *, sink: str, limit: int) -> Mapping[str, int]:
        """See ports.Ledger."""
        waiting = self._waiting[sink]
        first = sorted(waiting, key=lambda account: (waiting[account], account))[: max(limit, 0)]
        return {account: waiting.pop(account) for account in first}

    async def put_back_exports(self, *, sink: str, accounts: Mapping[str, int]) -> None:
        """See ports.Ledger."""
        waiting = self._waiting[sink]
        for account, since in accounts.items():
            waiting[account] = min(since, waiting.get(account, since))

    async def export_lag(self, *, sink: str) -> Lag:
        """See ports.Ledger."""
        waiting = self._waiting[sink]
        return Lag(accounts=len(waiting), since_ms=min(waiting.values(), default=None), now_ms=self._clock())

    async def lease_export(self, *, sink: str, seconds: float) -> bool:  # noqa: ARG002 - the port's
        """See ports.Ledger. There is no other process."""
        return True

    async def exportable(self, *, sink: str, account: str, limit: int, standing: bool = False) -> ExportPage:
        """See ports.Ledger."""
        books = self._of(account)
        had = max(books.exported.get(sink, (0, -1))[0], books.trimmed)
        entries = tuple(books.entries[had : had + limit])
        told: dict[str, Any] | None = None
        if standing:
            told = {"account": {"tier": books.plan.tier, "balance": str(books.balance)}, "keys": list(books.keys)}
        return ExportPage(
            account=account,
            entries=entries,
            more=had + len(entries) < len(books.entries),
            changes=len(books.operations),
            read_ms=self._clock() if standing else 0,
            standing=told,
        )

    async def exported(self, *, sink: str, account: str, entry_id: str, changes: int) -> None:
        """See ports.Ledger."""
        rules.check_entry_id(entry_id)
        books = self._of(account)
        had = int(entry_id.partition("-")[0]) if entry_id else books.exported.get(sink, (0, -1))[0]
        books.exported[sink] = had, changes

    async def export_behind(self, *, sink: str, account: str) -> bool:
        """See ports.Ledger."""
        books = self._books.get(account)
        return books is not None and books.exported.get(sink) != (len(books.entries), len(books.operations))

    async def rewind_export(self, *, sink: str, account: str) -> None:
        """See ports.Ledger."""
        self._of(account).exported.pop(sink, None)
        self._waiting[sink].setdefault(account, self._clock())

    async def trim(self, *, account: str, sinks: Sequence[str], keep_seconds: int, limit: int = 1000) -> int:
        """See ports.Ledger."""
        books, now = self._at(account)
        had = min(books.exported.get(sink, (0, -1))[0] for sink in sinks)
        old = [entry for entry in books.entries[books.trimmed : had] if entry.at_ms < now - keep_seconds * 1000]
        books.trimmed += min(len(old), limit)
        return min(len(old), limit)
