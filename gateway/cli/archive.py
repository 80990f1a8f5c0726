"""The ledger beside what was exported to PostgreSQL: the parts of commands that ask both.

Owns: how the database is opened for a command. Does not know: the commands' groups, or what must be equal (archiving).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import click

from gateway.cli.accounts import account_argument
from gateway.cli.output import EXIT_REFUSED, Failure, Unreachable, table
from gateway.cli.shared import Desk, Invocation, common, idempotent, named_operation, on_ledger
from gateway.core.money import Nanos, format_usd
from gateway.edge.archiving import Restoration, differences, restore, unknown_here
from gateway.edge.operations.views import Data, view_drift
from gateway.exports.archive import Archive
from gateway.ledger.repairing import Trust
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


@click.command("repair")
@account_argument
@click.option(
    "--trust",
    required=True,
    type=click.Choice(["entries", "counter"]),
    help="What is right where they differ: the sum of the entries, or the balance as it stands.",
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the ledger's entry.")
@click.option("--apply", "applied", is_flag=True, help="Do it. Without, it is only said what would be done.")
@idempotent
@common
def repair_ledger(
    invocation: Invocation, *, account: str, trust: Trust, reason: str, applied: bool, idempotency_key: str | None
) -> None:
    """Make the numbers of an account agree again, by an entry that says what was done.

    Exit code 1 if something differs and is not repaired.
    """

    async def work(desk: Desk) -> Data:
        done = await desk.ledger.repair(
            operation=named_operation(idempotency_key).id,
            account=account,
            trust=trust,
            data={"reason": reason, "actor": desk.actor},
            apply=applied,
        )
        return {
            "account": account,
            "drift": [view_drift(drift) for drift in done.drift],
            "amount": format_usd(done.amount),
            "balance": format_usd(done.balance),
            "entry": done.entry_id or None,
        }

    result = on_ledger(invocation, work)
    invocation.show(result, _repaired)
    if result["drift"] and result["entry"] is None:
        raise click.exceptions.Exit(EXIT_REFUSED)


def _repaired(data: Data) -> str:
    if not data["drift"]:
        return f"every number of {data['account']} agrees: there is nothing to repair"
    rows = [(drift["what"], drift["stored"], drift["recomputed"]) for drift in data["drift"]]
    does = "was repaired by entry " + data["entry"] if data["entry"] else "would be repaired (with --apply) by an entry"
    told = f"{data['account']} {does} of {data['amount']} USD; its balance is {data['balance']} USD then"
    return f"{table(('what', 'stored', 'recomputed'), rows)}\n{told}"


@click.command("restore")
@common
def restore_ledger(invocation: Invocation) -> None:
    """Fill an empty Redis from what was exported to PostgreSQL, and take it for the ledger from now on.

    Refused if it has accounts, or if the database has none. Exit code 1 if something could not be restored.
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
            lost.append(
                {"account": one.account, "what": f"payment {one.payment} was under way: its provider is asked again"}
            )
    return lost


def _restored(data: Data) -> str:
    told = [
        f"{data['accounts']} accounts, {data['keys']} keys and {data['entries']} entries are restored:",
        f"they have {data['balance']} USD. A new epoch has begun: {data['epoch']}",
    ]
    if data["lost"]:
        told.append(table(("account", "what"), [(each["account"], each["what"]) for each in data["lost"]]))
    return "\n".join(told)
