"""Parsers that have no property tests beside them: hostile bytes raise nothing, and mean no more than they say."""

import asyncio
import gzip
import json
import math
import re
import tempfile
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import orjson
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import GatewayError, Refused
from gateway.core.extract import Field, Places, first_reported
from gateway.core.money import Nanos
from gateway.core.repeats import repeats_a_name
from gateway.core.tracecontext import read_traceparent
from gateway.edge.callbacks import read_callback_token, write_callback_token
from gateway.edge.server.heads import ambiguity, is_last
from gateway.edge.signed import read_signed, write_signed
from gateway.edge.tokens import read_token, write_token
from gateway.ledger.memory import MemoryLedger
from gateway.ledger.spool import Record, Spool
from gateway.pipeline import pricing
from gateway.pipeline.call import Answer, Call
from gateway.pipeline.callbacks import CallbackToken
from gateway.pipeline.listing import own_page
from gateway.pipeline.meter import Inflating, decoded, parsed, reply_data, without_fields
from gateway.ports import Plan, TemporaryToken
from gateway.settings.load import SettingsError, load
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime
from gateway.settings.yaml import read_yaml
from gateway.upstream.ports import UpstreamClient
from tests.settings.project import ROOT

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from(["", "0", "-1", "1e9", "9" * 40, 10**30, -(10**30), 2**63, 1e308, "Infinity", "\ud800", "\0"])
)  # fmt: skip
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def mutated(good: bytes) -> st.SearchStrategy[bytes]:
    """A good text of which pieces are gone, doubled, moved or something else."""
    cut = st.tuples(st.integers(0, len(good)), st.integers(0, 40), st.binary(max_size=6) | st.just(good[:30]))

    def change(cuts: list[tuple[int, int, bytes]]) -> bytes:
        changed = good
        for at, gone, put in cuts:
            changed = changed[:at] + put + changed[at + gone :]
        return changed

    return st.lists(cut, min_size=1, max_size=4).map(change)


@lru_cache(maxsize=1)
def shipped() -> Runtime:
    """The shipped config."""
    return load(ROOT / "gateway.yaml", {})


# ---- what an upstream reports


@lru_cache(maxsize=1)
def metered() -> tuple[tuple[Route, tuple[Field, ...]], ...]:
    """Each route with a price, and the fields of replies that it reads."""
    found = []
    for route in shipped().routes:
        metering = pricing.metering_of(route)
        if metering is not None:
            fields = {field for measure in metering.measures for field in measure.fields if field.source == "reply"}
            models = route.product.models
            fields |= {field for field in models.ran if field.source == "reply"} if models is not None else set()
            found.append((route, tuple(sorted(fields, key=str))))
    return tuple(found)


@st.composite
def reports(draw: st.DrawFn) -> tuple[Route, dict[str, Any]]:
    """A route, and a reply that has something where it looks, or something else in the way."""
    route, fields = draw(st.sampled_from(metered()))
    reply: dict[str, Any] = {}
    for field in fields:
        place: Any = reply
        for step in field.steps[:-1]:
            if type(place) is not dict:
                break
            place = place.setdefault(str(step), draw(st.just({}) | DATA))
        if type(place) is dict:
            place[str(field.steps[-1])] = draw(DATA)
    return route, reply


@given(reports(), st.integers(0, 10**12))
def test_any_report_has_a_price_or_none(report: tuple[Route, dict[str, Any]], held: int) -> None:
    """Whatever a service reports: whole nano-dollars, not negative, the sum of its lines, and of a size that counts."""
    route, reply = report
    metering = pricing.metering_of(route)
    assert metering is not None
    for table in shipped().prices.tables.values():
        sources = {"reply": reply, "request": {}, "job": {}, "query": {}, "path": {}}
        model = pricing.ran_model(route.product, sources)
        charge = pricing.charge(metering, model, sources, table, Nanos(held), request_bytes=9, content_bytes=9)
        if charge is not None:
            assert type(charge.amount) is int and 0 <= charge.amount <= 9_000_000 * 10**9
            assert charge.amount == sum(item.amount for item in charge.items)


@given(DATA, st.lists(st.lists(st.sampled_from(["a", "b", "0", "1", "*"]), min_size=1, max_size=3), max_size=4))
def test_fields_read_at_once_are_those_read_one_by_one(data: Any, paths: list[list[str]]) -> None:
    """However many share their way."""
    fields = [Field.parse("reply." + ".".join(path)) for path in paths if "*" not in path]
    sources = {"reply": data}
    assert Places.of([[field] for field in fields]).read(sources) == [first_reported((f,), sources) for f in fields]


