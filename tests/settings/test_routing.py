"""The router: the most specific route, never two; what could be read differently never matches."""

import re
from itertools import combinations, product
from unicodedata import normalize
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.core.money import Nanos
from gateway.core.upstreams import Upstream
from gateway.settings.load import load
from gateway.settings.products import ErrorStyle, Product
from gateway.settings.routes import MeterKind, Route
from gateway.settings.routing import Match, NoMatch, Router, collide, parse_pattern
from tests.settings.project import ROOT

PRODUCT = Product(
    name="p", title="P", upstream=Upstream(name="u", base_url="http://u", credential="c"), errors=ErrorStyle(body={})
)


def route(match: str, *, host: str | None = None, meter: MeterKind = "none") -> Route:
    """A route by its `match`, which is also its name."""
    pattern = parse_pattern(match, host)
    return Route(
        name=match,
        product=PRODUCT,
        methods=pattern.methods,
        host=pattern.host,
        segments=pattern.segments,
        parameters=pattern.parameters,
        meter=meter,
        hold=Nanos(0),
    )


def found(router: Router, method: str, path: str, host: str = "") -> tuple[str, dict[str, str]] | None:
    """The name of the route and its parameters, or None."""
    match = router.match(method, host, path)
    return (match.route.name, dict(match.params)) if isinstance(match, Match) else None


def test_literals_and_parameters() -> None:
    """A literal beats a parameter, at every position; the rest falls back to the parameter."""
    router = Router([route("GET /a/{x}"), route("GET /a/b"), route("GET /{y}/b/c"), route("GET /a/{x}/d")])
    assert found(router, "GET", "/a/b") == ("GET /a/b", {})
    assert found(router, "GET", "/a/z") == ("GET /a/{x}", {"x": "z"})
    assert found(router, "GET", "/a/b/c") == ("GET /{y}/b/c", {"y": "a"})
    assert found(router, "GET", "/a/b/d") == ("GET /a/{x}/d", {"x": "b"})
    assert found(router, "GET", "/a") is None
    assert found(router, "GET", "/a/b/c/d") is None


def test_methods() -> None:
    """A path without the method says which methods it has; a literal for another method is in nobody's way."""
    router = Router([route("GET,PUT /a/b"), route("POST /a/{x}", meter="fixed")])
    assert found(router, "POST", "/a/b") == ("POST /a/{x}", {"x": "b"})
    assert router.match("DELETE", "", "/a/b") == NoMatch(frozenset({"GET", "HEAD", "PUT", "POST"}))
    assert router.match("DELETE", "", "/a/c") == NoMatch(frozenset({"POST"}))
    assert router.match("DELETE", "", "/b") == NoMatch(frozenset())


def test_head() -> None:
    """A free GET route answers HEAD, one that costs does not, and a HEAD route of its own comes first."""
    router = Router([route("GET /free"), route("GET /paid", meter="fixed"), route("GET /own"), route("HEAD /own")])
    assert found(router, "HEAD", "/free") == ("GET /free", {})
    assert found(router, "HEAD", "/own") == ("HEAD /own", {})
    assert router.match("HEAD", "", "/paid") == NoMatch(frozenset({"GET"}))


def test_hosts() -> None:
    """A route for the host beats one for all, whatever their paths; case and port do not count."""
    routes = [route("GET a.example/{x}"), route("GET /b"), route("GET /c", host="[::1]"), route("POST /b")]
    router = Router(routes)
    assert found(router, "GET", "/b", "A.example:8080") == ("GET a.example/{x}", {"x": "b"})
    assert found(router, "GET", "/b", "b.example") == ("GET /b", {})
    assert found(router, "POST", "/b", "a.example") == ("POST /b", {})
    assert found(router, "GET", "/c", "[::1]:443") == ("GET /c", {})
    assert found(router, "GET", "/c", "") is None
    assert router.match("PUT", "a.example", "/b") == NoMatch(frozenset({"GET", "HEAD", "POST"}))


