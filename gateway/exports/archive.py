"""What PostgreSQL has of the ledger, read back.

Owns: the questions. One connection, for as long as `Archive.open` lasts.
Does not know: what follows from the answers.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson

from gateway.core.money import Nanos
from gateway.core.record import record
from gateway.exports import database
from gateway.ports import Entry
from gateway.settings.exports import PostgresExport

_SUMS: Final = """
select count(*) as entries, coalesce(sum(amount), 0)::bigint as total,
       (array_agg(ms || '-' || seq order by ms, seq) filter (where balance <> running and not vouched))[1] as wrong
from (select ms, seq, amount, balance, running,
             bool_or(balance = running and operation like 'repair:%')
                 over (order by ms, seq rows between 1 following and unbounded following) is true as vouched
      from (select ms, seq, amount, balance, operation, sum(amount) over (order by ms, seq) as running
            from entries where account = $1 and (ms, seq) < ($2::bigint, $3::bigint)) as summed) as told
"""
_ENTRIES: Final = """
select ms, seq, kind, amount, balance, operation, (extract(epoch from at) * 1000)::bigint as at_ms, data
from entries where account = $1 order by ms, seq
"""
_END: Final = (2**63 - 1, 0)  # no entry is after this
_PREFETCH: Final = 1000


@record
class Sums:
    """What an account's entries add up to, and the id of the first whose balance is not the sum up to it, or ""."""

    entries: int
    total: Nanos
    wrong: str


class Archive:
    """The rows, in one view of all tables that does not move."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: PostgresExport) -> AsyncIterator["Archive"]:
        """Until the block ends. ExportFailed: the database is away, or its tables are not ours."""
        try:
            connection = await database.connect(settings)
        except database.FAULTS as error:
            raise database.failed(error) from None
        try:
            await database.check(connection, settings)
            yield cls(connection)
        except database.FAULTS as error:
            raise database.failed(error) from None
        finally:
            await database.hang_up(connection)

    async def accounts(self) -> list[str]:
        """Every account that is there, with entries or without."""
        rows = await self._connection.fetch(
            "select account from accounts union select distinct account from entries order by account"
        )
        return [row["account"] for row in rows]

    async def sums(self, account: str, *, before: str = "") -> Sums:
        """Of its entries before this id ("": all)."""
        ms, seq = (int(part) for part in before.split("-")) if before else _END
        row = await self._connection.fetchrow(_SUMS, account, ms, seq)
        return Sums(entries=row["entries"], total=Nanos(row["total"]), wrong=row["wrong"] or "")

    async def standing(self, account: str) -> dict[str, Any] | None:
        """What else was stored of the account; None if nothing is known."""
        found = await self._connection.fetchval("select standing from accounts where account = $1", account)
        return None if found is None else orjson.loads(found)

    async def entries(self, account: str) -> AsyncIterator[Entry]:
        """Its entries, in order."""
        async with self._connection.transaction(readonly=True):
            async for row in self._connection.cursor(_ENTRIES, account, prefetch=_PREFETCH):
                yield Entry(
                    id=f"{row['ms']}-{row['seq']}",
                    kind=row["kind"],
                    amount=Nanos(row["amount"]),
                    balance=Nanos(row["balance"]),
                    operation=row["operation"],
                    at_ms=row["at_ms"],
                    data=orjson.loads(row["data"]),
                )
