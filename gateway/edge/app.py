"""The composition root: everything that is wired, in order.

Owns: which part gets which, the order of start and stop.
Does not know: what the parts do, or how many processes there are (supervisor).
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Final, Self

from aiohttp import web

from gateway import __version__
from gateway.edge.api.billing_api import add_billing_api
from gateway.edge.callbacks import add_callback_routes, write_callback_token
from gateway.edge.clock import SystemClock
from gateway.edge.delivering import make_outbox
from gateway.edge.exporting import NOTE_SECONDS
from gateway.edge.identify import Identifier
from gateway.edge.observing import Observing
from gateway.edge.pages.billing import add_billing_pages
from gateway.edge.paying import add_payment_routes, make_paying
from gateway.edge.plugging import add_plug_ins
from gateway.edge.reconciling import make_reconciler, make_submissions
from gateway.edge.server.listening import Opening, listen
from gateway.edge.server.own import OwnRoutes
from gateway.edge.server.proxy import CustomerServer
from gateway.edge.services import Services
from gateway.edge.tracing import around
from gateway.ledger.spool import Spool
from gateway.observe.metrics import Metrics
from gateway.observe.saturation import PROBE_SECONDS, measure, probe
from gateway.pipeline.admit import Admission
from gateway.pipeline.allowance import Allowance
from gateway.pipeline.books import Books
from gateway.pipeline.callbacks import Callbacks
from gateway.pipeline.called_back import CalledBack
from gateway.pipeline.conclude import Conclusion
from gateway.pipeline.http import HttpPipeline
from gateway.pipeline.idempotency import NamedCalls
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.leases import Leases
from gateway.pipeline.monthly import MonthlyGrants
from gateway.pipeline.open_session import Parts
from gateway.pipeline.queueing import Queueing
from gateway.pipeline.session import Sessions
from gateway.ports import Ledger
from gateway.settings.routing import Router
from gateway.settings.runtime import OWN_PREFIXES, Runtime
from gateway.settings.tls import Tls
from gateway.upstream.outward import Outward
from gateway.workers.commitments import Commitments
from gateway.workers.loops import forever
from gateway.workers.sweeper import Sweeper

#: How often accounts with open sessions are looked at: what an administrator changes holds within a second.
_ACCOUNTS_SECONDS: Final = 0.5
#: How often jobs are claimed whose look is due, and deliveries that are due.
_JOBS_SECONDS: Final = 0.5
#: How often jobs are claimed that wait for their place, and whose turn it is.
_SUBMISSIONS_SECONDS: Final = 0.2
_OUTBOX_SECONDS: Final = 0.5


def call_id_maker() -> Callable[[], str]:
    """Ids that are unique over processes and restarts: 64 random bits for the process, then a count."""
    boot, counter = secrets.token_hex(8), count(1)
    return lambda: f"{boot}{next(counter):08x}"


class Gateway:
    """A gateway made of its parts: `async with Gateway(runtime, ledger=...)` serves customers.

    It takes its connections from `listener`, which others may share; without one, it listens where the config says.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        ledger: Ledger,
        observing: Observing | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        clock = SystemClock()
        limits = runtime.limits
        self.runtime = runtime
        self.observing = observing or Observing(runtime)
        self._tracing = tracing = around(runtime.tracing, clock, self.observing.all)
        observer, ledger = tracing.observer(self.observing.all), tracing.ledger(ledger)
        self.spool = Spool(runtime.spool_directory, bytes_max=limits.spool_bytes_max)
        self.services = services = Services.of(runtime, observer, clock)
        self.upstreams = services.client
        upstreams = tracing.upstreams(self.upstreams)
        self.outward = Outward(allow=runtime.outward.allow, plain_http=runtime.outward.plain_http)
        self.leases = Leases(ledger=ledger, observer=observer, lease_seconds=limits.hold_lease_seconds)
        self.allowance = Allowance(lambda: self.spool.is_sound)
        self.books = Books(
            ledger=ledger,
            spool=self.spool,
            observer=observer,
            clock=clock,
            operation_seconds=runtime.redis.operation_seconds,
            prices=runtime.prices,
            replaying=partial(tracing.work, "replay"),
        )
        jobs = Jobs(runtime=runtime, books=self.books, upstreams=upstreams, placing=services.placing, clock=clock)
        identifier = Identifier(
            ledger, runtime.peppers, clock, unknown_per_minute_max=limits.unknown_keys_per_minute_max,
            trust_forwarded_for=runtime.trust_forwarded_for,
        )  # fmt: skip
        named = NamedCalls(
            ledger=ledger, observer=observer, settings=runtime.idempotency, peppers=runtime.peppers,
            lease_seconds=limits.hold_lease_seconds,
        )  # fmt: skip
        callbacks = Callbacks(
            public_url=runtime.public_url, objection=self.outward.objection,
            write_token=partial(write_callback_token, runtime.key_pepper), clock=clock,
        )  # fmt: skip
        grants = MonthlyGrants(tiers=runtime.tiers, ledger=ledger, observer=observer, clock=clock)
        make_admission = partial(
            Admission,
            runtime=runtime, ledger=ledger, jobs=jobs, allowance=self.allowance, named=named,
            callbacks=callbacks, grants=grants, observer=observer, clock=clock,
        )  # fmt: skip
        admission = make_admission(leases=self.leases, identify=tracing.identify(identifier))
        self.conclusion = Conclusion(
            books=self.books, jobs=jobs, allowance=self.allowance, named=named, observer=observer, clock=clock
        )
        parts = Parts(
            admission=admission, ledger=ledger, books=self.books, leases=self.leases, prices=runtime.prices,
            observer=observer, clock=clock,
        )  # fmt: skip
        sessions = Sessions(
            runtime=runtime, parts=parts, admission=admission, ledger=ledger, conclusion=self.conclusion,
            dialer=tracing.dialer(services.dialer), write_token=identifier.write, placing=services.placing,
        )  # fmt: skip
        call_ids = call_id_maker()
        queueing = Queueing(
            ledger=ledger, conclusion=self.conclusion, callbacks=callbacks, jobs=jobs, upstreams=upstreams,
            placing=services.placing, observer=observer, clock=clock, answer_seconds_max=limits.hold_lease_seconds / 2,
        )  # fmt: skip
        self.pipeline = HttpPipeline(
            runtime=runtime, router=Router(runtime.forwarded), admission=admission, conclusion=self.conclusion,
            jobs=jobs, leases=self.leases, ledger=ledger, upstreams=upstreams, observer=observer, clock=clock,
            call_ids=call_ids, sessions=sessions, queueing=queueing, placing=services.placing,
        )  # fmt: skip
        self.submissions = make_submissions(runtime, ledger=ledger, queueing=queueing, observer=observer, clock=clock)
        self.reconciler = make_reconciler(
            runtime, ledger=ledger, jobs=jobs, observer=observer, clock=clock, tracing=tracing
        )
        self.paying = make_paying(runtime, ledger=ledger, observer=observer, clock=clock)
        self.outbox = make_outbox(
            runtime, ledger=ledger, outward=self.outward, autopay=self.paying.courier, observer=observer, clock=clock
        )
        sweeper = Sweeper(
            ledger=ledger, observer=observer, accounts_max=limits.sweep_accounts, round_seconds=limits.sweep_seconds,
            visits=(grants.visit, Commitments(ledger=ledger, observer=observer).visit),
        )  # fmt: skip
        self._loops: tuple[Coroutine[Any, Any, None], ...] = (
            forever("leases", limits.hold_lease_seconds / 3, self.leases.renew, observer),
            forever("sweeper", limits.sweep_seconds, sweeper.round, observer),
            forever("sessions", _ACCOUNTS_SECONDS, sessions.watch_accounts, observer),
            forever("jobs", _JOBS_SECONDS, self.reconciler.round, observer),
            forever("submissions", _SUBMISSIONS_SECONDS, self.submissions.round, observer),
            forever("outbox", _OUTBOX_SECONDS, self.outbox.round, observer),
            forever("replay", 0.2, self._replay, observer),
            forever("adopt", 5.0, self._adopt, observer),
            forever("logs", 0.2, self.observing.keep_flushing, observer),
            forever("lag", PROBE_SECONDS, partial(probe, self.observing.metrics), observer),
        )
        self._loops += tracing.loops() + services.loops()
        if runtime.exports.sinks:
            self._loops += (forever("exports", NOTE_SECONDS, ledger.note_exports, observer),)
        self._tasks: list[asyncio.Task[None]] = []
        self._listener = listener
        self._tls = runtime.customers_tls
        own = web.Application(middlewares=tracing.own())
        add_payment_routes(own, self.paying)
        add_billing_api(own, identifier=identifier, ledger=ledger, runtime=runtime, paying=self.paying, clock=clock)
        add_billing_pages(own, ledger=ledger, runtime=runtime, paying=self.paying, clock=clock)
        called_back = CalledBack(ledger=ledger, jobs=jobs, observer=observer, clock=clock)
        add_callback_routes(own, take=called_back.take, pepper=runtime.peppers, clock=clock, observer=observer)
        add_plug_ins(
            own, runtime=runtime, make_admission=make_admission, identifier=identifier, ledger=ledger, books=self.books,
            observer=observer, clock=clock, call_ids=call_ids,
        )  # fmt: skip
        self._own = OwnRoutes(own, prefixes=(*OWN_PREFIXES, *runtime.plug_in.prefixes))
        of_one = 0 if runtime.trust_forwarded_for else limits.connections_per_address_max
        self._customers = CustomerServer(
            tracing.pipeline(self.pipeline), limits, self._own, of_address_max=of_one, observer=observer,
            end_sessions=self.pipeline.sessions.end_all,
        )  # fmt: skip
        self.accepting = False

    async def __aenter__(self) -> Self:
        """Open the spool, start the loops, then listen."""
        runtime = self.runtime
        try:
            self.spool.open(f"{os.getpid()}-{secrets.token_hex(4)}")
        except OSError:
            for loop in self._loops:
                loop.close()  # none has begun
            raise
        self._tasks = [asyncio.create_task(loop) for loop in self._loops]
        await self._own.__aenter__()
        self._opening = Opening(self._listener or listen(runtime.customers), self._customers)
        await self._opening.show(self._tls)
        self.accepting = True
        self.observing.logs.info("started", pid=os.getpid(), version=__version__, config=runtime.digest)
        return self

    async def show(self, tls: Tls | None) -> None:
        """Show new connections this certificate from now on; see `Opening.show`."""
        self._tls = tls
        if self.accepting:
            await self._opening.show(tls)

    def end_within(self, seconds: float, *, linger_seconds: float = 0.0) -> None:
        """Accept no more; calls under way may go on so long from now, once the gateway stops. It may be said again."""
        if self.accepting:
            self.accepting = False
            self._opening.close()
        self._customers.end_within(seconds, linger_seconds=linger_seconds)

    async def __aexit__(self, *_error: object) -> None:
        """Stop accepting, finish calls, settle everything, then close."""
        self.accepting, observer = False, self.observing.all
        self._opening.close()
        await self._customers.shutdown(self.runtime.limits.shutdown_seconds_max)
        await self.conclusion.drain()
        await self._own.__aexit__()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.reconciler.close()
        await self.submissions.close()
        await self.outbox.close()
        await self.paying.close()
        await self.books.replay()
        await self.services.close()
        await self.outward.close()
        await self._tracing.close()
        if lost := self.spool.close():
            observer.event("spool_failed", value=lost, operation="any")
        self.observing.logs.info("stopped", pid=os.getpid(), spooled=len(self.spool))
        self.observing.flush()

    @property
    def customers_port(self) -> int:
        """The port that the customers' listener is bound to."""
        return self._opening.port

    def measured(self) -> Metrics:
        """The metrics, with what has gathered and with the gauges as they stand."""
        self.observing.all.flush()
        metrics = self.observing.metrics
        metrics.gauges["gateway_workers"] = int(self.accepting)
        metrics.gauges["gateway_sessions_open"] = len(self.pipeline.sessions)
        metrics.gauges["gateway_connections_open"] = len(self._customers.door)
        metrics.gauges["gateway_upstream_connections_open"] = len(self.upstreams)
        metrics.gauges["gateway_calls_open"] = self.pipeline.calls_open
        metrics.gauges["gateway_job_looks_open"] = len(self.reconciler)
        metrics.gauges["gateway_job_look_lag_seconds"] = self.reconciler.lag_seconds
        metrics.gauges["gateway_deliveries_open"] = len(self.outbox)
        metrics.gauges["gateway_delivery_lag_seconds"] = self.outbox.lag_seconds
        metrics.gauges["gateway_spool_pending"] = len(self.spool)
        metrics.gauges["gateway_spool_unwritten"] = self.spool.unwritten
        metrics.gauges["gateway_spool_oldest_seconds"] = self.books.oldest_seconds()
        metrics.by_product["gateway_holds_open"] = dict(self.leases.by_product())
        metrics.by_product["gateway_exposure_nanos"] = dict(self.allowance.exposure)
        self.services.measure(metrics, accepting=self.accepting)
        measure(metrics, "worker")
        return metrics

    async def _replay(self) -> None:
        if len(self.spool):
            await self.books.replay()
            with suppress(OSError):  # the disk is still full: told when the record came
                await self.spool.write()
        if not len(self.spool):
            self.allowance.reset()

    async def _adopt(self) -> None:
        self.spool.adopt()
