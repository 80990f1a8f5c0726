"""The LLM gateway's paid calls: which tokens cost what, what is not charged, what is refused, how much is held."""

import asyncio
from gzip import compress
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.money import format_usd, parse_usd
from tests.harness import Running, running
from tests.pipeline.helpers import (
    CHAT,
    CHAT_PATH,
    charges,
    chat,
    finished,
    holding,
    in_order,
    sandbox,
    skus,
    submitted,
    without_rates,
)


async def test_cached_and_reasoning_tokens_have_their_own_prices(gw: Running) -> None:
    """Cached and written input is taken out of the input, reasoning falls back to the output's price."""
    key = await gw.open_account("a", credit="10")
    got = await chat(gw, key, input_tokens=1000, output_tokens=100, cached_tokens=400, reasoning_tokens=30)
    # 600 x 1.75 + 400 x 0.175 + 100 x 14, for a million
    assert got.charge == parse_usd("0.00252")
    (charge,) = await charges(gw, "a")
    assert [(item["sku"], item["quantity"]) for item in charge["items"]] == [
        ("llm.gpt-5.2.input", "600"), ("llm.gpt-5.2.cached_input", "400"), ("llm.gpt-5.2.output", "70"),
        ("llm.gpt-5.2.output", "30"),
    ]  # fmt: skip
    got = await chat(
        gw, key, {"model": "claude-opus-4-6"}, input_tokens=1000, output_tokens=10, cached_tokens=100,
        cache_write_tokens=200,
    )  # fmt: skip
    # 700 x 5 + 100 x 0.5 + 200 x 6.25 + 10 x 25
    assert got.charge == parse_usd("0.00505")
    got = await chat(gw, key, {"model": "gemini-2.5-flash"}, input_tokens=1000, output_tokens=0, cached_tokens=1000)
    assert got.charge == parse_usd("0.0003"), "a model without a cached price pays the input's"


async def test_the_lines_of_a_charge_sum_up_to_it(gw: Running) -> None:
    """Every charge explains itself: the amounts of its lines are the charge, and nothing is counted twice."""
    key = await gw.open_account("a", credit="10")
    await chat(gw, key, input_tokens=999, output_tokens=101, cached_tokens=333, reasoning_tokens=100)
    (charge,) = await charges(gw, "a")
    assert sum(item["amount"] for item in charge["items"]) == charge["amount"]
    assert sum(int(item["quantity"]) for item in charge["items"]) == 999 + 101
    assert (charge["price_version"], charge["key_id"]) == ("2026-10-07", "key-a")
    assert charge["upstream_id"]


async def test_the_model_that_answered_is_charged_not_the_one_asked_for(gw: Running) -> None:
    """A fallback answered: its price counts; a model nobody knows is charged as the dearest."""
    key = await gw.open_account("a", credit="10")
    body = {"model": "claude-opus-4-6", "fallbacks": [{"model": "qwen3-32b"}]}
    got = await chat(gw, key, body, input_tokens=1_000_000, output_tokens=0, primary_fails="true")
    assert (got.json["model"], got.charge) == ("qwen3-32b", parse_usd("0.15"))
    got = await chat(gw, key, input_tokens=100_000, output_tokens=0, model_used="brand-new")
    assert got.charge == parse_usd("0.5")
    assert await skus(gw, "a") == {"llm.claude-opus-4-6.input": "100000"}


async def test_a_fallback_that_is_not_known_is_refused(gw: Running) -> None:
    """Every model that a request names must be known; nothing reaches the upstream."""
    key = await gw.open_account("a", credit="10")
    for body in ({"model": "gpt-9"}, {"fallbacks": [{"model": "gpt-9"}]}, {"model": 5}):
        got = await chat(gw, key, body)
        assert (got.status, got.code) == (400, "unknown_model")
    assert not await gw.seen()
    await in_order(gw, "a", balance=parse_usd("10"))


async def test_missing_usage_is_charged_as_held_and_marked(gw: Running) -> None:
    """A success without usage costs the hold, and the entry says that it is estimated."""
    key = await gw.open_account("a", credit="10")
    got = await chat(gw, key, {"max_tokens": 1000}, usage="missing")
    assert got.status == 200
    (charge,) = await charges(gw, "a")
    assert charge["basis"] == "estimated"
    assert charge["amount"] == got.charge
    assert got.charge is not None
    assert parse_usd("0.014") < got.charge < parse_usd("0.0145"), "1000 tokens out, and the request's size in"
    await in_order(gw, "a", balance=parse_usd(format_usd(parse_usd("10") - got.charge)))


