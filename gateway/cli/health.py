"""`gateway health`: whether the gateway that runs on this machine lives, for those who start it again.

Owns: what counts as well.
Does not know: what a gateway says of itself (edge/ops), where it is asked (edge/process/control).

It asks the socket beside the spool: the ops listener may speak TLS, and want a certificate that a container has not.
"""

from typing import Any

import click

from gateway.cli.config import asked
from gateway.cli.output import Failure
from gateway.cli.shared import Invocation, common

_ANSWER_SECONDS_MAX = 5.0


@click.command("health")
@click.option("--ready", is_flag=True, help="It is not well either while it should get no traffic: as /readyz says.")
@common
def health_command(invocation: Invocation, *, ready: bool) -> None:
    """Ask the gateways that run here whether they live; end with 1 if one does not, or none is there."""
    found = asked(invocation, "health", seconds_max=_ANSWER_SECONDS_MAX)
    if ready and not all(each["ready"] for each in found):
        raise Failure("\n".join(map(_told, found)), code="not_ready", facts={"gateways": found})
    invocation.show({"gateways": found}, lambda told: "\n".join(map(_told, told["gateways"])))


def _told(found: dict[str, Any]) -> str:
    state = "ready" if found["ready"] else "alive, not ready"
    return f"{state}: {found['workers']} workers, ledger {found['ledger']}, config {found['config']}"
