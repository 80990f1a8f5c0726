"""Clients that take their time: they neither get an answer for nothing, nor keep one in memory for ever."""

import asyncio
from pathlib import Path

import pytest

from gateway.core.money import parse_usd
from gateway.edge.server import carrier
from tests.fakes.upstream import RawClient, answering, message
from tests.upstream.proxying import JSON, PRICE, before, charged_body, chat_bytes, nothing_held, until

SIZE = 12_000_000


async def test_a_slow_reader_is_charged_like_a_fast_one(tmp_path: Path, empty_redis: str) -> None:
    """The time that a client takes is not the upstream's: to dawdle over an answer makes no failure of it."""
    body = charged_body(SIZE)
    upstream = answering(message("HTTP/1.1 200 OK", JSON, body=body))
    async with before(upstream, tmp_path, empty_redis, service={"total_seconds_max": 1.0}) as gw:
        key = await gw.open_account("a")
        reader, writer = await asyncio.open_connection("127.0.0.1", gw.gateway.customers_port, limit=2**16)
        async with RawClient(reader, writer) as client:
            await client.send(chat_bytes(key))
            await asyncio.sleep(2.5)
            got = await client.reply(b"POST")
            assert got.body == body
        await nothing_held(gw)
        assert await gw.balance("a") == parse_usd("100") - parse_usd(PRICE)


async def test_a_client_that_takes_nothing_of_a_whole_answer_is_cut(
    tmp_path: Path, empty_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is not kept for it for ever."""
    monkeypatch.setattr(carrier, "_TAKES_NOTHING_SECONDS", 0.2)
    body = charged_body(30_000_000)
    upstream = answering(message("HTTP/1.1 200 OK", JSON, body=body))
    async with before(upstream, tmp_path, empty_redis, llm={"whole_body_bytes_max": 32_000_000}) as gw:
        key = await gw.open_account("a")
        client = await RawClient.open(gw.gateway.customers_port)
        await client.send(chat_bytes(key))
        await until(lambda: gw.gateway._customers.connections)
        await until(lambda: not gw.gateway._customers.connections)
        client.cut()