EVIL = [
    "", ".", "..", "%2e", "%2E%2e", ".%2e", "a%2fb", "a%2Fb", "%5c", "a\\b", "%00", "a%00b", "%0d%0a", "%7f", "%1f",
    "%c2%85", "%", "%2", "%zz", "%c0%af", "%ff", "a b", "a\tb", "a\x00b", "é", "%2e%2e%2f", "a#b", "a?b", "..;", ".;x",
    ";x", "%3b", "..%3b", "%2e.;x", "%252e%252e", "%25252e%25252e", "a%252fb", "a%25252fb", "%ef%bc%8e%ef%bc%8e",
    "a%ef%bc%8fb", "%e2%80%a5", "a%ef%bc%bcb", "%2525252525252e", "a%3bb%252fc",
]  # fmt: skip


@pytest.mark.parametrize("segment", EVIL)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_could_be_read_differently(segment: str, place: int) -> None:
    """Dot segments, encoded slashes and controls, empty segments, broken escapes: nowhere, in no disguise."""
    router = Router([route("GET /{a}/{b}/{c}"), route("GET /{a}/{b}/{c}/{d}"), route("GET /{a}/{b}")])
    segments = ["x", "y", "z"]
    segments[place] = segment
    assert router.match("GET", "", "/" + "/".join(segments)) == NoMatch(frozenset())


@pytest.mark.parametrize("path", ["", "*", "a/b", "http://x/a", "//", "/", "/a/", "//a", "/a//b", "/a/./b", "/a/../b"])
def test_what_is_no_path(path: str) -> None:
    """A target that is no plain path has no route."""
    router = Router([route("GET /{a}"), route("GET /{a}/{b}"), route("GET /{a}/{b}/{c}")])
    assert router.match("GET", "", path) == NoMatch(frozenset())


def test_an_encoded_literal_is_no_parameter() -> None:
    """What a service that reads less exactly would take for the literal beside the parameter matches neither."""
    router = Router([route("GET /v2/admin"), route("GET /v2/{x}"), route("GET /v2/admin/{x}"), route("GET /{y}/q/{x}")])
    assert found(router, "GET", "/v2/%61dmin") is None
    assert found(router, "GET", "/v2/%61dmins") == ("GET /v2/{x}", {"x": "admins"})
    assert found(router, "GET", "/%76%32/q/1") is None
    for other in (
        "ADMIN",
        "Admin",
        "%41dmin",
        "%2561dmin",
        "admin;x",
        "admin%3bx",
        "admin.",
        "admin%20",
        "%ef%bd%81dmin",
    ):
        assert found(router, "GET", f"/v2/{other}") is None, other
        assert found(router, "GET", f"/v2/{other}/x") is None, other
    assert found(router, "GET", "/v2/administrator") == ("GET /v2/{x}", {"x": "administrator"})


@given(st.text(min_size=1, max_size=20))
@example("a/b")
@example("..")
@example("\x85")
@example("100%")
def test_parameters_are_decoded(text: str) -> None:
    """Any text that is one harmless segment comes out as it was; any other does not match."""
    assume(not any(0xD800 <= ord(character) < 0xE000 for character in text))
    router = Router([route("GET /v1/{x}")])
    assume(re.search("%[0-9A-Fa-f]{2}", text) is None)  # encoded twice: see the next test
    narrow = normalize("NFKC", text)
    dangerous = any(c in "/\\" or ord(c) < 32 or 127 <= ord(c) < 160 for c in text + narrow)
    dangerous = dangerous or not narrow.partition(";")[0].rstrip(". ")
    expected = None if dangerous else ("GET /v1/{x}", {"x": text})
    assert found(router, "GET", "/v1/" + quote(text, safe="")) == expected
    everything = "".join(f"%{byte:02x}" for byte in text.encode())
    assert found(router, "GET", "/v1/" + everything) == expected


SLOPPY = st.sampled_from(
    ["/", ".", ";", "%2", "2", "5", "%25", "e", "E", "f", "F", "c", "a", "%ef%bc%8e", "%EF%BC%8F", "%"]
)


@given(st.lists(SLOPPY, max_size=14).map("".join))
def test_no_disguise_reaches_beyond_its_segment(tail: str) -> None:
    """Whatever matches has as many segments, and no dot segment or literal, for whoever decodes again and cuts off."""
    router = Router([route("GET /a/{x}"), route("GET /a/{x}/{y}"), route("GET /a/ace"), route("GET /a/ace/{y}")])
    path = "/a/" + tail
    match = router.match("GET", "", path)
    if isinstance(match, NoMatch) or match.route.name.startswith("GET /a/ace"):
        return
    for _ in range(6):
        narrow = normalize("NFKC", path)
        assert narrow.count("/") == len(match.route.segments)
        read = [segment.partition(";")[0].rstrip(". ").lower() for segment in narrow[1:].split("/")]
        assert "" not in read and read[1] != "ace"
        assert "\\" not in narrow
        path = unquote(path)


