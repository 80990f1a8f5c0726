"""The commands on payments and autopay.

Owns: their options and tables. Does not know: what the operations do (edge/operations/autopay).
"""

from typing import Any

import click

from gateway.cli.accounts import account_argument, changes_of
from gateway.cli.output import facts
from gateway.cli.shared import Desk, Invocation, common, idempotent, named_operation, on_ledger
from gateway.edge.operations.autopay_bodies import AddFunds, ChangeAutopay, FailPayment, TakeBack, TellPayment
from gateway.edge.operations.views import Data


@click.group()
def autopay() -> None:
    """Autopay: accounts that pay by themselves."""


@click.group()
def payments() -> None:
    """Payments: pages to pay at, and what was paid somewhere else."""


@autopay.command("show")
@account_argument
@common
def show_autopay(invocation: Invocation, *, account: str) -> None:
    """Show what an account's autopay is set to, and how it stands."""
    _show(invocation, on_ledger(invocation, lambda desk: desk.autopay.show_autopay(account)))


@autopay.command("set")
@account_argument
@click.option("--on", is_flag=True, help="Turn it on.")
@click.option("--threshold", metavar="USD", help="It pays when the balance is below this.")
@click.option("--target", metavar="USD", help="It pays what is missing to this.")
@click.option("--monthly-cap", metavar="USD", help="The most that it pays in a calendar month.")
@click.option("--no-monthly-cap", is_flag=True, help="No bound on what it pays in a month.")
@click.option("--provider", metavar="NAME", help="Who charges the payer.")
@idempotent
@common
def set_autopay(
    invocation: Invocation,
    *,
    account: str,
    on: bool,
    threshold: str | None,
    target: str | None,
    monthly_cap: str | None,
    no_monthly_cap: bool,
    provider: str | None,
    idempotency_key: str | None,
) -> None:
    """Change an account's autopay. What is not named stays. A running gateway pays what is due."""
    changes = changes_of(
        ("--threshold", "threshold", threshold),
        ("--target", "target", target),
        ("--monthly-cap", "monthly_cap", monthly_cap),
        ("--no-monthly-cap", "monthly_cap", no_monthly_cap),
        ("--provider", "provider", provider),
    )
    if on:
        changes["enabled"] = True
    _change(invocation, account, changes, idempotency_key)


@autopay.command("off")
@account_argument
@idempotent
@common
def stop_autopay(invocation: Invocation, *, account: str, idempotency_key: str | None) -> None:
    """Turn an account's autopay off. A payment under way goes on to its end."""
    _change(invocation, account, {"enabled": False}, idempotency_key)


@autopay.command("fail")
@account_argument
@click.argument("attempt")
@click.option("--reason", required=True, metavar="TEXT", help="Why.")
@common
def fail_payment(invocation: Invocation, *, account: str, attempt: str, reason: str) -> None:
    """Give up the ATTEMPT under way, of which the provider will never say anything. Look there first."""

    async def work(desk: Desk) -> Data:
        return await desk.autopay.fail_payment(account, desk.read(FailPayment, attempt=attempt, reason=reason))

    _show(invocation, on_ledger(invocation, work))


@payments.command("page")
@account_argument
@click.option("--amount", metavar="USD", help="What is paid there. Without it a card is added, and nothing paid.")
@idempotent
@common
def make_page(invocation: Invocation, *, account: str, amount: str | None, idempotency_key: str | None) -> None:
    """Make a page of the payment service's, at which the account's owner pays, and print its address."""

    async def work(desk: Desk) -> Data:
        body = desk.read(AddFunds, amount=amount)
        return await desk.autopay.add_funds(account, body, named_operation(idempotency_key).id)

    invocation.show(on_ledger(invocation, work), lambda data: str(data["url"]))


@payments.command("credit")
@account_argument
@click.argument("payment")
@click.option("--amount", required=True, metavar="USD", help="What was paid.")
@click.option("--provider", metavar="NAME", help='Whose id it is. Default: "webhook".')
@click.option("--attempt", metavar="ATTEMPT", help="The attempt of autopay that it is.")
@common
def tell_payment(
    invocation: Invocation, *, account: str, payment: str, amount: str, provider: str | None, attempt: str | None
) -> None:
    """Credit a PAYMENT that was made somewhere else: once, by its id, however often it is told."""

    async def work(desk: Desk) -> Data:
        body = desk.read(TellPayment, payment=payment, amount=amount, provider=provider, attempt=attempt)
        return await desk.autopay.tell_payment(account, body)

    invocation.show(on_ledger(invocation, work), _facts)


@payments.command("take-back")
@account_argument
@click.argument("payment")
@click.option("--source", required=True, metavar="ID", help="The refund's or dispute's own id.")
@click.option("--amount", required=True, metavar="USD", help="What it takes, all in all.")
@click.option("--kind", metavar="KIND", help='"refund" (default) or "dispute".')
@click.option("--provider", metavar="NAME", help='Whose ids they are. Default: "webhook".')
@click.option("--final", is_flag=True, help="It is decided: a refund that failed, a dispute that was won, take 0.")
@common
def take_back(
    invocation: Invocation,
    *,
    account: str,
    payment: str,
    source: str,
    amount: str,
    kind: str | None,
    provider: str | None,
    final: bool,
) -> None:
    """Take back what a refund or a dispute takes of a PAYMENT: once, however often it is told."""

    async def work(desk: Desk) -> Data:
        its = {"payment": payment, "source": source, "amount": amount, "kind": kind, "provider": provider}
        return await desk.autopay.take_back(account, desk.read(TakeBack, **its, final=final))

    invocation.show(on_ledger(invocation, work), _facts)


def _change(invocation: Invocation, account: str, changes: dict[str, Any], idempotency_key: str | None) -> None:
    async def work(desk: Desk) -> Data:
        body = desk.read_exactly(ChangeAutopay, changes)
        return await desk.autopay.change_autopay(account, body, named_operation(idempotency_key).id)

    _show(invocation, on_ledger(invocation, work))


def _show(invocation: Invocation, shown: Data) -> None:
    invocation.show(shown, _facts)


def _facts(shown: Data) -> str:
    return facts([(name.replace("_", " "), value) for name, value in shown.items()])
