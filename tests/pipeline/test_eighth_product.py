"""A product of sockets that nobody has written code for: its own frames, words, prices and tokens, by YAML alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import yaml
from aiohttp import web

from gateway.core.money import Nanos, format_usd, parse_usd
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.harness import Running, running
from tests.pipeline.helpers import charges, in_order, until
from tests.pipeline.sockets import connected, to_the_end
from tests.settings.test_new_product import INTERPRETER

PLAIN_SECOND = 1_000_000  # 0.06 dollars a minute
STUDIO_SECOND = 2_000_000
SUBTITLES_SECOND = 100_000
CHARACTER = 15_000


class Interpreter:
    """A service that speaks the dialect of the example: started, spoken, done; tune, say, stop."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.queries: list[str] = []

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One session: it reports what it spoke, and all of it at its end."""
        assert request.headers["Authorization"] == "sandbox-service-key"
        self.queries.append(request.query_string)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        voice = request.query.get("voice", "plain")
        started = {"id": f"i{len(self.queries)}", "voice": voice}
        await socket.send_json({"event": "started", "started": started})
        spoken = 0
        async for message in socket:
            told = message.json()
            self.heard.append(told)
            if told["event"] == "say":
                spoken += len(told["text"])
                await socket.send_json({"event": "spoken", "spoken": {"characters": spoken}})
            elif told["event"] == "stop":
                await socket.send_json({"event": "done", "done": {"characters": spoken}})
                await socket.close(code=1000, message=b"bye")
        return socket


@pytest.fixture
async def interpreter() -> AsyncIterator[tuple[Interpreter, str]]:
    """The service, and its address."""
    service = Interpreter()
    app = web.Application()
    app.router.add_get("/v2/interpret", service.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield service, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def gateway(tmp_path: Path, empty_redis: str, interpreter: tuple[Interpreter, str]) -> AsyncIterator[Running]:
    """A gateway that has the product."""
    _, url = interpreter

    def upstreams(data: dict[str, Any]) -> None:
        data["upstreams"]["tts"] = {"base_url": url, "credential": "sandbox-service-key"}

    def product(data: dict[str, Any]) -> None:
        data.update(yaml.safe_load(INTERPRETER))

    def prices(data: dict[str, Any]) -> None:
        data["price_lists"][0]["prices"] |= {
            "interpreter.plain": {"per_minute": "0.06"},
            "interpreter.studio": {"per_minute": "0.12"},
            "interpreter.subtitles": {"per_second": "0.0001"},
            "tts.characters": {"per_1m_characters": "15"},
        }

    def tiers(data: dict[str, Any]) -> None:
        data["tiers"]["payg"]["products"]["interpreter"] = {"concurrency": 2}

    changes = {
        "gateway.yaml": upstreams,
        "config/products/interpreter.yaml": product,
        "config/prices.yaml": prices,
        "config/tiers.yaml": tiers,
    }
    async with running(tmp_path, empty_redis, changes=changes) as found:
        yield found


async def opened(gw: Running, key: str, query: str = "") -> aiohttp.ClientWebSocketResponse:
    """A socket whose session has started."""
    socket = await gw.http.ws_connect(f"{gw.url}/v2/interpret?from=de&to=en{query}", headers={"Authorization": key})
    assert (await socket.receive_json(timeout=30))["event"] == "started"
    return socket


async def test_it_is_charged_by_the_clock_and_by_what_it_reports(
    gateway: Running, interpreter: tuple[Interpreter, str]
) -> None:
    """Seconds of the model that it says it runs, subtitles from their tuning on, and every character, to the nano."""
    service, _ = interpreter
    key = await gateway.open_account("a", credit="1")
    socket = await opened(gateway, key, "&voice=studio-2")
    await socket.send_json({"event": "say", "text": "Guten Tag"})
    assert (await socket.receive_json())["spoken"] == {"characters": 9}
    await asyncio.sleep(0.3)
    await socket.send_json({"event": "tune", "subtitles": True})
    await asyncio.sleep(0.3)
    await socket.send_json({"event": "stop"})
    said, code = await to_the_end(socket)
    assert (said, code) == ([{"event": "done", "done": {"characters": 9}}], 1000)
    assert [told["event"] for told in service.heard] == ["say", "tune", "stop"]
    assert await until(lambda: _settled(gateway, "a"))
    found: dict[str, int] = {}
    quantities: dict[str, float] = {}
    for charge in await charges(gateway, "a"):
        for item in charge["items"]:
            found[item["sku"]] = found.get(item["sku"], 0) + item["amount"]
            quantities[item["sku"]] = quantities.get(item["sku"], 0) + float(item["quantity"])
    assert found["tts.characters"] == 9 * CHARACTER
    assert found["interpreter.studio"] == round(quantities["interpreter.studio"] * STUDIO_SECOND)
    assert found["interpreter.subtitles"] == round(quantities["interpreter.subtitles"] * SUBTITLES_SECOND)
    assert 0.55 < quantities["interpreter.studio"] < 3
    assert 0.25 < quantities["interpreter.subtitles"] < quantities["interpreter.studio"] - 0.25
    await in_order(gateway, "a", balance=Nanos(parse_usd("1") - sum(found.values())))


async def _settled(gw: Running, account: str) -> bool:
    return not (await gw.ledger.account(account)).held


async def test_it_refuses_in_its_own_words(gateway: Running, interpreter: tuple[Interpreter, str]) -> None:
    """Its own frame, close code and reason, for what is worded apart and for what is not."""
    service, _ = interpreter
    poor = await gateway.open_account("poor", credit="0")
    async with connected(gateway, poor, "/v2/interpret") as socket:
        (frame,), code = await to_the_end(socket)
    assert (frame["event"], frame["why"], code) == ("refused", "insufficient_credit", 4402)
    assert frame["call"]
    rich = await gateway.open_account("rich", credit="1")
    async with connected(gateway, rich, "/v2/interpret?accent=posh") as socket:
        (frame,), code = await to_the_end(socket)
    assert (frame["why"], code) == ("unpriced_field", 4000)
    free = await gateway.open_account("free", tier="free", credit="1")
    async with connected(gateway, free, "/v2/interpret") as socket:
        (frame,), code = await to_the_end(socket)
    assert (frame["why"], code) == ("not_entitled", 4000)
    assert not service.queries


async def test_two_at_a_time(gateway: Running) -> None:
    """The plan's concurrency counts open sessions; when one ends there is room."""
    key = await gateway.open_account("a", credit="1")
    first, _second = await opened(gateway, key), await opened(gateway, key)
    async with connected(gateway, key, "/v2/interpret") as socket:
        (frame,), code = await to_the_end(socket)
    assert (frame["why"], code) == ("too_many_concurrent", 4000)
    await first.send_json({"event": "stop"})
    await to_the_end(first)
    await opened(gateway, key)


