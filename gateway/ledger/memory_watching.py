"""The ledger in memory: what is watched of an account.

Owns: the meaning of those verbs. Does not know: what a watch finds (memory_watches), who is told.
"""

from collections.abc import Sequence
from dataclasses import replace

import orjson

from gateway.core.errors import LedgerRefused
from gateway.ledger import records, rules
from gateway.ledger.memory_store import MemoryStore
from gateway.ledger.memory_usage import usage_of
from gateway.ports import Watch


class MemoryWatching(MemoryStore):
    """See ports.Ledger."""

    async def put_watch(self, *, account: str, watch: Watch, anew: bool = False) -> Watch:
        """See ports.Ledger."""
        data = records.json({**watch.data})
        rules.check_watch(watch, data)
        books, now = self._at(account)
        watches = books.watches
        past = watches.kept.get(watch.id)
        if past is None and len(watches.kept) >= rules.WATCHES_MAX:
            raise LedgerRefused(rules.TOO_MANY_WATCHES)
        same = not anew and past is not None and (past.kind, past.amount) == (watch.kind, watch.amount)
        told = past.told if past is not None and same else ()
        counting = watches.spending
        watches.kept[watch.id] = replace(watch, data=orjson.loads(data), told=told)
        if watches.spending and not counting:
            watches.begin_spending(now, usage_of(books.entries))
        books.look(now)
        return watches.kept[watch.id]

    async def drop_watch(self, *, account: str, watch_id: str) -> None:
        """See ports.Ledger."""
        books, _ = self._at(account)
        books.watches.kept.pop(watch_id, None)

    async def watches(self, account: str) -> Sequence[Watch]:
        """See ports.Ledger."""
        books, _ = self._at(account)
        return [books.watches.kept[watch_id] for watch_id in sorted(books.watches.kept)]
