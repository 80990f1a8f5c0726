"""Successes that are none, and replies that are not what they are called: what they cost."""

import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from gateway.core.money import parse_usd
from tests.fakes.upstream import Line, ScriptedUpstream, chunk, message
from tests.harness import Got, Running
from tests.pipeline.helpers import CHAT, CHAT_PATH, charges, in_order
from tests.pipeline.streaming import DONE, LEFT, PRICE, STREAMED, charged, event, released, report, word
from tests.upstream.proxying import before

OK = "HTTP/1.1 200 OK"
JSON = "Content-Type: application/json"
EVENTS = "Content-Type: text/event-stream"
USAGE = b'"usage": {"prompt_tokens": 1000, "completion_tokens": 100}'
REPLY = b'{"model": "gpt-5.2", "choices": [{"message": {"content": "word"}}], ' + USAGE + b"}"
TURN = event({"model": "gpt-5.2", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})


def chunked(*pieces: bytes, kind: str = EVENTS) -> bytes:
    """A reply in chunks; without an end if the last piece is empty."""
    body = b"".join(chunk(piece) for piece in pieces if piece) + (chunk(b"") if pieces[-1] else b"")
    return message(OK, kind, "Transfer-Encoding: chunked", length=False) + body


@asynccontextmanager
async def customers(
    directory: Path, redis_url: str, replies: Mapping[str, bytes], request: dict[str, Any]
) -> AsyncIterator[tuple[Running, Mapping[str, Got | None]]]:
    """What customers of ten dollars each, named like the replies, get for this request. None: it broke off."""

    async def script(line: Line) -> None:
        while True:
            name = orjson.loads((await line.request()).body)["user"]
            await line.send(replies[name])
            if name.startswith("cut"):
                return

    async with before(ScriptedUpstream(script), directory, redis_url) as gw:
        got: dict[str, Got | None] = {}
        for name in replies:
            key = await gw.open_account(name, credit="10")
            try:
                got[name] = await gw.call("POST", CHAT_PATH, key, json={**request, "user": name})
            except aiohttp.ClientError:
                got[name] = None
        yield gw, got


EMPTY = {
    "empty": message(OK, JSON),
    "204": message("HTTP/1.1 204 No Content", length=False),
    "205": message("HTTP/1.1 205 Reset Content"),
    "chunked": message(OK, JSON, "Transfer-Encoding: chunked", length=False) + chunk(b""),
    "gzip": message(OK, JSON, "Content-Encoding: gzip", body=gzip.compress(b"")),
    "error": message(OK, JSON, body=b'{"error": {"message": "no", "code": 500}}'),
    "error-text": message(OK, JSON, body=b'{"error": "no", "usage": null, "choices": []}'),
    "error-event": message(OK, JSON, body=event({"error": {"message": "no"}})),
    "error-of-a-stream": chunked(b'{"error": {"message": "no"}}'),
}


async def test_a_success_that_delivers_nothing_costs_nothing(tmp_path: Path, empty_redis: str) -> None:
    """Whatever its status says: without usage, an empty answer and an error are no success."""
    async with customers(tmp_path, empty_redis, EMPTY, CHAT) as (gw, answers):
        for name, got in answers.items():
            assert got is not None and got.status in (200, 204, 205), name
            assert got.charge is None, name
            await released(gw, name)


FAILING = {
    "error": chunked(TURN, event({"error": {"message": "no"}}), DONE),
    "cut": chunked(TURN, b""),
    "cut-later": chunked(TURN, TURN, event({"choices": [{"delta": {}}]}), b""),
}


async def test_a_stream_that_fails_before_its_content_costs_nothing(tmp_path: Path, empty_redis: str) -> None:
    """That it is the assistant's turn is not what was asked for."""
    async with customers(tmp_path, empty_redis, FAILING, STREAMED) as (gw, answers):
        for name, got in answers.items():
            assert (got is None) == name.startswith("cut"), name
            await released(gw, name)


UNREPORTED = {
    "no-usage": message(OK, JSON, body=b'{"choices": []}'),
    "no-error": message(OK, JSON, body=b'{"choices": [], "error": {}}'),
    "no-json": message(OK, "Content-Type: text/html", body=b"<html>word</html>"),
    "half-json": message(OK, JSON, body=REPLY[:-5]),
    "unreadable": message(OK, JSON, "Content-Encoding: br", body=b"\x0b\x02\x80word\x03"),
    "json-as-a-stream": chunked(b'{"choices": [{"message": {"content": "word"}}]}'),
    "silent-to-the-end": chunked(TURN, event({"choices": [{"delta": {}, "finish_reason": "length"}]}), DONE),
}


async def test_a_success_without_a_report_costs_the_hold(tmp_path: Path, empty_redis: str) -> None:
    """Something was delivered, or thought about to the end, and nobody says how much."""
    async with customers(tmp_path, empty_redis, UNREPORTED, STREAMED) as (gw, answers):
        for name, got in answers.items():
            assert got is not None and got.status == 200, name
            assert [charge["basis"] for charge in await charged(gw, name)] == ["estimated"], name


