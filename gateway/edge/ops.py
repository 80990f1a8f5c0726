"""The ops listener: health, readiness, metrics.

Owns: what "ready" means. Does not know: how the numbers come about.
"""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway import __version__
from gateway.core.errors import LedgerUnavailable
from gateway.observe.metrics import Metrics
from gateway.ports import Ledger
from gateway.settings.runtime import Runtime

_PROMETHEUS: Final = {"Content-Type": CONTENT_TYPE_LATEST}


def add_ops_routes(
    app: web.Application,
    *,
    runtime: Runtime,
    ledger: Ledger,
    metrics: Metrics,
    gauges: Callable[[], None],
    draining: Callable[[], bool],
) -> None:
    """`/healthz` (the process lives), `/readyz` (it should get traffic), `/metrics`."""

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": __version__})

    async def ready(_request: web.Request) -> web.Response:
        checks = {"ledger": "ok", "config": runtime.digest, "draining": draining()}
        try:
            await ledger.ping()
        except LedgerUnavailable:
            checks["ledger"] = "unavailable"
        metrics.gauges["gateway_ledger_up"].set(checks["ledger"] == "ok")
        is_ready = checks["ledger"] == "ok" and not checks["draining"]
        return web.json_response({"ready": is_ready, **checks}, status=200 if is_ready else 503)

    async def scrape(_request: web.Request) -> web.Response:
        gauges()
        return web.Response(body=generate_latest(metrics.registry), headers=_PROMETHEUS)

    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", scrape)
