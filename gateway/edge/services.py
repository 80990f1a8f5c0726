"""The services behind the gateway, as one process reaches them: connections, sockets, and how their endpoints do.

Owns: that all of these share what is known of an endpoint. Does not know: what is asked.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self

from gateway.core.upstreams import Upstream
from gateway.observe.metrics import Metrics
from gateway.pipeline.placing import Placing
from gateway.ports import Clock, Observer
from gateway.settings.runtime import Runtime
from gateway.sockets.dial import SocketDialer
from gateway.upstream.client import PooledUpstreamClient
from gateway.upstream.fleet import Fleet
from gateway.workers.health import ROUND_SECONDS, HealthChecks
from gateway.workers.loops import forever


@dataclass(frozen=True, slots=True)
class Services:
    """The parts."""

    fleet: Fleet
    client: PooledUpstreamClient
    dialer: SocketDialer
    placing: Placing
    health: HealthChecks
    observer: Observer
    endpoints: tuple[Upstream, ...]

    @classmethod
    def of(cls, runtime: Runtime, observer: Observer, clock: Clock) -> Self:
        """Those of a config."""
        fleet = Fleet(observer, clock.monotonic)
        client = PooledUpstreamClient(fleet)
        services = _services(runtime)
        health = HealthChecks(services, upstreams=client, checked=fleet.checked, clock=clock.monotonic)
        endpoints = tuple(endpoint for service in services for endpoint in service.endpoints)
        return cls(fleet, client, SocketDialer(fleet), Placing(runtime, observer), health, observer, endpoints)

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs beside the calls."""
        if not len(self.health):
            return ()
        return (forever("health", ROUND_SECONDS, self.health.round, self.observer),)

    def measure(self, metrics: Metrics, *, accepting: bool) -> None:
        """Tell how the endpoints do, as this process sees it. One that stops gives nobody new work."""
        metrics.asked(self.fleet.asked)
        metrics.by_endpoint["gateway_upstream_up"] = {
            endpoint.name: int(accepting and not endpoint.drain and self.fleet.is_up(endpoint))
            for endpoint in self.endpoints
        }

    async def close(self) -> None:
        """Close every connection that nobody uses any more."""
        await self.health.close()
        await self.client.close()
        await self.dialer.close()


def _services(runtime: Runtime) -> tuple[Upstream, ...]:
    return tuple({product.upstream.name: product.upstream for product in runtime.products.values()}.values())


def endpoints_shown(runtime: Runtime, metrics: Metrics) -> list[dict[str, Any]]:
    """What operators are told of each endpoint: of the config, and of all workers together."""
    up, asked = metrics.by_endpoint["gateway_upstream_up"], metrics.count("gateway_upstream_requests")
    return [
        {
            "upstream": service.name,
            "endpoint": endpoint.endpoint,
            "region": endpoint.region or None,
            "weight": endpoint.weight,
            "drain": endpoint.drain,
            "workers_up": int(up.get(endpoint.name, 0)),
            "asked": {
                outcome: int(count)
                for (upstream, name, outcome), count in sorted(asked.items())
                if (upstream, name) == (service.name, endpoint.endpoint)
            },
        }
        for service in _services(runtime)
        for endpoint in service.endpoints
    ]
