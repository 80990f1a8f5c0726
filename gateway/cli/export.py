"""The commands on the export: running it elsewhere than beside the gateway, how far it is, having things again.

Owns: their options and tables. Does not know: how things are exported (edge/exporting, workers/export).
"""

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

import click

from gateway.cli.archive import postgres_of
from gateway.cli.output import Failure, Unreachable, table
from gateway.cli.shared import UNREACHABLE, Desk, Invocation, common, on_ledger, unreachable
from gateway.edge.clock import SystemClock
from gateway.edge.exporting import Exporting
from gateway.edge.ledger import open_ledger
from gateway.edge.observing import Observing
from gateway.edge.operations.views import Data
from gateway.edge.process.loop import run
from gateway.exports.database import FAULTS, NoWayBack, connect, failed, hang_up, migrate
from gateway.settings.runtime import Runtime

_ASKED_AT_ONCE: Final = 200


@click.group()
def export() -> None:
    """The ledger, kept elsewhere too: files, services, databases."""


@export.command("run")
@click.option("--until-done", is_flag=True, help="End when every sink has everything.")
@common
def run_export(invocation: Invocation, *, until_done: bool) -> None:
    """Export until SIGTERM or SIGINT: for a config in which `gateway serve` does not (`export.serve: false`)."""
    runtime = invocation.runtime()
    _check_sinks(runtime)
    try:
        run(_export(runtime, until_done=until_done))
    except UNREACHABLE as error:
        raise unreachable(runtime, error) from None


@export.command("migrate")
@click.option(
    "--to", type=click.IntRange(1), metavar="NUMBER", help="Stop at this migration, and take back those beyond it."
)
@common
def migrate_export(invocation: Invocation, *, to: int | None) -> None:
    """Make the tables in PostgreSQL, or bring them up to this version; or back to what an older one knows."""
    settings = postgres_of(invocation.runtime())

    async def work() -> Data:
        connection = await connect(settings)
        try:
            changed = await migrate(connection, settings, to=to)
        finally:
            await hang_up(connection)
        back = [one for one in changed if to is not None and one.number > to]
        applied = [str(one) for one in changed if one not in back]
        return {"schema": settings.schema, "applied": applied, "back": [str(one) for one in back]}

    try:
        done = run(work())
    except NoWayBack as error:
        raise Failure(str(error), code="no_way_back") from None
    except FAULTS as error:
        raise Unreachable(str(failed(error)), code="archive_unavailable") from None
    invocation.show(done, _migrated)


@export.command("status")
@common
def export_status(invocation: Invocation) -> None:
    """Say for each sink how many accounts wait, for how long, and how many lack something: all are asked."""

    async def work(desk: Desk) -> Data:
        names = [account async for account in desk.ledger.accounts()]
        found: list[Data] = []
        for sink in desk.runtime.exports.sinks:
            lacking = await _lacking(desk, sink, names)
            lag = await desk.ledger.export_lag(sink=sink)
            found.append({"sink": sink, "accounts": lag.accounts, "seconds": round(lag.seconds, 3), "lacking": lacking})
        return {"sinks": found}

    invocation.show(on_ledger(invocation, work), _status)


@export.command("rewind")
@click.argument("sink")
@click.argument("accounts", nargs=-1, metavar="[ACCOUNT]...")
@common
def rewind_export(invocation: Invocation, *, sink: str, accounts: tuple[str, ...]) -> None:
    """Let a sink have everything again that is still in Redis, of some accounts (default: of all).

    For a sink that has lost what it had kept.
    """
    if sink not in invocation.runtime().exports.sinks:
        raise Failure(f"The config has no export to {sink!r}", code="unknown_sink")

    async def work(desk: Desk) -> Data:
        names = accounts or [account async for account in desk.ledger.accounts()]
        for account in names:
            await desk.ledger.rewind_export(sink=sink, account=account)
        return {"sink": sink, "accounts": len(names)}

    invocation.show(on_ledger(invocation, work), lambda done: f"{done['accounts']} accounts wait for {done['sink']}")


async def _lacking(desk: Desk, sink: str, accounts: Sequence[str]) -> int:
    """How many of these accounts have something that the sink has not had, whether or not they wait for it."""
    lacking = 0
    for begin in range(0, len(accounts), _ASKED_AT_ONCE):
        some = accounts[begin : begin + _ASKED_AT_ONCE]
        lacking += sum(await asyncio.gather(*(desk.ledger.export_behind(sink=sink, account=one) for one in some)))
    return lacking


def _check_sinks(runtime: Runtime) -> None:
    if not runtime.exports.sinks:
        raise Failure("The config has no sink below `export`", code="no_sinks")


async def _export(runtime: Runtime, *, until_done: bool) -> None:
    """Until SIGTERM or SIGINT, or until nothing waits."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    observing = Observing(runtime)
    async with open_ledger(runtime, keep=True, observer=observing.all) as ledger:
        exporting = Exporting(runtime.exports, ledger=ledger, observer=observing.all, clock=SystemClock(), on=True)
        async with exporting:
            while not stop.is_set() and not (until_done and all(one.complete for one in exporting.exporters)):
                await observing.keep_flushing()
                try:
                    await asyncio.wait_for(stop.wait(), 0.2)
                except TimeoutError:
                    continue
    observing.flush()


def _migrated(found: Data) -> str:
    return "\n".join([*found["applied"], *(f"{name} taken back" for name in found["back"])]) or "nothing to do"


def _status(found: Data) -> str:
    headers = ("sink", "accounts that wait", "for seconds", "that lack something")
    rows = [tuple(each[name] for name in ("sink", "accounts", "seconds", "lacking")) for each in found["sinks"]]
    told = [table(headers, rows, empty="nothing is exported")]
    unseen = {each["sink"]: each["lacking"] - each["accounts"] for each in found["sinks"]}
    command = "`gateway export run --until-done`"
    told += [f"{sink}: {count} accounts not walked yet: {command}" for sink, count in unseen.items() if count > 0]
    return "\n".join(told)
