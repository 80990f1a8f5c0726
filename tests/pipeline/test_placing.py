"""Where a call may go, whatever binds it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.upstreams import Upstream
from gateway.pipeline.placing import bounds_of, within

NAMES = ("us-1", "us-2", "eu-1", "eu-2")
REGIONS = st.sets(st.sampled_from(["us", "eu"]), max_size=2)


def service(name: str, endpoints: Any = NAMES, drained: Any = (), **facts: Any) -> Upstream:
    """A service with these endpoints, each in the region that its name begins with."""
    made = tuple(
        Upstream(
            name=f"{name}/{each}", endpoint=each, base_url="http://x", credential="c", region=each.partition("-")[0],
            drain=each in drained,
        )
        for each in endpoints
    )  # fmt: skip
    return Upstream(name=name, base_url="", credential="", endpoints=made, **facts)


SOME = st.sets(st.sampled_from(NAMES), min_size=1)


@given(SOME, SOME, st.sets(st.sampled_from(NAMES)), st.sampled_from(NAMES), REGIONS, st.booleans())
def test_what_is_bound_goes_nowhere_else(
    theirs: set[str], ours: set[str], drained: set[str], made: str, regions: set[str], same: bool
) -> None:
    """What was made at an endpoint goes there, or where its credential or its region is; a region is never left."""
    home_service = service("speech", sorted(theirs | {made}))
    target = home_service if same else service("llm", sorted(ours), drained)
    home = home_service.at(made)
    assert home is not None
    narrowed = within(target, bounds_of(target, [(home_service, home)], regions), "")
    left = {endpoint.endpoint for endpoint in narrowed.endpoints} if narrowed is not None else set()
    assert all({endpoint.partition("-")[0]} >= regions for endpoint in left)
    if made in {endpoint.endpoint for endpoint in target.endpoints}:
        assert left <= {made} and (left == {made} or not regions <= {home.region})
    else:
        assert all(endpoint.partition("-")[0] == home.region for endpoint in left) and left.isdisjoint(drained)


@given(SOME, SOME, REGIONS)
def test_new_work_goes_to_what_takes_it_and_lists_to_all(names: set[str], drained: set[str], regions: set[str]) -> None:
    """Endpoints that drain get nothing new, also where nothing else is left; a list is of them, too."""
    target = service("speech", sorted(names), drained, sticky="account")
    inside = {name for name in names if regions <= {name.partition("-")[0]}}
    for lists, expected in ((False, inside - drained), (True, inside)):
        narrowed = within(target, bounds_of(target, [], regions), "acme", lists=lists)
        assert (narrowed is None) is (not expected)
        if narrowed is not None:
            assert {each.endpoint for each in narrowed.endpoints} == expected and narrowed.key == "acme"


def test_a_service_with_one_place_is_where_it_is() -> None:
    """In its region or in none; what names an endpoint is not there, and what was made before is at the first one."""
    plain = Upstream(name="speech", base_url="http://x", credential="c")
    in_eu = Upstream(name="speech", base_url="http://x", credential="c", region="eu")
    assert within(plain, bounds_of(plain, [], ()), "") is plain
    assert within(plain, bounds_of(plain, [], {"eu"}), "") is None, "nobody knows where it is"
    assert within(in_eu, bounds_of(in_eu, [(in_eu, in_eu)], {"eu"}), "") is in_eu
    assert (plain.at(""), plain.at("us-1")) == (plain, None)
    several = service("speech")
    assert (several.at(""), several.at("gone")) == (several.endpoints[0], None)
