"""The ledger in a real PostgreSQL: every entry is one row, whatever dies in between, and they prove the balances."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.edge.archiving import differences, unknown_here
from gateway.exports.archive import Archive
from gateway.exports.database import Migration, NoWayBack, add_partitions, applied, connect, migrate, migrations
from gateway.exports.postgres import PostgresSink
from gateway.ledger.single import SingleLink
from gateway.ports import ExportFailed
from gateway.settings.exports import PostgresExport
from gateway.workers.export import Exporter
from tests.exports.database import Postgres
from tests.exports.stage import Stage, firsts
from tests.ledger.ledgers import bill, usd
from tests.pipeline.helpers import until


@asynccontextmanager
async def asked(database: PostgresExport) -> AsyncIterator[Any]:
    """A connection for the test's own questions."""
    connection = await connect(database)
    yield connection
    await connection.close()


async def operations(database: PostgresExport) -> dict[str, list[str]]:
    """The rows' operations, by account, in the order of the ledger."""
    async with asked(database) as connection:
        rows = await connection.fetch("select account, operation from entries order by account, ms, seq")
    return firsts([(row["account"], row["operation"]) for row in rows])


async def exported(stage: Stage, exporter: Exporter) -> None:
    """All of it."""
    await stage.ledger.note_exports()
    await exporter.round()
    assert exporter.caught_up, stage.told.batches


async def proven(stage: Stage, database: PostgresExport) -> list[tuple[str, str]]:
    """What differs between the ledger and the rows: account and what."""
    async with Archive.open(database) as archive:
        found = [drift for account in stage.made for drift in await differences(stage.ledger, archive, account)]
        found += await unknown_here(archive, stage.made)
    return [(drift.account, drift.what) for drift in found]


async def test_rows_are_the_entries(link: SingleLink, database: PostgresExport) -> None:
    """All that an entry says, to the nano and the millisecond, any text included; a charge's items; what else is stored
    of the account, keys by their digests; and what was exported before again changes nothing.
    """
    stage = Stage(link, "postgres")
    await stage.traffic(3, 5)
    await stage.ledger.settle(bill("odd", usd(1), account="account-0", upstream_id='nul \x00, "quotes" and {1,2}'))
    stage.made["account-0"].append("odd")
    exporter = stage.exporter(PostgresSink(database))
    await exported(stage, exporter)
    for account in stage.made:
        await stage.ledger.rewind_export(sink="postgres", account=account)
    await exported(stage, exporter)
    assert await operations(database) == stage.made
    async with Archive.open(database) as archive:
        told = [entry async for entry in archive.entries("account-0")]
        standing = await archive.standing("account-0")
        assert await archive.standing("nobody") is None
    assert told == list(await stage.ledger.entries("account-0"))
    assert standing is not None
    assert standing["account"]["tier"] == "free"
    assert standing["keys"]["account-0-key"]["digest"] == "account-0-digest"
    assert not any(name.startswith(("open.", "rate.")) for name in standing["account"])
    async with asked(database) as connection:
        (row,) = await connection.fetch(
            "select * from usage where account = 'account-0' and item = 1 order by ms, seq limit 1"
        )
        assert (row["sku"], str(row["quantity"]), row["unit_price"]) == ("sku-1", "1.5", "0.21 per_hour")
        assert (row["amount"], row["key_id"], row["call_id"]) == (16_666_666, "account-0-key", "account-0-1")
        assert await connection.fetchval("select count(*) from usage") == 2 * 16
        partitions = await connection.fetch("select relname from pg_class where relname like 'entries_2%' order by 1")
        assert len(partitions) >= 1
    assert await proven(stage, database) == []
    await exporter.close()