SEGMENTS = st.sampled_from(["a", "b", None])
SHAPES = st.lists(SEGMENTS, min_size=1, max_size=3)


def _pattern(shape: list[str | None]) -> str:
    return "/".join(f"{{p{index}}}" if segment is None else segment for index, segment in enumerate(shape))


def _matches(shape: tuple[str | None, ...], path: tuple[str, ...]) -> bool:
    return len(shape) == len(path) and all(want in (None, got) for want, got in zip(shape, path, strict=True))


def _at_least_as_specific(one: Route, other: Route) -> bool:
    pairs = zip(one.segments, other.segments, strict=True)
    return all(mine is not None or theirs is None for mine, theirs in pairs)


@given(st.lists(st.tuples(st.sampled_from(["GET", "POST"]), SHAPES), min_size=1, max_size=8))
def test_never_two(drawn: list[tuple[str, list[str | None]]]) -> None:
    """Of routes that do not collide, the one most specific match is found, for every path there is."""
    kept: list[Route] = []
    for method, shape in drawn:
        candidate = route(f"{method} /{_pattern(shape)}", meter="fixed")
        if not any(collide(candidate, other) for other in kept):
            kept.append(candidate)
    router = Router(kept)
    for size in (1, 2, 3):
        for path in product("abc", repeat=size):
            for method in ("GET", "POST"):
                matching = [each for each in kept if method in each.methods and _matches(each.segments, path)]
                best = [one for one in matching if all(_at_least_as_specific(one, other) for other in matching)]
                assert len(best) == bool(matching)
                result = found(router, method, "/" + "/".join(path))
                assert (result and result[0]) == (best[0].name if best else None)


@given(SHAPES, SHAPES)
def test_a_collision_is_mutual_and_real(one: list[str | None], other: list[str | None]) -> None:
    """Two routes collide if some path matches both and neither is more specific; in either order."""
    first, second = route(f"GET /{_pattern(one)}"), route(f"GET /{_pattern(other)}")
    paths = product("abc", repeat=len(one)) if len(one) == len(other) else ()
    both = any(_matches(first.segments, path) and _matches(second.segments, path) for path in paths)
    pairs = list(zip(one, other, strict=False))
    more = any(mine is not None and theirs is None for mine, theirs in pairs)
    less = any(mine is None and theirs is not None for mine, theirs in pairs)
    assert collide(first, second) == collide(second, first) == (both and more == less)


@pytest.mark.parametrize(
    "match",
    [
        "GET", "/a", "get /a", "GET a", "GET /a/", "GET //a", "GET /a?b", "GET /a#b", "GET /a%20b", "GET /{a",
        "GET /{a-b}", "GET /x{a}", "GET /.", "GET /..", "GET /{a}/{a}", "GET,get /a", "GET ,/a", "GET http://x/a",
        "GET a:80/a", "GET /a b",
    ],
)  # fmt: skip
def test_patterns_that_are_none(match: str) -> None:
    """What could never match, or is ambiguous, is refused."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_pattern(match, None)


def test_the_shipped_routes() -> None:
    """No two shipped routes collide, and each is found by a path of its own."""
    routes = load(ROOT / "gateway.yaml", {}).routes
    assert not [pair for pair in combinations(routes, 2) if collide(*pair)]
    router = Router(routes)
    for each in routes:
        path = "/" + "/".join(segment or "id-1" for segment in each.segments)
        for method in each.methods:
            match = router.match(method, "127.0.0.1:8080", path)
            assert isinstance(match, Match)
            assert match.route is each
            assert dict(match.params) == dict.fromkeys(each.parameters, "id-1")


def test_repr() -> None:
    """A router says for which hosts it is."""
    assert repr(Router([route("GET h.example/a"), route("GET /a")])) == "<Router hosts=['', 'h.example']>"
