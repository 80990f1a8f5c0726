"""Where a call may go, of a service that has several endpoints: what was made at one is asked for there, and what is
bound to a region goes to no other.

Owns: what binds a call, and the service narrowed to the endpoints that are left.
Does not know: which of these is asked (upstream.fleet), or how any of them does.

A call is bound by what it is about (the record of a job, an upload or an agent names the endpoint where it was made),
and by the region of its account, of its route, and of the host that was called.
"""

from collections.abc import Collection, Iterable, Mapping

from gateway.core.errors import EndpointsUnavailable
from gateway.core.record import record
from gateway.core.upstreams import Upstream
from gateway.pipeline.call import Call
from gateway.ports import Observer, Resource
from gateway.settings.products import Product
from gateway.settings.routing import hostname
from gateway.settings.runtime import Runtime


@record
class Bounds:
    """What something is bound to: an endpoint, by its name, and regions. More than one of either leave no place."""

    at: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()


#: A service and the place of it where something was made.
Home = tuple[Upstream, Upstream]


def bounds_of(upstream: Upstream, homes: Iterable[Home], regions: Collection[str]) -> Bounds:
    """What binds a call to this service that is about things of these homes.

    The endpoint of another service that has the same name has the same credential; where there is none, the region
    must be the same.
    """
    at: set[str] = set()
    also: set[str] = set()
    for service, home in homes:
        if service.name == upstream.name or (home.endpoint and upstream.at(home.endpoint) is not None):
            at.add(home.endpoint)
        elif home.region:
            also.add(home.region)
    return Bounds(at=frozenset(at), regions=frozenset({*regions, *also}))


def within(upstream: Upstream, bounds: Bounds, key: str, *, lists: bool = False) -> Upstream | None:
    """The service with the endpoints where something so bound may go; None: there is none.

    New work goes to none that drains; a call that `lists` is none. `key`: for what one is chosen, always the same one.
    """
    left = [
        place
        for place in upstream.places
        if (bounds.at == {place.endpoint} if bounds.at else lists or not place.drain)
        and bounds.regions <= {place.region}
    ]
    if not left or not upstream.endpoints:
        return upstream if left else None
    return upstream.only(left, key)


def _key(upstream: Upstream, account: str, name: str) -> str:
    """What has one name goes to one endpoint: said again because its answer was lost, it comes there again."""
    return account if upstream.sticky == "account" and account else name


class Placing:
    """Says of calls, and of what accounts have made, where they go. EndpointsUnavailable: nowhere, now or ever."""

    def __init__(self, runtime: Runtime, observer: Observer | None = None) -> None:
        self._products: Mapping[str, Product] = runtime.products
        self._hosts = runtime.regions
        self._observer = observer

    def place(self, call: Call) -> None:
        """Narrow the service of a call to where the call may go."""
        region = call.tier.region if call.tier is not None else ""
        if not (
            call.upstream.endpoints or region or self._hosts or (call.made and any(made.endpoint for made in call.made))
        ):
            return  # there is one place, and nothing says that it is the wrong one
        homes: list[Home] = []
        for made in call.made:
            now = call.record if call.record is not None and call.record.ref == made.ref else made
            if now.state != "queued":
                homes += self._homes(now)
        # What is free about something that was made elsewhere reads or ends it, where it is.
        regions = self._regions(call, region) if call.route.metered or not homes else ()
        bounds = bounds_of(call.upstream, homes, regions)
        key = _key(call.upstream, call.account if call.identity is not None else "", call.name)
        call.upstream = self._within(call.upstream, bounds, key, lists=call.route.listing is not None)
        if bounds.at or bounds.regions:
            call.bounds = {"at": sorted(bounds.at), "regions": sorted(bounds.regions)}

    def of(self, made: Resource, upstream: Upstream) -> Upstream:
        """The place of what an account has made at a service."""
        if not upstream.endpoints and not made.endpoint:
            return upstream
        return self._within(upstream, bounds_of(upstream, self._homes(made), ()), "")

    def again(self, upstream: Upstream, account: str, name: str, bounds: Mapping[str, Collection[str]]) -> Upstream:
        """Where a job may go that has waited, and was placed before, with the `bounds` that it had."""
        if not upstream.endpoints and not bounds:
            return upstream
        had = Bounds(at=frozenset(bounds.get("at", ())), regions=frozenset(bounds.get("regions", ())))
        return self._within(upstream, had, _key(upstream, account, name))

    def of_host(self, host: str) -> str:
        """The region that a host stands for; empty is none."""
        return self._hosts.get(hostname(host), "")

    @staticmethod
    def _within(upstream: Upstream, bounds: Bounds, key: str, *, lists: bool = False) -> Upstream:
        narrowed = within(upstream, bounds, key, lists=lists)
        if narrowed is None:
            raise EndpointsUnavailable("no endpoint is left where this may go")
        return narrowed

    def _homes(self, made: Resource) -> list[Home]:
        """Where something was made; nothing, where no product says it any more."""
        product = self._products.get(made.product)
        if product is None and not made.endpoint:
            return []
        place = None if product is None else product.upstream.at(made.endpoint)
        if product is None or place is None:
            if self._observer is not None:
                self._observer.event("endpoint_gone", product=made.product, endpoint=made.endpoint)
            raise EndpointsUnavailable("the config has the endpoint no more where this was made")
        return [(product.upstream, place)]

    def _regions(self, call: Call, of_account: str) -> set[str]:
        """The regions that a call is bound to, whatever it is about."""
        token = call.identity.token if call.identity is not None else None
        of_token = "" if token is None else token.region
        return {of_account, call.route.region, self.of_host(call.client.host), of_token} - {""}
