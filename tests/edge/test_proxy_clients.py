"""Customers' connections: kept, pipelined, old, too many, abandoned; and a gateway that stops while they are open."""

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.money import parse_usd
from tests.fakes.upstream import Line, RawClient, ScriptedUpstream, answering, chunk, message
from tests.harness import Change, Running, running
from tests.upstream.proxying import (
    CHARGED,
    CHAT,
    FREE_PATH,
    JSON,
    PRICE,
    before,
    charged_body,
    chat_bytes,
    chat_upstream,
    get_bytes,
    metric,
    nothing_held,
    opened,
    stoppable,
    until,
)

PAID = parse_usd("100") - parse_usd(PRICE)
REPLY = message("HTTP/1.1 200 OK", JSON, body=CHARGED)


class Held(ScriptedUpstream):
    """Takes a request, tells `came`, and answers with `parts` when `go` is set; `gone` tells that it was left."""

    def __init__(self, *parts: bytes) -> None:
        super().__init__(self._answer)
        self.parts = parts
        self.came, self.go, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def _answer(self, line: Line) -> None:
        await self.taken(line)
        self.came.set()
        waiting = asyncio.ensure_future(self.go.wait())
        leaving = asyncio.ensure_future(line.reader.read(1))
        try:
            await asyncio.wait([waiting, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                self.gone.set()
                return
        finally:
            waiting.cancel()
            leaving.cancel()
            await asyncio.gather(waiting, leaving, return_exceptions=True)
        try:
            for part in self.parts:
                await line.send(part)
            await line.ended()
        finally:
            self.gone.set()


# ---- kept connections


async def test_many_calls_on_one_connection(gw: Running) -> None:
    """Of every kind, one after the other, each with an id of its own."""
    key = await gw.open_account("a", tier="contracted")
    ids = set()
    async with await opened(gw) as client:
        for _ in range(50):
            for data, status in [
                (chat_bytes(key), 200),
                (get_bytes(FREE_PATH), 200),
                (chat_bytes("wrong"), 401),
                (chat_bytes(key, body=b"{"), 400),
                (get_bytes("/nowhere"), 404),
                (get_bytes(FREE_PATH, method="HEAD"), 200),
            ]:
                got = await client.ask(data)
                assert got.status == status
                ids.add(got.one("X-Gateway-Call-Id"))
    assert len(ids) == 300
    assert None not in ids


async def test_pipelined_calls_are_answered_in_their_order(gw: Running) -> None:
    """All sent before the first answer, more than fit into any queue, and each is charged once."""
    key = await gw.open_account("a", tier="contracted")
    async with await opened(gw) as client:
        sending = asyncio.create_task(
            client.send(b"".join(chat_bytes(key) + get_bytes(f"/nowhere/{i}") for i in range(100)))
        )
        for _ in range(100):
            assert (await client.reply(b"POST")).status == 200
            assert (await client.reply()).status == 404
        await sending
    assert len(await gw.ledger.entries("a", limit=500)) == 101


async def test_a_client_that_pipelines_and_leaves(tmp_path: Path, empty_redis: str) -> None:
    """What had begun is finished and charged; what had not is not begun."""
    upstream = Held(REPLY)
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key) * 5)
            await upstream.came.wait()
            client.cut()
            await asyncio.sleep(0.05)
            upstream.go.set()
        await nothing_held(gw)
        assert await gw.balance("a") == PAID
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("size", [0, 300_000], ids=["whole", "streamed"])
@pytest.mark.parametrize("known", [True, False], ids=["length", "chunks"])
async def test_http_1_0_clients(tmp_path: Path, empty_redis: str, size: int, known: bool) -> None:
    """No chunks for them; the connection ends with the answer, unless they ask to keep it and its length is known."""
    body = charged_body(size) if size else CHARGED
    if known:
        reply = message("HTTP/1.1 200 OK", JSON, body=body)
    else:
        reply = message("HTTP/1.1 200 OK", JSON, "Transfer-Encoding: chunked", length=False) + chunk(body) + chunk(b"")
    async with before(answering(reply), tmp_path, empty_redis) as gw:
        async with await opened(gw) as client:
            got = await client.ask(get_bytes(FREE_PATH, version="1.0"))
            assert (got.body, got.one("Transfer-Encoding")) == (body, None)
            assert await client.ended()
        async with await opened(gw) as client:
            for _ in range(2 if known else 1):
                got = await client.ask(get_bytes(FREE_PATH, "Connection: keep-alive", version="1.0"))
                assert (got.body, got.one("Transfer-Encoding")) == (body, None)
                if known:
                    assert got.one("Connection") == b"keep-alive"
        async with await opened(gw) as client:  # no Host at all
            assert (await client.ask(b"GET /v1/models HTTP/1.0\r\n\r\n")).body == body


