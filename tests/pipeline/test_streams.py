"""Streams of events: passed on as they come, charged by the last usage they report, however they end."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.core.money import format_usd, parse_usd
from tests.fakes.upstream import Line, RawClient, ScriptedUpstream, chunk, message
from tests.harness import Change, Got, Running, running
from tests.pipeline.helpers import CHAT, CHAT_PATH, charges, in_order, sandbox, skus, until, without_rates
from tests.upstream.proxying import before, chat_bytes, metric, stoppable

STREAMED: dict[str, Any] = {**CHAT, "stream": True}
ASKING: dict[str, Any] = {**STREAMED, "stream_options": {"include_usage": True}}
#: 1000 tokens in and 100 out: 0.00175 + 0.0014.
USED: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
PRICE = parse_usd("0.00315")
LEFT = parse_usd("9.99685")


def chat_stream(**changes: Any) -> Change:
    """The LLM's stream with these keys changed; a change of the route itself goes under `route`."""

    def change(data: dict[str, Any]) -> None:
        route = data["routes"][0]
        route.update(changes.pop("route", {}))
        route["stream"].update(changes)

    return change


def unknown_usage(policy: str) -> dict[str, Change]:
    """The LLM with this policy, and no limits of requests."""
    return {
        "config/products/llm-gateway.yaml": chat_stream(route={"unknown_usage": policy}),
        "config/tiers.yaml": without_rates,
    }


async def stream(gw: Running, key: str, request: dict[str, Any] = STREAMED, **knobs: Any) -> Got:
    """A streamed completion, read to its end."""
    return await gw.call("POST", CHAT_PATH, key, json=request, headers=sandbox(**knobs))


def events(body: bytes) -> list[Any]:
    """The data of a stream's events."""
    found = [
        line[6:] for line in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if line[:6] == b"data: "
    ]
    return [each.decode() if each == b"[DONE]" else orjson.loads(each) for each in found]


async def charged(gw: Running, account: str = "a", count: int = 1) -> list[dict[str, Any]]:
    """The account's charges, once there are so many and nothing is held."""

    async def there() -> bool:
        return len(await charges(gw, account)) >= count and (await gw.ledger.account(account)).open_holds == 0

    assert await until(there)
    return await charges(gw, account)


async def released(gw: Running, account: str = "a", balance: str = "10") -> None:
    """Wait until nothing is held; nothing was charged."""

    async def free() -> bool:
        return (await gw.ledger.account(account)).open_holds == 0

    assert await until(free)
    assert not await charges(gw, account)
    await in_order(gw, account, balance=parse_usd(balance))


# ---- usage


async def test_a_stream_is_charged_by_its_report(gw: Running) -> None:
    """To the nano, with the head's fields and the events as the service sent them."""
    key = await gw.open_account("a", credit="10")
    got = await stream(gw, key, ASKING, **USED)
    assert got.status == 200
    assert got.headers["Content-Type"] == "text/event-stream"
    assert got.headers["X-Gateway-Call-Id"]
    assert "RateLimit" in got.headers and "X-Gateway-Charge" not in got.headers
    told = events(got.body)
    assert told[-1] == "[DONE]"
    assert (told[-2]["choices"], told[-2]["usage"]["completion_tokens"]) == ([], 100)
    (charge,) = await charges(gw, "a")
    assert (charge["amount"], charge["basis"]) == (PRICE, "reported")
    assert charge["upstream_id"] == told[0]["id"]
    await in_order(gw, "a", balance=LEFT)


async def test_the_gateway_asks_and_hides_the_answer(gw: Running) -> None:
    """A client that did not ask is charged alike, and sees what it would have seen without us."""
    key = await gw.open_account("a", credit="10")
    got = await stream(gw, key, **USED)
    told = events(got.body)
    assert told[-1] == "[DONE]"
    assert all(event["choices"] for event in told[:-1])
    assert all(event.get("usage") is None for event in told[:-1])
    assert (await charges(gw, "a"))[0]["amount"] == PRICE


