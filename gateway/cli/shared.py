"""What the commands share: which config, one event loop, the ledger opened for the time of a command.

Owns: the options that every command has, where the config is looked for, how faults become exit codes.
Does not know: any single command.
"""

import errno
import functools
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import orjson

from gateway.cli.output import Failure, Unreachable, json_text
from gateway.core.errors import GatewayError, LedgerRefused, LedgerUnavailable, OperationConflict, UnknownAccount
from gateway.edge.clock import SystemClock
from gateway.edge.ledger import open_ledger
from gateway.edge.observing import Observers
from gateway.edge.operations.accounts import Operation, Operations, UnknownKey, operation
from gateway.edge.operations.alerts import AlertOperations, TooManyTests, UnknownAlert
from gateway.edge.operations.auditing import Auditor
from gateway.edge.operations.autopay import AutopayOperations
from gateway.edge.operations.bodies import Body, Invalid, Setting, read_body, read_idempotency_key
from gateway.edge.operations.commitments import CommitmentOperations
from gateway.edge.operations.jobs import JobOperations, UnknownJob
from gateway.edge.operations.outbox import OutboxOperations, UnknownDelivery
from gateway.edge.operations.prices import PriceOperations
from gateway.edge.operations.usage import UsageOperations
from gateway.edge.paying import Paying, make_paying
from gateway.edge.process.loop import run
from gateway.ledger.embedded import EmbeddedError, EmbeddedRedis
from gateway.ledger.epoch import Memory
from gateway.ledger.link import LinkError
from gateway.ledger.redis import RedisLedger
from gateway.ports import PaymentRefused, PaymentUnknown
from gateway.settings.load import SettingsError, load, spool_directory_of
from gateway.settings.runtime import Runtime
from gateway.upstream.client import PooledUpstreamClient

CONFIG_NAME: Final = "gateway.yaml"
#: What opening the ledger raises when there is none to be had.
UNREACHABLE: Final = (LedgerUnavailable, EmbeddedError, LinkError, OSError, ValueError)
Model = TypeVar("Model", bound=Body)
Answer = TypeVar("Answer")
Command = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """How a command was called: with which config, data directory, form of output.

    Which config is found once: one that goes while the gateway runs must not make a reload take up another.
    """

    config: Path
    data: Path | None
    as_json: bool

    def runtime(self) -> Runtime:
        """The config, compiled. Raises Failure with all of its errors."""
        try:
            return self.reread()
        except SettingsError as error:
            facts = {"config": str(self.config), "problems": [asdict(problem) for problem in error.problems]}
            raise Failure(error.render(), code="invalid_config", facts=facts) from None

    def reread(self) -> Runtime:
        """The config as it is now, compiled. Raises SettingsError."""
        runtime = load(self.config, os.environ)
        return runtime if self.data is None else in_directory(runtime, self.data)

    @property
    def spool_directory(self) -> Path:
        """Where the spool is, whatever else is wrong with the config."""
        if self.data is not None:
            return self.data / "spool"
        if not self.config.exists():
            self.runtime()  # says that it is not there, as every command does
        return spool_directory_of(self.config, os.environ)

    def options(self) -> list[str]:
        """The options with which another command finds the same ledger."""
        named = (("--config", self.config), ("--data", self.data))
        return [word for name, path in named if path is not None for word in (name, str(path))]

    def show(self, data: Any, human: Callable[[Any], str]) -> None:
        """Print an answer."""
        click.echo(json_text(data) if self.as_json else human(data))


def default_config() -> Path:
    """`gateway.yaml` of the working directory; else the package's own (in a checkout, the one beside the package)."""
    package = Path(str(files("gateway")))
    places = (Path(CONFIG_NAME), package / "defaults" / CONFIG_NAME, package.parent / CONFIG_NAME)
    return next((place for place in places if place.is_file()), places[0])


