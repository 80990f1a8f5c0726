"""The ledger on Redis: what was charged, by day, product and key; volumes of a month.

Owns: the reading of the counters, and their layout. Does not know: how they are counted (charge.lua).
"""

import asyncio
from collections.abc import Mapping, Sequence

from gateway.core.errors import UnknownAccount
from gateway.core.money import Nanos
from gateway.ledger import records
from gateway.ledger.rules import SEPARATOR, check_days, check_volumes
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

    async def take_volume(self, *, account: str, hold_id: str, volumes: Mapping[str, int]) -> Mapping[str, int]:
        """See ports.Ledger."""
        check_volumes(volumes)
        words = [str(word) for pair in sorted(volumes.items()) for word in pair]
        names = [self._names.end(account, hold_id), self._names.taken(account, hold_id)]
        _, (before,) = await self._run("take_volume", account, names, [records.digest(*words), *words])
        return dict(zip(sorted(volumes), map(int, before.split()), strict=True))

    async def volumes(self, account: str, *, month: str) -> Mapping[str, int]:
        """See ports.Ledger."""
        check_days(f"{month}-01", f"{month}-01")
        commands = [("HGETALL", self._names.volume(account, month)), ("EXISTS", self._names.account(account))]
        flat, there = await asyncio.gather(*(self._call(*command) for command in commands))
        if not there:
            raise UnknownAccount(f"no account {account!r}")
        return {sku: int(volume) for sku, volume in records.pairs(flat).items()}


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
