"""The commands on credit and on the ledger that explains it.

Owns: their options and tables. Does not know: what the operations do (edge/operations).
"""

import click

from gateway.cli.accounts import account_argument, after_option, limit_option, with_next
from gateway.cli.archive import repair_ledger, restore_ledger, verify_against
from gateway.cli.output import EXIT_REFUSED, facts, table
from gateway.cli.shared import Desk, Invocation, common, idempotent, named_operation, on_ledger
from gateway.edge.archiving import BEHIND
from gateway.edge.operations.admin_bodies import Correct, EndGrant, GiveGrant, Refund
from gateway.edge.operations.bodies import read_page
from gateway.edge.operations.commitments import Commit
from gateway.edge.operations.views import Data


@click.group()
def credits_() -> None:
    """What accounts have, use and are given."""


@credits_.command("show")
@account_argument
@common
def show_credits(invocation: Invocation, *, account: str) -> None:
    """Show an account's credit, to the nano-dollar: what it has, what is in use, what was spent."""
    invocation.show(on_ledger(invocation, lambda desk: desk.operations.show_credits(account)), _credits)


@credits_.command("grant")
@account_argument
@click.argument("amount")
@click.option("--kind", required=True, metavar="KIND", help="One of signup, purchase, promotion, goodwill.")
@click.option("--priority", type=int, metavar="NUMBER", help="Lower burns first. Default: 50.")
@click.option("--expires", metavar="TIME", help='When what is left ends, like "2027-01-31T00:00:00Z". Default: never.')
@click.option("--note", metavar="TEXT", help="Why; kept in the ledger's entry.")
@idempotent
@common
def grant_credits(
    invocation: Invocation,
    *,
    account: str,
    amount: str,
    kind: str,
    priority: int | None,
    expires: str | None,
    note: str | None,
    idempotency_key: str | None,
) -> None:
    """Give an account credit. AMOUNT is dollars, like 12.50."""

    async def work(desk: Desk) -> Data:
        body = desk.read(GiveGrant, kind=kind, amount=amount, priority=priority, expires_at=expires, note=note)
        return await desk.operations.give_grant(account, body, named_operation(idempotency_key))

    invocation.show(on_ledger(invocation, work), lambda grant: _grants([grant]))


@credits_.command("end")
@account_argument
@click.argument("grant")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the ledger's entry.")
@idempotent
@common
def end_grant(invocation: Invocation, *, account: str, grant: str, reason: str, idempotency_key: str | None) -> None:
    """Take off what is left of a GRANT, like one that was given by mistake."""

    async def work(desk: Desk) -> Data:
        body = desk.read(EndGrant, reason=reason)
        return await desk.operations.end_grant(account, grant, body, desk.actor, named_operation(idempotency_key))

    def told(data: Data) -> str:
        return f"{data['amount']} {data['currency']} by entry {data['entry']}; balance {data['balance']}"

    invocation.show(on_ledger(invocation, work), told)


@credits_.command("commitment")
@account_argument
@common
def show_commitment(invocation: Invocation, *, account: str) -> None:
    """Show what an account commits to pay in each calendar month, and how far this month is."""
    invocation.show(on_ledger(invocation, lambda desk: desk.commitments.show(account)), _commitment)


@credits_.command("commit")
@account_argument
@click.argument("amount")
@click.option("--from", "month", metavar="MONTH", help='From this month on, like "2026-12". Default: this one.')
@idempotent
@common
def commit(
    invocation: Invocation, *, account: str, amount: str, month: str | None, idempotency_key: str | None
) -> None:
    """Have an account commit to pay at least AMOUNT dollars in each calendar month; 0 ends it."""

    async def work(desk: Desk) -> Data:
        body = desk.read(Commit, amount=amount, month=month)
        return await desk.commitments.commit(account, body, named_operation(idempotency_key).id)

    invocation.show(on_ledger(invocation, work), _commitment)


@click.group()
def ledger() -> None:
    """Entries, holds, and the proof that they agree."""