Pairs = list[tuple[str, Any]]


def as_text(value: Any) -> str:
    """JSON of nested pairs, which may have a name twice."""
    if type(value) is list:
        return "{" + ",".join(f"{json.dumps(name)}:{as_text(below)}" for name, below in value) + "}"
    return json.dumps(value)


def twice(value: Any, names: set[str]) -> bool:
    """Whether an object at any depth has one of the names twice."""
    if type(value) is not list:
        return False
    mine = [name for name, _ in value if name in names]
    return len(mine) != len(set(mine)) or any(twice(below, names) for _, below in value)


NAMES = st.sampled_from(["a", "b", 'q"', "\\u0061", "é", "a b", ""])
PAIRS = st.recursive(
    st.integers(0, 9) | st.sampled_from(["a", '"a"', '"a":', "\\"]),
    lambda inner: st.lists(st.tuples(NAMES, inner), max_size=4), max_leaves=10,
)  # fmt: skip


@given(st.lists(st.tuples(NAMES, PAIRS), min_size=1, max_size=5))
def test_a_name_that_stands_twice_is_found(pairs: Pairs) -> None:
    """Never missed where it is one that we judge by, and never seen where no object has any name twice."""
    text = as_text(pairs).encode()
    data = orjson.loads(text)
    if twice(pairs, set(data)):
        assert repeats_a_name(text, data)
    everything = {"a", "b", 'q"', "\\u0061", "é", "a b", ""}
    if not twice(pairs, everything):
        assert not repeats_a_name(text, data)


PACKED = st.sampled_from([b"", b"{}", b"x" * 3000, bytes(range(256)) * 20])
BOUND = 4000


@given(
    PACKED.map(lambda data: gzip.compress(data, mtime=0)).flatmap(mutated)
    | PACKED.map(zlib.compress).flatmap(mutated)
    | st.binary(max_size=200),
    st.sampled_from(["gzip", "x-gzip", "deflate", "GZIP ", "", "identity", "br", "gzip, gzip"]),
    st.lists(st.integers(0, 200), max_size=4),
)
def test_what_is_inflated_has_a_bound(data: bytes, coding: str, places: list[int]) -> None:
    """Or is nothing at all; piece by piece as well."""
    plain = decoded(data, coding, BOUND)
    assert plain is None or len(plain) <= max(BOUND, len(data))
    inflating = Inflating()
    try:
        at = 0
        for place in [*sorted(places), len(data)]:
            inflating.feed(data[at:place])
            at = max(at, place)
        inflating.finish()
    except GatewayError:
        pass


@given(DATA, st.sets(st.text(max_size=6), max_size=4))
def test_what_is_taken_out_is_nowhere(data: Any, names: set[str]) -> None:
    """Of any JSON data, at any depth."""
    left = without_fields(data, frozenset(names))

    def names_of(value: Any) -> set[str]:
        below = value.values() if type(value) is dict else value if type(value) is list else ()
        return {*(value if type(value) is dict else ()), *(name for each in below for name in names_of(each))}

    assert not names_of(left) & names


# ---- lists of a service's items


class OneBody:
    """An upstream that answers every page with the same bytes."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.reason, self.body = status, "", body
        self.headers = CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json"}))
        self.asked = 0

    @asynccontextmanager
    async def _reply(self) -> AsyncIterator[Any]:
        left = [self.body, b""]

        async def chunk() -> bytes:
            return left.pop(0)

        yield SimpleNamespace(status=self.status, reason="", headers=self.headers, chunk=chunk)

    async def send(self, *_asked: Any) -> Any:
        self.asked += 1
        return self._reply()


@st.composite
def pages(draw: st.DrawFn) -> tuple[Route, bytes]:
    """A list's route, and a page of it that is odd somewhere."""
    route = draw(st.sampled_from([route for route in shipped().routes if route.listing is not None]))
    listing = route.listing
    assert listing is not None
    item = st.fixed_dictionaries({}, optional={listing.id: st.sampled_from(["mine", "theirs", "", "\ud800"]) | DATA})
    page: dict[str, Any] = {}
    for field, value in ((listing.items, st.lists(item | DATA, max_size=5) | DATA), (listing.older, DATA)):
        if field is not None:
            place: Any = page
            for step in field.steps[:-1]:
                place = place.setdefault(str(step), {})
            place[str(field.steps[-1])] = draw(value)
    text = json.dumps(page).encode()
    return route, draw(st.just(text) | mutated(text))


