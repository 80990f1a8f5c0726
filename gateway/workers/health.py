"""Health checks: asks the endpoints of services whether they are well, each at its own pace.

Owns: when one is asked, how long it may take, and how many answers in a row change what is thought of it.
Does not know: what comes of that (upstream.fleet), connections.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from multidict import CIMultiDict

from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.core.upstreams import Health, Upstream
from gateway.upstream.ports import UpstreamClient

#: How often it is looked which checks are due.
ROUND_SECONDS: Final = 0.1
_WELL: Final = 400


class Checked(Protocol):
    """Whoever is told what is thought of an endpoint (see `Fleet.checked`)."""

    def __call__(self, endpoint: Upstream, *, well: bool) -> None: ...


class _Pulse:
    """What the checks of one endpoint have found: how many in a row say other than what is thought of it."""

    def __init__(self, endpoint: Upstream, health: Health) -> None:
        self.endpoint = endpoint
        self.health = health
        self.due = 0.0
        self.well = True
        self.otherwise = 0

    def found(self, *, well: bool) -> bool:
        """Take in one answer; whether it changes what is thought."""
        self.otherwise = 0 if well is self.well else self.otherwise + 1
        if self.otherwise < (self.health.successes if well else self.health.failures) or well is self.well:
            return False
        self.well, self.otherwise = well, 0
        return True


class HealthChecks:
    """Asks the endpoints of these services that have a health check."""

    def __init__(
        self,
        services: Iterable[Upstream],
        *,
        upstreams: UpstreamClient,
        checked: Checked,
        clock: Callable[[], float],
    ) -> None:
        self._pulses = [
            _Pulse(endpoint, service.health)
            for service in services
            if service.health is not None
            for endpoint in service.endpoints
        ]
        self._upstreams = upstreams
        self._checked = checked
        self._clock = clock
        self._under_way: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<HealthChecks endpoints={len(self._pulses)} unwell={sum(not pulse.well for pulse in self._pulses)}>"

    def __len__(self) -> int:
        """Endpoints that are asked."""
        return len(self._pulses)

    async def round(self) -> None:
        """Ask those that are due. None waits for another, and none is asked twice at once."""
        now = self._clock()
        for pulse in self._pulses:
            if now >= pulse.due:
                pulse.due = now + max(pulse.health.every_seconds, pulse.health.seconds_max)
                task = asyncio.create_task(self._ask(pulse))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def _ask(self, pulse: _Pulse) -> None:
        well = await self._answers(pulse.endpoint, pulse.health)
        pulse.due = self._clock() + pulse.health.every_seconds
        if pulse.found(well=well):
            self._checked(pulse.endpoint, well=well)

    async def _answers(self, endpoint: Upstream, health: Health) -> bool:
        headers = CIMultiDict({endpoint.credential_header: endpoint.credential})
        try:
            async with (
                asyncio.timeout(health.seconds_max),
                await self._upstreams.send(endpoint, "GET", health.path, headers, None) as reply,
            ):
                return reply.status < _WELL
        except (UpstreamUnreachable, UpstreamTimeout, TimeoutError):
            return False

    async def close(self) -> None:
        """End the checks under way."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
