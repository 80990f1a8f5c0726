"""The ledger in memory: what was charged, by day, product and key. Nothing is counted: it is the sum of the entries.

Does not know: how long the ledger on Redis keeps it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from gateway.core.errors import OperationConflict
from gateway.core.money import Nanos
from gateway.core.months import month_of
from gateway.ledger.memory_store import MemoryStore
from gateway.ledger.rules import check_days, check_volumes, day_of
from gateway.ports import Entry, UsageDay


class MemoryUsage(MemoryStore):
    """See ports.Ledger."""

    async def usage(self, account: str, *, since: str, until: str) -> Sequence[UsageDay]:
        """See ports.Ledger."""
        check_days(since, until)
        books, _ = self._at(account)
        return [used for used in usage_of(books.entries) if since <= used.day < until]

    async def take_volume(self, *, account: str, hold_id: str, volumes: Mapping[str, int]) -> Mapping[str, int]:
        """See ports.Ledger."""
        check_volumes(volumes)
        books, now = self._at(account)
        content, first = books.taken.get(hold_id, (None, {}))
        if content is not None and content != dict(volumes):
            raise OperationConflict(f"hold {hold_id!r} took other volumes")
        if content is None:
            end = books.ends.get(hold_id)
            if end is not None and end.how != "expired":
                raise OperationConflict(f"hold {hold_id!r} was {end.how}")
            month = books.volumes[month_of(now)]
            first = {sku: month[sku] for sku in volumes}
            month.update(volumes)
            books.taken[hold_id] = (dict(volumes), first)
        return first

    async def volumes(self, account: str, *, month: str) -> Mapping[str, int]:
        """See ports.Ledger."""
        check_days(f"{month}-01", f"{month}-01")
        return dict(self._of(account).volumes[month])


def usage_of(entries: Sequence[Entry]) -> list[UsageDay]:
    """What the entries charged and gave back, by day, product and key."""
    charged: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.kind == "charge" or (entry.kind == "correction" and entry.data["key_id"]):
            product = entry.data["product"] if entry.kind == "charge" else ""
            charged[day_of(entry.at_ms), product, entry.data["key_id"]].append(entry)
    return [
        UsageDay(
            day=day,
            product=product,
            key_id=key_id,
            calls=sum(entry.kind == "charge" and entry.operation == entry.data["call_id"] for entry in found),
            charged=Nanos(-sum(entry.amount for entry in found)),
        )
        for (day, product, key_id), found in sorted(charged.items())
    ]
