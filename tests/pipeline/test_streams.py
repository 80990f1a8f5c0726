"""Streams of events: passed on as they come, charged by the last usage they report."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.money import parse_usd
from tests.fakes.upstream import Line, RawClient, chunk
from tests.harness import Change, Running, running
from tests.pipeline.helpers import CHAT, CHAT_PATH, charges, in_order, sandbox, skus
from tests.pipeline.streaming import (
    ASKING,
    DONE,
    LEFT,
    PRICE,
    STREAMED,
    USED,
    charged,
    chat_stream,
    event,
    events,
    listening,
    released,
    report,
    serving,
    stream,
    streaming,
    unknown_usage,
    word,
)
from tests.upstream.proxying import before, chat_bytes, metric

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


@pytest.mark.parametrize(
    ("ran", "charged_as"),
    [
        ("gpt-5.2-2025-12-11", "gpt-5.2"),
        ("gpt-5.2-20251211", "gpt-5.2"),
        ("claude-3-5-haiku-20241022", "claude-3-5-haiku"),
        ("gpt-5.2-pro", "claude-opus-4-6"),
        ("gpt-5.2-2025-1211", "claude-opus-4-6"),
        ("gpt-9-2025-12-11", "claude-opus-4-6"),
    ],
)
@pytest.mark.parametrize("request_body", [STREAMED, CHAT], ids=["stream", "json"])
async def test_a_dated_name_is_the_model_and_an_unknown_one_the_dearest(
    gw: Running, ran: str, charged_as: str, request_body: dict[str, Any]
) -> None:
    """Services put the date of a version behind a name; what is not known otherwise is counted for ops."""
    key = await gw.open_account("a", credit="10")
    await stream(gw, key, request_body, model_used=ran, **USED)
    assert set(await skus(gw, "a")) == {f"llm.{charged_as}.input", f"llm.{charged_as}.output"}
    unknown = await metric(gw, 'gateway_events_total{event="model_unknown"')
    assert sum(unknown.values()) == (charged_as == "claude-opus-4-6")


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
