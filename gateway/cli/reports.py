"""The commands that tell what was used, and what administrators did.

Owns: their options and tables. Does not know: how either is counted or kept (edge/operations: usage, auditing).
"""

from typing import IO, Final

import click

from gateway.cli.accounts import account_argument, after_option, limit_option, with_next
from gateway.cli.output import table
from gateway.cli.shared import Desk, Invocation, common, on_ledger
from gateway.edge.operations.admin_bodies import PriceDryRun
from gateway.edge.operations.bodies import read_page
from gateway.edge.operations.usage import usage_csv
from gateway.edge.operations.views import Data

_FILE_MAX: Final = 60_001  # one more than may be


@click.group()
def usage() -> None:
    """What was charged, by day, product, key and project."""


@usage.command("show")
@account_argument
@click.option("--since", default="", metavar="DAY", help="The first day (UTC). Default: thirty days back.")
@click.option("--until", default="", metavar="DAY", help="The day after the last (UTC). Default: tomorrow.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@common
def show_usage(invocation: Invocation, *, account: str, since: str, until: str, as_csv: bool) -> None:
    """Show what was charged to an account's keys."""
    found = on_ledger(invocation, lambda desk: desk.usage.show_usage(account, since=since, until=until))
    if as_csv:
        click.echo(usage_csv(found), nl=False)
    else:
        invocation.show(found, _usage)


@click.group()
def prices() -> None:
    """Prices that are not in force."""


@prices.command("dry-run")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--account", required=True, metavar="ACCOUNT", help="Whose charges are priced again.")
@click.option("--since", default="", metavar="DAY", help="The first day (UTC). Default: thirty days back.")
@click.option("--until", default="", metavar="DAY", help="The day after the last (UTC). Default: tomorrow.")
@click.option("--rate-card", metavar="CARD", help="As this rate card. Default: the one of each charge.")
@common
def dry_run(
    invocation: Invocation, *, file: IO[str], account: str, since: str, until: str, rate_card: str | None
) -> None:
    """Show what an account's charges would have cost by the newest list of a price file."""
    text = file.read(_FILE_MAX)

    async def work(desk: Desk) -> Data:
        body = desk.read(PriceDryRun, account=account, prices=text, since=since, until=until, rate_card=rate_card)
        return await desk.prices.dry_run(body)

    invocation.show(on_ledger(invocation, work), repriced)


@click.group()
def audit() -> None:
    """What administrators did."""


@audit.command("list")
@click.option("--account", default="", metavar="ACCOUNT", help="On this account alone.")
@after_option
@limit_option
@common
def list_audit(invocation: Invocation, *, account: str, after: str, limit: str) -> None:
    """List what administrators did, the newest first."""

    async def work(desk: Desk) -> Data:
        begin, count = read_page(after, limit)
        return await desk.audit.list_lines(account=account, after=begin, limit=count)

    invocation.show(on_ledger(invocation, work), _lines)


def _usage(found: Data) -> str:
    headers = ("day", "product", "key", "project", "calls", "charged")
    rows = [[row[name] for name in headers] for row in found["items"]]
    total = found["total"]
    return f"{table(headers, rows, empty='nothing')}\n{total['calls']} calls, {total['charged']} {found['currency']}"


def repriced(found: Data) -> str:
    """For people: what charges cost, and would have cost."""
    headers = ("sku", "lines", "unpriced", "charged", "repriced", "difference")
    rows = [[row[name] for name in headers] for row in found["items"]]
    told = [
        table(headers, rows, empty="no charges"),
        (
            f"{found['charges']} charges: {found['charged']} {found['currency']}, by {found['price_version']}"
            f" {found['repriced']}: {found['difference']}"
        ),
    ]
    return "\n".join(told if found["complete"] else [*told, "not all of the period: too many entries"])


def _lines(page: Data) -> str:
    headers = ("line", "at", "actor", "action", "account", "about", "outcome")
    rows = [
        (
            *(line["id"], line["at"], line["actor"], line["action"], line["account"]),
            *(" ".join(line["about"].values()) or None, line["outcome"]),
        )
        for line in page["items"]
    ]
    return with_next(table(headers, rows, empty="nothing"), page)