@given(pages(), st.sampled_from([200, 200, 200, 206, 404, 500]), st.sampled_from(["", "limit=3", "limit=x&b=y"]))
def test_any_page_is_the_callers_own_or_none(page: tuple[Route, bytes], status: int, query: str) -> None:
    """Items of others are in no answer that we made, whatever the service's page is like; it is asked a few times."""
    route, body = page
    upstream = OneBody(status, body)
    client = SimpleNamespace(query_string=query, raw_path="/list", scheme="http", host="h", headers={})
    call = SimpleNamespace(
        route=route, client=client, query=query, account="a", upstream_status=0, upstream=route.product.upstream
    )

    class Owner(MemoryLedger):
        async def owned(self, *, account: str, refs: Any) -> list[bool]:
            return [ref.id == "mine" for ref in refs]

    made = own_page(cast("Call", call), Owner(lambda: 0), cast("UpstreamClient", upstream), CIMultiDict())
    try:
        answer = asyncio.run(made)
    except GatewayError:
        return
    assert isinstance(answer, Answer | Refused)
    assert upstream.asked <= 100
    if isinstance(answer, Answer) and 200 <= status < 300 and route.listing is not None:
        items = route.listing.items.read({"reply": parsed(answer.body)})
        assert all(item[route.listing.id] == "mine" for item in items)


# ---- what comes back to us


TOKEN = TemporaryToken(
    id="t", account="acme", key_id="k", plan=Plan(tier="free"), product="p", expires=10**10, session_seconds_max=9,
    once=True,
)  # fmt: skip
WRITTEN = {
    "temporary": write_token("pepper", TOKEN),
    "callback": write_callback_token("pepper", CallbackToken(account="a", kind="k", call_id="c", expires=10**10)),
    "signed": write_signed("pepper", "purpose", b'{"a":1}'),
}


@given(st.sampled_from(sorted(WRITTEN)), st.data())
def test_no_changed_text_is_ours(kind: str, data: st.DataObject) -> None:
    """Whatever is changed of what we signed, and whatever else is shown to us, is nobody's."""
    good = WRITTEN[kind]
    changed = mutated(good.encode()).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    text = data.draw(changed | st.text(max_size=80))
    assume(text.rstrip("=") != good)
    others = [other for other in WRITTEN.values() if other != good]
    for shown in (text, *others):
        if kind == "temporary":
            assert read_token("pepper", shown, 1.0) is None
        elif kind == "callback":
            assert read_callback_token("pepper", shown, 1.0) is None
        else:
            assert read_signed("pepper", "purpose", shown) is None


LINES = [orjson.dumps({"op": "settle", "n": number}) + b"\n" for number in range(4)]


@given(mutated(b"".join(LINES)) | st.binary(max_size=300))
def test_any_spool_is_taken_over(content: bytes) -> None:
    """What a crash or a disk made of it: whole records are applied once in their order, the rest stops nothing."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "dead.spool").write_bytes(content)
        spool = Spool(Path(directory), bytes_max=10_000)
        spool.open("mine")
        applied: list[Record] = []

        async def apply(record: Record) -> None:
            applied.append(record)

        asyncio.run(spool.replay(apply))
        readable = [found for line in content.split(b"\n")[:-1] if type(found := parsed(line)) is dict]
        assert applied == readable
        spool.close()
        assert not (Path(directory) / "dead.spool").exists()


# ---- what ops write

FILES = [ROOT / "gateway.yaml", *sorted((ROOT / "config").rglob("*.yaml"))]
TEXTS: Mapping[Path, bytes] = {path: path.read_bytes() for path in FILES}


@given(st.sampled_from(FILES).flatmap(lambda path: mutated(TEXTS[path])) | st.binary(max_size=200))
def test_any_file_is_data_or_problems(content: bytes) -> None:
    """Broken YAML is told with its place, and raises nothing."""
    document, problems = read_yaml("f.yaml", content, {"A": "b"}, frozenset({"admin_token"}))
    assert document is not None or problems
    for problem in problems:
        assert "demo-admin-token" not in problem.message


@settings(max_examples=20)
@given(st.sampled_from(FILES), st.data())
def test_any_config_is_a_runtime_or_problems(path: Path, data: st.DataObject) -> None:
    """A whole config of which one file is changed anywhere is compiled, or refused with everything that is wrong."""
    with tempfile.TemporaryDirectory() as directory:
        for other in FILES:
            target = Path(directory) / other.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(TEXTS[other] if other != path else data.draw(mutated(TEXTS[path])))
        try:
            load(Path(directory) / "gateway.yaml", {})
        except SettingsError as error:
            assert error.problems and error.render()


# ---- heads of requests

HEADS = [
    b"GET /v1/models?a=b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"POST /v2/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /v3/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]


def first_message(pieces: list[bytes]) -> RawRequestMessage | str | None:
    """The first request in these bytes; what is wrong with them; None where more is to come."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16, max_line_size=32768, max_field_size=32768)
        for piece in pieces:
            try:
                messages, _, _ = parser.feed_data(piece)
            except HttpProcessingError:
                return "no request"
            if messages:
                message: RawRequestMessage = messages[0][0]
                return message
        return None
    finally:
        loop.close()