async def test_zero_usage_is_a_report(gw: Running) -> None:
    """Zero tokens cost nothing and are not an estimate."""
    key = await gw.open_account("a", credit="10")
    got = await chat(gw, key, usage="zero")
    assert (got.status, got.charge) == (200, 0)
    (charge,) = await charges(gw, "a")
    assert (charge["basis"], charge["amount"]) == ("reported", 0)
    await in_order(gw, "a", balance=parse_usd("10"))


async def test_nonsense_usage_is_unknown_usage(gw: Running) -> None:
    """Negative, huge or textual token counts are nobody's usage: the hold is charged, marked as estimated."""
    key = await gw.open_account("a", credit="10")
    for usage in (
        '{"prompt_tokens": -5, "completion_tokens": 1}',
        '{"prompt_tokens": 1e30, "completion_tokens": 1}',
        '{"prompt_tokens": "many", "completion_tokens": 1}',
        '{"prompt_tokens": true, "completion_tokens": 1}',
        "[]",
    ):
        got = await gw.call("POST", CHAT_PATH, key, json={**CHAT, "max_tokens": 10}, headers={"X-Sandbox-Usage": usage})
        if usage == "[]":
            assert got.status == 400, "the sandbox knows no such usage"
            continue
        assert got.status == 200
        assert (await charges(gw, "a"))[-1]["basis"] == "estimated"
    assert len(await charges(gw, "a")) == 4


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
async def test_an_error_of_the_upstream_passes_and_costs_nothing(gw: Running, status: int) -> None:
    """Its status and body come through, nothing is charged, nothing stays held."""
    key = await gw.open_account("a", credit="10")
    body = '{"code": 1, "message": "no"}'
    got = await chat(gw, key, status=status, status_body=body)
    assert (got.status, got.json) == (status, {"code": 1, "message": "no"})
    assert got.code == ""
    assert got.charge is None
    assert not await charges(gw, "a")
    await in_order(gw, "a", balance=parse_usd("10"))


@pytest.mark.parametrize("body", ["no_reply", "truncated"])
async def test_a_reply_that_does_not_arrive_costs_nothing(gw: Running, body: str) -> None:
    """Cut off by the upstream before or in the middle of the body: 502, uncharged."""
    key = await gw.open_account("a", credit="10")
    got = await chat(gw, key, body=body)
    assert (got.status, got.code) == (502, "upstream_unreachable")
    await in_order(gw, "a", balance=parse_usd("10"))


@pytest.mark.parametrize("body", ["gzip", "chunked", "slow"])
async def test_however_a_reply_is_delivered_it_is_charged_the_same(gw: Running, body: str) -> None:
    """Compressed, chunked and slow bodies report the same usage."""
    key = await gw.open_account("a", credit="10")
    got = await chat(gw, key, body=body, chunk_seconds=0.001, chunk_bytes=64, input_tokens=1000, output_tokens=100)
    assert got.status == 200
    assert (await charges(gw, "a"))[-1]["amount"] == parse_usd("0.00315")
    await in_order(gw, "a", balance=parse_usd("9.99685"))


async def test_a_large_reply_is_charged_whether_or_not_its_client_stays(gw: Running) -> None:
    """A body that is streamed for its size is metered all the same, and a client that leaves in the middle pays."""
    key = await gw.open_account("a", credit="10")
    headers = sandbox(body_bytes=2_000_000, input_tokens=1000, output_tokens=100)
    got = await gw.call("POST", CHAT_PATH, key, json=CHAT, headers=headers)
    assert got.status == 200
    assert len(got.body) > 2_000_000
    async with gw.http.post(gw.url + CHAT_PATH, json=CHAT, headers={**headers, "Authorization": key}) as response:
        await response.content.read(1000)
        response.close()
    for _ in range(100):
        if len(await charges(gw, "a")) == 2:
            break
        await asyncio.sleep(0.02)
    assert [charge["amount"] for charge in await charges(gw, "a")] == [parse_usd("0.00315")] * 2
    await in_order(gw, "a", balance=parse_usd("9.9937"))