@pytest.mark.parametrize("path", [FREE_PATH, "/nowhere"])
async def test_a_client_may_end_its_connection(gw: Running, path: str) -> None:
    """`Connection: close` is answered with the same."""
    async with await opened(gw) as client:
        got = await client.ask(get_bytes(path, "Connection: close"))
        assert got.one("Connection") == b"close"
        assert await client.rest() == b""


async def test_one_connection_too_many_is_closed(tmp_path: Path, empty_redis: str) -> None:
    """At once, and there is room again when another one has gone."""

    def change(data: dict[str, Any]) -> None:
        data["limits"]["connections_max"] = 2

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": change}) as gw:
        async with await opened(gw) as one, await opened(gw) as two:
            for client in (one, two):
                assert (await client.ask(get_bytes(FREE_PATH))).status == 200
            async with await opened(gw) as three, asyncio.timeout(20):
                assert await three.ended()
            assert (await one.ask(get_bytes(FREE_PATH))).status == 200

        async def room() -> bool:
            async with await opened(gw) as client:
                await client.send(get_bytes(FREE_PATH))
                return await client.head() is not None

        await until(room)


async def test_calls_max_is_503(tmp_path: Path, empty_redis: str) -> None:
    """With Retry-After, and nothing of it is forwarded."""
    upstream = Held(REPLY)
    async with before(upstream, tmp_path, empty_redis, limits={"calls_max": 1}) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as one, await opened(gw) as two:
            await one.send(chat_bytes(key))
            await upstream.came.wait()
            got = await two.ask(chat_bytes(key))
            assert (got.status, got.one("X-Gateway-Error"), got.one("Retry-After")) == (503, b"overloaded", b"1")
            upstream.go.set()
            assert (await one.reply(b"POST")).status == 200
        assert len(upstream.requests) == 1


# ---- clients that leave


async def test_a_client_that_leaves_while_the_service_thinks_still_pays(tmp_path: Path, empty_redis: str) -> None:
    """The answer comes, is charged, and the departure is counted."""
    upstream = Held(REPLY)
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key))
            await upstream.came.wait()
        assert (await gw.ledger.account("a")).held > 0
        await asyncio.sleep(0.05)
        upstream.go.set()
        await nothing_held(gw)
        assert await gw.balance("a") == PAID
        await until(lambda: gw.gateway.pipeline.calls_open == 0)
        assert sum((await metric(gw, "gateway_clients_gone_total")).values()) == 1
        calls = await metric(gw, "gateway_calls_total")
        assert [name for name in calls if 'outcome="settled"' in name]


async def test_a_service_that_thinks_too_long_for_a_client_that_left(tmp_path: Path, empty_redis: str) -> None:
    """After drain_seconds_max the call is cut: the hold is released, the upstream's connection closed."""
    upstream = Held(REPLY)
    async with before(upstream, tmp_path, empty_redis, llm={"drain_seconds_max": 1}) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key))
            await upstream.came.wait()
        async with asyncio.timeout(5):
            await upstream.gone.wait()
        await nothing_held(gw)
        assert await gw.balance("a") == parse_usd("100")
        assert sum((await metric(gw, "gateway_clients_gone_total")).values()) == 1


async def leave_in_the_middle(gw: Running, key: str, upstream: Held) -> None:
    """Read the head and a little of a streamed reply, then leave."""
    async with await opened(gw) as client:
        upstream.go.set()
        await client.send(chat_bytes(key))
        assert await client.head()
        assert await client.reader.read(1000)
        client.cut()


async def test_a_client_that_leaves_in_the_middle_of_a_reply_pays(tmp_path: Path, empty_redis: str) -> None:
    """The rest is read for the usage at its end."""
    upstream = Held(message("HTTP/1.1 200 OK", JSON, body=charged_body(12 * 2**20)))
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        await leave_in_the_middle(gw, key, upstream)
        await nothing_held(gw)
        assert await gw.balance("a") == PAID


