"""Requests that cost as much as they can beside how small they look: what is held
covers it, or calls at once overspend.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.edge.ledger import open_ledger
from gateway.ledger.redis import RedisLedger
from gateway.settings.load import load
from gateway.settings.runtime import Runtime
from tests.dialects.test_vendors import ENVIRONMENT, dialects
from tests.harness import open_account, serving, write_config

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
MESSAGES, LISTEN, SPEAK = "/v1/messages", "/v1/listen", "/v1/speak"
#: What models make of these at most: a picture, a file of a hundred pages; what a tool of the service reads.
PICTURE, FILE, FOUND = 2_000, 180_000, 90_000
#: The most that the models write.
LONGEST = 128_000
TEXT = "A sentence of several words, as people write them, which has four letters for each of its tokens. " * 200
KEPT = {"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}}
KEPT_LONG = {"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
URL = "https://example.com/x"
EPHEMERAL = "ephemeral_1h_input_tokens"


def said(*content: Any) -> list[dict[str, Any]]:
    """A conversation of one message with these parts."""
    return [{"role": "user", "content": list(content)}]


def tokens(read: int, written: int = 10, **details: Any) -> dict[str, Any]:
    """Usage as OpenAI words it, of chat completions and of responses."""
    return {
        "prompt_tokens": read,
        "input_tokens": read,
        "completion_tokens": written,
        "output_tokens": written,
        **details,
    }


def kept(written: int, long: int = 0) -> dict[str, Any]:
    """What was written to the cache, and of that for an hour."""
    return {"prompt_tokens_details": {"cache_write_tokens": written, "cache_creation": {EPHEMERAL: long}}}


@dataclass(frozen=True)
class Call:
    """A request, and the usage with which the service answers."""

    path: str
    body: Mapping[str, Any] | bytes
    usage: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


IMAGE_URL = {"type": "image_url", "image_url": {"url": URL}}
PHOTO = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 100_000}}
CLAUDE = {"model": "claude-opus-4-6", "max_tokens": 100}
GPT = {"model": "gpt-5.2", "max_completion_tokens": 100}
ANSWER = {"model": "gpt-5.2", "max_output_tokens": 100, "store": False}

SHIPPED = {
    "pictures by URL": Call(CHAT, {**GPT, "messages": said(*[IMAGE_URL] * 5)}, tokens(5 * PICTURE)),
    "a picture by URL, in a fallback's prompt": Call(
        CHAT, {**GPT, "messages": said("x"), "fallbacks": [{"model": "gpt-4.1", "messages": said(IMAGE_URL)}]},
        tokens(PICTURE),
    ),
    "a file": Call(CHAT, {**GPT, "messages": said({"type": "file", "file": {"file_data": "data:x"}})}, tokens(FILE)),
    "a prompt that is kept": Call(CHAT, {**CLAUDE, "messages": said(KEPT)}, tokens(5_000, **kept(5_000))),
    "a prompt that is kept for an hour": Call(
        CHAT, {**CLAUDE, "messages": said(KEPT_LONG)}, tokens(5_000, **kept(5_000, 5_000))
    ),
    "pictures that are kept for an hour": Call(
        CHAT, {**CLAUDE, "messages": said(IMAGE_URL, KEPT_LONG)}, tokens(6_500, **kept(6_500, 6_500))
    ),
    "thinking on top of the answer": Call(
        CHAT, {**CLAUDE, "messages": said("x"), "reasoning": {"max_tokens": 50_000, "effort": "high", "exclude": True}},
        tokens(8, 50_100, completion_tokens_details={"reasoning_tokens": 50_000}),
    ),
    "the longest answer": Call(
        CHAT, {**GPT, "messages": said("x"), "max_completion_tokens": LONGEST}, tokens(8, LONGEST)
    ),
    "a bound that is none": Call(
        CHAT, {**GPT, "messages": said("x"), "max_completion_tokens": -1}, tokens(8, LONGEST)
    ),
    "a bound beyond all": Call(
        CHAT, {**GPT, "messages": said("x"), "max_completion_tokens": 10**17}, tokens(8, LONGEST)
    ),
    "the service's own bound": Call(CHAT, {"model": "gpt-5.2", "messages": said("x")}, tokens(8, 1000)),
    "several answers": Call(CHAT, {**GPT, "messages": said("x"), "n": 8}, tokens(8, 800)),
}  # fmt: skip

DIALECTS = {
    "no bound": Call(CHAT, {"model": "gpt-5.2", "messages": said("x")}, tokens(8, LONGEST)),
    "no bound of a response": Call(RESPONSES, {"model": "gpt-5.2", "input": "x", "store": False}, tokens(8, LONGEST)),
    "pictures by URL": Call(CHAT, {**GPT, "messages": said(*[IMAGE_URL] * 5)}, tokens(5 * PICTURE)),
    "a packed file": Call(
        CHAT, {**GPT, "messages": said({"type": "file", "file": {"file_data": "data:x"}})}, tokens(FILE)
    ),
    "a picture and a file of a response, by URL": Call(
        RESPONSES, {**ANSWER, "input": said(
            {"type": "input_image", "image_url": URL}, {"type": "input_file", "file_url": URL})},
        tokens(PICTURE + FILE),
    ),
    "what a computer shows": Call(
        RESPONSES, {**ANSWER, "input": [{"type": "computer_call_output", "call_id": "c", "output": {
            "type": "computer_screenshot", "image_url": URL}}]},
        tokens(PICTURE),
    ),
    "a picture that a function gave": Call(
        RESPONSES, {**ANSWER, "input": [{"type": "function_call_output", "call_id": "c", "output": [
            {"type": "input_image", "image_url": URL}]}]},
        tokens(PICTURE),
    ),
    "an input that is tokens": Call(
        EMBEDDINGS, {"model": "text-embedding-3-small", "input": [[0] * 2000]}, tokens(2000)
    ),
    "a picture by URL, in Claude's words": Call(
        MESSAGES, {**CLAUDE, "messages": said({"type": "image", "source": {"type": "url", "url": URL}})},
        tokens(PICTURE),
    ),
    "a document that a tool gave": Call(
        MESSAGES, {**CLAUDE, "messages": said({"type": "tool_result", "tool_use_id": "t", "content": [
            {"type": "document", "source": {"type": "url", "url": URL}}]})},
        tokens(FILE),
    ),
    "a prompt that Claude keeps": Call(
        MESSAGES, {**CLAUDE, "messages": said(KEPT)}, tokens(0, cache_creation_input_tokens=5_000)
    ),
    "a prompt that Claude keeps for an hour": Call(
        MESSAGES, {**CLAUDE, "messages": said(KEPT_LONG)},
        tokens(0, cache_creation_input_tokens=5_000, cache_creation={EPHEMERAL: 5_000}),
    ),
    "a document that Claude keeps for an hour": Call(
        MESSAGES, {**CLAUDE, "messages": said({"type": "document", "source": {"type": "url", "url": URL}}, KEPT_LONG)},
        tokens(0, cache_creation_input_tokens=FILE, cache_creation={EPHEMERAL: FILE}),
    ),
    "all that is thought between tools": Call(
        MESSAGES, {**CLAUDE, "messages": said("x"), "thinking": {"type": "enabled", "budget_tokens": 30_000}},
        tokens(8, 30_000),
    ),
    "searches of the service": Call(
        MESSAGES, {**CLAUDE, "messages": said("x"), "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        tokens(FOUND, server_tool_use={"web_search_requests": 10}),
    ),
    "a page that the service fetches": Call(
        MESSAGES, {**CLAUDE, "messages": said("x"), "tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
        tokens(FILE),
    ),
    "an hour behind a URL": Call(f"{LISTEN}?model=nova-3", {"url": URL}, metadata={"duration": 3600.0, "channels": 1}),
    "two channels": Call(
        f"{LISTEN}?model=nova-3&multichannel=true", {"url": URL}, metadata={"duration": 3600.0, "channels": 2}
    ),
    "a recording of no known length": Call(
        f"{LISTEN}?model=nova-3&diarize=true", b"OggS", metadata={"duration": 36_000.0, "channels": 1}
    ),
    "speech": Call(SPEAK, {"text": "Hello. " * 100}),
}  # fmt: skip


@dataclass
class Gate:
    """A gateway before a service that answers as it is told, and looks what is held meanwhile."""

    url: str
    ledger: RedisLedger
    held: list[int]
    http: aiohttp.ClientSession

    async def ask(self, key: str, call: Call) -> int:
        """What the account was charged for a call."""
        before = (await self.ledger.account("a")).balance
        reply = {"usage": call.usage, "metadata": call.metadata, "content": [], "choices": [{"index": 0}]}
        headers = {"Authorization": f"Bearer {key}", "X-Reply": orjson.dumps(reply).decode()}
        body = {"data": chunked(call.body)} if isinstance(call.body, bytes) else {"json": call.body}
        async with self.http.post(self.url + call.path, headers=headers, **body) as response:
            assert response.status == 200, await response.text()
            await response.read()
        return before - (await self.ledger.account("a")).balance


async def chunked(data: bytes) -> AsyncIterator[bytes]:
    """A body of which nobody says how long it is."""
    yield data


@asynccontextmanager
async def gate(loaded: Callable[[str], Runtime]) -> AsyncIterator[tuple[Gate, str]]:
    """A gateway with the settings for a service at some URL, and the key of an account with plenty."""
    held: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        held.append((await ledger.account("a")).held)
        return web.Response(text=request.headers["X-Reply"], content_type="application/json")

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with TestServer(app) as server:
        runtime = loaded(str(server.make_url("")).rstrip("/"))
        async with open_ledger(runtime) as ledger, serving(runtime, ledger) as (served, _):
            key = await open_account(ledger, runtime, "a", credit="1000")
            async with aiohttp.ClientSession() as http:
                yield Gate(f"http://127.0.0.1:{served.customers_port}", ledger, held, http), key


async def short(found: Gate, key: str, calls: Mapping[str, Call]) -> dict[str, tuple[int, int]]:
    """The calls that cost more than was held for them: charge and hold."""
    beyond = {}
    for name, call in calls.items():
        charged = await found.ask(key, call)
        assert charged > 0, name
        if charged > found.held[-1]:
            beyond[name] = (charged, found.held[-1])
    return beyond


async def test_what_is_held_covers_what_a_call_may_cost(tmp_path: Path, empty_redis: str) -> None:
    """The LLM gateway: pictures and files, prompts that are kept, thinking, the longest answers."""
    async with gate(lambda url: load(write_config(tmp_path, upstream_url=url, redis_url=empty_redis), {})) as (
        found,
        key,
    ):
        assert not await short(found, key, SHIPPED)
        assert await found.ask(key, Call(CHAT, {**GPT, "messages": said("x"), "n": 10**15}, tokens(8))) < found.held[-1]
        assert found.held[-1] == (await found.ledger.account("a")).balance + 8 * 1750 + 10 * 14_000, "all that there is"
        for text in ("x", TEXT):
            charged = await found.ask(
                key, Call(CHAT, {**GPT, "messages": said({"type": "text", "text": text})}, tokens(9, 9))
            )
            assert charged < found.held[-1] < (len(text) + 200) * 1750 // 3 + 100 * 14_000, "what it is without parts"
        assert await found.ask(key, Call(CHAT, {**GPT, "messages": said(PHOTO)}, tokens(PICTURE))) < found.held[-1]
        assert found.held[-1] < 3_000 * 1750 + 100 * 14_000, "a photo is no book, however many bytes it has"


async def test_what_is_held_covers_what_other_vendors_charge(tmp_path: Path, empty_redis: str) -> None:
    """OpenAI, Anthropic and Deepgram: whatever a request brings along that is not in its bytes is held."""
    async with gate(lambda url: load(dialects(tmp_path, url, empty_redis), ENVIRONMENT)) as (found, key):
        assert not await short(found, key, DIALECTS)
        for words in ({"type": "text", "text": TEXT}, PHOTO):
            charged = await found.ask(key, Call(CHAT, {"model": "gpt-5.2", "messages": said(words)}))
            assert 0 < charged < 8_000 * 1750 + 100 * 14_000, "without a report it is what was delivered, and no hold"