@pytest.mark.parametrize(
    ("options", "forwarded"),
    [
        (b"", b',"stream_options":{"include_usage":true}}'),
        (b', "stream_options": null', b', "stream_options": {"include_usage":true}}'),
        (b', "stream_options": {"x": 1e2}', b', "stream_options": {"x": 1e2,"include_usage":true}}'),
        (b', "stream_options": {"include_usage": false}', b', "stream_options": {"include_usage": true}}'),
        (b', "stream_options": {"include_usage": true}', b', "stream_options": {"include_usage": true}}'),
        (b', "stream_options": 5', b', "stream_options": 5}'),
    ],
)
async def test_only_what_is_asked_changes_in_the_body(
    tmp_path: Path, empty_redis: str, options: bytes, forwarded: bytes
) -> None:
    """The client's own bytes go on, numbers and spaces included; so do its other options."""
    head = b'{"model": "gpt-5.2",  "temperature": 1.0e0, "messages": [{"content": "\\u00e9"}], "stream": true'
    upstream = streaming([event({"choices": []}), DONE])
    async with before(upstream, tmp_path, empty_redis) as gw, await RawClient.open(gw.gateway.customers_port) as client:
        key = await gw.open_account("a", credit="10")
        await client.ask(chat_bytes(key, "Accept-Encoding: gzip, br", body=head + options + b"}"))
        (request,) = upstream.requests
        assert request.body == head + forwarded
        assert request.one("Accept-Encoding") == b"identity"


async def test_a_request_without_a_stream_is_not_touched(gw: Running) -> None:
    """`stream: false` is forwarded to the byte, and answered and charged as ever."""
    key = await gw.open_account("a", credit="10")
    for request in (CHAT, {**CHAT, "stream": False}, {**CHAT, "stream": None}):
        got = await gw.call("POST", CHAT_PATH, key, json=request, headers=sandbox(**USED))
        assert (got.status, got.charge) == (200, PRICE)
    assert "stream_options" not in str(await gw.seen())


async def test_a_compressed_request_is_asked_in_plain(tmp_path: Path, empty_redis: str) -> None:
    """What cannot be changed in place is forwarded decoded, and says so."""
    upstream = streaming([event({"choices": []}), DONE])
    async with before(upstream, tmp_path, empty_redis) as gw, await RawClient.open(gw.gateway.customers_port) as client:
        key = await gw.open_account("a", credit="10")
        body = gzip.compress(orjson.dumps(STREAMED))
        await client.ask(chat_bytes(key, "Content-Encoding: gzip", body=body))
        (request,) = upstream.requests
        assert request.one("Content-Encoding") is None
        assert orjson.loads(request.body) == ASKING


async def test_the_last_report_counts_and_none_is_summed(gw: Running) -> None:
    """Usage on every chunk is a running total; chunks with content pass with it, whoever asked."""
    key = await gw.open_account("a", credit="10")
    got = await stream(gw, key, {**STREAMED, "model": "qwen3.5-4b-32k-fast"}, **USED)
    told = events(got.body)[:-1]
    assert all(event["usage"]["prompt_tokens"] == 1000 for event in told)
    # 1000 x 0.1 + 100 x 0.5 per million; the chunks call the model by another name
    assert told[0]["model"] == "qwen3.5-4b-32k"
    assert (await charges(gw, "a"))[0]["amount"] == parse_usd("0.00015")
    await stream(gw, key, running_usage="true", **USED)
    assert (await charges(gw, "a"))[1]["amount"] == PRICE


async def test_a_zero_is_a_report(gw: Running) -> None:
    """Zero tokens cost nothing, and are no estimate."""
    key = await gw.open_account("a", credit="10")
    await stream(gw, key, usage="zero")
    (charge,) = await charges(gw, "a")
    assert (charge["amount"], charge["basis"]) == (0, "reported")


