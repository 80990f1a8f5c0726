"""The command line: `gateway serve`, `demo`, `sandbox`, and the administration of accounts.

Owns: the commands that run something.
Does not know: what the other groups of commands do, each in a module of its own name.
"""

import asyncio
import signal
from dataclasses import asdict
from typing import Any

import click
import orjson

from gateway import __version__, demo
from gateway.cli.accounts import accounts, keys
from gateway.cli.admin_tokens import admin_tokens
from gateway.cli.alerts import alerts
from gateway.cli.autopay import autopay, payments
from gateway.cli.config import check_command, reload_command
from gateway.cli.export import export
from gateway.cli.health import health_command
from gateway.cli.jobs import jobs
from gateway.cli.ledger import credits_, ledger
from gateway.cli.outbox import outbox
from gateway.cli.output import Failure, json_line, json_text, table
from gateway.cli.reports import audit, prices, usage
from gateway.cli.shared import UNREACHABLE, Invocation, common, unreachable
from gateway.cli.upstreams import upstreams_command
from gateway.edge.process.child import WorkerFailed
from gateway.edge.process.fitness import UnfitLedger
from gateway.edge.process.loop import run
from gateway.edge.process.supervisor import supervise
from gateway.edge.server.listening import CannotListen
from gateway.sandbox import Knobs, SandboxSettings
from gateway.sandbox import start as start_sandbox
from gateway.sandbox.knobs import KnobError, describe, merged
from gateway.settings.runtime import Runtime


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """A reverse proxy that enforces prepaid credit exactly, in the path of every call."""


main.add_command(check_command, "check")
main.add_command(reload_command, "reload")
main.add_command(health_command, "health")
main.add_command(upstreams_command, "upstreams")
main.add_command(accounts, "accounts")
main.add_command(keys, "keys")
main.add_command(credits_, "credits")
main.add_command(ledger, "ledger")
main.add_command(export, "export")
main.add_command(jobs, "jobs")
main.add_command(outbox, "outbox")
main.add_command(alerts, "alerts")
main.add_command(autopay, "autopay")
main.add_command(payments, "payments")
main.add_command(usage, "usage")
main.add_command(prices, "prices")
main.add_command(audit, "audit")
main.add_command(admin_tokens, "admin-tokens")


@main.command("serve")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="COUNT",
    help="Processes that serve customers, all on one port. Default: the config's, or one for each core.",
)
@common
def serve_command(invocation: Invocation, *, workers: int | None) -> None:
    """Run the gateway until SIGTERM or SIGINT, then finish what is in the air and settle it.

    SIGHUP takes up a changed config without a pause.
    """
    runtime = invocation.runtime()
    up = {
        "customers": f"{runtime.customers.host}:{runtime.customers.port}",
        "ops": f"{runtime.ops.host}:{runtime.ops.port}",
    }

    def ready() -> None:  # standard output is for JSON lines, the log's and this one
        said = f"customers on {up['customers']}, ops and admin on {up['ops']}"
        click.echo(json_line({"event": "ready", **up}) if invocation.as_json else said, err=not invocation.as_json)

    try:
        run(supervise(runtime, workers=workers, reread=invocation.reread, ready=ready))
    except (*UNREACHABLE, WorkerFailed, UnfitLedger) as error:
        raise not_started(runtime, error) from None


@main.command("demo")
@click.option("--no-sandbox", is_flag=True, help="Do not start the sandbox: the config's upstreams are elsewhere.")
@common
def demo_command(invocation: Invocation, *, no_sandbox: bool) -> None:
    """Run everything on this machine: an embedded Redis, the sandbox upstream, demo accounts, the gateway."""
    runtime = invocation.runtime()

    def say(facts: dict[str, Any]) -> None:
        click.echo(json_line({"event": "ready", **facts}) if invocation.as_json else demo.welcome(facts))

    try:
        work = demo.run_demo(
            runtime, reread=invocation.reread, say=say, with_sandbox=not no_sandbox, options=invocation.options()
        )
        run(work)
    except KeyboardInterrupt:  # before the gateway listened for it
        pass
    except demo.DemoError as error:
        raise Failure(str(error), code="demo_failed") from None
    except (*UNREACHABLE, WorkerFailed, UnfitLedger) as error:
        raise not_started(runtime, error) from None


