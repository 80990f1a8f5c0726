"""The services behind the gateway, as one process reaches them: connections, sockets, and how their endpoints do.

Owns: that all of these share what is known of an endpoint. Does not know: what is asked.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self

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

    @classmethod
    def of(cls, runtime: Runtime, observer: Observer, clock: Clock) -> Self:
        """Those of a config."""
        fleet = Fleet(observer, clock.monotonic)
        client = PooledUpstreamClient(fleet)
        services = {product.upstream.name: product.upstream for product in runtime.products.values()}
        health = HealthChecks(services.values(), upstreams=client, checked=fleet.checked, clock=clock.monotonic)
        return cls(fleet, client, SocketDialer(fleet), Placing(runtime, observer), health, observer)

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs beside the calls."""
        if not len(self.health):
            return ()
        return (forever("health", ROUND_SECONDS, self.health.round, self.observer),)

    async def close(self) -> None:
        """Close every connection that nobody uses any more."""
        await self.health.close()
        await self.client.close()
        await self.dialer.close()
