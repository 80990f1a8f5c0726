"""The ledger beside what was exported to PostgreSQL: the parts of commands that ask both.

Owns: how the database is opened for a command. Does not know: the commands' groups, or what must be equal (archiving).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.cli_output import Failure, Unreachable
from gateway.cli_shared import Desk
from gateway.edge.admin_views import Data, view_drift
from gateway.edge.archiving import differences, unknown_here
from gateway.exports.archive import Archive
from gateway.ports import ExportFailed
from gateway.settings.exports import PostgresExport
from gateway.settings.runtime import Runtime


def postgres_of(runtime: Runtime) -> PostgresExport:
    """The database that the config exports to."""
    if runtime.exports.postgres is None:
        raise Failure("The config has no `export.postgres`", code="no_sinks")
    return runtime.exports.postgres


@asynccontextmanager
async def open_archive(runtime: Runtime) -> AsyncIterator[Archive]:
    """What was exported, until the block ends."""
    try:
        async with Archive.open(postgres_of(runtime)) as archive:
            yield archive
    except ExportFailed as error:
        raise Unreachable(str(error), code="archive_unavailable") from None


async def verify_against(desk: Desk, accounts: Sequence[str]) -> list[Data]:
    """For each account (none: all), what differs between its balance and its rows."""
    async with open_archive(desk.runtime) as archive:
        names = accounts or [account async for account in desk.operations.account_ids()]
        drifts = {account: await differences(desk.ledger, archive, account) for account in names}
        if not accounts:
            drifts |= {drift.account: [drift] for drift in await unknown_here(archive, names)}
    return [
        {"account": account, "ok": not found, "drift": [view_drift(drift) for drift in found]}
        for account, found in drifts.items()
    ]
