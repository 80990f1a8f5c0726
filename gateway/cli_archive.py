"""The ledger beside what was exported to PostgreSQL: the parts of commands that ask both.

Owns: how the database is opened for a command. Does not know: the commands' groups, or what must be equal (archiving).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import click

from gateway.cli_output import EXIT_REFUSED, Failure, Unreachable, table
from gateway.cli_shared import Desk, Invocation, common, on_ledger
from gateway.core.money import Nanos, format_usd
from gateway.edge.admin_views import Data, view_drift
from gateway.edge.archiving import Restoration, differences, restore, unknown_here
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


@click.command("restore")
@common
def restore_ledger(invocation: Invocation) -> None:
    """Fill an empty Redis from what was exported to PostgreSQL, and take it for the ledger from now on.

    Refused if it has accounts. Exit code 1 if something could not be restored.
    """

    async def work(desk: Desk) -> Data:
        async with open_archive(desk.runtime) as archive:
            found = await restore(desk.ledger, archive, desk.runtime.exports)
        return {
            "accounts": len(found.accounts) + found.there,
            "entries": sum(one.entries for one in found.accounts),
            "keys": sum(one.keys for one in found.accounts),
            "balance": format_usd(Nanos(sum(one.balance for one in found.accounts))),
            "lost": _lost(found),
            "epoch": await desk.ledger.begin_epoch(desk.memory),
        }

    result = on_ledger(invocation, work)
    invocation.show(result, _restored)
    if result["lost"]:
        raise click.exceptions.Exit(EXIT_REFUSED)


def _lost(found: Restoration) -> list[Data]:
    """What was not restored, or must be looked at."""
    lost = [{"account": account, "what": "no plan and no keys are known: not restored"} for account in found.nameless]
    for one in found.accounts:
        lost += [{"account": one.account, "what": f"key {key} has no digest: make another"} for key in one.keys_lost]
        if one.wrong:
            lost.append({"account": one.account, "what": f"{one.wrong} is not the sum up to it: see ledger repair"})
        if one.payment:
            lost.append({"account": one.account, "what": f"payment {one.payment} was under way: ask its provider"})
    return lost


def _restored(data: Data) -> str:
    told = [
        f"{data['accounts']} accounts, {data['keys']} keys and {data['entries']} entries are restored:",
        f"they have {data['balance']} USD. A new epoch has begun: {data['epoch']}",
    ]
    if data["lost"]:
        told.append(table(("account", "what"), [(each["account"], each["what"]) for each in data["lost"]]))
    return "\n".join(told)
