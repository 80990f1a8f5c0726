"""From a method, a host and a raw path to the route.

Owns: what a path may look like, which route is the most specific, which two routes are in each other's way.
Does not know: what a route does.

Paths are matched as they were sent, still percent-encoded, because that is what is forwarded. What a service might
read differently than we do never matches anything: dot segments, encoded slashes, empty segments, also where they come
out only if a service decodes twice, leaves out what follows a semicolon, or takes wide characters for narrow ones. No
parameter is what such a service could take for a literal beside it, were it to ignore case as well.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from unicodedata import normalize
from urllib.parse import unquote, unquote_to_bytes

from gateway.settings.problems import nearest
from gateway.settings.routes import Route

#: Most paths are like this; the others are looked at closely.
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9_~!$&'()*+,=:@.-]*+)++")
_ENCODED: Final = re.compile(r"(?:[^%#?\\\x00-\x20\x7f-\U0010ffff]|%[0-9A-Fa-f]{2})+")
_DANGEROUS: Final = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]")
_LITERAL: Final = re.compile(r"[A-Za-z0-9_~!$&'()*+,;=:@.-]+")
_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_EVERY_HOST: Final = ("",)
_DECODINGS_MAX: Final = 4
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Match(NamedTuple):
    """The route of a call, and the path's parameters, percent-decoded."""

    route: Route
    params: Mapping[str, str]


class NoMatch(NamedTuple):
    """No route; `allowed_methods` are those that the path has."""

    allowed_methods: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled `match`: `segments` are literal text, or None for a parameter."""

    methods: frozenset[str]
    host: str | None
    segments: tuple[str | None, ...]
    parameters: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    literals: "dict[str, _Node]" = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)  # the literals, as one reads them who ignores case
    parameter: "_Node | None" = None
    route: Route | None = None


#: segments -> the root of all patterns of that length
_Tree = dict[int, _Node]


class Router:
    """Finds the route of a call. Made once of all routes."""

    def __init__(self, routes: Sequence[Route]) -> None:
        #: host ("" = every host) -> method -> tree
        self._trees: dict[str, dict[str, _Tree]] = {}
        #: host -> method -> whole literal path -> its match, always the most specific
        self._exact: dict[str, dict[str, dict[str, Match]]] = {}
        for route in routes:
            for method in route.methods:
                self._add(method, route)
        for route in routes:
            if answers_head(route):
                self._add("HEAD", route)
        self._hosts = any(self._trees.keys() - {""})
        self._any = self._exact.get("", {})

    def __repr__(self) -> str:
        return f"<Router hosts={sorted(self._trees)}>"

    def match(self, method: str, host: str, raw_path: str) -> Match | NoMatch:
        """The most specific route for a path without its query; a route for the host comes before one for all."""
        if not self._hosts:
            exact = self._any.get(method)
            if exact is not None and (found := exact.get(raw_path)) is not None:
                return found
        segments = _segments(raw_path)
        if segments is None:
            return NoMatch(frozenset())
        hosts = (hostname(host), "") if self._hosts else _EVERY_HOST
        for name in hosts:
            trees = self._trees.get(name)
            tree = trees.get(method) if trees is not None else None
            if tree is not None and (match := _find(tree, segments)) is not None:
                return match
        allowed = {
            other
            for name in hosts
            for other, tree in self._trees.get(name, {}).items()
            if _find(tree, segments) is not None
        }
        return NoMatch(frozenset(allowed))

    def _add(self, method: str, route: Route) -> None:
        host = (route.host or "").lower()
        node = self._trees.setdefault(host, {}).setdefault(method, {}).setdefault(len(route.segments), _Node())
        for segment in route.segments:
            if segment is None:
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node.folded.add(segment.casefold())
                node = node.literals.setdefault(segment, _Node())
        if node.route is not None:
            return  # a HEAD route of its own comes before the GET route that also answers HEAD
        node.route = route
        if not route.parameters:
            path = "/" + "/".join(segment or "" for segment in route.segments)
            self._exact.setdefault(host, {}).setdefault(method, {})[path] = Match(route, {})


def answers_head(route: Route) -> bool:
    """Whether a free GET route also answers HEAD."""
    return "GET" in route.methods and "HEAD" not in route.methods and route.meter == "none"


def _find(tree: _Tree, segments: list[str]) -> Match | None:
    """Literals first, at every position; back to a parameter where that leads nowhere."""
    node = tree.get(len(segments))
    if node is None:
        return None
    values: list[str] = []
    for index, segment in enumerate(segments):
        parameter = node.parameter
        below = node.literals.get(segment)
        if below is None:
            if parameter is None:
                return None
            if "%" in segment or node.folded:
                text = _value(segment, node)
                if text is None:
                    return None
                segment = text
            values.append(segment)
            node = parameter
        elif parameter is None:
            node = below
        else:  # both may lead on
            route = _walk(node, segments, index, values)
            break
    else:
        route = node.route
    if route is None:
        return None
    names = route.parameters
    return Match(route, {names[0]: values[0]} if len(names) == 1 else dict(zip(names, values, strict=True)))


def _walk(node: _Node, segments: list[str], index: int, values: list[str]) -> Route | None:
    """What `_find` does, from here on, where the way branches."""
    if index == len(segments):
        return node.route
    segment = segments[index]
    below = node.literals.get(segment)
    if below is not None and (route := _walk(below, segments, index + 1, values)) is not None:
        return route
    if node.parameter is None:
        return None
    text = _value(segment, node)
    if text is None:
        return None
    values.append(text)
    if (route := _walk(node.parameter, segments, index + 1, values)) is not None:
        return route
    values.pop()
    return None


def _value(segment: str, node: _Node) -> str | None:
    """The parameter's value; None where a service that reads less exactly than we do would see another route."""
    if segment in node.literals:
        return segment  # the literal led nowhere: for such a service, too
    text = _decoded(segment) if "%" in segment else segment
    return None if text is None or _least(_deep(text) or "").casefold() in node.folded else text