async def test_what_changes_without_an_entry_is_kept_too(link: SingleLink, database: PostgresExport) -> None:
    """A plan, a key; what a slower process read before that does not come back."""
    stage = Stage(link, "postgres")
    await stage.traffic(1, 1)
    sink = PostgresSink(database)
    exporter = stage.exporter(sink)
    await exported(stage, exporter)
    before = await stage.ledger.exportable(sink="postgres", account="account-0", limit=1, standing=True)
    await stage.ledger.change_account(operation="up", account="account-0", tier="payg")
    await stage.ledger.change_key(
        operation="off", account="account-0", key_id="account-0-key", changes={"disabled": True}
    )
    await exported(stage, exporter)
    await sink.put([replace(before, read_ms=before.read_ms - 1)])
    async with Archive.open(database) as archive:
        standing = await archive.standing("account-0")
    assert standing is not None
    assert standing["account"]["tier"] == "payg"
    assert standing["keys"]["account-0-key"]["disabled"] == "1"
    await exporter.close()


async def test_postgres_that_dies_and_comes_back(
    link: SingleLink, database: PostgresExport, postgres: Postgres
) -> None:
    """Killed under load, twice: calls go on, and when it is back every entry is there, once, in order."""
    stage = Stage(link, "postgres")
    await stage.traffic(10, 1)
    exporter = stage.exporter(PostgresSink(database))
    await exported(stage, exporter)

    async def dying() -> None:
        for how in (signal.SIGQUIT, signal.SIGKILL):
            await asyncio.sleep(0.3)
            postgres.stop(how)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(postgres.start)
        back.set()

    async def calling() -> None:
        while not back.is_set():
            await stage.traffic(10, 3)
            await asyncio.sleep(0.01)

    async def exporting() -> None:
        while not ended.is_set():
            await stage.ledger.note_exports()
            await exporter.round()
            await asyncio.sleep(0.02)

    back, ended = asyncio.Event(), asyncio.Event()
    beside = asyncio.create_task(exporting())
    await asyncio.gather(dying(), calling())
    assert "failed" in {batch.outcome for batch in stage.told.batches}

    async def done() -> bool:
        return exporter.caught_up

    assert await until(done)
    ended.set()
    await beside
    await exported(stage, exporter)
    assert await operations(database) == stage.made
    assert await proven(stage, database) == []
    assert all("gateway@" not in batch.why for batch in stage.told.batches)
    await exporter.close()


async def test_two_exporters_at_once_make_each_row_once(link: SingleLink, database: PostgresExport) -> None:
    """Even without a lease between them, and both making the tables: rows stay rows."""
    stage = Stage(link, "postgres")
    await stage.traffic(6, 40)
    sinks = [PostgresSink(database) for _ in range(3)]
    accounts = list(stage.made)

    async def put_all(sink: PostgresSink) -> None:
        for account in accounts:
            page = await stage.ledger.exportable(sink="x", account=account, limit=1000, standing=True)
            await sink.put([page])

    await asyncio.gather(*(put_all(sink) for sink in sinks))
    assert await operations(database) == stage.made
    assert await proven(stage, database) == []
    async with asked(database) as connection:
        assert await connection.fetchval("select count(*) from entries") == sum(map(len, stage.made.values()))
    for sink in sinks:
        await sink.close()


async def test_verify_against_the_rows_finds_what_differs(link: SingleLink, database: PostgresExport) -> None:
    """Waiting entries are no difference; a balance that was changed, a row that is lost, an entry that only the rows
    have (as after a failover that lost it), and an account that only they know, are.
    """
    stage = Stage(link, "postgres")
    await stage.traffic(4, 10)
    exporter = stage.exporter(PostgresSink(database))
    await exported(stage, exporter)
    await stage.charge("account-0", 3)
    assert await proven(stage, database) == []
    await link.call("HINCRBY", "gw:{account-0}:account", "balance", 1)
    async with asked(database) as connection:
        await connection.execute("delete from entries where operation = 'account-1-5'")
        await connection.execute(
            "insert into entries select account, ms + 1000000, seq, kind, -5, balance - 5, 'lost', at, data"
            " from entries where operation = 'account-2-10'"
        )
        await connection.execute("insert into accounts values ('account-9', 1, '{}')")
    found = await proven(stage, database)
    assert [what for account, what in found if account != "account-1"] == [
        "archive.balance", "archive.balance", "archive.account",
    ]  # fmt: skip
    assert [account for account, _ in found] == ["account-0", "account-1", "account-1", "account-2", "account-9"]
    assert found[2][1].startswith("archive.entry.")
    await stage.charge("account-0", 1)
    done = await stage.ledger.repair(
        operation="fix", account="account-0", trust="counter", data={"reason": "by hand"}, apply=True
    )
    assert done.amount == 1
    await exported(stage, exporter)
    assert await proven(stage, database) == [each for each in found if each[0] != "account-0"]
    await exporter.close()


