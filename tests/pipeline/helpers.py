"""What tests of paid calls share: requests, changes of the config, a second gateway on the same ledger and upstream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.core.money import Nanos
from gateway.edge.ledger import open_ledger
from gateway.settings.load import load
from tests.harness import Change, Got, Running, serving, write_config

CHAT_PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Hello there"}]}
NO_CREDIT = "Your current account balance is negative. Please top up to continue using the API."


def sandbox(**knobs: Any) -> dict[str, str]:
    """Headers that turn the sandbox's knobs for one call."""
    return {f"X-Sandbox-{name.replace('_', '-')}": str(value) for name, value in knobs.items()}


def without_rates(data: dict[str, Any]) -> None:
    """Tiers without limits of requests, for tests that make many."""
    for tier in data["tiers"].values():
        tier.pop("requests", None)
        for product in tier["products"].values():
            product.pop("requests", None)


def fixed_hold(usd: str) -> Change:
    """The LLM's hold is the same for every call."""

    def change(data: dict[str, Any]) -> None:
        data["routes"][0]["hold"] = {"fixed": usd}

    return change


def served_without_ledger(usd: str, in_all: str | None = None) -> Change:
    """The LLM is served up to a bound while the ledger is away."""

    def change(data: dict[str, Any]) -> None:
        data["on_ledger_unavailable"] = {"allow_up_to": usd, **({} if in_all is None else {"in_all": in_all})}

    return change


async def chat(gw: Running, key: str, request: Mapping[str, Any] | None = None, **knobs: Any) -> Got:
    """A chat completion."""
    return await gw.call("POST", CHAT_PATH, key, json={**CHAT, **(request or {})}, headers=sandbox(**knobs))


async def submit(
    gw: Running, key: str, seconds: int = 3600, *, knobs: Mapping[str, Any] | None = None, **body: Any
) -> Got:
    """A transcript of so many seconds of audio."""
    request = {"audio_url": f"https://example.com/a.wav?duration={seconds}&channels=2", **body}
    return await gw.call("POST", "/v2/transcript", key, json=request, headers=sandbox(**(knobs or {})))


async def submitted(
    gw: Running, key: str, seconds: int = 3600, *, knobs: Mapping[str, Any] | None = None, **body: Any
) -> str:
    """The path of a new transcript."""
    got = await submit(gw, key, seconds, knobs=knobs, **body)
    assert got.status == 200, got.body
    return f"/v2/transcript/{got.json['id']}"


async def finished(gw: Running, key: str, path: str) -> Got:
    """The poll that sees the end of a job."""
    for _ in range(1500):
        got = await gw.call("GET", path, key)
        assert got.status == 200, got.body
        if got.json["status"] in ("completed", "error"):
            return got
        await asyncio.sleep(0.02)
    raise AssertionError("the job does not end")


async def until(check: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> bool:
    """Wait until the check holds; False if it does not in time."""
    for _ in range(int(seconds / 0.03)):
        if await check():
            return True
        await asyncio.sleep(0.03)
    return False


async def holding(gw: Running, account: str, count: int = 1) -> int:
    """Wait until the account has so many open holds: its calls are under way. What they hold."""
    held = 0

    async def admitted() -> bool:
        nonlocal held
        found = await gw.ledger.account(account)
        held = found.held
        return found.open_holds == count

    assert await until(admitted), await gw.ledger.holds(account)
    return held


async def at_service(gw: Running, count: int) -> None:
    """Wait until the service was asked so often: what those calls needed of the ledger is answered."""

    async def asked() -> bool:
        return len(await gw.seen()) >= count

    assert await until(asked), await gw.seen()


async def charges(gw: Running, account: str) -> list[dict[str, Any]]:
    """What the account was charged, oldest first: each entry's explanation with its amount."""
    entries = await gw.ledger.entries(account, limit=1000)
    return [{**entry.data, "amount": -entry.amount} for entry in entries if entry.kind == "charge"]


async def skus(gw: Running, account: str) -> dict[str, str]:
    """The SKUs of the last charge, with their quantities."""
    return {item["sku"]: item["quantity"] for item in (await charges(gw, account))[-1]["items"]}


async def in_order(gw: Running, account: str, *, balance: Nanos, held: int = 0) -> None:
    """The account has exactly this balance, holds exactly this much, and its books agree."""
    found = await gw.ledger.account(account)
    assert (found.balance, found.held) == (balance, held)
    assert not await gw.ledger.verify(account)


@asynccontextmanager
async def beside(
    first: Running, directory: Path, redis_url: str, changes: Mapping[str, Change] | None = None
) -> AsyncIterator[Running]:
    """Another gateway on the same upstream, and on the ledger at this URL."""
    async with AsyncExitStack() as stack:
        path = write_config(directory, upstream_url=first.sandbox.url, redis_url=redis_url, changes=changes)
        runtime = load(path, {})
        ledger = await stack.enter_async_context(open_ledger(runtime))
        gateway, operators = await stack.enter_async_context(serving(runtime, ledger))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), auto_decompress=False)
        )
        yield Running(gateway, runtime, ledger, first.sandbox, http, operators)
