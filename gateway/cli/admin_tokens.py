"""The command that makes a token of the admin API.

Owns: how it is shown. Does not know: where it is kept: whoever runs the gateway puts its line into the config.
"""

from typing import Any

import click

from gateway.cli.output import Failure
from gateway.cli.shared import Invocation, common
from gateway.edge.api.admin_tokens import ROOT_NAME, SCOPES, new_admin_token, token_digest
from gateway.edge.operations.fields import is_id


@click.group("admin-tokens")
def admin_tokens() -> None:
    """Tokens of the admin API, each with a name and scopes."""


@admin_tokens.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What it is good for (repeatable).",
)
@common
def create_token(invocation: Invocation, *, name: str, scopes: tuple[str, ...]) -> None:
    """Print a new token, this once, and the line of `admin_tokens` that makes it known.

    Taking the line away revokes it: both are in force when the gateway reads its config again (SIGHUP).
    """
    known = {token.name for token in invocation.runtime().admin_tokens} | {ROOT_NAME}
    if not is_id(name) or name in known:
        detail = "is taken" if name in known else "is no name: use up to 63 of a-z, 0-9, _ and -"
        raise Failure(f"{name!r} {detail}", code="invalid_request")
    token = new_admin_token()
    line = {"name": name, "scopes": [scope for scope in SCOPES if scope in scopes], "sha256": token_digest(token)}
    invocation.show({"token": token, "config": line}, _told)


def _told(made: dict[str, Any]) -> str:
    line = made["config"]
    return (
        f"token  {made['token']}\n\n"
        "Put this line below admin_tokens: in the config, and send the gateway SIGHUP:\n\n"
        f"  - {{name: {line['name']}, scopes: [{', '.join(line['scopes'])}], sha256: {line['sha256']}}}"
    )
