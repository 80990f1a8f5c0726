"""The ledger on Redis: what was charged, by day, product and key.

Owns: the reading of the counters, and their layout. Does not know: how they are counted (charge.lua).
"""

import asyncio
from collections.abc import Mapping, Sequence

from gateway.core.errors import UnknownAccount
from gateway.core.money import Nanos
from gateway.ledger import records
from gateway.ledger.rules import SEPARATOR, check_days
from gateway.ledger.store import Store
from gateway.ports import UsageDay

_TIMES = f"{SEPARATOR}n"


class Usage(Store):
    """See ports.Ledger."""

    async def usage(self, account: str, *, since: str, until: str) -> Sequence[UsageDay]:
        """See ports.Ledger. One HASH for each month, read in one write."""
        months = check_days(since, until)
        reads = [self._call("HGETALL", self._names.usage(account, month)) for month in months]
        found = await asyncio.gather(self._call("EXISTS", self._names.account(account)), *reads)
        if not found[0]:
            raise UnknownAccount(f"no account {account!r}")
        days = (
            day for month, flat in zip(months, found[1:], strict=True) for day in days_of(month, records.pairs(flat))
        )
        told = [day for day in days if since <= day.day < until]
        return sorted(told, key=lambda day: (day.day, day.product, day.key_id))


def days_of(month: str, counters: Mapping[str, str]) -> list[UsageDay]:
    """The counters of one month as records."""
    return [
        UsageDay(
            day=f"{month}-{day}",
            product=product,
            key_id=key_id,
            calls=int(counters[name + _TIMES]),
            charged=Nanos(int(charged)),
        )
        for name, charged in counters.items()
        if not name.endswith(_TIMES)
        for day, product, key_id in [name.split(SEPARATOR)]
    ]
