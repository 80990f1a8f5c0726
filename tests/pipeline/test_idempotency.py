"""Calls that carry an Idempotency-Key: a repeat gets the first answer, and nothing is charged or forwarded twice."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from gateway.core.money import parse_usd
from gateway.edge.keys import key_digest
from gateway.ports import Key
from tests.harness import Got, Running, running
from tests.pipeline.helpers import (
    CHAT,
    CHAT_PATH,
    charges,
    finished,
    holding,
    in_order,
    sandbox,
    until,
    without_rates,
)
from tests.pipeline.streaming import USED

JOB = "/v2/transcript"
PRICE = parse_usd("0.00315")
LEFT = parse_usd("9.99685")
SMALL = {"seconds": 60, "keys_max": 2, "answer_bytes_max": 2000, "account_bytes_max": 3200}


def bounded(data: dict[str, Any]) -> None:
    """Little is remembered."""
    data["idempotency"] = dict(SMALL)


async def post(gw: Running, key: str, word: str, sent: Any = None, *, path: str = CHAT_PATH, **knobs: Any) -> Got:
    """A paid call with an Idempotency-Key."""
    headers = {"Idempotency-Key": word, "Content-Type": "application/json", **sandbox(**{**USED, **knobs})}
    return await gw.call("POST", path, key, data=orjson.dumps(CHAT if sent is None else sent), headers=headers)


def same(repeat: Got, first: Got) -> bool:
    """Whether it is the first answer, to the byte, with the first charge and call, and says that it is a repeat."""
    told = ("X-Gateway-Call-Id", "X-Gateway-Charge", "Content-Type", "Content-Encoding")
    assert [repeat.headers.get(name) for name in told] == [first.headers.get(name) for name in told]
    assert (repeat.status, repeat.body) == (first.status, first.body)
    return "Idempotent-Replayed" not in first.headers and repeat.headers.get("Idempotent-Replayed") == "true"


async def test_a_repeat_gets_the_first_answer_and_is_not_charged(gw: Running) -> None:
    """Also when the first call took the last credit, also by another key of the account; limits of now are told."""
    key = await gw.open_account("a", credit="0.001")
    first = await post(gw, key, "k", set_cookie="c=1", headers='{"X-Upstream": "kept"}')
    assert (first.status, first.charge) == (200, PRICE)
    assert (await post(gw, key, "other")).code == "insufficient_credit"
    other = Key(id="second", account="a")
    await gw.ledger.put_key(operation="k2", key=other, digest=key_digest(gw.runtime.key_pepper, "second-secret"))
    repeat = first
    for secret in (key, "second-secret"):
        repeat = await post(gw, secret, '"k"')
        assert same(repeat, first)
        assert "Set-Cookie" not in repeat.headers
        assert int(repeat.headers["RateLimit"].split("r=")[1].split(";")[0]) > 0
    assert repeat.headers["RateLimit"] != first.headers["RateLimit"], "a repeat is a request, and counts as one"
    assert len(await gw.seen()) == 1
    assert len(await charges(gw, "a")) == 1
    await in_order(gw, "a", balance=parse_usd("-0.00215"))


async def test_a_repeated_job_is_the_same_job(gw: Running) -> None:
    """The repeat names the transcript of the first call, which is charged once, at its end."""
    key = await gw.open_account("a", tier="free", credit="50")
    body = {"audio_url": "https://example.com/a.wav?duration=3600&channels=2"}
    first = await post(gw, key, "job", body, path=JOB)
    repeat = await post(gw, key, "job", body, path=JOB)
    assert same(repeat, first)
    await finished(gw, key, f"{JOB}/{first.json['id']}")
    assert same(await post(gw, key, "job", body, path=JOB), first), "the first answer, not the job as it stands"
    assert [request["method"] for request in await gw.seen()].count("POST") == 1
    await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_of_fifty_at_once_one_is_served(tmp_path: Path, empty_redis: str) -> None:
    """One call upstream and one charge; the others are told to retry, and get the answer when they do."""
    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": without_rates}) as gw:
        key = await gw.open_account("a", credit="10")
        answers = await asyncio.gather(*(post(gw, key, "k", latency_seconds=0.4) for _ in range(50)))
        (first,) = [got for got in answers if got.status == 200]
        told = {(got.status, got.code, got.headers["Retry-After"]) for got in answers if got is not first}
        assert told == {(409, "idempotency_in_progress", "1")}
        assert same(await post(gw, key, "k"), first)
        assert len(await gw.seen()) == 1
        await in_order(gw, "a", balance=LEFT)


async def test_a_key_is_for_one_request(gw: Running) -> None:
    """Another body, query or route is 422 in the product's dialect, while the first call runs and afterwards."""
    key = await gw.open_account("a", tier="payg", credit="10")
    running_call = asyncio.create_task(post(gw, key, "k", latency_seconds=1.0))
    await holding(gw, "a")
    other = {**CHAT, "temperature": 0.5}
    early = await post(gw, key, "k", other)
    first = await running_call
    late = [
        await post(gw, key, "k", other),
        await post(gw, key, "k", path=CHAT_PATH + "?x=1"),
        await post(gw, key, "k", {"audio_url": "https://example.com/a.wav"}, path=JOB),
    ]
    assert {(got.status, got.code) for got in (early, *late)} == {(422, "idempotency_conflict")}
    assert "another request" in early.json["error"]["message"]
    assert isinstance(late[-1].json["error"], str), "as the speech-to-text product words it"
    assert same(await post(gw, key, "k"), first)
    assert len(await gw.seen()) == 1