async def test_what_a_client_has_read_is_no_part_of_what_is_drained(tmp_path: Path, empty_redis: str) -> None:
    """Leaving just before the end of a large reply is no way not to pay for it."""
    body = charged_body(6 * 2**20)
    rest = asyncio.Event()

    async def script(line: Line) -> None:
        await line.request()
        await line.send(message("HTTP/1.1 200 OK", JSON, f"Content-Length: {len(body)}", length=False) + body[:-1000])
        await rest.wait()
        for start in range(len(body) - 1000, len(body), 100):
            await line.send(body[start : start + 100])
            await asyncio.sleep(0.01)
        await line.ended()

    async with before(ScriptedUpstream(script), tmp_path, empty_redis, llm={"drain_bytes_max": 2**20}) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key))
            assert await client.head()
            left = len(body) - 1000
            while left:
                left -= len(await client.reader.read(left))
        await asyncio.sleep(0.05)
        rest.set()
        await nothing_held(gw)
        assert await gw.balance("a") == PAID


async def test_draining_has_bounds(tmp_path: Path, empty_redis: str) -> None:
    """In bytes: beyond, the upstream is cut, and what nobody has read to its report costs what was held."""
    upstream = Held(message("HTTP/1.1 200 OK", JSON, body=charged_body(30 * 2**20)))
    async with before(upstream, tmp_path, empty_redis, llm={"drain_bytes_max": 2**20}) as gw:
        key = await gw.open_account("a")
        await leave_in_the_middle(gw, key, upstream)
        async with asyncio.timeout(5):
            await upstream.gone.wait()
        await nothing_held(gw)
        assert await gw.balance("a") == parse_usd("99.9859615")


async def test_draining_has_bounds_in_time(tmp_path: Path, empty_redis: str) -> None:
    """A service that drips on for nobody is cut as well."""
    head = message("HTTP/1.1 200 OK", JSON, "Transfer-Encoding: chunked", length=False)
    upstream = answering(head, *[chunk(b"x" * 5000)] * 2000, pause=0.02)
    async with before(upstream, tmp_path, empty_redis, llm={"drain_seconds_max": 1}) as gw:
        key = await gw.open_account("a")
        started = time.monotonic()
        async with await opened(gw) as client:
            await client.send(chat_bytes(key))
            assert await client.head()
            client.cut()
        await nothing_held(gw)
        assert time.monotonic() - started < 15  # the service would take forty
        assert await gw.balance("a") == parse_usd("99.9859615")


def fixed_price(data: dict[str, Any]) -> None:
    """Chat completions cost what the request says: an hour's price for each, whatever the reply."""
    for route in data["routes"]:
        if route["name"] == "chat.completions":
            route["usage"] = {"input_tokens": {"from": "request.max_tokens", "estimate": {"default": 1000}}}
            route["charges"] = [{"sku": "llm.{model}.input", "quantity": "input_tokens"}]
            route["sample"] = {
                "request": {"model": "gpt-5.2", "max_tokens": 1000000},
                "reply": {},
                "charge": "1.750000000",
            }
    data["models"]["ran"] = ["request.model"]


async def test_a_price_that_needs_no_reply_is_paid_by_a_client_that_leaves(tmp_path: Path, empty_redis: str) -> None:
    """Nothing has to be read for it: the success is charged, and the rest of the reply is left to the upstream."""
    upstream = Held(message("HTTP/1.1 200 OK", body=b"x" * 30 * 2**20))

    def change(data: dict[str, Any]) -> None:
        for each in data["upstreams"].values():
            each["base_url"] = upstream.url

    changes: dict[str, Change] = {"gateway.yaml": change, "config/products/llm-gateway.yaml": fixed_price}
    async with upstream, running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            upstream.go.set()
            await client.send(chat_bytes(key, body=orjson.dumps({**CHAT, "max_tokens": 1000000})))
            assert await client.head()
            client.cut()
        await nothing_held(gw)
        assert await gw.balance("a") == parse_usd("98.25")


# ---- the gateway stops


async def test_calls_under_way_finish_and_are_settled(tmp_path: Path, empty_redis: str) -> None:
    """Their answers arrive and say that the connection ends; nobody new gets in."""
    upstream = Held(REPLY)
    async with stoppable(upstream, tmp_path, empty_redis, seconds=10) as gw:
        key = await gw.open_account("a")
        port = gw.gateway.customers_port
        async with await opened(gw) as client, await opened(gw) as idle:
            assert (await idle.ask(get_bytes("/nowhere"))).status == 404
            await client.send(chat_bytes(key))
            await upstream.came.wait()
            stopping = asyncio.create_task(gw.gateway.__aexit__())
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionError):
                await RawClient.open(port)
            assert await idle.ended()
            upstream.go.set()
            got = await client.reply(b"POST")
            assert (got.status, got.one("X-Gateway-Charge"), got.one("Connection")) == (200, PRICE.encode(), b"close")
            assert await client.ended()
            await stopping
        account = await gw.ledger.account("a")
        assert (account.balance, account.held) == (PAID, 0)