@ledger.command("entries")
@account_argument
@after_option
@limit_option
@click.option("--newest", is_flag=True, help="The newest first.")
@common
def list_entries(invocation: Invocation, *, account: str, after: str, limit: str, newest: bool) -> None:
    """List an account's entries in the order they were made."""

    async def work(desk: Desk) -> Data:
        begin, count = read_page(after, limit)
        return await desk.operations.list_entries(account, after=begin, limit=count, newest_first=newest)

    invocation.show(on_ledger(invocation, work), _entries)


@ledger.command("holds")
@account_argument
@common
def list_holds(invocation: Invocation, *, account: str) -> None:
    """List an account's open holds: credit in use, soonest expiry first."""
    invocation.show(on_ledger(invocation, lambda desk: desk.operations.list_holds(account)), _holds)


@ledger.command("release")
@account_argument
@click.argument("hold")
@common
def release_hold(invocation: Invocation, *, account: str, hold: str) -> None:
    """Give a hold's credit back to the account."""

    def told(data: Data) -> str:
        return f"released {hold}" if data["released"] else f"{hold} is not open: it ended before, or never was"

    invocation.show(on_ledger(invocation, lambda desk: desk.operations.release_hold(account, hold)), told)


@ledger.command("correct")
@account_argument
@click.option("--call", "call_id", required=True, metavar="CALL", help="The call whose charge is corrected.")
@click.option("--amount", required=True, metavar="USD", help="Dollars that come back, or below zero: that are charged.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the ledger's entry.")
@click.option("--actor", required=True, metavar="NAME", help="Who says so; kept in the ledger's entry.")
@click.option("--key", metavar="KEY", help="The key whose month moves with it. Default: none.")
@idempotent
@common
def correct(invocation: Invocation, *, account: str, idempotency_key: str | None, **fields: str | None) -> None:
    """Correct a charge by an entry of its own; the charge stays as it is."""

    async def work(desk: Desk) -> Data:
        body = desk.read(Correct, **fields)
        return await desk.operations.correct(account, body, named_operation(idempotency_key))

    def told(done: Data) -> str:
        return facts([(name, done[name]) for name in ("entry", "amount", "balance")])

    invocation.show(on_ledger(invocation, work), told)


@ledger.command("refund")
@account_argument
@click.option("--entry", required=True, metavar="ENTRY", help="The charge's entry.")
@click.option("--amount", metavar="USD", help="How much comes back. Default: all that is left of the charge.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the ledger's entry.")
@idempotent
@common
def refund(
    invocation: Invocation,
    *,
    account: str,
    entry: str,
    amount: str | None,
    reason: str,
    idempotency_key: str | None,
) -> None:
    """Give a charge back, or a part of it: never more than it was."""

    async def work(desk: Desk) -> Data:
        body = desk.read(Refund, entry=entry, amount=amount, reason=reason)
        return await desk.operations.refund(account, body, desk.actor, named_operation(idempotency_key))

    def told(data: Data) -> str:
        return f"{data['amount']} {data['currency']} came back by entry {data['entry']}"

    invocation.show(on_ledger(invocation, work), told)


@ledger.command("verify")
@click.argument("accounts", nargs=-1, metavar="[ACCOUNT]...")
@click.option(
    "--against",
    type=click.Choice(["postgres"]),
    help="Prove balances by what was exported, and not by the entries in Redis.",
)
@common
def verify(invocation: Invocation, *, accounts: tuple[str, ...], against: str | None) -> None:
    """Recompute accounts from their entries (default: all). Exit code 1 if a number differs."""

    async def work(desk: Desk) -> Data:
        if against is not None:
            found = await verify_against(desk, accounts)
        else:
            names = accounts or [account async for account in desk.operations.account_ids()]
            found = [await desk.operations.verify(account) for account in names]
        return {"ok": all(each["ok"] for each in found), "verified": len(found), "accounts": found}

    result = on_ledger(invocation, work)
    invocation.show(result, _verified)
    if not result["ok"]:
        raise click.exceptions.Exit(EXIT_REFUSED)