def _segments(raw_path: str) -> list[str] | None:
    """The segments of a path, or None where no route may match it."""
    if _PLAIN.fullmatch(raw_path) is not None:
        return raw_path[1:].split("/")
    if not raw_path.startswith("/"):
        return None
    segments = raw_path[1:].split("/")
    return segments if all(_harmless(segment) for segment in segments) else None


def _harmless(segment: str) -> bool:
    if not _least(segment) or _ENCODED.fullmatch(segment) is None:
        return False
    return "%" not in segment or _decoded(segment) is not None


def _decoded(segment: str) -> str | None:
    """A segment's text; None for what could be read as something else than one segment."""
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
    deep = _deep(text)
    if deep is None or _DANGEROUS.search(text) or _DANGEROUS.search(deep) or not _least(deep):
        return None
    return text


def _deep(text: str) -> str | None:
    """A segment's text for a service that decodes again and again; None where there is no end to it."""
    for _ in range(_DECODINGS_MAX):
        if "%" not in text or (again := unquote(text)) == text:
            return normalize("NFKC", text)
        text = again
    return None


def _least(deep: str) -> str:
    """What is left of it for a service that cuts off what it can; of a dot segment nothing is."""
    return deep.partition(";")[0].rstrip(". ")


def hostname(host: str) -> str:
    """A `Host` field without its port, in lower case."""
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


# ---- what the config says


def parse_pattern(text: str, host: str | None) -> Pattern:
    """Compile `METHOD[,METHOD] [host]/path`. ValueError says what is wrong with it."""
    methods_text, _, target = text.partition(" ")
    target = target.strip()
    methods = methods_text.split(",")
    if not all(re.fullmatch("[A-Z]{1,16}", method) for method in methods):
        raise ValueError('write the method in capitals before the path, like "GET /v1/things/{id}"')
    for method in methods:
        if method not in _METHODS:
            raise ValueError(f'unknown method "{method}"{nearest(method, _METHODS)}')
    written_host, slash, path = target.partition("/")
    if not slash:
        raise ValueError('the path starts with a slash, like "GET /v1/things/{id}"')
    if written_host and host is not None:
        raise ValueError("the host is given twice: in match and in host")
    name = written_host or host
    if name is not None and not re.fullmatch(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]", name):
        raise ValueError(f'"{name}" is not a host: write it without scheme and port')
    if "?" in path or "#" in path:
        raise ValueError("a route is matched without its query: remove everything from the ? on")
    segments: list[str | None] = []
    parameters: list[str] = []
    for segment in path.split("/"):
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is not None:
            segments.append(None)
            parameters.append(parameter[1])
        elif segment in ("", ".", "..") or not _LITERAL.fullmatch(segment):
            raise ValueError(_never(segment))
        else:
            segments.append(segment)
    if len(set(parameters)) != len(parameters):
        raise ValueError("two parameters have the same name")
    return Pattern(frozenset(methods), name.lower() if name else None, tuple(segments), tuple(parameters))


def _never(segment: str) -> str:
    if segment == "":
        return "this can never match: a path has no empty segments (and no slash at its end)"
    if "{" in segment or "}" in segment:
        return f'"{segment}": a parameter is a whole segment, {{name}} of letters, digits and underscores'
    return f'this can never match: "{segment}" is no segment that is passed on'


def collide(one: Route, other: Route) -> bool:
    """Whether both match one and the same request and neither is more specific."""
    if one.host != other.host or len(one.segments) != len(other.segments):
        return False
    first = second = False  # where one is more specific than the other
    for mine, theirs in zip(one.segments, other.segments, strict=True):
        if mine is not None and theirs is not None:
            if mine != theirs:
                return False
        elif mine is not None:
            first = True
        elif theirs is not None:
            second = True
    if first != second:
        return False
    if one.methods & other.methods:
        return True
    # a HEAD route of its own may stand beside the GET route of the very same path
    return first and bool(_with_head(one) & _with_head(other))


def _with_head(route: Route) -> frozenset[str]:
    return route.methods | {"HEAD"} if answers_head(route) else route.methods
