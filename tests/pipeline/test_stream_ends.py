"""Streams of events that do not end well: clients that leave, services that break off or fail."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.core.money import format_usd, parse_usd
from tests.fakes.upstream import Line, ScriptedUpstream, chunk, message
from tests.harness import Running
from tests.pipeline.helpers import CHAT, CHAT_PATH, charges, in_order, until
from tests.pipeline.streaming import (
    ASKING,
    DONE,
    LEFT,
    PRICE,
    STREAMED,
    USED,
    broken,
    charged,
    charged_so_far,
    cut,
    event,
    events,
    hang,
    listening,
    released,
    report,
    reporting_word,
    serving,
    stream,
    streaming,
    word,
)
from tests.upstream import proxying
from tests.upstream.proxying import before, metric, stoppable

# ---- the client leaves


async def test_a_client_that_leaves_pays_what_is_reported_then(tmp_path: Path, empty_redis: str) -> None:
    """The stream is read on to its end; the call says that its client was gone."""
    left = asyncio.Event()

    async def wait(line: Line) -> None:
        await left.wait()

    upstream = streaming([word(), wait, word(), report(), DONE])
    async with serving(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key) as response:
            await response.content.readany()
        await asyncio.sleep(0.1)
        assert gw.gateway.pipeline.draining == 1
        left.set()
        (charge,) = await charged(gw)
        assert (charge["amount"], charge["basis"]) == (PRICE, "reported")
        assert gw.gateway.pipeline.draining == 0
        gone = 'gateway_clients_gone_total{product="llm-gateway"}'

        async def told() -> bool:
            return (await metric(gw, gone)).get(gone) == 1

        assert await until(told)


@pytest.mark.parametrize("running", [True, False], ids=["reported so far", "nothing reported"])
async def test_a_drain_has_its_time(tmp_path: Path, empty_redis: str, running: bool) -> None:
    """A service that goes on for longer is cut, and what it reported is charged, else by the policy: the hold."""

    upstream = streaming([reporting_word() if running else word(), hang])
    async with serving(upstream, tmp_path, empty_redis, product={"drain_seconds_max": 0.3}) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key) as response:
            await response.content.readany()
            (hold,) = await gw.ledger.holds("a")
        (charge,) = await charged(gw)
        assert (charge["amount"], charge["basis"]) == ((PRICE, "reported") if running else (hold.amount, "estimated"))
        await proxying.until(lambda: upstream.lines_open == 0)  # the service sees the end of its connection
        assert not await gw.ledger.verify("a")


async def test_a_drain_has_its_size(tmp_path: Path, empty_redis: str) -> None:
    """A service that floods a client that left is cut."""

    async def flood(line: Line) -> None:
        while True:
            await line.send(chunk(word("x" * 10_000)))

    upstream = streaming([word(), flood])
    async with serving(upstream, tmp_path, empty_redis, product={"drain_bytes_max": 100_000}) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key) as response:
            await response.content.readany()
        (charge,) = await charged(gw)
        assert charge["basis"] == "estimated"
        assert (await metric(gw, "gateway_events_total"))[
            'gateway_events_total{event="drain_cut",product="llm-gateway"}'
        ] == 1


async def test_a_client_that_takes_nothing_is_cut_and_charged(tmp_path: Path, empty_redis: str) -> None:
    """It is like one that has left: its stream is read on for a while, and cut."""

    async def flood(line: Line) -> None:
        while True:
            await line.send(chunk(word("x" * 100_000)))

    product = {"drain_seconds_max": 0.5, "drain_bytes_max": 1_000_000}
    async with serving(streaming([flood]), tmp_path, empty_redis, product=product) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key) as response:
            (charge,) = await charged(gw)
            assert charge["basis"] == "estimated"
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()


async def test_so_many_streams_are_drained_at_a_time(tmp_path: Path, empty_redis: str) -> None:
    """The third client that leaves has its stream cut at once; all three are charged."""
    go = asyncio.Event()

    async def wait(line: Line) -> None:
        await go.wait()

    upstream = streaming([word(), wait, report(), DONE])
    async with serving(upstream, tmp_path, empty_redis, limits={"drains_max": 2}) as gw:
        key = await gw.open_account("a", credit="10")
        for _ in range(3):
            async with listening(gw, key) as response:
                await response.content.readany()
            await asyncio.sleep(0.1)
        assert gw.gateway.pipeline.draining == 2
        (charge,) = await charged_so_far(gw)
        assert charge["basis"] == "estimated"
        go.set()
        assert [each["basis"] for each in await charged(gw, count=3)] == ["estimated", "reported", "reported"]


async def flood(line: Line) -> None:
    """Send more and more."""
    while True:
        await line.send(chunk(b"x" * 10_000))


@pytest.mark.parametrize("then", [flood, hang], ids=["size", "time"])
async def test_a_large_answer_left_in_the_middle_is_charged(tmp_path: Path, empty_redis: str, then: Any) -> None:
    """What is no stream is read on within the same bounds; who has nothing of it when it is cut pays nothing."""

    async def script(line: Line) -> None:
        if b"nothing" in (await upstream.taken(line)).body:
            await hang(line)
        await line.send(message("HTTP/1.1 200 OK", proxying.JSON, "Transfer-Encoding: chunked", length=False))
        await line.send(chunk(b'{"choices": [{"message": {"content": "' + b"x" * 600_000))
        await then(line)

    upstream, product = ScriptedUpstream(script), {"drain_seconds_max": 0.5, "drain_bytes_max": 100_000}
    async with serving(upstream, tmp_path, empty_redis, product=product) as gw:
        async with listening(gw, await gw.open_account("a", credit="10"), CHAT) as response:
            await response.content.read(1000)
        (charge,) = await charged(gw)
        assert charge["basis"] == "estimated"
        key = await gw.open_account("b", credit="10")
        early = asyncio.create_task(gw.call("POST", CHAT_PATH, key, json={**CHAT, "user": "nothing"}))
        await proxying.until(lambda: len(upstream.requests) == 2)
        early.cancel()
        await released(gw, "b")
        await proxying.until(lambda: upstream.lines_open == 0)
        assert not await gw.ledger.verify("a")


async def test_a_client_that_leaves_before_anything_came_pays_by_the_policy(tmp_path: Path, empty_redis: str) -> None:
    """Leaving early is no way not to pay for a service that has begun to work."""

    async with serving(streaming([hang]), tmp_path, empty_redis, product={"drain_seconds_max": 0.2}) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key):
            pass
        (charge,) = await charged(gw)
        assert charge["basis"] == "estimated"


async def test_a_client_that_closes_after_the_last_event_has_not_left(gw: Running) -> None:
    """Clients close when they have read the end; that is no leaving."""
    key = await gw.open_account("a", credit="100")
    for _ in range(20):
        async with listening(gw, key) as response:
            async for line in response.content:
                if line.startswith(b"data: [DONE]"):
                    break
    assert len(await charged(gw, count=20)) == 20
    assert not any((await metric(gw, "gateway_clients_gone_total{")).values())


async def test_a_gateway_that_stops_charges_what_streams_delivered(tmp_path: Path, empty_redis: str) -> None:
    """A stream that is still open when the time for shutdown is over is cut, and charged by what it reported."""

    async with stoppable(streaming([reporting_word(), hang]), tmp_path, empty_redis, seconds=0.2) as gw:
        key = await gw.open_account("a", credit="10")
        async with gw.http.post(gw.url + CHAT_PATH, json=STREAMED, headers={"Authorization": key}) as response:
            await response.content.readany()
            await gw.gateway.__aexit__()
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
        await in_order(gw, "a", balance=LEFT)


# ---- the service fails


async def test_a_stream_that_breaks_off_is_charged_on_what_it_reported(tmp_path: Path, empty_redis: str) -> None:
    """The client's connection is cut as well: nothing looks complete."""
    async with serving(streaming([reporting_word(), cut]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        assert await broken(gw, key) == reporting_word()
        (charge,) = await charged(gw)
        assert (charge["amount"], charge["basis"]) == (PRICE, "reported")
        name = 'gateway_events_total{event="stream_broken",product="llm-gateway"}'
        assert (await metric(gw, "gateway_events_total"))[name] == 1
        assert not any((await metric(gw, "gateway_clients_gone_total{")).values())


async def test_a_stream_that_breaks_off_without_a_report_is_charged_by_the_policy(
    tmp_path: Path, empty_redis: str
) -> None:
    """Something was delivered: the hold, marked as estimated."""
    async with serving(streaming([word(), word()[:10], cut]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        assert await broken(gw, key) == word(), "half an event is not passed on where it might have been hidden"
        (charge,) = await charged(gw)
        assert charge["basis"] == "estimated"
        await in_order(gw, "a", balance=parse_usd(format_usd(parse_usd("10") - charge["amount"])))


@pytest.mark.parametrize(
    "pieces", [[], [b": hello\n\n"], [word()[:10]], [report()]], ids=["nothing", "comment", "half", "report"]
)
async def test_a_stream_that_breaks_off_before_its_first_event_costs_nothing(
    tmp_path: Path, empty_redis: str, pieces: list[bytes]
) -> None:
    """Nothing is charged for what was not delivered."""
    async with serving(streaming([*pieces, cut]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        await broken(gw, key)
        await released(gw)


@pytest.mark.parametrize("request_body", [STREAMED, ASKING], ids=["hidden", "asked"])
async def test_what_breaks_off_after_the_last_event_is_complete(
    tmp_path: Path, empty_redis: str, request_body: dict[str, Any]
) -> None:
    """Nothing can be missing any more: the client gets a good end."""
    async with serving(streaming([word(), report(), DONE, cut]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        got = await stream(gw, key, request_body)
        assert got.body == word() + (report() if request_body is ASKING else b"") + DONE
        assert [charge["amount"] for charge in await charged(gw)] == [PRICE]
        assert not any((await metric(gw, 'gateway_events_total{event="stream_broken"')).values())


async def test_a_silent_service_is_a_broken_one(tmp_path: Path, empty_redis: str) -> None:
    """A time-out in the middle is charged like any other end in the middle."""

    async with serving(streaming([word(), hang]), tmp_path, empty_redis, service={"reply_seconds_max": 0.3}) as gw:
        key = await gw.open_account("a", credit="10")
        assert await broken(gw, key) == word()
        assert (await charged(gw))[0]["basis"] == "estimated"


@pytest.mark.parametrize("error", [event({"error": {"message": "no"}}), event({"message": "no"}, "error")])
async def test_an_error_before_anything_else_costs_nothing(tmp_path: Path, empty_redis: str, error: bytes) -> None:
    """By its field or by its type; it reaches the client as it is, and the stream ends in good order."""
    async with serving(streaming([error]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        got = await stream(gw, key)
        assert (got.status, got.body) == (200, error)
        await released(gw)


async def test_an_error_after_content_is_charged(gw: Running) -> None:
    """What came before it was delivered: by the policy, or what had been reported."""
    key = await gw.open_account("a", credit="10")
    got = await stream(gw, key, event_error=2, **USED)
    assert events(got.body)[-1]["error"]["code"] == 500
    await stream(gw, key, event_error=100, running_usage="true", **USED)
    first, second = await charges(gw, "a")
    assert (first["basis"], second["basis"], second["amount"]) == ("estimated", "reported", PRICE)


async def test_an_error_instead_of_a_stream_costs_nothing(gw: Running) -> None:
    """JSON with the service's status, passed on as ever."""
    key = await gw.open_account("a", credit="10")
    got = await stream(gw, key, status=503, status_body='{"code": 503}')
    assert (got.status, got.json) == (503, {"code": 503})
    await released(gw)


async def test_json_in_place_of_a_stream_is_charged_as_json(tmp_path: Path, empty_redis: str) -> None:
    """The reply's Content-Type decides, not the request."""
    body = orjson.dumps({"model": "gpt-5.2", "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})

    async def script(line: Line) -> None:
        await upstream.taken(line)
        await line.send(message("HTTP/1.1 200 OK", "Content-Type: application/json", body=body))

    upstream = ScriptedUpstream(script)
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        got = await stream(gw, key)
        assert (got.body, got.charge) == (body, PRICE)


@pytest.mark.parametrize("ended", [True, False])
async def test_a_connection_that_ends_is_no_end_of_a_stream(tmp_path: Path, empty_redis: str, ended: bool) -> None:
    """Where only the connection's end ends a body, the last event must have come."""

    async def script(line: Line) -> None:
        await upstream.taken(line)
        await line.send(
            message("HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Connection: close", length=False)
        )
        await line.send(word() + (report() + DONE if ended else b""))

    upstream = ScriptedUpstream(script)
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        if ended:
            assert (await stream(gw, key)).body == word() + DONE
        else:
            assert await broken(gw, key) == word()
        assert (await charged(gw))[0]["basis"] == ("reported" if ended else "estimated")


@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n\r"])
async def test_a_last_event_without_its_empty_line_is_one(tmp_path: Path, empty_redis: str, last: bytes) -> None:
    """It reaches a client that may not see every event as well."""
    async with serving(streaming([word(), report(), last]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        assert (await stream(gw, key)).body == word() + last
        assert (await charges(gw, "a"))[0]["amount"] == PRICE
