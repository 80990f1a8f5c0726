"""What a call needs of its account's resources: jobs, uploads and sessions that its request names.

Owns: which of them a request names, in whatever spelling a service would read; what their text adds to the request.
Does not know: whose they are (ledger).
"""

from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from typing import Any

from gateway.core.errors import Code, Refused
from gateway.core.extract import Field, Sources
from gateway.core.hosts import hosts_of
from gateway.core.repeats import lookalike
from gateway.core.usage import quantity
from gateway.ports import ResourceRef
from gateway.settings.resources import Injection, Requirement
from gateway.settings.routes import Route

_RESOURCE_ID_MAX = 512
#: Signed addresses have a few thousand characters. A longer one would take a while to be understood, and is refused.
_URL_LENGTH_MAX = 16_384


def required(route: Route, sources: Sources) -> tuple[ResourceRef, ...] | Refused:
    """The resources that a request names and that must be its caller's, or what is wrong with how it names them."""
    refs: list[ResourceRef] = []
    for requirement in route.requires:
        field = requirement.field
        value = field.read(sources)
        # Where all fields are known, a lookalike is refused as an unknown one.
        looked_at = route.known_fields is None and field.source == "request"
        if looked_at and (refused := misspelt(field, sources.get("request"))) is not None:
            return refused
        if value is None:
            continue
        if type(value) is str and not _names_ours(requirement, value):
            continue
        if type(value) is not str or not value or len(value) > _RESOURCE_ID_MAX:
            return Refused(code=Code.INVALID_REQUEST, details={"reason": f"{field} is no id"})
        refs.append(ResourceRef(kind=requirement.kind, id=value))
    return tuple(refs)


def injected_bytes(injection: Injection, request: Any, usage: Mapping[str, Any]) -> int:
    """How much longer than it looks a request is, in which a service puts the text of a job with this usage."""
    times, waiting = 0, [request]  # it may be too deep for recursion
    while waiting:
        value = waiting.pop()
        if type(value) is str:
            times += value.count(injection.tag)
        elif type(value) is list:
            waiting += value
        elif type(value) is dict:
            waiting += value.values()
    return max(1, times) * ceil((quantity(usage.get(injection.measure)) or 0) * injection.bytes_per_unit)


def _names_ours(requirement: Requirement, value: str) -> bool:
    """With prefixes: whether it starts with one, or is another spelling of an address on the same host. One that
    is too long to be looked into counts as such, and is no id.
    """
    prefixes = requirement.prefixes
    if not prefixes or value.startswith(prefixes) or len(value) > _URL_LENGTH_MAX:
        return True
    return not hosts_of(value).isdisjoint(_hosts_of(prefixes))


@lru_cache(maxsize=64)
def _hosts_of(prefixes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(host for prefix in prefixes for host in hosts_of(prefix))


def misspelt(field: Field, data: Any) -> Refused | None:
    """What is wrong with data that a service which does not tell upper from lower case would read this field in, and
    we would not.
    """
    for step in field.steps:
        if type(data) is not dict:
            break
        if (other := lookalike(str(step), data)) is not None:
            return Refused(code=Code.INVALID_REQUEST, details={"reason": f"write {field}, not {other[:100]}"})
        data = data.get(step)
    return None