async def test_an_upload_under_way_finishes(tmp_path: Path, empty_redis: str) -> None:
    """Its body still comes in after the signal."""

    async def script(line: Line) -> None:
        received = await upstream.taken(line)
        assert received.body == b"0123456789"
        await line.send(message("HTTP/1.1 200 OK", JSON, body=b'{"upload_url":"https://cdn.sandbox.invalid/upload/1"}'))

    upstream = ScriptedUpstream(script)
    async with stoppable(upstream, tmp_path, empty_redis, seconds=5) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            fields = ("Host: h", f"Authorization: {key}", "Content-Length: 10")
            await client.send(message("POST /v2/upload HTTP/1.1", *fields, length=False) + b"01234")
            await asyncio.sleep(0.05)
            stopping = asyncio.create_task(gw.gateway.__aexit__())
            await asyncio.sleep(0.05)
            await client.send(b"56789")
            assert (await client.reply(b"POST")).status == 200
            await stopping


async def test_a_streamed_reply_under_way_finishes(tmp_path: Path, empty_redis: str) -> None:
    """Whole, and charged."""
    body = charged_body(600_000)
    go = asyncio.Event()

    async def script(line: Line) -> None:
        await line.request()
        await line.send(message("HTTP/1.1 200 OK", JSON, f"Content-Length: {len(body)}", length=False) + body[:300_000])
        await go.wait()
        await line.send(body[300_000:])
        await line.ended()

    async with stoppable(ScriptedUpstream(script), tmp_path, empty_redis, seconds=5) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key))
            reading = asyncio.create_task(client.reply(b"POST"))
            await asyncio.sleep(0.1)
            stopping = asyncio.create_task(gw.gateway.__aexit__())
            await asyncio.sleep(0.05)
            go.set()
            assert (await reading).body == body
            await stopping
        account = await gw.ledger.account("a")
        assert (account.balance, account.held) == (PAID, 0)


@pytest.mark.parametrize("left", [False, True], ids=["waiting", "left"])
async def test_a_call_that_takes_too_long_is_cut(tmp_path: Path, empty_redis: str, left: bool) -> None:
    """After shutdown_seconds_max, not twice that: its hold is given back before the gateway is gone."""
    upstream = Held(REPLY)
    async with stoppable(upstream, tmp_path, empty_redis, seconds=2) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key))
            await upstream.came.wait()
            if left:
                client.cut()
                await asyncio.sleep(0.05)
            assert (await gw.ledger.account("a")).held > 0
            started = time.monotonic()
            await gw.gateway.__aexit__()
            assert time.monotonic() - started < 3.8
            account = await gw.ledger.account("a")
            assert (account.balance, account.held) == (parse_usd("100"), 0)
            assert upstream.gone.is_set() or await asyncio.wait_for(upstream.gone.wait(), 10)


async def test_a_call_whose_client_left_is_waited_for(tmp_path: Path, empty_redis: str) -> None:
    """What its service reports while the gateway stops is still charged."""
    upstream = Held(REPLY)
    async with stoppable(upstream, tmp_path, empty_redis, seconds=5) as gw:
        key = await gw.open_account("a")
        async with await opened(gw) as client:
            await client.send(chat_bytes(key))
            await upstream.came.wait()
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(gw.gateway.__aexit__())
        await asyncio.sleep(0.1)
        assert not stopping.done()
        upstream.go.set()
        await stopping
        account = await gw.ledger.account("a")
        assert (account.balance, account.held) == (PAID, 0)


async def test_a_gateway_with_nothing_to_do_stops_at_once(tmp_path: Path, empty_redis: str) -> None:
    """Idle connections are no reason to wait."""
    async with stoppable(chat_upstream(), tmp_path, empty_redis, seconds=10) as gw, await opened(gw) as client:
        key = await gw.open_account("a")
        assert (await client.ask(chat_bytes(key))).status == 200
        started = time.monotonic()
        await gw.gateway.__aexit__()
        assert time.monotonic() - started < 5