def in_directory(runtime: Runtime, data: Path) -> Runtime:
    """The config with everything that it keeps on disk below another directory."""
    return replace(runtime, redis=replace(runtime.redis, directory=data / "redis"), spool_directory=data / "spool")


def common(command: Command) -> Command:
    """Give a command the options that all have; it gets them as an Invocation, first."""

    @click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="GATEWAY_CONFIG",
        help="The config file. Default: gateway.yaml here, else the one that came with the package.",
    )
    @click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="GATEWAY_DATA",
        help="Directory of the embedded Redis and the spool, in place of the config's.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(command)
    def wrapped(*, config: Path | None, data: Path | None, as_json: bool, **rest: Any) -> None:
        try:
            command(Invocation(config=config or default_config(), data=data, as_json=as_json), **rest)
        except Failure as failure:
            failure.as_json = as_json
            raise
        except OSError as error:  # the machine's: a disk that is full, a file that may not be read
            if error.errno == errno.EPIPE:  # whoever read what is printed has enough
                raise
            told = Failure(f"{error.filename or 'The output'}: {error.strerror or error}", code="system_error")
            told.as_json = as_json
            raise told from None

    return wrapped


#: Commands that change nothing; every other one has its lines in the audit log, with what it is about.
_READING: Final = frozenset(
    {
        *("list", "show", "entries", "holds", "verify", "condition", "dead", "dry-run", "status", "check"),
        *("commitment", "peppers"),
    }
)
#: Commands for a Redis that is not the one that this machine knows; no other one reads or writes there.
_OF_ANY_REDIS: Final = frozenset({"condition", "accept", "restore"})
_ABOUT: Final = (
    *("key", "key_id", "hold", "kind", "job", "delivery", "alert", "call_id", "attempt", "payment", "trust"),
    *("grant", "applied"),
)

idempotent = click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Names this change: the same command with the same key is done once. Default: a new name each time.",
)


class Desk:
    """The operations, with the ledger open, and the reading of what they take."""

    def __init__(
        self, operations: Operations, jobs: JobOperations, paying: Paying, ledger: RedisLedger, runtime: Runtime
    ) -> None:
        self.operations = operations
        self.jobs = jobs
        self.outbox = OutboxOperations(ledger)
        self.usage = UsageOperations(ledger=ledger, clock=SystemClock())
        self.prices = PriceOperations(ledger=ledger, runtime=runtime, clock=SystemClock())
        self.audit = Auditor(ledger)
        self.alerts = AlertOperations(ledger=ledger, runtime=runtime, clock=SystemClock())
        self.commitments = CommitmentOperations(ledger=ledger, clock=SystemClock())
        self.autopay = AutopayOperations(ledger=ledger, runtime=runtime, paying=paying, clock=SystemClock())
        self.ledger = ledger
        self.runtime = runtime

    @property
    def actor(self) -> str:
        """Who the audit log says it was."""
        return f"cli:{os.environ.get('USER') or os.getuid()}"

    @property
    def memory(self) -> Memory:
        """What this machine remembers of the ledger's Redis."""
        redis = self.runtime.redis
        return Memory(self.runtime.spool_directory, redis.url or EmbeddedRedis(redis.directory).url, redis.prefix)

    def read(self, model: type[Model], **fields: Any) -> Model:
        """The request that the options make: those that were not given (None) are left out."""
        given = {name: value for name, value in fields.items() if value is not None}
        return self.read_exactly(model, given)

    def read_exactly(self, model: type[Model], fields: dict[str, Any]) -> Model:
        """The request with these fields; null is a value."""
        named = click.get_current_context().params.get("idempotency_key") is not None
        setting = Setting(runtime=self.runtime, now_ms=int(time.time() * 1000), named=named)
        return read_body(model, orjson.dumps(fields), setting)


def named_operation(idempotency_key: str | None) -> Operation:
    """The operation that `--idempotency-key` names."""
    return operation(None if idempotency_key is None else read_idempotency_key(idempotency_key))