async def test_its_sessions_are_their_accounts(gateway: Running, interpreter: tuple[Interpreter, str]) -> None:
    """A session may be continued by its own account; another's is as one that is not, in the product's words."""
    service, _ = interpreter
    owner, other = await gateway.open_account("a", credit="1"), await gateway.open_account("b", credit="1")
    await opened(gateway, owner)
    mine, theirs = await opened(gateway, owner), await opened(gateway, other)
    await mine.send_json({"event": "continue", "of": "i1"})
    await theirs.send_json({"event": "continue", "of": "i1"})
    said, code = await to_the_end(theirs)
    assert (said[-1], code) == ({"event": "gone"}, 4404)
    assert [told for told in service.heard if told["event"] == "continue"] == [{"event": "continue", "of": "i1"}]


async def test_an_update_without_a_price_is_refused(gateway: Running, interpreter: tuple[Interpreter, str]) -> None:
    """What may cost and is not known does not reach the service."""
    service, _ = interpreter
    key = await gateway.open_account("a", credit="1")
    socket = await opened(gateway, key)
    await socket.send_json({"event": "tune", "volume": 3})
    await socket.send_json({"event": "tune", "autotune": True})
    said, code = await to_the_end(socket)
    assert (said[-1]["why"], code) == ("unpriced_field", 4000)
    assert {"event": "tune", "volume": 3} in service.heard
    assert not [told for told in service.heard if "autotune" in told]


async def test_a_pass_opens_one_session(
    gateway: Running, interpreter: tuple[Interpreter, str], empty_redis: str
) -> None:
    """The product's own form of a token: for ten seconds, once, by whichever host's clock, and never shown to the
    service.
    """
    service, _ = interpreter
    key = await gateway.open_account("a", credit="1")
    got = await gateway.call("GET", "/v2/pass", key)
    assert got.status == 200 and list(got.json) == ["pass"]
    path = f"/v2/interpret?to=en&token={got.json['pass']}"
    async with connected(gateway, None, path) as socket:
        assert (await socket.receive_json())["event"] == "started"
        assert service.queries == ["to=en"]
        await socket.send_json({"event": "stop"})
        await to_the_end(socket)
    async with connected(gateway, None, path) as socket:
        (frame,), code = await to_the_end(socket)
    assert (frame["why"], code) == ("unauthorized", 4000)
    link = SingleLink(LinkSettings(url=empty_redis))
    await link.open()
    (used,) = cast("list[bytes]", await link.call("KEYS", "gw:{a}:once:*"))
    assert 30 < cast("int", await link.call("TTL", used)) <= 70
    await link.close()
    late = await gateway.call("GET", "/v2/pass?seconds=31", key)
    assert (late.status, late.code) == (400, "invalid_request")


async def test_credit_for_one_second_is_cut_after_one_second(gateway: Running) -> None:
    """The service is told to stop, the last words are passed on, and exactly the credit is gone."""
    key = await gateway.open_account("a", credit=format_usd(Nanos(PLAIN_SECOND)))
    socket = await opened(gateway, key)
    said, code = await to_the_end(socket)
    assert code == 4402
    assert said[-1]["why"] == "insufficient_credit"
    await in_order(gateway, "a", balance=Nanos(0))