async def test_accounts_share_no_keys_here_nor_at_the_service(gw: Running) -> None:
    """The same word of two accounts: two answers, two charges; the service gets a key of each account's own."""
    for account in ("a", "b"):
        key = await gw.open_account(account, credit="10")
        first = await post(gw, key, "word")
        assert first.status == 200
        assert "Idempotent-Replayed" not in first.headers
        await in_order(gw, account, balance=LEFT)
    sent = [request["headers"].get("idempotency-key") for request in await gw.seen()]
    assert len(set(sent)) == 2
    assert not {None, "word"} & set(sent)


async def test_what_was_not_charged_may_be_tried_again(gw: Running) -> None:
    """Errors of the service, refusals and unreachable services free the key at once, also for another body."""
    key = await gw.open_account("a", tier="payg", credit="0")
    refused = await post(gw, key, "k")
    assert refused.code == "insufficient_credit"
    await gw.ledger.grant(operation="g", account="a", kind="purchase", amount=parse_usd("10"))
    failing: list[dict[str, Any]] = [{"status": 400}, {"status": 500}, {"status": 429}, {"body": "no_reply"}]
    for number, knobs in enumerate(failing):
        got = await post(gw, key, "k", {**CHAT, "temperature": number / 10}, **knobs)
        assert got.status in (400, 500, 429, 502), got.body
        assert "Idempotent-Replayed" not in got.headers
    assert (await post(gw, key, "k", {"model": "no-such"})).code == "unknown_model"
    first = await post(gw, key, "k")
    assert first.status == 200
    assert same(await post(gw, key, "k"), first)
    await in_order(gw, "a", balance=LEFT)


async def test_guards_hold_for_repeats(gw: Running) -> None:
    """A key that was disabled, or an account suspended since, gets no answer that was kept."""
    key = await gw.open_account("a", credit="10")
    assert (await post(gw, key, "k")).status == 200
    await gw.ledger.change_key(operation="d", account="a", key_id="key-a", changes={"disabled": True})
    assert (await post(gw, key, "k")).code == "key_disabled"
    await gw.ledger.change_key(operation="e", account="a", key_id="key-a", changes={"disabled": False})
    await gw.ledger.change_account(operation="s", account="a", status="suspended")
    assert (await post(gw, key, "k")).code == "account_suspended"
    assert (await post(gw, "nobody's", "k")).code == "unauthorized"


@pytest.mark.parametrize("body", ["gzip", "chunked"])
async def test_answers_are_kept_as_they_came(gw: Running, body: str) -> None:
    """Compressed bytes and their encoding; and a small answer whose length nobody knew."""
    key = await gw.open_account("a", credit="10")
    first = await _delivered(gw, key, body)
    assert first.status == 200
    plain = gzip.decompress(first.body) if body == "gzip" else first.body
    assert orjson.loads(plain)["usage"]["prompt_tokens"] == 1000
    assert same(await _delivered(gw, key, body), first)
    await in_order(gw, "a", balance=LEFT)


async def _delivered(gw: Running, key: str, how: str) -> Got:
    headers = {"Idempotency-Key": "k", "Accept-Encoding": "gzip", **sandbox(**USED, body=how)}
    return await gw.call("POST", CHAT_PATH, key, json=CHAT, headers=headers)


