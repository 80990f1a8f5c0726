"""`gateway upstreams`: how the endpoints do, of services that have several.

Owns: the table. Does not know: what is known of an endpoint (edge/services), where it is asked (edge/process/control).
"""

from typing import Any

import click

from gateway.cli.config import asked
from gateway.cli.output import table
from gateway.cli.shared import Invocation, common

_HEADERS = ("upstream", "endpoint", "region", "weight", "new work", "asked")


@click.command("upstreams")
@common
def upstreams_command(invocation: Invocation) -> None:
    """Print the endpoints of the gateways that run here: whether they get new work, and what they were asked."""
    invocation.show(
        {"gateways": asked(invocation, "upstreams")}, lambda told: "\n\n".join(map(_told, told["gateways"]))
    )


def _told(found: dict[str, Any]) -> str:
    rows = [
        (
            *(each[name] for name in ("upstream", "endpoint", "region", "weight")),
            "drains" if each["drain"] else f"{each['workers_up']} of {found['workers']} workers",
            ", ".join(f"{outcome} {count}" for outcome, count in each["asked"].items()) or "nothing",
        )
        for each in found["endpoints"]
    ]
    return table(_HEADERS, rows, empty="every service has one place")
