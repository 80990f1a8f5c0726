"""Whole gateways that export, killed under load: every entry arrives, in order, and the rows prove the balances."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.exports.database import connect
from gateway.settings.exports import PostgresExport
from tests.exports.conftest import postgres
from tests.exports.database import Postgres
from tests.exports.stage import firsts
from tests.pipeline.helpers import until
from tests.system.processes import World

__all__ = ["postgres"]  # a fixture
pytestmark = pytest.mark.system
ACCOUNTS = 5


@pytest.fixture
def database(postgres: Postgres) -> Iterator[PostgresExport]:
    """A schema of its own."""
    yield PostgresExport(url=postgres.url, schema="killed")


async def test_killed_gateways_lose_nothing_and_a_lost_redis_is_restored(
    tmp_path: Path, empty_redis: str, database: PostgresExport
) -> None:
    """Of two gateways the one that exports is killed with its worker: rows are the entries, once and in order; files
    have them in order; a metric says that nothing waits; the command line proves the balances. Then Redis loses all,
    and is restored: the gateway takes it for its own, the customers' keys work, and their calls are charged.
    """
    files = tmp_path / "files"

    def export(data: dict[str, Any]) -> None:
        data["export"] = {
            "walk_accounts": 1000,
            "postgres": {"url": database.url, "schema": database.schema},
            "jsonl": {"directory": str(files)},
        }

    async with World(tmp_path / "world", empty_redis, {"gateway.yaml": export}).opened() as world:
        keys = [await world.open_account(f"customer-{number}") for number in range(ACCOUNTS)]
        served = [await world.serve(name) for name in ("one", "two")]
        calls = [asyncio.create_task(world.chat(each, key)) for key in keys * 4 for each in served]
        await asyncio.sleep(0.4)
        await served[0].end(signal.SIGKILL)
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.gather(*(world.chat(served[1], key) for key in keys))  # there for the other one to export
        accounts = [f"customer-{number}" for number in range(ACCOUNTS)]

        async def arrived() -> bool:
            asked = (
                world.ledger.export_behind(sink=sink, account=one) for one in accounts for sink in ("postgres", "jsonl")
            )
            return not any(await asyncio.gather(*asked))

        assert await until(arrived, 30)  # the lease of the one that was killed, and a walk
        made = {
            account: [entry.operation for entry in await world.ledger.entries(account, limit=1000)]
            for account in accounts
        }
        assert min(map(len, made.values())) > 4
        connection = await connect(database)
        rows = await connection.fetch("select account, operation from entries order by account, ms, seq")
        await connection.close()
        assert firsts([(row["account"], row["operation"]) for row in rows]) == made
        assert len(rows) == sum(map(len, made.values()))
        told = [orjson.loads(line) for path in sorted(files.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
        assert firsts([(line["account"], line["operation"]) for line in told]) == made
        metrics = await served[-1].metrics()
        assert metrics["gateway_export_lag_accounts"] == 0
        assert metrics['gateway_export_batches_total{outcome="kept",sink="postgres"}'] > 0
        await served[-1].end()
        assert [each.errors for each in served] == ["", ""]
        config = str(served[-1].directory / "gateway.yaml")
        proven = await command("ledger", "verify", "--against", "postgres", "-c", config, "--json")
        assert (proven.exit_code, orjson.loads(proven.stdout)["verified"]) == (0, ACCOUNTS), proven.output

        balances = [(await world.ledger.account(account)).balance for account in accounts]
        await world.ledger._call("FLUSHALL")
        restored = await command("ledger", "restore", "-c", config, "--json")
        assert restored.exit_code == 0, restored.output
        assert orjson.loads(restored.stdout)["accounts"] == ACCOUNTS
        assert [(await world.ledger.account(account)).balance for account in accounts] == balances
        again = await command("ledger", "restore", "-c", config)
        assert (again.exit_code, "has accounts" in again.output) == (1, True)
        served = [await world.serve("two")]
        assert [await world.chat(served[0], key) for key in keys] == [200] * ACCOUNTS
        for account in accounts:
            await world.charged_as_often(account, len(made[account]))
            assert await world.ledger.verify(account) == []
        assert [(await world.ledger.account(account)).balance for account in accounts] < balances
        await served[0].end()


async def command(*words: str) -> Result:
    """A command of the command line."""
    return await asyncio.to_thread(CliRunner().invoke, main, words)