async def test_a_client_that_does_not_wait_for_the_answer_pays_for_it(gw: Running) -> None:
    """Leaving before the reply's head does not cancel the call: what the upstream reports is charged."""
    key = await gw.open_account("a", credit="10")
    call = asyncio.create_task(chat(gw, key, input_tokens=1000, output_tokens=100, latency_seconds=0.5))
    await holding(gw, "a")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    for _ in range(100):
        if await charges(gw, "a"):
            break
        await asyncio.sleep(0.02)
    await in_order(gw, "a", balance=parse_usd("9.99685"))


async def test_what_has_no_price_is_refused(gw: Running) -> None:
    """Regions and web search are refused before anything is held."""
    key = await gw.open_account("a", credit="10")
    bodies: tuple[dict[str, Any], ...] = (
        {"model_region": "us"}, {"model_region": "EU"}, {"model_region": ["us"]}, {"web_search_options": {"a": 1}},
        {"web_search_options": {}},
    )  # fmt: skip
    for body in bodies:
        got = await chat(gw, key, body)
        assert (got.status, got.code) == (400, "unsupported"), body
    for body in ({"fallbacks": ["claude-opus-4-6"]}, {"fallbacks": "claude-opus-4-6"}, {"tools": ["web_search"]}):
        got = await chat(gw, key, body)
        assert (got.status, got.code) == (400, "unpriced_field"), body
    off = {"stream": False, "model_region": "global", "web_search_options": None, "fallbacks": None, "tools": []}
    assert (await chat(gw, key, off)).status == 200
    assert len(await gw.seen()) == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b'\xef\xbb\xbf{"model": "gpt-5.2"}']
)
async def test_a_body_that_is_no_json_object_is_refused(gw: Running, body: bytes) -> None:
    """400 in the product's dialect; nothing is forwarded."""
    key = await gw.open_account("a", credit="10")
    got = await gw.call("POST", CHAT_PATH, key, data=body, headers={"Content-Type": "application/json"})
    assert (got.status, got.code) == (400, "invalid_request")
    assert got.json["error"]["code"] == "invalid_request"
    assert not await gw.seen()


async def test_the_estimate_knows_how_much_is_asked_for(tmp_path: Path, empty_redis: str) -> None:
    """The hold grows with max_tokens and with the number of answers, and a fallback counts as its price."""
    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": without_rates}) as gw:
        key = await gw.open_account("a", credit="100")

        async def held(body: dict[str, Any]) -> int:
            call = asyncio.create_task(chat(gw, key, body, latency_seconds=0.4))
            found = await holding(gw, "a")
            assert (await call).status == 200
            return found

        one = await held({"max_tokens": 2000})
        assert parse_usd("0.028") < one < parse_usd("0.0283")
        assert parse_usd("0.084") < await held({"max_tokens": 2000, "n": 3}) < parse_usd("0.0843")
        assert parse_usd("0.014") < await held({}) < parse_usd("0.0143")
        dear = await held({"max_tokens": 2000, "fallbacks": [{"model": "claude-opus-4-6"}]})
        assert parse_usd("0.05") < dear < parse_usd("0.051")
        for low, high in ((5, 1000), (1000, 5)):  # whichever the service heeds
            assert await held({"max_completion_tokens": high, "max_tokens": low}) > parse_usd("0.014")


async def test_a_packed_prompt_holds_what_a_plain_one_does(gw: Running) -> None:
    """What a prompt costs is known by what the service unpacks, however few bytes it was packed into."""
    key = await gw.open_account("a", credit="100")
    plain = orjson.dumps(CHAT | {"max_tokens": 1, "messages": [{"role": "user", "content": "word " * 60_000}]})
    held: list[int] = []
    for body, coding in ((plain, "identity"), (compress(plain), "gzip")):
        headers = {"Content-Type": "application/json", "Content-Encoding": coding, "X-Sandbox-Latency-Seconds": "0.4"}
        call = asyncio.create_task(gw.call("POST", CHAT_PATH, key, data=body, headers=headers))
        held.append(await holding(gw, "a"))
        await call
    assert held[0] == held[1] > parse_usd("0.175"), "300,000 bytes, 3 of them a token, at $1.75 a million"


