"""The commands on accounts and their keys.

Owns: their options and tables. Does not know: what the operations do (edge/operations/accounts).
"""

from typing import Any

import click

from gateway.cli.output import facts, table
from gateway.cli.shared import Desk, Invocation, common, idempotent, named_operation, on_ledger
from gateway.edge.operations.admin_bodies import AddKey, ChangeAccount, ChangeKey, OpenAccount, RotateKey
from gateway.edge.operations.bodies import read_page
from gateway.edge.operations.peppers import show_peppers
from gateway.edge.operations.views import Data

after_option = click.option("--after", default="", metavar="ID", help="Begin after this id (that of the page before).")
limit_option = click.option(
    "--limit", default="100", show_default=True, metavar="COUNT", help="At most so many, up to 1000."
)
account_argument = click.argument("account")
key_argument = click.argument("key")


@click.group()
def accounts() -> None:
    """Who pays: tier, rate card, status."""


@accounts.command("list")
@after_option
@limit_option
@common
def list_accounts(invocation: Invocation, *, after: str, limit: str) -> None:
    """List accounts in the order of their ids."""

    async def work(desk: Desk) -> Data:
        begin, count = read_page(after, limit)
        return await desk.operations.list_accounts(after=begin, limit=count)

    invocation.show(on_ledger(invocation, work), _account_table)


@accounts.command("show")
@account_argument
@common
def show_account(invocation: Invocation, *, account: str) -> None:
    """Show an account."""
    _show_account(invocation, on_ledger(invocation, lambda desk: desk.operations.show_account(account)))


@accounts.command("open")
@account_argument
@click.option("--tier", metavar="TIER", help="Its tier. Default: the config's default tier.")
@click.option("--rate-card", metavar="CARD", help="Its rate card. Default: its tier's.")
@idempotent
@common
def open_account(
    invocation: Invocation, *, account: str, tier: str | None, rate_card: str | None, idempotency_key: str | None
) -> None:
    """Open an account, with the signup grant of its tier."""

    async def work(desk: Desk) -> Data:
        body = desk.read(OpenAccount, id=account, tier=tier, rate_card=rate_card)
        return await desk.operations.open_account(body, named_operation(idempotency_key))

    _show_account(invocation, on_ledger(invocation, work))


@accounts.command("change")
@account_argument
@click.option("--tier", metavar="TIER", help="Its new tier. Credit and holds stay as they are.")
@click.option("--rate-card", metavar="CARD", help="A rate card of its own.")
@click.option("--tier-rate-card", is_flag=True, help="No rate card of its own: its tier's.")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Put this in place of its tier's (repeatable)."
)
@click.option("--unset", multiple=True, metavar="NAME", help="Have it as its tier has it again (repeatable).")
@idempotent
@common
def change_account(
    invocation: Invocation,
    *,
    account: str,
    tier: str | None,
    rate_card: str | None,
    tier_rate_card: bool,
    overrides: tuple[str, ...],
    unset: tuple[str, ...],
    idempotency_key: str | None,
) -> None:
    """Change an account's tier, rate card or overrides, in force for its next call."""
    changes = changes_of(("--rate-card", "rate_card", rate_card), ("--tier-rate-card", "rate_card", tier_rate_card))
    if tier is not None:
        changes["tier"] = tier
    if overrides or unset:
        changes["overrides"] = {**dict(map(_override, overrides)), **dict.fromkeys(unset)}
    _change_account(invocation, account, changes, idempotency_key)


@accounts.command("suspend")
@account_argument
@idempotent
@common
def suspend_account(invocation: Invocation, *, account: str, idempotency_key: str | None) -> None:
    """Refuse an account's calls from now on. Its credit stays."""
    _change_account(invocation, account, {"status": "suspended"}, idempotency_key)


@accounts.command("resume")
@account_argument
@idempotent
@common
def resume_account(invocation: Invocation, *, account: str, idempotency_key: str | None) -> None:
    """Serve a suspended account again."""
    _change_account(invocation, account, {"status": "active"}, idempotency_key)


@click.group()
def keys() -> None:
    """API keys of an account."""


