"""The operators' listener: health, readiness, metrics, and the admin API.

Owns: what "ready" means. Does not know: how the numbers come about.
"""

import socket
from collections.abc import Awaitable, Callable
from typing import Final, Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway import __version__
from gateway.core.errors import LedgerUnavailable
from gateway.edge.admin import add_admin_routes
from gateway.edge.listening import listen, port_of
from gateway.edge.pages.ops import add_ops_pages
from gateway.edge.paying import make_paying
from gateway.observe.metrics import Metrics
from gateway.ports import Clock, Ledger, Observer
from gateway.settings.runtime import Runtime
from gateway.upstream.client import PooledUpstreamClient

_PROMETHEUS: Final = {"Content-Type": CONTENT_TYPE_LATEST}
_CLOSE_SECONDS: Final = 5.0


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
        add_ops_pages(app, ledger=ledger, runtime=runtime, clock=clock, upstreams=self._upstreams, measured=measured)
        add_admin_routes(  # after the pages: what is not theirs below /admin is the API's
            app, ledger=ledger, runtime=runtime, upstreams=self._upstreams, paying=self._paying, clock=clock
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS)

    async def __aenter__(self) -> Self:
        """Listen: on `listener`, or where the config says."""
        await self._runner.setup()
        self._listener = self._listener or listen(self._runtime.ops)
        await web.SockSite(self._runner, self._listener).start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Answer what was asked, then close."""
        await self._runner.cleanup()
        await self._upstreams.close()
        await self._paying.close()

    @property
    def port(self) -> int:
        """The port that the listener is bound to."""
        assert self._listener is not None, "it has not listened yet"
        return port_of(self._listener)

    async def _health(self, _request: web.Request) -> web.Response:
        """The process lives."""
        return web.json_response({"status": "ok", "version": __version__})

    async def _ready(self, _request: web.Request) -> web.Response:
        """It should get traffic."""
        ledger, accepting = await self._ledger_up(), self._accepting()
        is_ready = ledger and accepting > 0
        checks = {
            "ledger": "ok" if ledger else "unavailable",
            "config": self._runtime.digest,
            "workers": accepting,
        }
        return web.json_response({"ready": is_ready, **checks}, status=200 if is_ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        metrics = await self._measured()
        metrics.gauges["gateway_ledger_up"] = int(await self._ledger_up())
        return web.Response(body=generate_latest(metrics.registry), headers=_PROMETHEUS)

    async def _ledger_up(self) -> bool:
        try:
            await self._ledger.ping()
        except LedgerUnavailable:
            return False
        return True
