"""Traces: what a collector, an upstream, a client and the log learn of calls, and what they do not."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.tracecontext import TraceContext, read_traceparent
from gateway.edge.clock import SystemClock
from gateway.edge.tracing import around
from gateway.observe.tracer import Tracer
from gateway.ports import Ledger
from gateway.settings.tracing import Otlp, Tracing
from tests.edge.plugged import TOKEN, Service, plugged
from tests.fakes.collector import Collector, Seen
from tests.fakes.link import CuttingRelay
from tests.harness import Change, Running, running
from tests.pipeline.helpers import chat, finished, submitted, until
from tests.pipeline.sockets import PRO, connected, slices, to_the_end
from tests.pipeline.test_following import followed_closely
from tests.upstream.proxying import until as until_true

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
UNASKED = f"00-{TRACE}-{SPAN}-00"
STATE = "vendor=opaque,other=1"
SECRET = "marker-of-a-collector"


def untouched(_data: dict[str, Any]) -> None:
    """No change of a file."""


@asynccontextmanager
async def traced(
    directory: Path, redis_url: str, collector: Collector, changes: dict[str, Change] | None = None, **tracing: Any
) -> AsyncIterator[Running]:
    """A gateway that tells this collector of its calls."""
    others = dict(changes or {})
    change = others.pop("gateway.yaml", untouched)

    def of_gateway(data: dict[str, Any]) -> None:
        change(data)
        otlp = {"url": collector.url, "headers": {"X-Collector-Key": SECRET}}
        data["tracing"] = {"otlp": otlp, "sample": 1, **tracing}

    async with running(directory, redis_url, changes={**others, "gateway.yaml": of_gateway}) as gw:
        yield gw


class Log:
    """What a gateway has logged so far."""

    def __init__(self, captured: pytest.CaptureFixture[bytes]) -> None:
        self._captured = captured
        self.text = b""

    def lines(self, gw: Running, event: str) -> list[dict[str, Any]]:
        """The lines of one kind."""
        gw.gateway.observing.flush()
        self.text += self._captured.readouterr().out
        return [line for line in map(orjson.loads, self.text.splitlines()) if line["event"] == event]


@pytest.fixture
def log(capfdbinary: pytest.CaptureFixture[bytes]) -> Log:
    """The log."""
    return Log(capfdbinary)


async def traced_chat(gw: Running, key: str, *, parent: str = PARENT, **more: Any) -> tuple[dict[str, str], Any]:
    """What the client and the upstream have in their heads of a chat completion with a trace."""
    got = await gw.call(
        "POST", "/v1/chat/completions", key, headers={"traceparent": parent, "tracestate": STATE},
        json={"model": "gpt-5.2", "messages": [{"role": "user", "content": "marker-of-a-prompt"}], **more},
    )  # fmt: skip
    assert got.status == 200, got.body
    return got.headers, (await gw.seen())[0]["headers"]


async def test_a_call_is_told_in_its_stages(tmp_path: Path, empty_redis: str, log: Log) -> None:
    """Client, gateway and upstream are one trace: the call below the client's span, its stages below it, the upstream
    below the stage that calls it; the log has both ids, and no span what is nobody's business."""
    async with Collector() as collector, traced(tmp_path, empty_redis, collector) as gw:
        key = await gw.open_account("a")
        for stream in (False, True):
            headers, passed = await traced_chat(gw, key, stream=stream)
            call = (await collector.some("POST chat.completions", 1 + stream))[-1]
            parts = collector.below(call)
            assert set(parts) == {"identify", "admit", "forward", "settle"}
            assert (call.trace, call.parent, call.kind, call.failed) == (TRACE, SPAN, "server", False)
            assert headers["traceresponse"] == f"00-{TRACE}-{call.id}-01"
            forward = parts["forward"]
            assert (passed["traceparent"], passed["tracestate"]) == (f"00-{TRACE}-{forward.id}-01", STATE)
            assert forward.kind == "client"
            assert [name for name, _ in forward.events] == ["head"]
            times = [(part.started, part.ended) for part in parts.values()]
            assert all(call.started <= began <= ended <= call.ended for began, ended in times)
            assert forward.ended <= parts["settle"].started
            line = log.lines(gw, "call")[-1]
            assert (line["trace_id"], line["call_id"]) == (TRACE, headers["X-Gateway-Call-Id"])
            assert call.facts["gateway.call_id"] == line["call_id"]
            assert call.facts["gateway.charged_nanos"] == line["charged"] > 0
            assert (call.facts["gateway.account"], call.facts["gateway.outcome"]) == ("a", "settled")
            assert forward.facts["http.response.status_code"] == call.facts["http.response.status_code"] == 200
        unrouted = await gw.call("GET", "/nowhere", key, headers={"traceparent": PARENT})
        assert (unrouted.status, unrouted.headers.get("traceresponse")) == (404, None)
        await gw.knobs(fail_rate=1.0)
        assert (await chat(gw, key)).status >= 500
        failed = (await collector.some("POST chat.completions", 3))[-1]
        assert failed.failed
        assert failed.parent == ""
        assert {name: part.failed for name, part in collector.below(failed).items()} == {
            "identify": False, "admit": False, "forward": True, "release": False,
        }  # fmt: skip
        said = b"".join([*collector.bodies, log.text])
        for secret in (key, SECRET, "marker-of-a-prompt", "sandbox-service-key", "chat/completions", "http://"):
            assert secret.encode() not in said, secret
        assert {request["x-collector-key"] for request in collector.requests} == {SECRET}
        assert collector.services == {"credit-gateway"}