async def test_the_model_that_answers_is_charged(gw: Running) -> None:
    """A fallback streams: its price counts."""
    key = await gw.open_account("a", credit="10")
    request = {**STREAMED, "model": "claude-opus-4-6", "fallbacks": [{"model": "qwen3-32b"}]}
    await stream(gw, key, request, primary_fails="true", **USED)
    assert await skus(gw, "a") == {"llm.qwen3-32b.input": "1000", "llm.qwen3-32b.output": "100"}


@pytest.mark.parametrize("names", [("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")])
@pytest.mark.parametrize("lines", ["lf", "crlf", "cr"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_however_a_stream_is_cut_it_is_charged_the_same(
    gw: Running, names: tuple[str, str], lines: str, size: int
) -> None:
    """Both naming schemes, every line end, comments between, and pieces down to a byte."""
    key = await gw.open_account("a", credit="10")
    usage = orjson.dumps(dict(zip(names, (1000, 100), strict=True))).decode()
    got = await stream(
        gw, key, usage=usage, output_tokens=3, event_lines=lines, event_comments="true", body="slow", chunk_bytes=size,
        chunk_seconds=0,
    )  # fmt: skip
    told = events(got.body)
    assert told[-1] == "[DONE]" and len(told) == 4
    assert got.body.count(b": keep-alive") == 5, "the comment before the hidden event stays"
    assert (await charges(gw, "a"))[0]["amount"] == PRICE


async def test_an_event_that_is_too_large_passes_unread(tmp_path: Path, empty_redis: str) -> None:
    """It is not kept, reports nothing, and the events after it are read."""
    large = event(
        {"choices": [{"delta": {"content": "x" * 5000}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    )
    upstream = streaming([large, report(), DONE])
    async with serving(upstream, tmp_path, empty_redis, event_bytes_max=1024) as gw:
        key = await gw.open_account("a", credit="10")
        got = await stream(gw, key)
        assert got.body == large + DONE
        assert (await charges(gw, "a"))[0]["amount"] == PRICE


@pytest.mark.parametrize("asks", [False, True])
async def test_a_stream_that_is_compressed_all_the_same(gw: Running, asks: bool) -> None:
    """It was asked for as it is; the client gets it so, and it is metered."""
    key = await gw.open_account("a", credit="10")
    got = await stream(gw, key, ASKING if asks else STREAMED, body="gzip", **USED)
    assert "Content-Encoding" not in got.headers
    assert events(got.body)[-1] == "[DONE]"
    assert (await charges(gw, "a"))[0]["amount"] == PRICE


async def test_a_stream_in_a_code_that_we_cannot_read_passes(tmp_path: Path, empty_redis: str) -> None:
    """It reports nothing, so the hold is charged, marked as estimated."""
    upstream = streaming([b"\x8b\x00brotli"], "Content-Encoding: br")
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        got = await stream(gw, key)
        assert (got.body, got.headers["Content-Encoding"]) == (b"\x8b\x00brotli", "br")
        assert (await charges(gw, "a"))[0]["basis"] == "estimated"


# ---- as they come

DONE = b"data: [DONE]\n\n"


def event(data: Any, kind: str = "") -> bytes:
    """An event's bytes."""
    return (f"event: {kind}\n".encode() if kind else b"") + b"data: " + orjson.dumps(data) + b"\n\n"


def word(text: str = "word") -> bytes:
    """A chunk with content."""
    return event({"model": "gpt-5.2", "choices": [{"index": 0, "delta": {"content": text}}]})


def report() -> bytes:
    """The event that only reports; it costs PRICE."""
    return event({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})


Act = Callable[[Line], Any]


def head(*fields: str) -> bytes:
    """The head of a chunked stream."""
    return message(
        "HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", *fields, length=False
    )


def streaming(pieces: Sequence[bytes | Act], *fields: str) -> ScriptedUpstream:
    """An upstream that streams these pieces to every request; functions are called with the line in between."""

    async def script(line: Line) -> None:
        while True:
            await upstream.taken(line)
            await line.send(head(*fields))
            for piece in pieces:
                if isinstance(piece, bytes):
                    await line.send(chunk(piece))
                else:
                    await piece(line)
            await line.send(chunk(b""))

    upstream = ScriptedUpstream(script)
    return upstream


@asynccontextmanager
async def serving(
    upstream: ScriptedUpstream, directory: Path, redis_url: str, *, limits: dict[str, Any] | None = None,
    product: dict[str, Any] | None = None, policy: str = "charge_hold", **keys: Any,
) -> AsyncIterator[Running]:  # fmt: skip
    """A gateway before it, with these keys of the LLM's stream."""

    def change(data: dict[str, Any]) -> None:
        data.update(product or {})
        data["routes"][0]["unknown_usage"] = policy
        data["routes"][0]["stream"].update(keys)

    def main(data: dict[str, Any]) -> None:
        for each in data["upstreams"].values():
            each["base_url"] = upstream.url
        data["limits"].update(limits or {})

    changes: dict[str, Change] = {"gateway.yaml": main, "config/products/llm-gateway.yaml": change}
    async with upstream, running(directory, redis_url, changes=changes) as gw:
        yield gw


@asynccontextmanager
async def listening(gw: Running, key: str, request: dict[str, Any] = STREAMED) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream whose client reads it as it likes, and closes in the end."""
    headers = {"Authorization": key}
    async with gw.http.post(gw.url + CHAT_PATH, json=request, headers=headers) as response:
        yield response
        response.close()


@pytest.mark.parametrize("request_body", [STREAMED, ASKING], ids=["hidden", "asked"])
async def test_nothing_waits(tmp_path: Path, empty_redis: str, request_body: dict[str, Any]) -> None:
    """The head before the first event, each event before the next; only one that may be hidden waits for its end."""
    go = asyncio.Semaphore(0)

    async def wait(line: Line) -> None:
        await go.acquire()

    first, second = word("one"), word("two")
    upstream = streaming([wait, first, wait, second[:20], wait, second[20:] + report()[:9], wait, report()[9:] + DONE])
    async with serving(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        async with asyncio.timeout(10), listening(gw, key, request_body) as response:
            assert response.status == 200
            go.release()
            assert await response.content.readany() == first
            go.release()
            if request_body is ASKING:
                assert await response.content.readany() == second[:20]
            go.release()
            rest = await response.content.readany()
            assert rest == (second if request_body is STREAMED else second[20:] + report()[:9])
            go.release()
            assert await response.content.read() == (DONE if request_body is STREAMED else report()[9:] + DONE)
        assert [charge["amount"] for charge in await charged(gw)] == [PRICE]


async def test_a_slow_client_slows_the_service(tmp_path: Path, empty_redis: str) -> None:
    """A client that does not read stops the upstream: no more than buffers are kept; all of it comes in the end."""
    sent = 0
    size, count = 100_000, 500

    async def flood(line: Line) -> None:
        nonlocal sent
        for _ in range(count):
            await line.send(chunk(word("x" * size)))
            sent += 1

    upstream = streaming([flood, report(), DONE])
    async with serving(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key) as response:
            await asyncio.sleep(0.5)
            assert sent * size < 30_000_000, "the buffers of three sockets are full"
            body = await response.content.read()
        assert len(body) > size * count and body.endswith(DONE)
        assert [charge["amount"] for charge in await charged(gw)] == [PRICE]


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

    async def hang(line: Line) -> None:
        await line.ended()

    reporting = event({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})
    upstream = streaming([reporting if running else word(), hang])
    async with serving(upstream, tmp_path, empty_redis, product={"drain_seconds_max": 0.3}) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key) as response:
            await response.content.readany()
            (hold,) = await gw.ledger.holds("a")
        (charge,) = await charged(gw)
        assert (charge["amount"], charge["basis"]) == ((PRICE, "reported") if running else (hold.amount, "estimated"))
        assert await until(lambda: _is(upstream.lines_open == 0)), "the service is told by the end of its connection"
        assert not await gw.ledger.verify("a")


async def _is(found: bool) -> bool:
    return found


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


async def charged_so_far(gw: Running) -> list[dict[str, Any]]:
    """The charges once there is one."""

    async def there() -> bool:
        return bool(await charges(gw, "a"))

    assert await until(there)
    return await charges(gw, "a")


async def test_a_client_that_leaves_before_anything_came_pays_by_the_policy(tmp_path: Path, empty_redis: str) -> None:
    """Leaving early is no way not to pay for a service that has begun to work."""

    async def hang(line: Line) -> None:
        await line.ended()

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
    assert not await metric(gw, "gateway_clients_gone_total{")


async def test_a_gateway_that_stops_charges_what_streams_delivered(tmp_path: Path, empty_redis: str) -> None:
    """A stream that is still open when the time for shutdown is over is cut, and charged by what it reported."""

    async def hang(line: Line) -> None:
        await line.ended()

    reporting = event({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})
    async with stoppable(streaming([reporting, hang]), tmp_path, empty_redis, seconds=0.2) as gw:
        key = await gw.open_account("a", credit="10")
        async with gw.http.post(gw.url + CHAT_PATH, json=STREAMED, headers={"Authorization": key}) as response:
            await response.content.readany()
            await gw.gateway.__aexit__()
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
        await in_order(gw, "a", balance=LEFT)


# ---- the service fails


async def _cut(line: Line) -> None:
    line.close()
    await line.ended()
    raise ConnectionResetError


async def broken(gw: Running, key: str) -> bytes:
    """What comes of a stream that does not end well."""
    got = b""
    async with gw.http.post(gw.url + CHAT_PATH, json=STREAMED, headers={"Authorization": key}) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            while piece := await response.content.readany():
                got += piece
    return got


async def test_a_stream_that_breaks_off_is_charged_on_what_it_reported(tmp_path: Path, empty_redis: str) -> None:
    """The client's connection is cut as well: nothing looks complete."""
    reporting = event({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})
    async with serving(streaming([reporting, _cut]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        assert await broken(gw, key) == reporting
        (charge,) = await charged(gw)
        assert (charge["amount"], charge["basis"]) == (PRICE, "reported")
        name = 'gateway_events_total{event="stream_broken",product="llm-gateway"}'
        assert (await metric(gw, "gateway_events_total"))[name] == 1
        assert not await metric(gw, "gateway_clients_gone_total{")


async def test_a_stream_that_breaks_off_without_a_report_is_charged_by_the_policy(
    tmp_path: Path, empty_redis: str
) -> None:
    """Something was delivered: the hold, marked as estimated."""
    async with serving(streaming([word(), word()[:10], _cut]), tmp_path, empty_redis) as gw:
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
    async with serving(streaming([*pieces, _cut]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        await broken(gw, key)
        await released(gw)


async def test_a_silent_service_is_a_broken_one(tmp_path: Path, empty_redis: str) -> None:
    """A time-out in the middle is charged like any other end in the middle."""

    async def hang(line: Line) -> None:
        await line.ended()

    upstream = streaming([word(), hang])

    def slow(data: dict[str, Any]) -> None:
        for each in data["upstreams"].values():
            each.update(base_url=upstream.url, reply_seconds_max=0.3)

    async with upstream, running(tmp_path, empty_redis, changes={"gateway.yaml": slow}) as gw:
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


# ---- unknown usage


async def test_unknown_usage_costs_the_hold(gw: Running) -> None:
    """`[DONE]` came, and no report."""
    key = await gw.open_account("a", credit="10")
    got = await stream(gw, key, {**STREAMED, "max_tokens": 1000}, usage="missing")
    assert events(got.body)[-1] == "[DONE]"
    (charge,) = await charges(gw, "a")
    assert charge["basis"] == "estimated"
    assert parse_usd("0.014") < charge["amount"] < parse_usd("0.0145")


async def test_a_stream_of_nothing_costs_nothing(tmp_path: Path, empty_redis: str) -> None:
    """An end alone delivers nothing; with a report, that counts."""
    async with serving(streaming([DONE]), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        assert (await stream(gw, key)).body == DONE
        await released(gw)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("policy", "amount"),
    [
        ("charge_nothing", None),
        ("charge_floor", "input"),
        ("charge_estimate", "input and output"),
    ],
)
async def test_policies_for_unknown_usage(
    tmp_path: Path, empty_redis: str, streamed: bool, policy: str, amount: str | None
) -> None:
    """Nothing; the request's size as input; that, and the delivered content's size as output. Marked as estimated."""
    async with running(tmp_path, empty_redis, changes=unknown_usage(policy)) as gw:
        key = await gw.open_account("a", credit="10")
        request = {**(STREAMED if streamed else CHAT), "max_tokens": 1000}
        got = await stream(gw, key, request, usage="missing", output_tokens=30)
        tokens_in = -(-len(orjson.dumps(request).replace(b":", b": ").replace(b",", b", ")) // 3)
        if amount is None:
            await released(gw)
            return
        content = (
            "".join(each["choices"][0]["delta"]["content"] for each in events(got.body)[:-1]) if streamed else None
        )
        size = len(content) if content is not None else len(got.body)
        tokens_out = -(-size // 3) if policy == "charge_estimate" else 0
        (charge,) = await charges(gw, "a")
        found = {item["sku"].rpartition(".")[2]: int(item["quantity"]) for item in charge["items"]}
        assert charge["basis"] == "estimated"
        assert found.get("output", 0) == tokens_out
        assert found["input"] == tokens_in
        assert charge["amount"] == found["input"] * 1750 + tokens_out * 14_000


async def test_an_estimate_is_never_more_than_the_hold(tmp_path: Path, empty_redis: str) -> None:
    """More was delivered than was held: the hold it is."""
    changes = unknown_usage("charge_estimate")
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="0.001")
        await stream(gw, key, usage="missing", output_tokens=2000)
        (charge,) = await charges(gw, "a")
        assert (charge["amount"], charge["basis"]) == (parse_usd("0.001"), "estimated")
        await in_order(gw, "a", balance=parse_usd("0"))


# ---- the charge is told


@pytest.mark.parametrize("request_body", [STREAMED, ASKING], ids=["hidden", "asked"])
async def test_the_charge_in_a_comment(tmp_path: Path, empty_redis: str, request_body: dict[str, Any]) -> None:
    """After the last event, once the charge is made; its call is the one of the head."""
    changes: dict[str, Change] = {"config/products/llm-gateway.yaml": chat_stream(charge_comment=True)}
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="10")
        got = await stream(gw, key, request_body, **USED)
        call_id = got.headers["X-Gateway-Call-Id"]
        assert got.body.endswith(
            f"data: [DONE]\n\n: gateway call_id={call_id} charge=0.003150000 currency=USD\n\n".encode()
        )
        failed = await stream(gw, key, request_body, event_error=0)
        assert b"charge=0.000000000" in failed.body


async def test_the_comment_is_a_line_of_its_own(tmp_path: Path, empty_redis: str) -> None:
    """Also after an event that did not end."""
    async with serving(streaming([word(), b"data: [DONE]"]), tmp_path, empty_redis, charge_comment=True) as gw:
        key = await gw.open_account("a", credit="10")
        got = await stream(gw, key)
        assert b"\ndata: [DONE]\n\n: gateway call_id=" in got.body


async def test_a_charge_that_the_ledger_refuses_is_not_told_as_one(tmp_path: Path, empty_redis: str) -> None:
    """Ops release the hold while the stream runs: the stream comes, nothing is charged, and no comment claims it."""
    go = asyncio.Event()

    async def wait(line: Line) -> None:
        await go.wait()

    upstream = streaming([word(), wait, report(), DONE])
    async with serving(upstream, tmp_path, empty_redis, charge_comment=True) as gw:
        key = await gw.open_account("a", credit="10")
        async with listening(gw, key) as response:
            await response.content.readany()
            (hold,) = await gw.ledger.holds("a")
            assert await gw.ledger.release(account="a", hold_id=hold.id)
            go.set()
            assert await response.content.read() == DONE
        await released(gw)