@ledger.command("condition")
@common
def condition(invocation: Invocation) -> None:
    """Say whether Redis is fit to hold money, and the one that this machine knew. Exit code 1 if it is not."""

    async def work(desk: Desk) -> Data:
        found = await desk.ledger.condition(desk.memory)
        findings = [{"level": finding.level, "text": finding.text} for finding in found.findings]
        return {
            "ok": not found.faults,
            "servers": found.servers,
            "epochs": found.epochs,
            "layout": found.layout,
            "findings": findings,
        }

    result = on_ledger(invocation, work)
    invocation.show(result, _condition)
    if not result["ok"]:
        raise click.exceptions.Exit(EXIT_REFUSED)


@ledger.command("accept")
@common
def accept(invocation: Invocation) -> None:
    """Take Redis as it is for the ledger from now on, after it was restored, moved, or lost its data for good."""

    async def work(desk: Desk) -> Data:
        return {"epoch": await desk.ledger.begin_epoch(desk.memory)}

    invocation.show(on_ledger(invocation, work), lambda data: f"a new epoch has begun: {data['epoch']}")


ledger.add_command(repair_ledger)
ledger.add_command(restore_ledger)


def _condition(data: Data) -> str:
    told = [", ".join(data["servers"]), f"epoch {data['epochs'][0] if data['epochs'] else 'none yet'}"]
    told.append(f"layout {data['layout'] or 'none yet'}")
    told += [f"{finding['level']}: {finding['text']}" for finding in data["findings"]]
    return "\n".join(told if data["findings"] else [*told, "fit to hold money"])


def _commitment(data: Data) -> str:
    schedule = [f"{each['amount']} from {each['from']} on" for each in data["schedule"]]
    shown = {**data, "schedule": schedule or "nothing"}
    return facts([(name.replace("_", " "), value) for name, value in shown.items()])


def _credits(data: Data) -> str:
    holds = data["open_holds"]
    told = facts(
        [
            ("account", f"{data['id']} ({data['tier']}, {data['status']})"),
            ("balance", f"{data['balance']} {data['currency']}"),
            ("held", f"{data['held']} in use by {holds} open hold{'' if holds == 1 else 's'}"),
            ("overdraft", data["overdraft"]),
            ("available", f"{data['available']} = balance - held + overdraft"),
            ("spent", f"{data['spent_this_month']} this month"),
            ("debt", data["debt"]),
        ]
    )
    return f"{told}\n\n{_grants(data['grants'])}"


def _grants(grants: list[Data]) -> str:
    headers = ("grant", "kind", "amount", "remaining", "priority", "expires")
    rows = [(g["id"], g["kind"], g["amount"], g["remaining"], g["priority"], g["expires_at"]) for g in grants]
    return table(headers, rows, empty="no grants")


def _entries(page: Data) -> str:
    headers = ("entry", "at", "kind", "amount", "balance", "why")
    rows = [(e["id"], e["at"], e["kind"], e["amount"], e["balance"], _why(e["data"])) for e in page["items"]]
    return with_next(table(headers, rows, empty="no entries"), page)


def _why(data: Data) -> str:
    items = data.get("items")
    if items:
        return ", ".join(f"{item['sku']} x {item['quantity']}" for item in items)
    return str(data.get("note") or data.get("reason") or data.get("kind") or "")


def _holds(page: Data) -> str:
    headers = ("hold", "amount", "product", "key", "created", "expires")
    rows = [(h["id"], h["amount"], h["product"], h["key"], h["created_at"], h["expires_at"]) for h in page["items"]]
    return table(headers, rows, empty="no open holds")


def _verified(result: Data) -> str:
    rows = [
        (found["account"], drift["what"], drift["stored"], drift["recomputed"])
        for found in result["accounts"]
        for drift in found["drift"]
    ]
    if not rows:
        return f"{result['verified']} verified: every number agrees with the entries"
    told = table(("account", "what", "stored", "recomputed"), rows)
    behind = sum(what == BEHIND for _, what, *_ in rows)
    hint = f"\n{behind} accounts were not exported yet: `gateway export run --until-done`" if behind else ""
    return told + hint
