"""How endpoints do, as one process sees it."""

from typing import Any

from gateway.core.endpoints import Ejection
from gateway.core.errors import UpstreamUnreachable
from gateway.core.upstreams import Upstream
from gateway.upstream.fleet import TRIES_MAX, Fleet, Tries

RULES = Ejection(failures=2, seconds=10.0, seconds_max=40.0)


def service(count: int, **facts: Any) -> Upstream:
    """A service with so many endpoints."""
    made = [
        Upstream(name=f"s/{number}", endpoint=str(number), base_url="http://x", credential="", ejection=RULES)
        for number in range(count)
    ]
    return Upstream(name="s", base_url="", credential="", endpoints=tuple(made), **facts)


def unreachable(*, unsent: bool) -> UpstreamUnreachable:
    """A fault of an endpoint."""
    fault = UpstreamUnreachable("x")
    fault.unsent = unsent
    return fault


def test_polls_that_must_go_there_do_not_keep_an_endpoint_away() -> None:
    """What can be asked nowhere else is asked of one that is let be; it neither prolongs that nor takes its trial."""
    now = 0.0
    fleet, two = Fleet(clock=lambda: now), service(2)
    first = two.endpoints[0]
    for _ in range(2):
        fleet.faulted(first, unreachable(unsent=True))
    assert not fleet.is_up(first)
    for step in range(8):
        now = 1.0 + step
        fleet.begins(first)
        fleet.faulted(first, unreachable(unsent=True))
    now = 10.0
    assert fleet.is_up(first), "ten seconds after it was let be"
    fleet.begins(first)
    assert not fleet.is_up(first), "one call tries it"
    fleet.answered(first, 200)
    assert fleet.is_up(first)
    assert fleet.asked == {("s", "0", "unreachable"): 10, ("s", "0", "2xx"): 1}


def test_those_that_are_up_come_first_and_no_call_goes_to_more_than_a_few() -> None:
    """Of five endpoints, three of which are let be, the other two come first for every call, and one more is tried."""
    fleet, five = Fleet(clock=lambda: 0.0), service(5)
    for endpoint, status in zip(five.endpoints[:3], (503, 401, 402), strict=True):
        for _ in range(2):
            fleet.answered(endpoint, status)
    for _ in range(20):
        order = fleet.order(five)
        assert {endpoint.endpoint for endpoint in order[:2]} == {"3", "4"} and len(order) == TRIES_MAX


def test_a_call_goes_on_only_where_nothing_was_begun() -> None:
    """Unsent ones do, sent ones only if they are safe, answered ones only by `retry_on` with a body that is at hand."""
    two = service(2, retry_on=frozenset({429}))
    for unsent, safe in ((True, False), (False, True), (False, False)):
        tries = Tries(Fleet(), two, safe=safe)
        assert tries.goes_on(tries.next(), unreachable(unsent=unsent)) is (unsent or safe)
    for status, whole in ((429, True), (429, False), (503, True)):
        tries = Tries(Fleet(), two, safe=True)
        assert tries.passes_over(tries.next(), status, whole=whole) is (status == 429 and whole)
    tries = Tries(Fleet(), service(1, retry_on=frozenset({429})), safe=True)
    assert not tries.passes_over(tries.next(), 429, whole=True), "there is no other"