REPORTING = b"data: " + REPLY.replace(b"message", b"delta") + b"\n\n"
INDENTED = orjson.dumps(orjson.loads(REPLY), option=orjson.OPT_INDENT_2)
MISNAMED = {
    "whole": message(OK, JSON, body=word() + report() + DONE),
    "text": message(OK, "Content-Type: text/plain", body=b": hello\n\n" + word() + report() + DONE),
    "in-chunks": chunked(word(), report(), DONE, kind=JSON),
    "bytes": chunked(word(), report(), DONE, kind="Content-Type: application/octet-stream"),
    "json": chunked(REPLY),
    "indented": chunked(INDENTED[:30], INDENTED[30:] + b"\n"),
    "compressed": message(OK, EVENTS, "Content-Encoding: gzip", body=gzip.compress(REPLY)),
    # No JSON at all, but what clients' readers take for it.
    "nan": message(OK, JSON, body=REPLY.replace(b'"word"', b'"word", "logprobs": [NaN, -Infinity]')),
    "mark": message(OK, JSON, body=b"\xef\xbb\xbf" + REPLY),
    "utf-8": message(OK, JSON, body=REPLY.replace(b"word", b"w\xff\xferd")),
    "line-end": message(OK, JSON, body=REPLY.replace(b"word", b"one\ntwo")),
    "utf-16": message(OK, JSON, body=REPLY.decode().encode("utf-16")),
    "nameless": message(OK, JSON, body=REPLY.replace(b"gpt-5.2", b"")),
    "half-an-emoji": message(OK, JSON, body=REPLY.replace(b"word", rb"w\\\ud83d-\ude00")),
    "half-in-an-event": chunked(REPORTING.replace(b"word", rb"\ud83d"), DONE),
    "error-that-is-none": chunked(REPORTING.replace(b"{", b'{"error": "", ', 1), word(), DONE),
}


async def test_what_a_reply_is_called_does_not_matter(tmp_path: Path, empty_redis: str) -> None:
    """Events that are called JSON, JSON that is called events, and what is nearly JSON report what they report."""
    async with customers(tmp_path, empty_redis, MISNAMED, STREAMED) as (gw, answers):
        for name, got in answers.items():
            assert got is not None and got.status == 200, name
            assert [(each["basis"], each["amount"]) for each in await charged(gw, name)] == [("reported", PRICE)], name
            await in_order(gw, name, balance=LEFT)


async def test_a_hold_is_for_all_answers(tmp_path: Path, empty_redis: str) -> None:
    """Each of them may be as long as the longest; a number of them that nobody means takes what there is."""
    replies = {"three": UNREPORTED["no-usage"], "many": UNREPORTED["no-usage"]}
    for name, answers, least in (("three", 3, "5.376"), ("many", 10**15, "10")):
        request = {**CHAT, "n": answers, "max_tokens": 10**9}
        async with customers(tmp_path, empty_redis, {name: replies[name]}, request) as (gw, _):
            (charge,) = await charges(gw, name)
            assert parse_usd(least) <= charge["amount"] < parse_usd(least) + parse_usd("0.001")


TASKS = {"speaker_identification": {"speaker_type": "role"}, "translation": {"target_languages": ["es"]}}
DONE_TASKS = {task: {"status": "success"} for task in TASKS}
#: What the service answers, and what that costs of an hour: 0.02 and 0.06 are the tasks' prices, 0.15 the transcript's.
UNDERSTOOD: list[tuple[bytes, str | None]] = [
    (b"", None),
    (orjson.dumps({"error": "it failed", "status": "error", "request_id": "r"}), "0"),
    (orjson.dumps({"speech_understanding": {"response": {**DONE_TASKS, "translation": {"status": "error"}}}}), "0.02"),
    (orjson.dumps({"speech_understanding": {"response": {"translation": {"status": "failed"}}}}), "0.02"),
    (orjson.dumps({"speech_understanding": {"response": DONE_TASKS}, "status": "success"}), "0.08"),
    (b"{}", "0.08"),
]


async def test_understanding_that_failed_costs_nothing(tmp_path: Path, empty_redis: str) -> None:
    """What it would cost is known without the reply; that there is none, or that a task failed, is known as well."""
    asked = {"speech_understanding": {"request": TASKS}}
    job = {"id": "t", "status": "completed", "audio_duration": 3600, "speech_model_used": "universal-2", **asked}
    job["speech_understanding"] = {"request": TASKS, "response": {**DONE_TASKS, "translation": {"status": "error"}}}
    answers = [body for body, _ in UNDERSTOOD]

    async def script(line: Line) -> None:
        while True:
            understanding = (await line.request()).target == b"/v1/understanding"
            await line.send(message(OK, JSON, body=answers.pop(0) if understanding else orjson.dumps(job)))

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav", **asked})
        await in_order(gw, "a", balance=parse_usd("9.83"))
        for body, price in UNDERSTOOD:
            got = await gw.call("POST", "/v1/understanding", key, json={"transcript_id": "t", **asked})
            assert (got.status, got.body, got.charge) == (200, body, None if price is None else parse_usd(price))
        await in_order(gw, "a", balance=parse_usd("9.63"))


async def test_a_job_may_have_a_number_for_an_id(tmp_path: Path, empty_redis: str) -> None:
    """It is the account's, is settled when it ends, and its confidence may be NaN, its text half a character."""
    names = b'"id": 7, "audio_duration": 3600, "speech_model_used": "universal-2", "project_id": 5'

    async def script(line: Line) -> None:
        while True:
            received = await line.request()
            made = received.first.startswith(b"POST")
            state = b'"queued"' if made else rb'"completed", "confidence": NaN, "text": "\ud83d"'
            await line.send(message(OK, JSON, body=b'{"status": ' + state + b", " + names + b"}"))

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="10")
        other = await gw.open_account("b", credit="10")
        got = await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
        assert (got.status, got.json["id"], (await gw.ledger.account("a")).open_holds) == (200, 7, 1)
        assert (await gw.call("GET", "/v2/transcript/7", other)).code == "not_found"
        got = await gw.call("GET", "/v2/transcript/7", key)
        assert (got.status, got.charge) == (200, parse_usd("0.15"))
        assert "project_id" not in got.json
        await in_order(gw, "a", balance=parse_usd("9.85"))
