"""The operators' listener: health, readiness, metrics, and the admin API.

Owns: what "ready" means. Does not know: how the numbers come about, or how connections are guarded (proxy, door).
"""

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

from aiohttp import web
from multidict import CIMultiDict
from prometheus_client.exposition import choose_encoder

from gateway import __version__
from gateway.core.errors import LedgerUnavailable
from gateway.edge.api.admin import add_admin_routes
from gateway.edge.operations.jobs import JobOperations
from gateway.edge.pages.ops import add_ops_pages
from gateway.edge.paying import make_paying
from gateway.edge.server.listening import Opening, listen
from gateway.edge.server.own import OwnRoutes
from gateway.edge.server.proxy import CustomerServer
from gateway.observe.metrics import Metrics
from gateway.pipeline.call import Answer, Client
from gateway.ports import Clock, Ledger, Observer
from gateway.settings.runtime import Runtime
from gateway.settings.tls import Tls
from gateway.upstream.client import PooledUpstreamClient

_OPENMETRICS: Final = "application/openmetrics-text"
#: How metrics are written, chosen once: the library fails at some words that a client may say.
_OLDER: Final = choose_encoder("")
_NEWER: Final = choose_encoder(f"{_OPENMETRICS}; version=1.0.0")
_CLOSE_SECONDS: Final = 5.0
#: A price dry run reads every entry of its period.
_ANSWER_SECONDS_MAX: Final = 600.0
_TEXT: Final = "text/plain; charset=utf-8"


class _Elsewhere:
    """What is asked of this listener and is none of its routes."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def unread(self, reason: str) -> Answer:
        """See `proxy.Answering`."""
        self._observer.event("malformed")
        return _plain(400, reason)

    async def serve(self, _client: Client) -> Answer:
        """See `proxy.Answering`. A target that is no path."""
        return _plain(404, "nothing is here")


def _plain(status: int, text: str) -> Answer:
    return Answer(status=status, reason="", headers=CIMultiDict({"Content-Type": _TEXT}), body=f"{text}\n".encode())


class Operators:
    """`async with Operators(runtime, ...)` serves operators.

    `accepting` tells how many processes take customers' calls right now, `measured` makes the metrics as they stand.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        ledger: Ledger,
        observer: Observer,
        clock: Clock,
        accepting: Callable[[], int],
        measured: Callable[[], Awaitable[Metrics]],
        listener: socket.socket | None = None,
    ) -> None:
        self._runtime = runtime
        self._ledger = ledger
        self._accepting = accepting
        self._measured = measured
        self._listener = listener
        app = web.Application(client_max_size=1024 * 1024)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._upstreams = PooledUpstreamClient()  # for jobs that ops ask for
        self._paying = make_paying(runtime, ledger=ledger, observer=observer, clock=clock)
        jobs = JobOperations(ledger=ledger, runtime=runtime, upstreams=self._upstreams, clock=clock, observer=observer)
        add_ops_pages(app, ledger=ledger, runtime=runtime, clock=clock, jobs=jobs, measured=self._whole)
        add_admin_routes(  # after the pages: what is not theirs below /admin is the API's
            app, ledger=ledger, runtime=runtime, jobs=jobs, paying=self._paying, clock=clock
        )
        self._own = OwnRoutes(app, prefixes=("",), answer_seconds_max=_ANSWER_SECONDS_MAX)
        self._server = CustomerServer(_Elsewhere(observer), runtime.limits, self._own, observer=observer)

    async def __aenter__(self) -> Self:
        """Listen: on `listener`, or where the config says."""
        await self._own.__aenter__()
        self._opening = Opening(self._listener or listen(self._runtime.ops), self._server)
        await self.show(self._runtime.ops_tls)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Answer what was asked, then close."""
        self._opening.close()
        await self._server.shutdown(_CLOSE_SECONDS)
        await self._own.__aexit__()
        await self._upstreams.close()
        await self._paying.close()

    async def show(self, tls: Tls | None) -> None:
        """Show new connections this certificate from now on; see `Opening.show`."""
        await self._opening.show(tls)

    @property
    def port(self) -> int:
        """The port that the listener is bound to."""
        return self._opening.port

    async def _health(self, _request: web.Request) -> web.Response:
        """The process lives."""
        return web.json_response({"status": "ok", "version": __version__})

    async def _ready(self, _request: web.Request) -> web.Response:
        found = await self.readiness()
        return web.json_response(found, status=200 if found["ready"] else 503)

    async def readiness(self) -> dict[str, Any]:
        """Whether it should get traffic, and why not."""
        ledger, accepting = await self._ledger_up(), self._accepting()
        return {
            "ready": ledger and accepting > 0,
            "ledger": "ok" if ledger else "unavailable",
            "config": self._runtime.digest,
            "workers": accepting,
        }

    async def _metrics(self, request: web.Request) -> web.Response:
        """In the form that is asked for: OpenMetrics has ids of calls beside the buckets of its histograms."""
        metrics = await self._whole()
        encode, content_type = _NEWER if _OPENMETRICS in request.headers.get("Accept", "") else _OLDER
        return web.Response(body=encode(metrics.registry), headers={"Content-Type": content_type})

    async def _whole(self) -> Metrics:
        """The metrics as they stand, with what only the ledger knows."""
        metrics = await self._measured()
        gauges = metrics.gauges
        try:
            backlog = await self._ledger.backlog()
            metrics.by_product["gateway_queue_jobs"] = dict(await self._ledger.waiting(list(self._runtime.products)))
        except LedgerUnavailable:
            gauges["gateway_ledger_up"] = 0
        else:
            gauges["gateway_ledger_up"] = 1
            for name, lag in (("job_look", backlog.looks), ("delivery", backlog.deliveries)):
                gauges[f"gateway_{name}_lag_accounts"] = lag.accounts
                gauges[f"gateway_{name}_lag_seconds"] = max(gauges[f"gateway_{name}_lag_seconds"], lag.seconds)
        return metrics

    async def _ledger_up(self) -> bool:
        try:
            await self._ledger.ping()
        except LedgerUnavailable:
            return False
        return True
