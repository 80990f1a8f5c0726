"""The supervisor: the process that people start and signal. Its workers serve the customers; it serves the operators.

Owns: how many workers there are, the replacement of those that are lost, the change from one config to the next without
a pause, the sum of everybody's metrics. Does not know: calls.

A generation of workers serves one config. The next one is ready before the last one is told to end.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

from gateway import __version__
from gateway.edge.clock import SystemClock
from gateway.edge.exporting import Exporting
from gateway.edge.ledger import open_ledger, open_redis
from gateway.edge.observing import Observing
from gateway.edge.ops import Operators
from gateway.edge.process.child import Child
from gateway.edge.process.control import Control
from gateway.edge.process.fitness import LOOK_SECONDS, Fitness
from gateway.edge.process.reloading import LOOK_SECONDS as RELOAD_LOOK_SECONDS
from gateway.edge.process.reloading import CannotReload, Reloading
from gateway.edge.server.listening import SharedPort, listen
from gateway.edge.services import endpoints_shown
from gateway.ledger.epoch import Memory
from gateway.observe.metrics import Metrics
from gateway.observe.saturation import measure
from gateway.ports import Ledger
from gateway.settings.runtime import Runtime
from gateway.workers.loops import forever
from gateway.workers.verifier import Verifier

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: One that lived so long is replaced at once.
_STEADY_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 30.0
_LOG_SECONDS: Final = 0.2
_VERIFY_SECONDS: Final = 1.0
#: For clients that keep connections: a request may be on its way while we close.
_LINGER_SECONDS: Final = 10.0
#: One reload after the other does not fill the memory with workers that end.
_ENDING_GENERATIONS_MAX: Final = 4
#: What a running gateway cannot change: it has bound its listeners, and opened its ledger and spool.
_FIXED: Final = ("workers", "customers", "ops", "redis", "spool_directory")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pause_seconds(failures: int) -> float:
    """How long a place stays empty after so many workers in a row that did not live long."""
    return min(_PAUSE_SECONDS * 2 ** (failures - 1), _PAUSE_SECONDS_MAX) if failures else 0.0


def check_reloadable(old: Runtime, new: Runtime) -> None:
    """Raise CannotReload if the new config differs where a running gateway cannot change, or should not by mistake."""
    differing = [name for name in _FIXED if getattr(old, name) != getattr(new, name)]
    if differing:
        raise CannotReload(f"only a restart changes {', '.join(differing)}")
    if old.key_pepper not in (new.key_pepper, *new.key_peppers_accepted):
        raise CannotReload(
            "no key would be known any more: the key_pepper that is served goes into key_peppers_accepted beside a new "
            "one; only a restart gives it up"
        )


def at_redis(runtime: Runtime, url: str) -> Runtime:
    """The config with the ledger's server where it is: an embedded one has been started."""
    return replace(runtime, redis=replace(runtime.redis, url=url))