async def test_what_cannot_be_read_begins_anew(tmp_path: Path, empty_redis: str) -> None:
    """A `traceparent` that is none is not passed on, nor is the state that came with it."""
    async with Collector() as collector, traced(tmp_path, empty_redis, collector) as gw:
        headers, passed = await traced_chat(gw, await gw.open_account("a"), parent=PARENT.upper())
        (call,) = await collector.some("POST chat.completions")
        assert call.parent == ""
        assert call.trace != TRACE
        assert passed["traceparent"].startswith(f"00-{call.trace}-")
        assert "tracestate" not in passed
        assert headers["traceresponse"] == f"00-{call.trace}-{call.id}-03"


async def test_a_client_is_recorded_at_a_bounded_rate(tmp_path: Path, empty_redis: str, log: Log) -> None:
    """Of a flood of flagged calls few are recorded; the others, and those not flagged, go on as if there was no
    tracing, but for the log, which knows their traces."""
    async with (
        Collector() as collector,
        traced(tmp_path, empty_redis, collector, sample=0, asked_per_second_max=2) as gw,
    ):
        key = await gw.open_account("a")
        began = time.monotonic()
        found = [await traced_chat(gw, key) for _ in range(20)]
        seconds = time.monotonic() - began
        recorded = [headers for headers, _ in found if "traceresponse" in headers]
        assert 2 <= len(recorded) <= 2 * (seconds + 2)
        left = [passed for headers, passed in found if "traceresponse" not in headers]
        headers, passed = await traced_chat(gw, key, parent=UNASKED)
        assert "traceresponse" not in headers
        assert {each["traceparent"] for each in left} == {PARENT}
        assert (passed["traceparent"], passed["tracestate"]) == (UNASKED, STATE)
        assert (await chat(gw, key)).status == 200
        assert [line.get("trace_id") for line in log.lines(gw, "call")] == [TRACE] * 21 + [None]
        await collector.some("POST chat.completions", len(recorded))
        await asyncio.sleep(0.6)
        assert len(await collector.some("POST chat.completions")) == len(recorded)


async def test_without_tracing_nothing_is_touched(gw: Running) -> None:
    """Trace and state go on as they came, and nothing is put around the parts of a call's path."""
    headers, passed = await traced_chat(gw, await gw.open_account("a"))
    assert (passed["traceparent"], passed["tracestate"]) == (PARENT, STATE)
    assert "traceresponse" not in headers
    plain = around(None, SystemClock(), gw.gateway.observing.all)
    ledger: Ledger = gw.ledger
    assert plain.ledger(ledger) is ledger
    assert plain.pipeline(gw.gateway.pipeline) is gw.gateway.pipeline
    assert plain.upstreams(gw.gateway.upstreams) is gw.gateway.upstreams
    assert plain.loops() == ()