@keys.command("list")
@account_argument
@common
def list_keys(invocation: Invocation, *, account: str) -> None:
    """List an account's keys. Their secrets are nowhere to be had."""
    invocation.show(on_ledger(invocation, lambda desk: desk.operations.list_keys(account)), _key_table)


@keys.command("add")
@account_argument
@click.option("--id", "key_id", metavar="ID", help="Its id. Default: a new one.")
@click.option("--name", metavar="TEXT", help="What people call it.")
@click.option("--project", metavar="TEXT", help="What it is used for: usage is told by it.")
@click.option(
    "--secret-file", type=click.File(), metavar="FILE", help="Use the secret in this file (-: standard input)."
)
@click.option("--expires", metavar="TIME", help='When it ends, like "2027-01-31T00:00:00Z". Default: never.')
@click.option("--product", "products", multiple=True, metavar="PRODUCT", help="Only for this product (repeatable).")
@click.option("--monthly-budget", metavar="USD", help="The most it may spend in a calendar month.")
@click.option(
    "--billing", type=click.Choice(["manage", "read", "none"]), help="What it may of the account's bills and settings."
)
@idempotent
@common
def add_key(
    invocation: Invocation,
    *,
    account: str,
    key_id: str | None,
    name: str | None,
    project: str | None,
    secret_file: Any,
    expires: str | None,
    products: tuple[str, ...],
    monthly_budget: str | None,
    billing: str | None,
    idempotency_key: str | None,
) -> None:
    """Make a key and print its secret, this once."""
    secret = None if secret_file is None else secret_file.read(4096).rstrip("\r\n")

    async def work(desk: Desk) -> Data:
        body = desk.read(
            AddKey,
            id=key_id,
            name=name,
            project=project,
            secret=secret,
            expires_at=expires,
            products=products or None,
            monthly_budget=monthly_budget,
            billing=billing or "manage",
        )
        return await desk.operations.add_key(account, body, named_operation(idempotency_key))

    invocation.show(on_ledger(invocation, work), _new_key)


@keys.command("change")
@account_argument
@key_argument
@click.option("--name", metavar="TEXT", help="What people call it.")
@click.option("--project", metavar="TEXT", help="What it is used for: usage is told by it.")
@click.option("--expires", metavar="TIME", help='When it ends, like "2027-01-31T00:00:00Z".')
@click.option("--never-expires", is_flag=True, help="It does not end by itself.")
@click.option("--product", "products", multiple=True, metavar="PRODUCT", help="Only for this product (repeatable).")
@click.option("--all-products", is_flag=True, help="For every product of the tier.")
@click.option("--monthly-budget", metavar="USD", help="The most it may spend in a calendar month.")
@click.option("--no-monthly-budget", is_flag=True, help="No bound but the account's credit.")
@click.option(
    "--billing", type=click.Choice(["manage", "read", "none"]), help="What it may of the account's bills and settings."
)
@idempotent
@common
def change_key(invocation: Invocation, *, account: str, key: str, idempotency_key: str | None, **given: Any) -> None:
    """Change what a key is called, may do, and until when."""
    changes = changes_of(
        ("--expires", "expires_at", given["expires"]),
        ("--never-expires", "expires_at", given["never_expires"]),
        ("--product", "products", given["products"] or None),
        ("--all-products", "products", given["all_products"]),
        ("--monthly-budget", "monthly_budget", given["monthly_budget"]),
        ("--no-monthly-budget", "monthly_budget", given["no_monthly_budget"]),
    )
    changes |= {name: given[name] for name in ("name", "project", "billing") if given[name] is not None}
    _change_key(invocation, account, key, changes, idempotency_key)


@keys.command("rotate")
@account_argument
@key_argument
@click.option("--old-until", metavar="TIME", help="Until when the old one is good. Default: it ends now.")
@click.option("--expires", metavar="TIME", help="When the new one ends. Default: never.")
@idempotent
@common
def rotate_key(
    invocation: Invocation,
    *,
    account: str,
    key: str,
    old_until: str | None,
    expires: str | None,
    idempotency_key: str | None,
) -> None:
    """Make a key in the place of another and print its secret, this once."""

    async def work(desk: Desk) -> Data:
        body = desk.read(RotateKey, old_until=old_until, expires_at=expires)
        return await desk.operations.rotate_key(account, key, body, named_operation(idempotency_key))

    invocation.show(on_ledger(invocation, work), _new_key)


