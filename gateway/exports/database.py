"""The tables in PostgreSQL: their migrations and partitions, and the connection to them.

Owns: that tables are as this version knows them: numbered migrations, each applied once, in a table of their own, and
the way back of those that have one; a partition for each month. Does not know: what is written or read there.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from gateway.ports import ExportFailed
from gateway.settings.exports import PostgresExport

#: What goes wrong with a database that is away, or refuses.
#: A connection that breaks in the middle of its own opening may say that as a fault of the client.
FAULTS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_PARTITIONED: Final = ("entries", "usage")
_LOCK: Final = 0x6761_7465_7761_79  # one migrates at a time, and makes partitions


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the tables, from the file `<number>_<name>.sql`; `back` from `<number>_<name>.back.sql`, if any."""

    number: int
    name: str
    sql: str
    back: str | None = None

    def __str__(self) -> str:
        return f"{self.number:04d}_{self.name}"


@cache
def migrations() -> tuple[Migration, ...]:
    """All of them, in order."""
    directory = files("gateway.exports") / "migrations"
    found = {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir() if path.name.endswith(".sql")}
    return tuple(
        Migration(int(stem[:4]), stem[5:], found[f"{stem}.sql"], found.get(f"{stem}.back.sql"))
        for stem in sorted({name.partition(".")[0] for name in found})
    )


def failed(error: BaseException) -> ExportFailed:
    """A fault in words that hold no value of any row, and nothing of the URL."""
    state = getattr(error, "sqlstate", None)
    return ExportFailed(f"PostgreSQL: {type(error).__name__}" + (f" ({state})" if state else ""))


async def connect(settings: PostgresExport) -> Any:
    """A connection of which the tables' schema is the first that is looked in."""
    return await asyncpg.connect(
        settings.url,
        timeout=settings.seconds_max,
        command_timeout=settings.seconds_max,
        server_settings={"search_path": settings.schema, "application_name": "credit-gateway", "TimeZone": "UTC"},
    )


async def applied(connection: Any) -> set[int]:
    """The numbers of the migrations that were applied."""
    if await connection.fetchval("select to_regclass('migrations')") is None:
        return set()
    return {row["number"] for row in await connection.fetch("select number from migrations")}


class NoWayBack(Exception):
    """A migration cannot be undone; the message says which."""


async def migrate(
    connection: Any,
    settings: PostgresExport,
    *,
    to: int | None = None,
    steps: Sequence[Migration] | None = None,
) -> list[Migration]:
    """Apply what was not applied yet, up to `to`, and take back what is beyond it; what that was. Raises NoWayBack.

    One of any number of processes does it, all of it or nothing.
    """
    steps = migrations() if steps is None else steps
    last = steps[-1].number if to is None else to
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(f'create schema if not exists "{settings.schema}"')
        await connection.execute(
            "create table if not exists migrations"
            " (number integer primary key, name text not null, applied_at timestamptz not null default now())"
        )
        done = await applied(connection)
        new = [each for each in steps if each.number not in done and each.number <= last]
        for migration in new:
            await connection.execute(migration.sql)
            await connection.execute(
                "insert into migrations (number, name) values ($1, $2)", migration.number, migration.name
            )
        if to is not None and (unknown := done - {each.number for each in steps}):
            raise NoWayBack(f"migration {max(unknown)} is a newer version's, which alone can take it back")
        over = [each for each in reversed(steps) if each.number in done and each.number > last]
        for migration in over:
            if migration.back is None:
                raise NoWayBack(f"{migration} has no way back")
            await connection.execute(migration.back)
            await connection.execute("delete from migrations where number = $1", migration.number)
        return new + over


async def check(connection: Any, settings: PostgresExport) -> None:
    """The tables are as this version knows them, or are made so where the config lets us; else ExportFailed."""
    done, known = await applied(connection), {migration.number for migration in migrations()}
    if done - known:
        raise ExportFailed("PostgreSQL: its tables are those of a newer version")
    if known - done:
        if not settings.migrate:
            raise ExportFailed("PostgreSQL: its tables are not there, or old: run `gateway export migrate`")
        await migrate(connection, settings)


def month_of(ms: int) -> tuple[int, int]:
    """The month (UTC) of a time."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.year, at.month


def _begin_ms(year: int, month: int) -> int:
    return int(datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000)


async def add_partitions(connection: Any, months: Iterable[tuple[int, int]]) -> None:
    """Have a partition of every table for each of the months."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        for year, month in months:
            for table in _PARTITIONED:
                await connection.execute(
                    f"create table if not exists {table}_{year:04}_{month:02} partition of {table}"
                    f" for values from ({_begin_ms(year, month)}) to ({_begin_ms(year, month + 1)})"
                )


async def hang_up(connection: Any) -> None:
    """End a connection, however it is."""
    try:
        async with asyncio.timeout(1):
            await connection.close()
    except FAULTS:
        connection.terminate()
