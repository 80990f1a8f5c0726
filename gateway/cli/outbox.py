"""The commands on the outbox: what waits to be told to somebody outside, and what was given up.

Owns: their options and tables. Does not know: what the operations do (edge/operations/outbox).
"""

import click

from gateway.cli.accounts import account_argument, limit_option
from gateway.cli.output import Failure, facts, table
from gateway.cli.shared import Invocation, common, on_ledger
from gateway.edge.operations.bodies import read_page
from gateway.edge.operations.views import Data

_delivery_argument = click.argument("delivery")


@click.group()
def outbox() -> None:
    """Deliveries: webhooks, alerts and payments that wait, and dead letters."""


@outbox.command("list")
@account_argument
@limit_option
@common
def list_waiting(invocation: Invocation, *, account: str, limit: str) -> None:
    """List an account's deliveries that wait, the first one due first."""
    _list(invocation, account, limit, dead=False)


@outbox.command("dead")
@account_argument
@limit_option
@common
def list_dead(invocation: Invocation, *, account: str, limit: str) -> None:
    """List an account's dead letters: deliveries that were given up, the newest first."""
    _list(invocation, account, limit, dead=True)


def _list(invocation: Invocation, account: str, limit: str, *, dead: bool) -> None:
    def told(page: Data) -> str:
        headers = ("delivery", "channel", "created", "given up" if dead else "due", "attempts", "why")
        rows = [
            (d["id"], d["channel"], d["created_at"], d["died_at"] or d["due_at"], d["attempts"], d["why"])
            for d in page["items"]
        ]
        return table(headers, rows, empty="no dead letters" if dead else "nothing waits")

    _, count = read_page("", limit)
    work = on_ledger(invocation, lambda desk: desk.outbox.list_deliveries(account, dead=dead, limit=count))
    invocation.show(work, told)


@outbox.command("show")
@account_argument
@_delivery_argument
@common
def show_delivery(invocation: Invocation, *, account: str, delivery: str) -> None:
    """Show a delivery that waits or was given up, without the secrets in it."""
    work = on_ledger(invocation, lambda desk: desk.outbox.show_delivery(account, delivery))
    invocation.show(work, lambda data: facts([(name.replace("_", " "), value) for name, value in data.items()]))


@outbox.command("replay")
@account_argument
@_delivery_argument
@common
def replay_delivery(invocation: Invocation, *, account: str, delivery: str) -> None:
    """Deliver a dead letter after all, with all its attempts anew."""

    done = on_ledger(invocation, lambda desk: desk.outbox.replay_delivery(account, delivery))
    if not done["replayed"]:
        raise Failure(
            f"{delivery} is no dead letter: there is nothing to deliver again", code="not_replayed", facts=done
        )
    invocation.show(done, lambda _: f"{delivery} is delivered again")
