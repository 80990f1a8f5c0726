"""The commands on alerts: what is told of an account, and whom.

Owns: their options and tables. Does not know: what the operations do (edge/operations/alerts).
"""

from typing import Any

import click

from gateway.cli.accounts import account_argument
from gateway.cli.output import table
from gateway.cli.shared import Desk, Invocation, common, on_ledger
from gateway.edge.operations.accounts import operation
from gateway.edge.operations.alert_bodies import PutAlert
from gateway.edge.operations.views import Data

_alert_argument = click.argument("alert")


@click.group()
def alerts() -> None:
    """Alerts: what is told of an account, and whom."""


@alerts.command("list")
@account_argument
@common
def list_alerts(invocation: Invocation, *, account: str) -> None:
    """List an account's alerts."""
    invocation.show(
        on_ledger(invocation, lambda desk: desk.alerts.list_alerts(account)), lambda page: _alerts(page["items"])
    )


@alerts.command("set")
@account_argument
@_alert_argument
@click.option("--kind", required=True, metavar="KIND", help="What it tells of, like balance_below.")
@click.option("--amount", metavar="DOLLARS", help="For balance_below, spent_day, spent_month.")
@click.option(
    "--percent", type=int, metavar="PERCENT", help="For balance_below_percent, grant_nearly_spent, key_budget."
)
@click.option("--days", type=int, metavar="DAYS", help="For grant_expiring.")
@click.option("--webhook", "webhooks", multiple=True, metavar="URL", help="Tell a webhook (repeatable).")
@click.option("--slack", "hooks", multiple=True, metavar="URL", help="Tell a Slack-compatible hook (repeatable).")
@click.option("--email", "addresses", multiple=True, metavar="ADDRESS", help="Write a mail (repeatable).")
@click.option("--rotate", is_flag=True, help="Give the webhooks new secrets.")
@common
def set_alert(
    invocation: Invocation,
    *,
    account: str,
    alert: str,
    kind: str,
    amount: str | None,
    percent: int | None,
    days: int | None,
    webhooks: tuple[str, ...],
    hooks: tuple[str, ...],
    addresses: tuple[str, ...],
    rotate: bool,
) -> None:
    """Set an alert, whole. The secrets of new webhooks are printed, once."""
    if not (webhooks or hooks or addresses):
        raise click.UsageError("Say whom it tells: --webhook, --slack or --email")
    to: list[dict[str, Any]] = [{"type": "webhook", "url": url, "rotate": rotate} for url in webhooks]
    to += [{"type": "slack", "url": url} for url in hooks]
    to += [{"type": "email", "address": address} for address in addresses]

    async def work(desk: Desk) -> Data:
        body = desk.read(PutAlert, kind=kind, amount=amount, percent=percent, days=days, to=to)
        return await desk.alerts.put_alert(account, alert, body, operation(None))

    def told(data: Data) -> str:
        secrets = [(target["url"], target["secret"]) for target in data["to"] if "secret" in target]
        shown = _alerts([data])
        return f"{shown}\n\n{table(('webhook', 'secret'), secrets)}" if secrets else shown

    invocation.show(on_ledger(invocation, work), told)


@alerts.command("drop")
@account_argument
@_alert_argument
@common
def drop_alert(invocation: Invocation, *, account: str, alert: str) -> None:
    """Take an alert away."""
    work = on_ledger(invocation, lambda desk: desk.alerts.drop_alert(account, alert))
    invocation.show(work, lambda _: f"{alert} is gone")


@alerts.command("test")
@account_argument
@_alert_argument
@common
def try_alert(invocation: Invocation, *, account: str, alert: str) -> None:
    """Tell everybody whom an alert is told to that this is a test. A running gateway delivers it."""
    work = on_ledger(invocation, lambda desk: desk.alerts.test_alert(account, alert, operation(None)))
    invocation.show(work, lambda data: f"posted as {data['delivery']}")


def _alerts(items: list[Data]) -> str:
    def figure(item: Data) -> str:
        units = {"amount": "$", "percent": "%", "days": "days"}
        return next((f"{item[name]} {unit}" for name, unit in units.items() if item[name] is not None), "")

    rows = [
        (
            item["id"],
            item["kind"],
            figure(item),
            ", ".join(target.get("url") or target["address"] for target in item["to"]),
            ", ".join(item["told"]),
        )
        for item in items
    ]
    return table(("alert", "kind", "at", "to", "told"), rows, empty="no alerts")
