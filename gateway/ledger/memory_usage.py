"""The ledger in memory: what was charged, by day, product and key. Nothing is counted: it is the sum of the entries.

Does not know: how long the ledger on Redis keeps it.
"""

from collections import defaultdict
from collections.abc import Sequence

from gateway.core.money import Nanos
from gateway.ledger.memory_store import MemoryStore
from gateway.ledger.rules import check_days, day_of
from gateway.ports import UsageDay


class MemoryUsage(MemoryStore):
    """See ports.Ledger."""

    async def usage(self, account: str, *, since: str, until: str) -> Sequence[UsageDay]:
        """See ports.Ledger."""
        check_days(since, until)
        books, _ = self._at(account)
        charged: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for entry in books.entries:
            if entry.kind == "charge" or (entry.kind == "correction" and entry.data["key_id"]):
                product = entry.data["product"] if entry.kind == "charge" else ""
                charged[day_of(entry.at_ms), product, entry.data["key_id"]].append(-entry.amount)
        return [
            UsageDay(day=day, product=product, key_id=key_id, calls=len(amounts), charged=Nanos(sum(amounts)))
            for (day, product, key_id), amounts in sorted(charged.items())
            if since <= day < until
        ]