async def test_a_session_is_one_span_with_its_slices(tmp_path: Path, empty_redis: str) -> None:
    """Each slice is an event with what it cost; the handshakes on both sides carry the trace."""
    small = dict(slices(slice_seconds=1, renew_before_seconds=0.3, warn_seconds=0, grace_seconds=1))
    async with Collector() as collector, traced(tmp_path, empty_redis, collector, small) as gw:
        key = await gw.open_account("a", credit="1")
        async with connected(gw, key, PRO, headers={"traceparent": PARENT}) as socket:
            assert (await socket.receive_json(timeout=30))["type"] == "Begin"
            assert socket._response.headers["traceresponse"].startswith(f"00-{TRACE}-")
            await asyncio.sleep(1.9)
            await socket.send_json({"type": "Terminate"})
            await to_the_end(socket)
        (call,) = [span for span in await collector.some("forward") if span.parent]
        passed = next(each for each in await gw.seen() if each["path"] == "/v3/ws")["headers"]
        assert passed["traceparent"] == f"00-{TRACE}-{call.id}-01"
        (root,) = [span for span in collector.spans if span.id == call.parent]
        assert [name for name, _ in root.events] == ["slice"] * len(root.events)
        assert len(root.events) >= 2
        assert sum(facts["gateway.charged_nanos"] for _, facts in root.events) > 0
        assert root.facts["gateway.session.ended"] in ("client", "upstream")
        assert root.facts["gateway.session.slices"] >= len(root.events)


async def test_a_job_leads_back_to_the_call_that_made_it(tmp_path: Path, empty_redis: str) -> None:
    """The span of a job's end, and those of calls that ask for it, are linked to the call; without a trace there is no
    span of its end."""
    changes = {**followed_closely()}
    async with Collector() as collector, traced(tmp_path, empty_redis, collector, changes) as gw:
        key = await gw.open_account("a")
        await submitted(gw, key, 60)
        (job,) = await collector.some("job speech-to-text")
        (made,) = await collector.some("POST transcript.create")
        assert job.links == [(made.trace, made.id)]
        assert job.trace != made.trace
        assert job.facts["gateway.call_id"] == made.facts["gateway.call_id"]
        assert job.facts["gateway.charged_nanos"] > 0
        assert "accept" in collector.below(made)
        path = await submitted(gw, key, 60)
        await finished(gw, key, path)
        made = (await collector.some("POST transcript.create", 2))[-1]
        asked = await collector.some("GET transcript.get")
        assert all(span.links == [(made.trace, made.id)] for span in asked)


async def test_looks_at_jobs_are_told(tmp_path: Path, empty_redis: str) -> None:
    """A look of the gateway itself asks the service within its span; the one that finds the job over settles in it, and
    is linked to the call."""
    changes = {**followed_closely()}
    async with Collector() as collector, traced(tmp_path, empty_redis, collector, changes) as gw:
        key = await gw.open_account("a")
        await submitted(gw, key, 60)
        await collector.some("job speech-to-text")
        (made,) = await collector.some("POST transcript.create")

        def last_ones() -> list[Seen]:
            looks = [span for span in collector.spans if span.name == "look"]
            return [look for look in looks if "settle" in collector.below(look)]

        await until_true(last_ones)
        (last,) = last_ones()
        assert (last.kind, last.parent, last.failed) == ("internal", "", False)
        assert last.links == [(made.trace, made.id)]
        assert last.facts["gateway.call_id"] == made.facts["gateway.call_id"]
        assert last.facts["gateway.outcome"] == "settled"
        below = collector.below(last)
        assert below["forward"].kind == "client"
        assert below["settle"].facts["gateway.call_id"] == made.facts["gateway.call_id"]


async def test_calls_that_are_served_elsewhere_are_told(tmp_path: Path, empty_redis: str) -> None:
    """A hold of the credit API continues the trace of the service, which learns of its span; its settlement and its
    refusal are spans of calls, with the stages of the ledger, and no token is in one."""
    async with Collector() as collector, traced(tmp_path, empty_redis, collector, dict(plugged())) as gw:
        await gw.open_account("acme", credit="1")
        service, headers = Service(gw), {"Authorization": f"Bearer {TOKEN}", "traceparent": PARENT}
        body = {"account": "acme", "product": "rendering"}
        async with gw.http.post(f"{gw.url}/credit/v1/holds", json=body, headers=headers) as got:
            said, hold = read_traceparent(got.headers["traceresponse"]), await got.json()
        (opened,) = await collector.some("POST /credit/v1/holds")
        assert said is not None
        assert (said.trace_id, opened.trace, opened.parent, opened.id) == (TRACE, TRACE, SPAN, said.span_id)
        assert (opened.kind, opened.facts["http.response.status_code"]) == ("server", 201)
        assert "admit" in collector.below(opened)
        assert (await service.ask(f"/holds/{hold['id']}/settle", {"amount": "1"}))[0] == 200
        (ended,) = await collector.some("POST rendering.create")
        assert ended.facts["gateway.call_id"] == hold["hold"]
        assert (ended.facts["gateway.charged_nanos"], "settle" in collector.below(ended)) == (10**9, True)
        assert (await service.ask("/holds", body))[0] == 400
        refused = (await collector.some("POST rendering.create", 2))[-1]
        assert refused.facts["gateway.code"] == "insufficient_credit"
        assert (await service.ask("/nothing", {}))[0] == 404
        async with gw.http.get(f"{gw.url}/billing/nothing") as got:
            assert got.status == 404
        missed = await collector.some("GET unknown")
        missed += await collector.some("POST unknown")
        assert [(span.facts["http.response.status_code"], span.failed) for span in missed] == [(404, False)] * 2
        assert not any(TOKEN.encode() in sent or hold["id"].encode() in sent for sent in collector.bodies)


