"""The commands on jobs.

Owns: their options and tables. Does not know: what the operations do (edge/operations/jobs).
"""

import click

from gateway.cli.accounts import account_argument, limit_option
from gateway.cli.output import facts, table
from gateway.cli.shared import Invocation, common, on_ledger
from gateway.edge.operations.bodies import read_page
from gateway.edge.operations.views import Data
from gateway.ports import ResourceRef

_kind_argument = click.argument("kind")
_job_argument = click.argument("job")


@click.group()
def jobs() -> None:
    """Jobs: what is open, and how it is ended by hand."""


@jobs.command("list")
@account_argument
@limit_option
@common
def list_jobs(invocation: Invocation, *, account: str, limit: str) -> None:
    """List an account's open jobs that the gateway follows, the next one to be looked at first."""

    def told(page: Data) -> str:
        headers = ("kind", "job", "held", "product", "key", "created", "next look", "gone since", "place")
        names = ("kind", "id", "held", "product", "key", "created_at", "next_look_at", "gone_since", "place")
        rows = [tuple(job[name] for name in names) for job in page["items"]]
        return table(headers, rows, empty="no open jobs")

    _, count = read_page("", limit)
    invocation.show(on_ledger(invocation, lambda desk: desk.jobs.list_jobs(account, limit=count)), told)


@jobs.command("show")
@account_argument
@_kind_argument
@_job_argument
@common
def show_job(invocation: Invocation, *, account: str, kind: str, job: str) -> None:
    """Show a job, over or not. KIND is as in the config, JOB the service's id."""
    ref = ResourceRef(kind=kind, id=job)
    invocation.show(on_ledger(invocation, lambda desk: desk.jobs.show_job(account, ref)), _job)


@jobs.command("settle")
@account_argument
@_kind_argument
@_job_argument
@click.option("--charge-hold", is_flag=True, help="Charge what was held for it, if it is not over.")
@common
def settle_job(invocation: Invocation, *, account: str, kind: str, job: str, charge_hold: bool) -> None:
    """Ask the service about a job now, and end it by what it says."""
    ref = ResourceRef(kind=kind, id=job)

    def told(data: Data) -> str:
        ended = f"charged {data['charged']} {data['currency']}" if data["charged"] else "nothing charged"
        return f"{data['found']}: {ended}"

    invocation.show(
        on_ledger(invocation, lambda desk: desk.jobs.settle_job(account, ref, charge_hold=charge_hold)), told
    )


@jobs.command("release")
@account_argument
@_kind_argument
@_job_argument
@common
def release_job(invocation: Invocation, *, account: str, kind: str, job: str) -> None:
    """Give an open job's hold back for good: its result, if it ever comes, is free."""
    ref = ResourceRef(kind=kind, id=job)

    def told(data: Data) -> str:
        return f"released {job}" if data["released"] else f"{job} is {data['job']['state']}: it ended before"

    invocation.show(on_ledger(invocation, lambda desk: desk.jobs.release_job(account, ref)), told)


def _job(data: Data) -> str:
    return facts([(name.replace("_", " "), value) for name, value in data.items()])