@main.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=int, default=8082, show_default=True, help="Which port; 0 takes a free one.")
@click.option(
    "--credential",
    default=SandboxSettings().credential,
    show_default=True,
    envvar="SANDBOX_CREDENTIAL",
    help="The one credential that it takes: the gateway's, never a customer's.",
)
@click.option("--job-seconds", type=float, metavar="SECONDS", help="How long a transcript takes.")
@click.option("--latency-seconds", type=float, metavar="SECONDS", help="Wait so long before each answer.")
@click.option("--fail-rate", type=float, metavar="SHARE", help="Share of the requests to fail, 0 to 1.")
@click.option("--knob", "knobs", multiple=True, metavar="NAME=VALUE", help="Set any knob (repeatable).")
@click.option("--list-knobs", is_flag=True, help="Print every knob with its meaning, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sandbox_command(
    *,
    host: str,
    port: int,
    credential: str,
    job_seconds: float | None,
    latency_seconds: float | None,
    fail_rate: float | None,
    knobs: tuple[str, ...],
    list_knobs: bool,
    as_json: bool,
) -> None:
    """Run the upstream simulator: every product on one port, deterministic, with knobs to make it misbehave."""
    named = {"job_seconds": job_seconds, "latency_seconds": latency_seconds, "fail_rate": fail_rate}
    settings = _sandbox_settings(credential, {name: value for name, value in named.items() if value is not None}, knobs)
    if list_knobs:
        known = describe(settings.knobs())
        rows = [(name, json_line(one["value"]), one["meaning"]) for name, one in known.items()]
        click.echo(json_text(known) if as_json else table(("knob", "value", "meaning"), rows))
        return
    try:
        run(_serve_sandbox(settings, host, port, as_json=as_json))
    except OSError as error:
        raise Failure(f"{host}:{port} cannot be listened on: {error.strerror or error}", code="not_started") from None


def not_started(runtime: Runtime, error: BaseException) -> Failure:
    """Why a server did not come up: its port, its spool, or its ledger."""
    if isinstance(error, CannotListen):
        return Failure(f"The gateway cannot listen on {error.filename}: {error.strerror}", code="not_started")
    if isinstance(error, OSError) and str(error.filename).startswith(str(runtime.spool_directory)):
        return Failure(f"The spool cannot be used: {error.filename}: {error.strerror}", code="not_started")
    if isinstance(error, UnfitLedger):
        return Failure(f"The ledger's Redis cannot be used: {error}", code="ledger_unfit")
    if isinstance(error, WorkerFailed):
        return Failure(f"The gateway's workers do not start: {error}", code="not_started")
    return unreachable(runtime, error)


def _sandbox_settings(credential: str, named: dict[str, Any], pairs: tuple[str, ...]) -> SandboxSettings:
    changes = dict(named)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--knob")
        try:
            changes[name.replace("-", "_")] = orjson.loads(text)
        except orjson.JSONDecodeError:
            changes[name.replace("-", "_")] = text
    try:
        return SandboxSettings(credential=credential, **asdict(merged(Knobs(), changes, Knobs())))
    except KnobError as error:
        raise click.UsageError(str(error)) from None


async def _serve_sandbox(settings: SandboxSettings, host: str, port: int, *, as_json: bool) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    sandbox = await start_sandbox(settings, host, port)
    try:
        click.echo(json_line({"sandbox": sandbox.url}) if as_json else f"sandbox on {sandbox.url}. Ctrl-C stops it.")
        await stop.wait()
    finally:
        await sandbox.stop()