async def test_a_stream_is_remembered_without_its_body(gw: Running) -> None:
    """A repeat is refused, names the call that was charged, and is not charged again."""
    key = await gw.open_account("a", credit="10")
    body = {**CHAT, "stream": True}
    first = await post(gw, key, "k", body)
    assert first.status == 200
    assert first.body.endswith(b"data: [DONE]\n\n")
    repeat = await post(gw, key, "k", body)
    assert (repeat.status, repeat.code) == (410, "idempotency_answer_not_kept")
    assert first.headers["X-Gateway-Call-Id"] in repeat.json["error"]["message"]
    assert (await post(gw, key, "k")).code == "idempotency_conflict"
    await in_order(gw, "a", balance=LEFT)


async def test_a_stream_that_breaks_off_before_its_first_event_may_be_tried_again(gw: Running) -> None:
    """Nothing was delivered, nothing charged: the key is free."""
    key = await gw.open_account("a", credit="10")
    body = {**CHAT, "stream": True}
    await post(gw, key, "k", body, event_error=0)
    await in_order(gw, "a", balance=parse_usd("10"))
    assert (await post(gw, key, "k", body)).status == 200
    await in_order(gw, "a", balance=LEFT)


async def test_what_is_remembered_is_bounded(tmp_path: Path, empty_redis: str) -> None:
    """Answers too large for themselves or together are not kept, keys too many are refused; each with its own code."""
    changes = {"gateway.yaml": bounded, "config/tiers.yaml": without_rates}
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="10")
        large = {"messages": [{"role": "user", "content": "Hello " * 900}], "model": "gpt-5.2"}
        assert (await post(gw, key, "large", large, body_bytes=5000)).status == 200
        assert (await post(gw, key, "large", large)).code == "idempotency_answer_not_kept"
        assert (await post(gw, key, "k")).status == 200
        full = await post(gw, key, "one too many")
        assert (full.status, full.code) == (429, "idempotency_keys_exhausted")
        assert 0 < int(full.headers["Retry-After"]) <= 60
        assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 200, "without a key it is served"
        other = await gw.open_account("b", credit="10")
        padding = {**CHAT, "user": "u"}
        answers = [await post(gw, other, f"k{n}", padding, headers=f'{{"X-Pad": "{"x" * 500}"}}') for n in range(2)]
        assert [got.status for got in answers] == [200, 200]
        assert same(await post(gw, other, "k0", padding), answers[0])
        assert (await post(gw, other, "k1", padding)).code == "idempotency_answer_not_kept"
        assert len(await charges(gw, "b")) == 2


@pytest.mark.parametrize("word", ["", "x" * 256, "with\ttab", "naïve"])
async def test_a_key_is_short_plain_text(gw: Running, word: str) -> None:
    """Anything else is refused before anything is forwarded or held."""
    key = await gw.open_account("a", credit="10")
    got = await post(gw, key, word)
    assert (got.status, got.code) == (400, "invalid_request")
    assert not await gw.seen()
    await in_order(gw, "a", balance=parse_usd("10"))


async def test_two_keys_are_none(gw: Running) -> None:
    """Which of them would be meant is not guessed."""
    key = await gw.open_account("a", credit="10")
    headers = CIMultiDict([("Authorization", key), ("Idempotency-Key", "one"), ("Idempotency-Key", "two")])
    async with gw.http.post(gw.url + CHAT_PATH, json=CHAT, headers=headers) as response:
        assert (response.status, response.headers["X-Gateway-Error"]) == (400, "invalid_request")
    assert not await gw.seen()


async def test_free_calls_and_uploads_have_no_keys_here(gw: Running) -> None:
    """The header passes on, each call is made."""
    key = await gw.open_account("a", credit="10")
    for _ in range(2):
        got = await gw.call("POST", "/v2/upload", key, data=b"RIFF", headers={"Idempotency-Key": "k"})
        assert (got.status, got.code) == (200, "")
    assert len(await gw.seen()) == 2


async def test_a_client_that_left_gets_its_answer_when_it_comes_back(gw: Running) -> None:
    """It gave up waiting; the call went on and was charged; the retry with the same key has the answer."""
    key = await gw.open_account("a", credit="10")
    call = asyncio.create_task(post(gw, key, "k", latency_seconds=0.5))
    await holding(gw, "a")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (await post(gw, key, "k")).code == "idempotency_in_progress"

    async def answered() -> bool:
        return (await post(gw, key, "k")).status == 200

    assert await until(answered)
    assert len(await gw.seen()) == 1
    await in_order(gw, "a", balance=LEFT)