class Supervisor:
    """The workers and the operators' listener. Both listeners are bound at once, and stay bound to the end."""

    def __init__(self, runtime: Runtime, *, workers: int, observing: Observing) -> None:
        self.runtime = runtime
        self._workers = workers
        self._observing = observing
        self._ledger: Ledger
        self._redis_url = ""
        self._customers = SharedPort(runtime.customers)
        try:
            self._ops = listen(runtime.ops)
        except OSError:
            self._customers.close()
            raise
        self._operators: Operators | None = None
        self._exports = AsyncExitStack()
        self._exporting: Exporting | None = None
        self._verifier: Verifier | None = None
        #: The worker in each place, and all that live: those that end, too.
        self._placed: dict[int, Child] = {}
        self._living: set[Child] = set()
        self._failures: dict[int, int] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Supervisor workers={self._workers} accepting={self._accepting()} living={len(self._living)}>"

    async def start(self, ledger: Ledger, redis_url: str) -> None:
        """Serve. WorkerFailed, and nothing is left running, if not all workers come up."""
        self._ledger = ledger
        self._redis_url = redis_url
        self._place(await self._generation(self.runtime))
        await self._serve_operators()
        await self._export()

    def check(self, runtime: Runtime) -> None:
        """See `reloading.Serving`."""
        check_reloadable(self.runtime, runtime)

    async def take_up(self, runtime: Runtime) -> None:
        """See `reloading.Serving`."""
        self.check(runtime)
        generation = await self._generation(runtime)
        self.runtime = runtime
        last = tuple(self._placed.values())
        self._place(generation)
        for child in last:
            child.end_within(runtime.limits.drain_seconds, linger_seconds=_LINGER_SECONDS)
        ending = sorted(self._living.difference(generation), key=lambda child: child.started)
        for child in ending[: -_ENDING_GENERATIONS_MAX * self._workers]:
            child.end_within(runtime.limits.shutdown_seconds_max)
        # Who connects once the reload is told of meets none of them again.
        await asyncio.gather(*(child.ending() for child in last))
        await self._serve_operators()
        await self._export()

    async def show(self, runtime: Runtime) -> None:
        """See `reloading.Serving`. Workers that end show nothing to anybody new."""
        self.runtime = runtime
        await asyncio.gather(*(child.show(runtime.customers_tls) for child in self._placed.values()))
        assert self._operators is not None, "operators are served from the start"
        await self._operators.show(runtime.ops_tls)

    async def health(self) -> dict[str, Any]:
        """What operators are told of it."""
        assert self._operators is not None, "operators are served from the start"
        return await self._operators.readiness()

    async def upstreams(self) -> dict[str, Any]:
        """What operators are told of the endpoints of services that have several."""
        return {"workers": self._accepting(), "endpoints": endpoints_shown(self.runtime, await self._measured())}

    async def stop(self) -> None:
        """End all workers, then the operators' listener."""
        self._stopping = True
        self._customers.close()
        for child in self._living:
            child.end_within(self.runtime.limits.shutdown_seconds_max)
        await asyncio.gather(*(child.over() for child in self._living))
        for watch in self._watches:  # some may wait to replace a worker
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        if self._operators is not None:
            await self._operators.__aexit__()
        await self._exports.aclose()

    def close(self) -> None:
        """Listen no more."""
        self._customers.close()
        self._ops.close()

    # ---- workers

    async def _generation(self, runtime: Runtime) -> list[Child]:
        """A worker for each place, ready. WorkerFailed or OSError, and none of them, if one is not."""
        started: list[Child] = []
        try:
            for number in range(self._workers):
                started.append(await self._start(number, runtime))  # noqa: PERF401 - those before one that fails
            await asyncio.gather(*(child.ready() for child in started))
        except BaseException:
            for child in started:
                child.end_within(0)
                self._watch(child)
            raise
        return started

    async def _start(self, number: int, runtime: Runtime) -> Child:
        child = await Child.start(number, at_redis(runtime, self._redis_url), self._customers.of(number))
        self._living.add(child)
        return child

    def _place(self, generation: Iterable[Child]) -> None:
        """They are the workers now."""
        for child in generation:
            self._placed[child.number] = child
            self._watch(child)

    def _watch(self, child: Child) -> None:
        watch = asyncio.create_task(self._until_over(child))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _until_over(self, child: Child) -> None:
        """See it end, keep what it counted, and see that its place is taken."""
        status = await child.over()
        self._living.discard(child)
        if child.figures is not None:
            self._observing.metrics.add(child.figures, living=False)
        expected = self._stopping or self._placed.get(child.number) is not child
        if status or not expected:
            self._observing.all.event(
                "worker_lost", worker=str(child.number), pid=str(child.pid), status=str(status), reason=child.failure
            )
        if not expected:
            await self._replace(child)

    async def _replace(self, lost: Child) -> None:
        """Put another worker in its place: at once, or after a pause where one after another is lost."""
        number = lost.number
        steady = time.monotonic() - lost.started >= _STEADY_SECONDS
        self._failures[number] = 0 if steady else self._failures.get(number, 0) + 1
        while True:
            if pause := pause_seconds(self._failures[number]):
                self._customers.leave(number)
                await asyncio.sleep(pause)
            if self._placed[number] is not lost or self._stopping:
                return  # a new generation has taken the place
            try:
                self._place([await self._start(number, self.runtime)])
            except OSError as error:
                self._observing.all.event("worker_lost", worker=str(number), reason=str(error))
                self._failures[number] += 1
            else:
                return

    # ---- operators

    async def _serve_operators(self) -> None:
        """Serve them by the config as it is now: on the same socket, before the listener of the last config ends."""
        operators = Operators(
            self.runtime,
            ledger=self._ledger,
            observer=self._observing.all,
            clock=SystemClock(),
            accepting=self._accepting,
            measured=self._measured,
            listener=self._ops.dup(),
        )
        last, self._operators = self._operators, await operators.__aenter__()
        if last is not None:
            await last.__aexit__()

    # ---- the ledger's own

    async def verify(self) -> None:
        """Compare the numbers of the next accounts."""
        if self._verifier is not None:
            await self._verifier.round()

    async def _export(self) -> None:
        """Export, and verify, by the config as it is now, once the last one's exporters have let go of their sinks."""
        await self._exports.aclose()
        settings = self.runtime.exports
        observer = self._observing.all
        self._verifier = Verifier(
            ledger=self._ledger, observer=observer, accounts_max=self.runtime.limits.verify_accounts
        )
        self._exporting = Exporting(
            settings, ledger=self._ledger, observer=observer, clock=SystemClock(), on=settings.serve
        )
        await self._exports.enter_async_context(self._exporting)

    def _accepting(self) -> int:
        return sum(child.accepting for child in self._living)

    async def _measured(self) -> Metrics:
        """Everybody's metrics as one. No counter goes down: those of a worker that is over were added to ours."""
        await asyncio.gather(*(child.report() for child in self._living))
        self._observing.all.flush()
        metrics = self._observing.metrics
        for part in (self._exporting, self._verifier):
            if part is not None:
                metrics.gauges.update(part.gauges())
        metrics.gauges["gateway_workers_configured"] = self._workers
        measure(metrics, "supervisor")
        everybody = Metrics(version=__version__, config=self.runtime.digest, products=tuple(self.runtime.products))
        everybody.add(metrics.figures(), living=True)
        for child in self._living:
            if child.figures is not None:
                everybody.add(child.figures, living=True)
        return everybody


