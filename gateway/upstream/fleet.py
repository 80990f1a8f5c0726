"""The endpoints of the services that have several: which of them are tried, and how each has done.

Owns: the fitness of every endpoint in this process, by what calls met and by what checks say, and the counts of both.
Does not know: connections, or which endpoints a call may go to at all (pipeline.placing).

Whoever is sent goes the way of `Tries`: one endpoint after the other, as long as nothing was begun at the one before.
"""

import secrets
from collections import defaultdict
from collections.abc import Callable
from time import monotonic
from typing import Final

from gateway.core.endpoints import Fitness, failed, fit, ranked, tried
from gateway.core.errors import EndpointsUnavailable, UpstreamTimeout, UpstreamUnreachable
from gateway.core.upstreams import REFUSES_US, Upstream
from gateway.ports import Observer

#: A call is not sent to more of them than this.
TRIES_MAX: Final = 3
_FAILS: Final = 500
_NEW: Final = Fitness()

Fault = UpstreamUnreachable | UpstreamTimeout


class Fleet:
    """How the endpoints do, by their whole names. `clock` never goes back."""

    def __init__(self, observer: Observer | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._observer = observer
        self._fitness: dict[str, Fitness] = {}
        self._unwell: set[str] = set()
        #: What was asked of each: service, endpoint, how it went -> how often.
        self.asked: defaultdict[tuple[str, str, str], int] = defaultdict(int)

    def __repr__(self) -> str:
        ejected = [name for name, fitness in self._fitness.items() if fitness.ejected]
        return f"<Fleet ejected={ejected} unwell={sorted(self._unwell)}>"

    def is_up(self, endpoint: Upstream) -> bool:
        """Whether it gets what may go elsewhere as well."""
        return endpoint.name not in self._unwell and fit(self._of(endpoint), self._clock())

    def order(self, upstream: Upstream) -> list[Upstream]:
        """The endpoints of a service in the order in which they are tried: first those that are up, but the others too,
        for a call that may go nowhere else is not refused on a guess.
        """
        if len(upstream.endpoints) == 1:
            return list(upstream.endpoints)
        by_name = {endpoint.endpoint: endpoint for endpoint in upstream.endpoints}  # one account's are alike everywhere
        weights = {name: endpoint.weight for name, endpoint in by_name.items()}
        found = [by_name[name] for name in ranked(weights, upstream.key or secrets.token_hex(8))]
        found.sort(key=lambda endpoint: not self.is_up(endpoint))  # stable: among these, as they were ranked
        return found[:TRIES_MAX]

    def begins(self, endpoint: Upstream) -> None:
        """It is asked now."""
        fitness, now = self._of(endpoint), self._clock()
        if fitness.ejected and fit(fitness, now):  # what has to be asked there all the same tries nothing
            self._fitness[endpoint.name] = tried(fitness, now)

    def answered(self, endpoint: Upstream, status: int) -> None:
        """It has answered."""
        self._count(endpoint, f"{status // 100}xx")
        if status >= _FAILS or status in REFUSES_US:
            self._fails(endpoint)
        elif self._fitness.pop(endpoint.name, _NEW).ejected and self._observer is not None:
            self._observer.event("endpoint_returned", upstream=endpoint.service, endpoint=endpoint.endpoint)

    def faulted(self, endpoint: Upstream, fault: Fault) -> None:
        """It has not."""
        self._count(endpoint, "timeout" if isinstance(fault, UpstreamTimeout) else "unreachable")
        self._fails(endpoint)

    def checked(self, endpoint: Upstream, *, well: bool) -> None:
        """What its health checks say of it from now on."""
        if well is (endpoint.name not in self._unwell):
            return
        if well:
            self._unwell.discard(endpoint.name)
        else:
            self._unwell.add(endpoint.name)
        if self._observer is None:
            return
        if well:
            self._observer.event("endpoint_well", upstream=endpoint.service, endpoint=endpoint.endpoint)
        else:
            self._observer.event("endpoint_unwell", upstream=endpoint.service, endpoint=endpoint.endpoint)

    def _of(self, endpoint: Upstream) -> Fitness:
        return self._fitness.get(endpoint.name, _NEW)

    def _fails(self, endpoint: Upstream) -> None:
        before = self._of(endpoint)
        self._fitness[endpoint.name] = after = failed(before, self._clock(), endpoint.ejection)
        if after.ejections > before.ejections and self._observer is not None:
            self._observer.event("endpoint_ejected", upstream=endpoint.service, endpoint=endpoint.endpoint)

    def _count(self, endpoint: Upstream, outcome: str) -> None:
        self.asked[endpoint.service, endpoint.endpoint, outcome] += 1


class Tries:
    """One call's way through the endpoints that it may go to.

    `safe`: what was sent to one may be sent to another, whatever the first has done with it.
    """

    def __init__(self, fleet: Fleet, upstream: Upstream, *, safe: bool) -> None:
        self._fleet = fleet
        self._retry_on = upstream.retry_on
        self._left = fleet.order(upstream)
        self._safe = safe

    def next(self) -> Upstream:
        """The endpoint that is asked now."""
        endpoint = self._left.pop(0)
        self._fleet.begins(endpoint)
        return endpoint

    def goes_on(self, endpoint: Upstream, fault: Fault) -> bool:
        """Whether another one is asked after a fault. EndpointsUnavailable where none was sent anything."""
        self._fleet.faulted(endpoint, fault)
        if not fault.unsent:
            return self._safe and bool(self._left)
        if not self._left:
            raise EndpointsUnavailable("no endpoint that this may go to can be reached") from fault
        return True

    def passes_over(self, endpoint: Upstream, status: int, *, whole: bool) -> bool:
        """Whether another one is asked after such an answer. `whole`: what was sent can be sent once more."""
        self._fleet.answered(endpoint, status)
        return whole and bool(self._left) and status in self._retry_on