@keys.command("peppers")
@common
def show_peppers_of_keys(invocation: Invocation) -> None:
    """Show how many keys each pepper has, and which have not gone over to `key_pepper`."""
    invocation.show(on_ledger(invocation, lambda desk: show_peppers(desk.ledger, desk.runtime)), _pepper_tables)


def _pepper_tables(found: Data) -> str:
    peppers = table(("pepper", "is", "keys"), [(row["pepper"], row["is"], row["keys"]) for row in found["peppers"]])
    headers = ("account", "key", "name", "pepper")
    left = table(headers, [[row[name] for name in headers] for row in found["left"]], empty="all have gone over")
    return "\n\n".join([peppers, left, *([] if found["complete"] else ["and others"])])


@keys.command("disable")
@account_argument
@key_argument
@idempotent
@common
def disable_key(invocation: Invocation, *, account: str, key: str, idempotency_key: str | None) -> None:
    """Refuse a key from now on."""
    _change_key(invocation, account, key, {"disabled": True}, idempotency_key)


@keys.command("enable")
@account_argument
@key_argument
@idempotent
@common
def enable_key(invocation: Invocation, *, account: str, key: str, idempotency_key: str | None) -> None:
    """Take a disabled key again."""
    _change_key(invocation, account, key, {"disabled": False}, idempotency_key)


def _change_account(invocation: Invocation, account: str, changes: dict[str, Any], idempotency_key: str | None) -> None:
    async def work(desk: Desk) -> Data:
        body = desk.read_exactly(ChangeAccount, changes)
        return await desk.operations.change_account(account, body, named_operation(idempotency_key))

    _show_account(invocation, on_ledger(invocation, work))


def _change_key(
    invocation: Invocation, account: str, key: str, changes: dict[str, Any], idempotency_key: str | None
) -> None:
    async def work(desk: Desk) -> Data:
        body = desk.read_exactly(ChangeKey, changes)
        return await desk.operations.change_key(account, key, body, named_operation(idempotency_key))

    invocation.show(on_ledger(invocation, work), lambda data: _key_table({"items": [data]}))


def changes_of(*options: tuple[str, str, Any]) -> dict[str, Any]:
    """The fields that options change: a value sets, a flag (True) takes away. Two of one field contradict."""
    changes: dict[str, Any] = {}
    said: dict[str, str] = {}
    for option, field, value in options:
        if value is None or value is False:
            continue
        if field in said:
            raise click.UsageError(f"{said[field]} and {option} contradict each other")
        said[field] = option
        changes[field] = None if value is True else value
    return changes


def _override(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    return name, value


def _show_account(invocation: Invocation, account: Data) -> None:
    invocation.show(account, lambda data: facts([(name.replace("_", " "), value) for name, value in data.items()]))


def _account_table(page: Data) -> str:
    headers = ("account", "tier", "rate card", "status", "balance", "held", "available")
    rows = [
        (a["id"], a["tier"], a["rate_card"], a["status"], a["balance"], a["held"], a["available"])
        for a in page["items"]
    ]
    return with_next(table(headers, rows, empty="no accounts"), page)


def _key_table(page: Data) -> str:
    headers = ("key", "name", "disabled", "expires", "products", "budget", "spent", "held")
    rows = [
        (
            *(key["id"], key["name"], key["disabled"], key["expires_at"], key["products"] or "all"),
            *(key["monthly_budget"], key["spent"], key["held"]),
        )
        for key in page["items"]
    ]
    return table(headers, rows, empty="no keys")


def _new_key(key: Data) -> str:
    return facts([("key", key["id"]), ("account", key["account"]), ("secret", key["secret"])])


def with_next(text: str, page: Data) -> str:
    """A page, and how to have the next one."""
    return text if page["next"] is None else f"{text}\nmore: --after {page['next']}"