async def test_what_the_spool_does_is_told(tmp_path: Path, empty_redis: str) -> None:
    """A charge that waited in the spool is a trace of its own, which has the call's id; a try that fails has failed."""
    async with (
        Collector() as collector,
        CuttingRelay(empty_redis) as relay,
        traced(tmp_path, relay.url, collector, dict(plugged())) as gw,
    ):
        await gw.open_account("acme", credit="10")
        service = Service(gw)
        hold = await service.hold(account="acme", product="rendering")
        await relay.stop()
        status, charged = await service.ask(f"/holds/{hold['id']}/settle", {"amount": "1"})
        assert (status, charged["settled"]) == (200, False)
        await relay.start()

        def replayed() -> list[Seen]:
            return [span for span in collector.spans if span.name == "replay" and not span.failed]

        await until_true(replayed)
        (done,) = replayed()
        assert (done.kind, done.parent) == ("internal", "")
        assert collector.below(done)["settle"].facts["gateway.call_id"] == hold["hold"]


async def test_a_collector_that_is_away_costs_no_call(tmp_path: Path, empty_redis: str, log: Log) -> None:
    """A batch that is not taken now comes again, once it is; what finds no room is dropped and counted, and one that is
    refused for good is given up."""
    async with Collector() as collector, traced(tmp_path, empty_redis, collector, spans_max=12) as gw:
        key = await gw.open_account("a")
        collector.answers += [503, 429, 204, 400]
        assert (await chat(gw, key)).status == 200

        async def put_off() -> bool:
            return len(collector.requests) >= 1

        assert await until(put_off)
        for _ in range(6):
            assert (await chat(gw, key)).status == 200
        await collector.some("POST chat.completions", 1)

        async def told() -> bool:
            return len(log.lines(gw, "spans_dropped")) >= 1 and len(collector.requests) >= 4

        assert await until(told)
        dropped = sum(line["value"] for line in log.lines(gw, "spans_dropped"))
        assert dropped >= 4 * 5
        assert {line["why"] for line in log.lines(gw, "spans_refused")} >= {"answered 503", "answered 429"}
        assert SECRET.encode() not in log.text


def test_fields_are_read_as_the_standard_has_them() -> None:
    """Examples of W3C's: versions to come are read by their first parts, and what is none of ours begins anew."""
    assert read_traceparent(PARENT) == TraceContext(trace_id=TRACE, span_id=SPAN, flags=1)
    assert str(read_traceparent(PARENT)) == PARENT
    assert read_traceparent(f"cc-{TRACE}-{SPAN}-01-what-comes") == TraceContext(trace_id=TRACE, span_id=SPAN, flags=1)
    assert read_traceparent(f"00-{TRACE}-{SPAN}-ff") == TraceContext(trace_id=TRACE, span_id=SPAN, flags=3)
    for text in (
        "", "00", f"00-{TRACE}-{SPAN}", f"{PARENT}-more", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01", PARENT.upper(), f"00-{TRACE[:-1]}g-{SPAN}-01", PARENT[:-1], PARENT + "\n",
        f"0x-{TRACE}-{SPAN}-01", f"{PARENT}, {PARENT}",
    ):  # fmt: skip
        assert read_traceparent(text) is None, text


class Still:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    monotonic = now


@pytest.mark.parametrize("rate", [0.0, 0.5, 5.0])
def test_asking_is_bounded_by_the_second(rate: float) -> None:
    """Whatever is asked for, no more is recorded than the rate allows, and a little less than one is sometimes one."""
    clock = Still()
    tracer = Tracer(Tracing(otlp=Otlp(url="http://c"), sample=0.0, asked_per_second_max=rate), clock)
    recorded = 0
    for _ in range(1000):
        clock.at += 0.01
        trace = tracer.begin([PARENT])
        assert trace is not None
        recorded += trace.recorded
    assert recorded <= rate * 11
    assert recorded >= rate * 9
    assert tracer.begin([PARENT, PARENT]) is None
