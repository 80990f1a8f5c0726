"""Exports to PostgreSQL: a row for each entry, one for each item of a charge, and what else is stored of each account.

Owns: the rows. A batch is one transaction, and what is there already stays: put twice, it is there once.
Does not know: how tables come to be (database).
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from gateway.exports import database
from gateway.exports.lines import usage_lines
from gateway.ports import Entry, ExportPage
from gateway.settings.exports import PostgresExport

_ENTRIES: Final = """
insert into entries (account, ms, seq, kind, amount, balance, operation, at, data)
select account, ms, seq, kind, amount, balance, operation, at, data::json
from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
            $8::timestamptz[], $9::text[]) as new (account, ms, seq, kind, amount, balance, operation, at, data)
on conflict do nothing
"""
_USAGE: Final = """
insert into usage (account, ms, seq, item, at, sku, quantity, unit, unit_price, amount, product, route, key_id, call_id,
                   price_version, rate_card, basis)
select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::integer[], $5::timestamptz[], $6::text[],
                     $7::numeric[], $8::text[], $9::text[], $10::bigint[], $11::text[], $12::text[], $13::text[],
                     $14::text[], $15::text[], $16::text[], $17::text[])
on conflict do nothing
"""
_ACCOUNTS: Final = """
insert into accounts (account, read_ms, standing)
select account, read_ms, standing::json
from unnest($1::text[], $2::bigint[], $3::text[]) as new (account, read_ms, standing)
on conflict (account) do update set read_ms = excluded.read_ms, standing = excluded.standing
where accounts.read_ms <= excluded.read_ms
"""
#: The fields of a usage line from `unit` on, as the table has them.
_FACTS: Final = (
    "unit", "unit_price", "amount_nanos", "product", "route", "key_id", "call_id", "price_version", "rate_card",
    "basis",
)  # fmt: skip


class PostgresSink:
    """See ports.Sink."""

    name = "postgres"
    keeps_standing = True

    def __init__(self, settings: PostgresExport) -> None:
        self._settings = settings
        self._connection: Any = None
        self._months: set[tuple[int, int]] = set()

    def __repr__(self) -> str:
        return f"<PostgresSink {self._settings.schema} {'open' if self._connection else 'closed'}>"

    async def put(self, pages: Sequence[ExportPage]) -> None:
        """See ports.Sink."""
        try:
            async with asyncio.timeout(self._settings.seconds_max):
                await self._put(pages)
        except database.FAULTS as error:
            await self.close()
            raise database.failed(error) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See ports.Sink."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await database.hang_up(connection)

    async def _put(self, pages: Sequence[ExportPage]) -> None:
        entries = [(page.account, *_id(entry), entry) for page in pages for entry in page.entries]
        standings = [(page.account, page.read_ms, page.standing) for page in pages if page.standing is not None]
        connection = await self._opened()
        if new := {database.month_of(ms) for _, ms, _, _ in entries} - self._months:
            await database.add_partitions(connection, sorted(new))
            self._months |= new
        usage = [
            (account, ms, seq, line["item"], _time(entry.at_ms), line["sku"], Decimal(line["quantity"]), *facts)
            for account, ms, seq, entry in entries
            for line in usage_lines(account, entry)
            for facts in [[line[name] for name in _FACTS]]
        ]
        rows = [(account, ms, seq, *_facts(entry)) for account, ms, seq, entry in entries]
        accounts = [(account, read_ms, orjson.dumps(told).decode()) for account, read_ms, told in standings]
        async with connection.transaction():
            for statement, given in ((_ENTRIES, rows), (_USAGE, usage), (_ACCOUNTS, accounts)):
                if given:
                    await connection.execute(statement, *(list(column) for column in zip(*given, strict=True)))

    async def _opened(self) -> Any:
        if self._connection is None:
            connection = await database.connect(self._settings)
            self._connection = connection
            await database.check(connection, self._settings)
        return self._connection


def _id(entry: Entry) -> tuple[int, int]:
    ms, _, seq = entry.id.partition("-")
    return int(ms), int(seq)


def _facts(entry: Entry) -> tuple[Any, ...]:
    data = orjson.dumps(entry.data).decode()
    return entry.kind, entry.amount, entry.balance, entry.operation, _time(entry.at_ms), data


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
