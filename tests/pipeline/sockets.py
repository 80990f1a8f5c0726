"""What tests of sessions share: sockets of customers, small slices, reading to the close."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from tests.harness import Change, Running

#: 0.45 dollars an hour are 125,000 nano-dollars a second: every millisecond is a whole number.
PRO = "/v3/ws?sample_rate=16000&speech_model=u3-rt-pro"
PRO_SECOND = 125_000
AGENT = "/v1/ws"
AGENT_SECOND = 1_250_000
FRAME = bytes(3200)


def slices(**session: Any) -> Mapping[str, Change]:
    """The config with other numbers for the sessions of both products, and no limit of new sessions."""

    def change(data: dict[str, Any]) -> None:
        for route in data["routes"]:
            if "session" in route:
                route["session"].update(session)

    def tiers(data: dict[str, Any]) -> None:
        for tier in data["tiers"].values():
            for product in tier["products"].values():
                product.pop("requests", None)

    return {
        "config/products/streaming.yaml": change,
        "config/products/voice-agent.yaml": change,
        "config/tiers.yaml": tiers,
    }


@asynccontextmanager
async def connected(
    gw: Running, key: str | None, path: str = PRO, **options: Any
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A customer's socket."""
    headers = {**({"Authorization": key} if key is not None else {}), **options.pop("headers", {})}
    async with gw.http.ws_connect(gw.url + path, headers=headers, **options) as socket:
        yield socket


async def begun(gw: Running, key: str | None, path: str = PRO) -> aiohttp.ClientWebSocketResponse:
    """A customer's socket of a streaming session that has begun."""
    headers = {"Authorization": key} if key is not None else {}
    socket = await gw.http.ws_connect(gw.url + path, headers=headers)
    assert (await socket.receive_json(timeout=30))["type"] == "Begin"
    return socket


async def to_the_end(socket: aiohttp.ClientWebSocketResponse, seconds: float = 30) -> tuple[list[dict[str, Any]], int]:
    """Every text message up to the close, and the close's code."""
    said: list[dict[str, Any]] = []
    async with asyncio.timeout(seconds):
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                said.append(orjson.loads(message.data))
            elif message.type is not aiohttp.WSMsgType.BINARY:
                return said, socket.close_code or 0


async def streams(gw: Running) -> list[dict[str, Any]]:
    """The upstream's record of its streaming sessions, oldest first."""
    return [record.view() for record in gw.sandbox.state.streams.values()]
