"""What tests of streams of events share: an upstream that streams what a test says, and clients that read it.

Owns: events' bytes, the set-up before a scripted upstream. Does not know: what a test expects.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.core.money import parse_usd
from tests.fakes.upstream import Line, ScriptedUpstream, chunk, message
from tests.harness import Change, Got, Running, running
from tests.pipeline.helpers import CHAT, CHAT_PATH, charges, in_order, sandbox, until, without_rates

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


DONE = b"data: [DONE]\n\n"


def event(data: Any, kind: str = "") -> bytes:
    """An event's bytes."""
    return (f"event: {kind}\n".encode() if kind else b"") + b"data: " + orjson.dumps(data) + b"\n\n"


def word(text: str = "word") -> bytes:
    """A chunk with content."""
    return event({"model": "gpt-5.2", "choices": [{"index": 0, "delta": {"content": text}}]})


def reporting_word() -> bytes:
    """A chunk with content that reports what costs PRICE so far."""
    return event(
        {"choices": [{"delta": {"content": "word"}}], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
    )


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
    product: dict[str, Any] | None = None, service: dict[str, Any] | None = None,
    changes: dict[str, Change] | None = None, **keys: Any,
) -> AsyncIterator[Running]:  # fmt: skip
    """A gateway before it, with these keys of the LLM's stream, of the LLM, of every upstream, and of the limits."""

    def change(data: dict[str, Any]) -> None:
        data.update(product or {})
        data["routes"][0]["stream"].update(keys)

    def main(data: dict[str, Any]) -> None:
        for each in data["upstreams"].values():
            each.update({"base_url": upstream.url, **(service or {})})
        data["limits"].update(limits or {})

    all_changes = {"gateway.yaml": main, "config/products/llm-gateway.yaml": change, **(changes or {})}
    async with upstream, running(directory, redis_url, changes=all_changes) as gw:
        yield gw


@asynccontextmanager
async def listening(gw: Running, key: str, request: dict[str, Any] = STREAMED) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream whose client reads it as it likes, and closes in the end."""
    headers = {"Authorization": key}
    async with gw.http.post(gw.url + CHAT_PATH, json=request, headers=headers) as response:
        yield response
        response.close()


async def hang(line: Line) -> None:
    """Send nothing more, until the other side is gone."""
    await line.ended()


async def cut(line: Line) -> None:
    """Break the line off."""
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


async def charged_so_far(gw: Running) -> list[dict[str, Any]]:
    """The charges once there is one."""

    async def there() -> bool:
        return bool(await charges(gw, "a"))

    assert await until(there)
    return await charges(gw, "a")
