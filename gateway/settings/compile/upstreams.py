"""The services behind the gateway.

Owns: which keys of one go together, and its endpoints. Does not know: who is sent where.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.endpoints import Ejection
from gateway.core.upstreams import Health, Upstream
from gateway.settings.compile.scope import Scope
from gateway.settings.problems import Place
from gateway.settings.schema.upstream import EndpointSettings, UpstreamSettings

#: What each endpoint has of its own.
_OF_ENDPOINTS: Final = ("base_url", "credential", "region", "endpoints")
#: What only says something where there are several.
_OF_SEVERAL: Final = ("retry_on", "health")


def compile_upstreams(settings: Mapping[str, UpstreamSettings], place: Place, scope: Scope) -> dict[str, Upstream]:
    """Every service, by name."""
    made = {name: _upstream(name, upstream, place.at(name), scope) for name, upstream in settings.items()}
    first: dict[str, Upstream] = {}
    for name, upstream in made.items():
        for endpoint in upstream.endpoints:
            other = first.setdefault(endpoint.endpoint, endpoint)
            if other.region != endpoint.region:
                where = f"in {other.region}" if other.region else "in no region"
                message = f"{other.service} has an endpoint of this name {where}: what was made there would come here"
                scope.report.add(place.at(name, "endpoints", endpoint.endpoint), message, at_key=True)
    return made


def regions_of(upstreams: Mapping[str, Upstream]) -> frozenset[str]:
    """The regions that some service is in."""
    return frozenset(place.region for upstream in upstreams.values() for place in upstream.places) - {""}


def _upstream(name: str, settings: UpstreamSettings, place: Place, scope: Scope) -> Upstream:
    _check(settings, place, scope)
    ours: dict[str, Any] = {key: value for key, value in dict(settings).items() if key not in _OF_ENDPOINTS}
    ours["retry_on"] = frozenset(settings.retry_on)
    ours["ejection"] = Ejection(**dict(settings.ejection))
    ours["health"] = None if settings.health is None else Health(**dict(settings.health))
    return Upstream(
        name=name,
        base_url=settings.base_url or "",
        credential=settings.credential or "",
        region=settings.region or "",
        endpoints=tuple(_endpoint(name, one, endpoint, ours) for one, endpoint in settings.endpoints.items()),
        **ours,
    )


def _endpoint(service: str, name: str, settings: EndpointSettings, ours: Mapping[str, Any]) -> Upstream:
    """An endpoint of a service. No name of a service has a slash."""
    its = {**dict(settings), "region": settings.region or ""}
    return Upstream(name=f"{service}/{name}", endpoint=name, **{**ours, **its})


def _check(settings: UpstreamSettings, place: Place, scope: Scope) -> None:
    add = scope.report.add
    if not settings.endpoints:
        for key in ("base_url", "credential"):
            if getattr(settings, key) is None:
                message = f'the key "{key}" is missing: a service has a base_url and a credential, or endpoints'
                add(place, message, at_key=True)
        for key in _OF_SEVERAL:
            if getattr(settings, key):
                add(place.at(key), "this is about several endpoints: add endpoints", at_key=True)
        return
    for key in ("base_url", "credential", "region"):
        if getattr(settings, key) is not None:
            add(place.at(key), f"each endpoint has its own {key}: move it there", at_key=True)
    if all(endpoint.drain for endpoint in settings.endpoints.values()):
        add(place.at("endpoints"), "all of them drain: nothing new could be begun", at_key=True)
    if settings.ejection.seconds > settings.ejection.seconds_max:
        add(place.at("ejection", "seconds"), "this is more than seconds_max")