@given(st.sampled_from(HEADS).flatmap(mutated), st.lists(st.integers(0, 120), max_size=4))
def test_a_head_is_judged_alike_however_it_is_cut(data: bytes, places: list[int]) -> None:
    """What is served of any bytes has one host, one length, one version; and no cut makes another request of them."""
    cuts = sorted(place for place in places if place < len(data))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    whole, cut = first_message([data]), first_message(pieces)
    if isinstance(whole, str) or isinstance(cut, str) or whole is None or cut is None:
        return
    assert (whole.method, whole.path, list(whole.headers.items())) == (cut.method, cut.path, list(cut.headers.items()))
    if not ambiguity(whole):
        assert whole.version in (aiohttp.HttpVersion10, aiohttp.HttpVersion11)
        lengths = whole.headers.getall("Content-Length", []) + whole.headers.getall("Transfer-Encoding", [])
        assert len(lengths) <= 1 and len(whole.headers.getall("Host", [])) <= 1
        assert "#" not in whole.path
        assert is_last(whole) or not whole.chunked


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@given(mutated(TRACEPARENT.encode()).map(lambda text: text.decode("latin-1")))
def test_a_trace_is_read_as_it_is_written(text: str) -> None:
    """What is read of a `traceparent` is written as a field that says the same, and whatever else comes is none."""
    found = read_traceparent(text)
    if found is not None:
        assert read_traceparent(str(found)) == found
        assert str(found)[3:53].rstrip("-") in text
        assert len(str(found)) == len(TRACEPARENT)


_ODD = st.recursive(
    st.none()
    | st.integers(-9, 9)
    | st.sampled_from([math.nan, math.inf, -math.inf])
    | st.text('NaI"\n\t-é', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('NaI":', max_size=4), inner, max_size=4),
    max_leaves=12,
)


def _null(value: Any) -> Any:
    """The same data with null for what is no number."""
    if type(value) is list:
        return [_null(each) for each in value]
    if type(value) is dict:
        return {name: _null(each) for name, each in value.items()}
    return None if type(value) is float and not math.isfinite(value) else value


@given(data=_ODD, indent=st.sampled_from([None, 1]), mark=st.sampled_from([b"", b"\xef\xbb\xbf"]), raw=st.booleans())
def test_what_is_not_quite_json_is_read_as_it_was_meant(data: Any, indent: int | None, mark: bytes, raw: bool) -> None:
    """What is no number is null, but not in texts; a byte order mark is nothing; line breaks in texts are theirs."""
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    if raw:  # no text has a backslash of its own
        text = text.replace("\\n", "\n").replace("\\t", "\t")
    assert reply_data(mark + text.encode()) == _null(data)


@given(texts=st.lists(st.text(alphabet='\ud83d\ude00\U0001f600\\"ud8-NaI\n')))
def test_half_a_character_is_replaced(texts: list[str]) -> None:
    """Models cut characters in two, and their services write the halves as escapes: whole ones stay what they are."""
    meant = [re.sub("[\ud800-\udfff]", "\ufffd", json.loads(json.dumps(text))) for text in texts]
    assert reply_data(json.dumps(texts).encode()) == meant


def test_much_that_is_not_quite_json_is_read_too() -> None:
    """Beyond what is read slowly: line breaks in texts count as spaces, the rest is as it was sent."""
    many = ["a NaN, Infinity \n"] * 30_000
    text = json.dumps({"many": many, "usage": {"a": 1, "b": math.nan, "c": -math.inf}}).replace("\\n", "\n")
    spaced = [each.replace("\n", " ") for each in many]
    assert reply_data(text.encode()) == {"many": spaced, "usage": {"a": 1, "b": None, "c": None}}
    assert reply_data(b'["' + b"N" * 300_000) is None