async def test_the_estimate_knows_the_transcript_that_is_put_into_the_prompt(tmp_path: Path, empty_redis: str) -> None:
    """The text of a finished transcript counts as often as its tag stands in the request, in whatever spelling."""
    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": without_rates}) as gw:
        key = await gw.open_account("a", credit="100")
        path = await submitted(gw, key, 3600)
        await finished(gw, key, path)

        async def held(text: str, **body: Any) -> int:
            sent = orjson.dumps(CHAT | {"max_tokens": 1, "messages": [{"role": "user", "content": text}]} | body)
            headers = {"Content-Type": "application/json", "X-Sandbox-Latency-Seconds": "0.4"}
            asked = sent.replace(b"{{", rb"\u007b{") if b"twice" in sent else sent
            call = asyncio.create_task(gw.call("POST", CHAT_PATH, key, data=asked, headers=headers))
            found = await holding(gw, "a")
            assert (await call).status == 200
            return found

        hour = parse_usd("0.042")  # 3600 s of 20 bytes, 3 bytes a token, at $1.75 a million
        transcript = path.rpartition("/")[2]
        little = await held("Sum up: {{ transcript }}")
        assert little < parse_usd("0.001"), "the transcript is not named"
        once = await held("Sum up: {{ transcript }}", transcript_id=transcript)
        assert hour < once < hour + parse_usd("0.001")
        assert hour < await held("Sum up.", transcript_id=transcript) < hour + parse_usd("0.001")
        twice = await held("{{ transcript }} twice: {{ transcript }}", transcript_id=transcript)
        assert 2 * hour < twice < 2 * hour + parse_usd("0.001")
        named = orjson.dumps(CHAT | {"transcript_id": transcript, "metadata": "deep"})
        deep = named.replace(b'"deep"', b"[" * 900 + b"]" * 900)
        assert (await gw.call("POST", CHAT_PATH, key, data=deep)).status == 200, "however deep it is"


async def test_an_account_with_little_left_may_call_and_a_second_call_finds_nothing(gw: Running) -> None:
    """The hold is what is available, never more; while it is held there is no credit for another call."""
    key = await gw.open_account("a", credit="0.001")
    first = asyncio.create_task(chat(gw, key, input_tokens=1000, output_tokens=100, latency_seconds=1.0))
    await holding(gw, "a")
    assert (await gw.ledger.account("a")).held == parse_usd("0.001")
    second = await chat(gw, key)
    assert (second.status, second.code) == (400, "insufficient_credit")
    assert (await first).charge == parse_usd("0.00315")
    await in_order(gw, "a", balance=parse_usd("-0.00215"))
    assert (await chat(gw, key)).code == "insufficient_credit"
    await gw.ledger.grant(operation="top-up", account="a", kind="purchase", amount=parse_usd("1"))
    assert (await chat(gw, key)).status == 200


async def test_an_exhausted_account_can_list_models(gw: Running) -> None:
    """Free routes need no credit, and public ones no key."""
    key = await gw.open_account("a", credit="0")
    for credential in (key, None, "nobody"):
        got = await gw.call("GET", "/v1/models", credential)
        assert got.status == 200
        assert got.json["data"]


async def test_the_customers_key_never_reaches_the_upstream(gw: Running) -> None:
    """Raw or as Bearer, in any spelling; the service's credential and the account's id go in its place."""
    key = await gw.open_account("a", credit="10")
    for sent in (
        {"Authorization": key}, {"authorization": f"Bearer {key}"}, {"AUTHORIZATION": f"bearer  {key}"},
    ):  # fmt: skip
        headers = {**sent, "X-Account-Id": "someone-else", "X-Call-Id": "forged", "X-Forwarded-For": "6.6.6.6"}
        got = await gw.call("POST", CHAT_PATH, None, json=CHAT, headers=headers)
        assert got.status == 200
    seen = await gw.seen()
    assert len(seen) == 3
    assert key not in str(seen)
    assert "someone-else" not in str(seen)
    assert "6.6.6.6" not in str(seen)
    assert gw.sandbox.state.counts["foreign_credentials"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "gpt-4.1", "messages": [], "model": "gpt-5.2"}',
        b'{"model": "gpt-4.1", "messages": [], "mod\\u0065l": "gpt-5.2"}',
        b'{"model": "gpt-5.2", "messages": [], "stream": true, "stream": false}',
    ],
)
async def test_a_name_that_stands_twice_is_refused(gw: Running, body: bytes) -> None:
    """What was judged must be what the upstream reads, whichever of the two it takes."""
    key = await gw.open_account("a", credit="10")
    got = await gw.call("POST", "/v1/chat/completions", key, data=body, headers={"Content-Type": "application/json"})
    assert (got.status, got.code) == (400, "invalid_request")
    assert not await gw.seen()