async def supervise(
    runtime: Runtime,
    *,
    workers: int | None = None,
    reread: Callable[[], Runtime],
    ready: Callable[[], None] | None = None,
) -> None:
    """Run a gateway until SIGTERM or SIGINT, then drain. SIGHUP takes up the config that `reread` reads.

    OSError if it cannot listen, WorkerFailed if its workers do not come up, UnfitLedger if its Redis would lose money.
    """
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for name in _SIGNALS:
            loop.add_signal_handler(name, (hangup if name == signal.SIGHUP else stop).set)
            stack.callback(loop.remove_signal_handler, name)
        observing = Observing(runtime)
        stack.callback(observing.flush)
        supervisor = Supervisor(runtime, workers=workers or runtime.workers or cores(), observing=observing)
        stack.callback(supervisor.close)
        url = await stack.enter_async_context(open_redis(runtime, keep=True))
        ledger = await stack.enter_async_context(open_ledger(at_redis(runtime, url), keep=True, observer=observing.all))
        fitness = Fitness(ledger, Memory(runtime.spool_directory, url, runtime.redis.prefix), observing)
        await fitness.start()
        loops = [
            asyncio.create_task(forever("logs", _LOG_SECONDS, observing.keep_flushing, observing.all)),
            asyncio.create_task(forever("fitness", LOOK_SECONDS, fitness.look, observing.all)),
            asyncio.create_task(forever("verifier", _VERIFY_SECONDS, supervisor.verify, observing.all)),
        ]
        try:
            await supervisor.start(ledger, url)
            if ready is not None:
                ready()
            reloading = Reloading(supervisor, reread, observing)
            answers = {
                "reload": reloading.reload, "preview": reloading.preview, "health": supervisor.health,
                "upstreams": supervisor.upstreams,
            }  # fmt: skip
            await stack.enter_async_context(Control(runtime.spool_directory, answers, observing))
            loops.append(asyncio.create_task(_reloads(hangup, reloading.reload)))
            loops.append(asyncio.create_task(forever("files", RELOAD_LOOK_SECONDS, reloading.look, observing.all)))
            await stop.wait()
        finally:
            for each in loops:
                each.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await supervisor.stop()


async def _reloads(hangup: asyncio.Event, reload: Callable[[], Awaitable[object]]) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        await reload()
