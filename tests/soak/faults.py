"""What is broken in a long run, one thing after the other.

Owns: each fault's begin and end, and how it is told. Does not know: who is served meanwhile, or what it cost.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.ledger.embedded import EmbeddedRedis
from tests.faults.stage import kill, start_again
from tests.soak.traffic import Traffic
from tests.system.processes import Served, World

#: Shorter than a session goes on without Redis, and than a lease lasts.
AWAY_SECONDS: Final = 1.5
#: How long a service is ill.
ILL_SECONDS: Final = 4.0
RECOVERY_SECONDS_MAX: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """What can be broken."""

    world: World
    served: Served
    redis: EmbeddedRedis
    traffic: Traffic

    async def knobs(self, **knobs: Any) -> None:
        """Turn the vendor's; none: as they were."""
        url = f"{self.world.sandbox.url}/sandbox/knobs"
        method = "PUT" if knobs else "DELETE"
        async with self.world.http.request(method, url, json=knobs or None) as response:
            assert response.status == 200, await response.text()


async def worker_killed(place: Place) -> None:
    """kill -9 of a worker"""
    os.kill(random.choice(place.served.workers), signal.SIGKILL)


async def redis_paused(place: Place) -> None:
    """Redis stopped, and continued"""
    pid = place.redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(AWAY_SECONDS)
    os.kill(pid, signal.SIGCONT)


async def upstream_errors(place: Place) -> None:
    """every service answers 503"""
    await _ill(place, fail_rate=1.0, fail_status=503)


async def clients_vanish(place: Place) -> None:
    """half of all clients vanish"""
    place.traffic.vanish()


async def redis_killed(place: Place) -> None:
    """kill -9 of Redis, and a start on its data"""
    kill(place.redis)
    await asyncio.sleep(AWAY_SECONDS)
    await start_again(place.redis)


async def upstream_hangs(place: Place) -> None:
    """no service answers"""
    await _ill(place, body="hang")


async def reloaded(place: Place) -> None:
    """SIGHUP: new workers"""
    place.served.process.send_signal(signal.SIGHUP)


async def upstream_resets(place: Place) -> None:
    """every service drops the line"""
    await _ill(place, body="no_reply")


async def slow_clients(place: Place) -> None:
    """twenty clients that do not read"""
    place.traffic.slow(20)


async def upstream_truncates(place: Place) -> None:
    """every service breaks off its answers"""
    await _ill(place, body="truncated")


async def _ill(place: Place, **knobs: Any) -> None:
    await place.knobs(**knobs)
    await asyncio.sleep(ILL_SECONDS)
    await place.knobs()


Fault = Callable[[Place], Awaitable[None]]
FAULTS: Final[Sequence[Fault]] = (
    worker_killed,
    redis_paused,
    upstream_errors,
    clients_vanish,
    redis_killed,
    upstream_hangs,
    reloaded,
    upstream_resets,
    slow_clients,
    upstream_truncates,
)


@dataclass(frozen=True, kw_only=True)
class Injected:
    """One fault, as it was. `recovery_seconds`: from its end until somebody was served; None: nobody was."""

    name: str
    in_flight: int
    sessions: int
    recovery_seconds: float | None


async def inject(place: Place, fault: Fault) -> Injected:
    """Break it, and wait until it is served again."""
    in_flight, sessions = place.traffic.in_flight, len(place.traffic.open)
    await fault(place)
    recovery = await place.traffic.served_after(time.monotonic(), RECOVERY_SECONDS_MAX)
    return Injected(name=str(fault.__doc__), in_flight=in_flight, sessions=sessions, recovery_seconds=recovery)
