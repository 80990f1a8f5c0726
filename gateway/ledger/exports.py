"""The ledger on Redis: exports.

Owns: the arguments and answers of those verbs, each sink's index of accounts that wait for it, its cursor in every
account's slot, and its lease. Does not know: sinks, or what they keep.

Which accounts have something new stands in no slot of theirs, so it is noted beside their changes, many at once: the
index is a helper, and whoever walks all accounts makes it good.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gateway.core.errors import UnknownAccount
from gateway.ledger import records, rules
from gateway.ledger.connection import Part
from gateway.ledger.lua import ENTERING
from gateway.ledger.store import Store
from gateway.ports import ExportPage, Lag


class Exports(Store):
    """See ports.Ledger."""

    def export_to(self, sinks: Sequence[str]) -> None:
        """See ports.Ledger."""
        self._sinks = tuple(sinks)
        self._entering = ENTERING if self._sinks else frozenset()

    async def note_exports(self) -> None:
        """See ports.Ledger. One command for each sink."""
        changed, self._changed = self._changed, set()
        if not changed or not self._sinks:
            return
        try:
            now = await self._now_ms()
            for sink in self._sinks:
                await self._wait_for(sink, dict.fromkeys(changed, now))
        except BaseException:
            self._changed |= changed
            raise

    async def claim_exports(self, *, sink: str, limit: int) -> Mapping[str, int]:
        """See ports.Ledger. One command, so that two who claim do not have one account."""
        flat = await self._call("ZPOPMIN", self._names.exporting(sink), max(limit, 0))
        words = iter(flat)
        return {account.decode(): int(float(since)) for account, since in zip(words, words, strict=True)}

    async def put_back_exports(self, *, sink: str, accounts: Mapping[str, int]) -> None:
        """See ports.Ledger."""
        if accounts:
            await self._wait_for(sink, accounts)

    async def export_lag(self, *, sink: str) -> Lag:
        """See ports.Ledger."""
        index = self._names.exporting(sink)
        count, first, now = await asyncio.gather(
            self._call("ZCARD", index), self._call("ZRANGE", index, 0, 0, "WITHSCORES"), self._now_ms()
        )
        return Lag(accounts=count, since_ms=int(float(first[1])) if first else None, now_ms=now)

    async def lease_export(self, *, sink: str, seconds: float) -> bool:
        """See ports.Ledger."""
        return await self._leased(self._names.exporter(sink), rules.ms(seconds))

    async def exportable(self, *, sink: str, account: str, limit: int, standing: bool = False) -> ExportPage:
        """See ports.Ledger. One script."""
        names = [self._names.exported(account), self._names.keys(account)]
        read_ms = await self._now_ms() if standing else 0
        months = _volume_months(read_ms) if standing else []
        args: list[Part] = [sink, str(limit), str(int(standing)), *months]
        _, (entries, changes, last, *hashes) = await self._run("exportable", account, names, args)
        return ExportPage(
            account=account,
            entries=tuple(records.entry(*line) for line in entries),
            more=bool(entries) and entries[-1][0] != last,
            changes=int(changes),
            read_ms=read_ms,
            standing=_standing(*hashes) if standing else None,
        )

    async def exported(self, *, sink: str, account: str, entry_id: str, changes: int) -> None:
        """See ports.Ledger."""
        rules.check_entry_id(entry_id)
        cursor = (sink, entry_id) if entry_id else ()
        await self._call("HSET", self._names.exported(account), *cursor, f"{sink}.changes", str(changes))

    async def export_behind(self, *, sink: str, account: str) -> bool:
        """See ports.Ledger. The commands leave in one write."""
        last, cursor, facts = await asyncio.gather(
            self._call("XREVRANGE", self._names.ledger(account), "+", "-", "COUNT", 1),
            self._call("HMGET", self._names.exported(account), sink, f"{sink}.changes"),
            self._call("HMGET", self._names.account(account), "created", "changes"),
        )
        had, changes_then = cursor
        created, changes = facts
        if created is None:
            return False
        return bool(last and last[0][0] != had) or changes_then is None or changes_then != (changes or b"0")

    async def rewind_export(self, *, sink: str, account: str) -> None:
        """See ports.Ledger."""
        if not await self._call("EXISTS", self._names.account(account)):
            raise UnknownAccount(f"no account {account!r}")
        await self._call("HDEL", self._names.exported(account), sink, f"{sink}.changes")
        await self._wait_for(sink, {account: await self._now_ms()})

    async def trim(self, *, account: str, sinks: Sequence[str], keep_seconds: int, limit: int = 1000) -> int:
        """See ports.Ledger."""
        assert sinks, "nothing is forgotten that nobody keeps"
        args: list[Part] = [rules.ms(keep_seconds), str(limit), *sinks]
        _, (count,) = await self._run("trim", account, [self._names.exported(account)], args)
        return int(count)

    async def _wait_for(self, sink: str, accounts: Mapping[str, int]) -> None:
        """Those that wait already keep the earlier time."""
        pairs: list[Part] = [word for account, since in accounts.items() for word in (str(since), account)]
        await self._call("ZADD", self._names.exporting(sink), "LT", *pairs)


#: What a hash of the account holds for the moment only: rate windows, holds, the last sweep.
_PASSING: Final = ("rate.", "open.", "held", "swept")


def _standing(
    account: list[bytes],
    autopay: list[bytes],
    watches: list[bytes],
    exported: list[bytes],
    keys: Sequence[tuple[bytes, list[bytes]]],
    volumes: Sequence[tuple[bytes, list[bytes]]],
) -> dict[str, Any]:
    """The hashes as JSON data."""
    facts = records.pairs(account)
    return {
        "account": {name: value for name, value in facts.items() if not name.startswith(_PASSING)},
        "autopay": records.pairs(autopay),
        "watches": records.pairs(watches),
        "exported": records.pairs(exported),
        "keys": {key_id.decode(): records.pairs(flat) for key_id, flat in sorted(keys)},
        "volumes": {month.decode(): records.pairs(flat) for month, flat in volumes if flat},
    }


def _volume_months(now_ms: int) -> list[str]:
    """The month of a time, and the one before: steps are taken within a calendar month."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    before = (now.year, now.month - 1) if now.month > 1 else (now.year - 1, 12)
    return [f"{year:04}-{month:02}" for year, month in (before, (now.year, now.month))]