def on_ledger(invocation: Invocation, work: Callable[[Desk], Awaitable[Answer]]) -> Answer:
    """Do the work with the ledger open. What goes wrong becomes a Failure."""
    runtime = invocation.runtime()
    command = click.get_current_context().info_name
    if command in _READING and not (runtime.redis.url or runtime.redis.directory.exists()):
        place = runtime.redis.directory.absolute()
        raise Unreachable(
            f"There is no ledger in {place}, by {invocation.config}: nothing has run here", code="no_ledger"
        )

    async def do() -> Answer:
        async with AsyncExitStack() as stack:
            try:
                ledger = await stack.enter_async_context(open_ledger(runtime, known=command not in _OF_ANY_REDIS))
            except UNREACHABLE as error:
                raise unreachable(runtime, error) from None
            upstreams = PooledUpstreamClient()
            stack.push_async_callback(upstreams.close)
            jobs = JobOperations(ledger=ledger, runtime=runtime, upstreams=upstreams, clock=SystemClock())
            paying = make_paying(runtime, ledger=ledger, observer=Observers(), clock=SystemClock())
            stack.push_async_callback(paying.close)
            desk = Desk(Operations(ledger=ledger, runtime=runtime), jobs, paying, ledger, runtime)
            return await _noted(desk, lambda: work(desk))

    try:
        return run(do())
    except GatewayError as error:
        if (failure := failure_of(error, runtime)) is None:
            raise
        raise failure from None


async def _noted(desk: Desk, deed: Callable[[], Awaitable[Answer]]) -> Answer:
    """What a command does, with its lines in the audit log; one that only reads has none."""
    context = click.get_current_context()
    if context.info_name in _READING:
        return await deed()
    given = context.params
    named = given.get("idempotency_key")
    return await desk.audit.noted(
        deed,
        actor=desk.actor,
        action=context.command_path,
        account=str(given.get("account") or ""),
        operation=operation(named).id if named else "",
        about={name: str(given[name]) for name in _ABOUT if given.get(name)},
    )


def unreachable(runtime: Runtime, error: BaseException) -> Failure:
    """The ledger does not answer, and where it was looked for."""
    place = "at redis.url" if runtime.redis.url else f"in {runtime.redis.directory}"
    message = f"The ledger {place} cannot be reached: {str(error) or type(error).__name__}"
    return Unreachable(message, code="ledger_unavailable")


def failure_of(error: GatewayError, runtime: Runtime) -> Failure | None:
    """How a fault is told on the command line; None for a defect of ours, which keeps its traceback."""
    match error:
        case Invalid():
            problems = [{"field": _option(found.pointer), "detail": found.detail} for found in error.problems]
            lines = [": ".join(filter(None, found.values())) for found in problems]
            return Failure("\n".join(lines), code="invalid_request", facts={"errors": problems})
        case LedgerUnavailable():
            return unreachable(runtime, error)
    told = (Failure(str(error), code=code) for fault, code in _TOLD if isinstance(error, fault))
    return next(told, None)


#: Faults that are told in their own words; the first that fits.
_TOLD: Final[tuple[tuple[type[GatewayError], str], ...]] = (
    (OperationConflict, "operation_conflict"),
    (UnknownAccount, "unknown_account"),
    (UnknownKey, "unknown_key"),
    (UnknownJob, "unknown_job"),
    (UnknownAlert, "unknown_alert"),
    (TooManyTests, "too_many_tests"),
    (UnknownDelivery, "unknown_delivery"),
    (LedgerRefused, "ledger_refused"),
    (PaymentRefused, "payment_refused"),
    (PaymentUnknown, "provider_unavailable"),
)


def _option(pointer: str) -> str:
    """`/monthly_budget` of a request is `monthly budget` of a command."""
    return pointer.lstrip("/").split("/")[0].replace("_", " ")