async def test_rows_that_are_not_there_prove_nothing(link: SingleLink, database: PostgresExport) -> None:
    """What waits for too long is told, although its sum would make up for it: of a new database, everything."""
    stage = Stage(link, "postgres")
    await stage.traffic(2, 3)

    async def told(seconds: int) -> list[tuple[str, str, int]]:
        async with Archive.open(database) as archive:
            asked_for = [differences(stage.ledger, archive, one, waiting_seconds_max=seconds) for one in stage.made]
            found = [drift for one in asked_for for drift in await one]
        return [(drift.account, drift.what, drift.recomputed) for drift in found]

    assert await told(60) == []
    assert await told(-1) == [("account-0", "archive.behind", 0), ("account-1", "archive.behind", 0)]
    exporter = stage.exporter(PostgresSink(database))
    await exported(stage, exporter)
    assert await told(-1) == []
    await exporter.close()


async def test_tables_go_back_to_what_an_older_version_knows(database: PostgresExport) -> None:
    """A newer version's steps are taken back newest first, all or none of them; the older one exports again then. One
    that does not know a step cannot take it back, nor is the first ever taken back.
    """
    ours = migrations()
    newer = (
        *ours,
        Migration(9001, "wider", "alter table usage add column region text", "alter table usage drop column region"),
        Migration(9002, "indexed", "create index by_region on usage (region)", "drop index by_region"),
    )
    async with asked(database) as connection:
        assert await migrate(connection, database, steps=newer) == list(newer)
        with pytest.raises(ExportFailed, match="newer version"):
            async with Archive.open(database):
                pass
        with pytest.raises(NoWayBack, match="migration 9002 is a newer version's"):
            await migrate(connection, database, to=1)
        stuck = (*ours, replace(newer[-2], back=None), newer[-1])
        with pytest.raises(NoWayBack, match="9001_wider has no way back"):
            await migrate(connection, database, to=ours[-1].number, steps=stuck)
        assert await applied(connection) == {each.number for each in newer}
        assert await migrate(connection, database, to=ours[-1].number, steps=newer) == [newer[-1], newer[-2]]
        assert await migrate(connection, database, to=ours[-1].number) == []
    async with Archive.open(database):
        pass


async def test_tables_are_made_once_and_never_by_surprise(database: PostgresExport) -> None:
    """Many at once migrate as one; where the config does not let us, the export waits for ops; tables of a newer
    version are left alone; months have partitions over the turn of a year.
    """
    strict = replace(database, migrate=False)
    with pytest.raises(ExportFailed, match="gateway export migrate"):
        async with Archive.open(strict):
            pass
    connections = [await connect(database) for _ in range(4)]
    done = await asyncio.gather(*(migrate(one, database) for one in connections))
    assert sorted(map(len, done)) == [0, 0, 0, len(migrations())]
    assert await applied(connections[0]) == {migration.number for migration in migrations()}
    await asyncio.gather(*(add_partitions(one, [(2026, 12), (2027, 1)]) for one in connections))
    for ms, month in ((1_798_761_599_999, "entries_2026_12"), (1_798_761_600_000, "entries_2027_01")):
        await connections[0].execute("insert into entries values ('a', $1, 0, 'charge', 0, 0, 'o', now(), '{}')", ms)
        assert await connections[0].fetchval("select tableoid::regclass::text from entries where ms = $1", ms) == month
    await connections[0].execute("insert into migrations values (9999, 'of_a_newer_version')")
    with pytest.raises(ExportFailed, match="newer version"):
        async with Archive.open(strict):
            pass
    for one in connections:
        await one.close()
    away = replace(database, url="postgresql://user:s3cret@/postgres?host=/nowhere")
    with pytest.raises(ExportFailed) as told:
        async with Archive.open(away):
            pass
    assert "s3cret" not in str(told.value)
    assert "s3cret" not in repr(away)