async def test_names_that_only_look_repeated_pass(gw: Running) -> None:
    """The same name in another object, or in a text with an escape, is no repetition."""
    key = await gw.open_account("a", credit="10")
    content = b'"\\u00e9 \\"model\\""'
    body = b'{"model": "gpt-5.2", "messages": [{"role": "user", "content": %b}], "metadata": {"model": "x"}}' % content
    got = await gw.call("POST", "/v1/chat/completions", key, data=body, headers={"Content-Type": "application/json"})
    assert got.status == 200


@pytest.mark.parametrize("field", ["service_tier", "plugins", "speech_understanding"])
async def test_a_field_that_may_cost_money_is_refused(gw: Running, field: str) -> None:
    """A request field that is on, and has neither a price nor a known absence of one, is not forwarded."""
    key = await gw.open_account("a", credit="10")
    body = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "x"}], field: "priority"}
    got = await gw.call("POST", "/v1/chat/completions", key, json=body)
    assert (got.status, got.code) == (400, "unpriced_field")
    assert not await gw.seen()


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}
OTHERS: list[dict[str, Any]] = [
    {"tools": [{"type": "web_search"}]},
    {"tools": [FUNCTION, {"type": "code_interpreter", "container": {"type": "auto"}}]},
    {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    {"tools": [{"google_search": {}}]},
    {"tools": [[{"type": "web_search"}]]},
    {"tools": {"type": "web_search"}},
    {"tools": [{"type": "function", "function": {"name": "f"}, "defer_loading": True}]},
    {"fallbacks": [{"model": "gpt-5.1", "service_tier": "priority"}]},
    {"fallbacks": [{"model": "gpt-5.1", "max_tokens": 64_000}]},
    {"fallbacks": [{"model": "gpt-5.1", "tools": [{"type": "web_search"}]}]},
    {"post_processing_steps": [{"type": "translate"}]},
]


async def test_what_the_service_does_beside_the_model_is_refused(gw: Running) -> None:
    """Tools that the service runs, steps, and fallbacks that ask for more have no price; functions are the client's."""
    key = await gw.open_account("a", credit="10")
    for more in OTHERS:
        got = await gw.call("POST", "/v1/chat/completions", key, json=CHAT | more)
        assert got.status == 400 and got.code in ("unpriced_field", "unsupported"), (more, got.code)
    assert not await gw.seen()
    own = {
        "tools": [FUNCTION, {"name": "f", "description": "d", "input_schema": {}}, {"type": "custom", "name": "g"}],
        "tool_choice": "auto",
        "fallbacks": [{"model": "gpt-5.1", "messages": CHAT["messages"], "temperature": 0}],
        "fallback_config": {"depth": 1},
        "post_processing_steps": [{"type": "json-repair"}],
    }
    assert (await gw.call("POST", "/v1/chat/completions", key, json=CHAT | own)).status == 200


async def test_a_charge_that_the_ledger_refuses_is_not_told_as_one(gw: Running) -> None:
    """Ops release a call's hold while it runs: the answer comes, nothing is charged, and no header claims a charge."""
    key = await gw.open_account("a", credit="10")
    body = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "x"}]}
    calling = asyncio.create_task(
        gw.call("POST", "/v1/chat/completions", key, json=body, headers={"X-Sandbox-Latency-Seconds": "0.4"})
    )
    async with asyncio.timeout(5):
        while not (holds := await gw.ledger.holds("a")):  # noqa: ASYNC110 - the ledger has no event to wait for
            await asyncio.sleep(0.01)
    assert await gw.ledger.release(account="a", hold_id=holds[0].id)
    got = await calling
    assert (got.status, got.charge) == (200, None)
    assert await gw.balance("a") == parse_usd("10")
    assert not await gw.ledger.verify("a")
