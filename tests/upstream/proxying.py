"""A whole gateway before a scripted upstream, and the calls that the proxy tests make.

Owns: the set-up that these tests share. Does not know: what they expect.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from gateway.edge.app import Gateway
from gateway.edge.ledger import open_ledger
from gateway.sandbox import SandboxSettings, start
from gateway.settings.load import load
from tests.fakes.upstream import RawClient, ScriptedUpstream, answering, message
from tests.harness import Change, Running, running, write_config

CHAT: dict[str, Any] = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Hello"}]}
CHAT_PATH = "/v1/chat/completions"
#: Free, and public: whatever its upstream answers is passed on.
FREE_PATH = "/v1/models"
#: A reply that costs PRICE.
CHARGED = orjson.dumps({"model": "gpt-5.2", "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})
PRICE = "0.003150000"
JSON = "Content-Type: application/json"


def charged_body(size: int) -> bytes:
    """A reply that costs PRICE, of so many bytes; its usage comes last."""
    return b'{"padding":"' + b"x" * (size - len(CHARGED) - 14) + b'",' + CHARGED[1:]


@asynccontextmanager
async def before(
    upstream: ScriptedUpstream,
    directory: Path,
    redis_url: str,
    *,
    llm: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    service: dict[str, Any] | None = None,
    below: str = "",
    **settings: Any,
) -> AsyncIterator[Running]:
    """A gateway before it, for all products. `llm` changes the LLM product, `service` every upstream's settings,
    `below` is a path for their URLs, `limits` and the rest change gateway.yaml.
    """

    def change(data: dict[str, Any]) -> None:
        for each in data["upstreams"].values():
            each["base_url"] = upstream.url + below
            each.update(service or {})
        data.setdefault("limits", {}).update(limits or {})
        data.update(settings)

    changes: dict[str, Change] = {"gateway.yaml": change}
    if llm is not None:
        changes["config/products/llm-gateway.yaml"] = lambda data: data.update(llm)
    async with upstream, running(directory, redis_url, changes=changes) as gw:
        yield gw


async def opened(gw: Running) -> RawClient:
    """A customer's connection."""
    return await RawClient.open(gw.gateway.customers_port)


def chat_bytes(key: str, *fields: str, body: bytes | None = None, length: bool = True) -> bytes:
    """A chat call's bytes, with these header lines after its own."""
    content = orjson.dumps(CHAT) if body is None else body
    lines = ("Host: gw.example", f"Authorization: {key}", *fields)
    return message(f"POST {CHAT_PATH} HTTP/1.1", *lines, body=content, length=length)


def get_bytes(path: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A call without a body."""
    return message(f"{method} {path} HTTP/{version}", "Host: gw.example", *fields, length=False)


def chat_upstream() -> ScriptedUpstream:
    """Answers every call like a chat completion that costs PRICE."""
    return answering(message("HTTP/1.1 200 OK", JSON, body=CHARGED))


async def until(true: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait until it is true (or what it returns, awaited, is)."""
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


async def nothing_held(gw: Running, account: str = "a") -> None:
    """Wait until no hold is open."""

    async def free() -> bool:
        return (await gw.ledger.account(account)).held == 0

    await until(free)


async def metric(gw: Running, name: str) -> dict[str, float]:
    """The samples of a metric: labels as they are written, and values."""
    async with gw.http.get(f"{gw.ops_url}/metrics") as response:
        text = await response.text()
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@asynccontextmanager
async def stoppable(
    upstream: ScriptedUpstream, directory: Path, redis_url: str, *, seconds: float, drain_seconds: int = 60
) -> AsyncIterator[Running]:
    """A gateway that the test stops itself, with `gateway.__aexit__()`; its ledger is there after that."""

    def change(data: dict[str, Any]) -> None:
        data["limits"]["shutdown_seconds_max"] = seconds

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(upstream)
        path = write_config(
            directory,
            upstream_url=upstream.url,
            redis_url=redis_url,
            changes={
                "gateway.yaml": change,
                "config/products/llm-gateway.yaml": lambda data: data.update(drain_seconds_max=drain_seconds),
            },
        )
        runtime = load(path, {})
        ledger = await stack.enter_async_context(open_ledger(runtime))
        gateway = await Gateway(runtime, ledger=ledger).__aenter__()
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)))
        sandbox = await start(SandboxSettings())
        stack.push_async_callback(sandbox.stop)
        yield Running(gateway, runtime, ledger, sandbox, http)
