"""A new product is YAML only: a seventh one, charged by the request, by the reply, and by a header, without code."""

import asyncio
from collections.abc import AsyncIterator
from gzip import compress
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.core.money import parse_usd
from gateway.settings.load import SettingsError
from tests.harness import Change, Running, running
from tests.pipeline.helpers import holding, in_order, sandbox, skus
from tests.pipeline.streaming import charged

SPEECH = "/v1/speech"


def replaced_by(text: dict[str, Any]) -> Change:
    """A new file with this content."""

    def change(data: dict[str, Any]) -> None:
        data.update(text)

    return change


def in_every_tier(*names: str) -> Change:
    """Every tier includes the products."""

    def change(data: dict[str, Any]) -> None:
        for tier in data["tiers"].values():
            tier["products"].update({name: {} for name in names})

    return change


def priced(**prices: dict[str, str]) -> Change:
    """The first price list has these prices as well."""

    def change(data: dict[str, Any]) -> None:
        data["price_lists"][0]["prices"].update({name.replace("__", "."): price for name, price in prices.items()})

    return change


def speech(usage: dict[str, Any]) -> dict[str, Any]:
    """Text-to-speech, charged for its characters, wherever they are told."""
    return {
        "product": "text-to-speech",
        "title": "Text to speech",
        "upstream": "speech-to-text",
        "errors": {"body": {"code": "{code}", "message": "{message}"}},
        "routes": [
            {
                "name": "speech.create",
                "match": f"POST {SPEECH}",
                "meter": "response",
                "usage": {"characters": usage},
                "charges": [{"sku": "tts.characters", "quantity": "characters"}],
            }
        ],
    }


def changes(product: dict[str, Any], **prices: dict[str, str]) -> dict[str, Change]:
    """A config with one more product."""
    name = product["product"]
    return {
        f"config/products/{name}.yaml": replaced_by(product),
        "config/tiers.yaml": in_every_tier(name),
        "config/prices.yaml": priced(**prices),
    }


async def test_text_to_speech_is_charged_by_the_requests_characters(tmp_path: Path, empty_redis: str) -> None:
    """Code points, not bytes: they are known before the call, so the hold is exact."""
    product = speech({"from": "request.text", "count": "characters", "estimate": {"default": 1000}})
    async with running(
        tmp_path, empty_redis, changes=changes(product, tts__characters={"per_1m_characters": "15"})
    ) as gw:
        key = await gw.open_account("a", tier="free", credit="1")
        text = "Grüße, 世界! 👋" * 100
        got = await gw.call("POST", SPEECH, key, json={"text": text})
        assert got.status == 200
        assert got.headers["Content-Type"].startswith("audio/")
        charge = len(text) * 15_000
        assert got.charge is None or got.charge == charge
        assert [each["amount"] for each in await charged(gw)] == [charge], "it may come after the last byte"
        await in_order(gw, "a", balance=parse_usd("1") - charge)  # type: ignore[arg-type]
        got = await gw.call("POST", SPEECH, key, json={"text": text, "stream": True})
        assert got.status == 200
        assert len(await charged(gw, count=2)) == 2
        assert (await gw.call("POST", SPEECH, key, json={"text": "x" * 20_000})).status == 400
        assert (await gw.call("POST", SPEECH, key, json={"text": "x"}, headers=sandbox(status=500))).status == 500
        got = await gw.call("POST", SPEECH, key, json={})
        assert got.status == 400
        for uncounted in (5, ["x" * 1000], {"x": 1}, True):
            got = await gw.call("POST", SPEECH, key, json={"text": uncounted})
            assert (got.status, got.code) == (400, "invalid_request"), "what cannot be counted has no price"
            assert "request.text must be text" in str(got.json)
        await in_order(gw, "a", balance=parse_usd("1") - 2 * charge)  # type: ignore[arg-type]
        empty = await gw.open_account("b", credit="0")
        refused = await gw.call("POST", SPEECH, empty, json={"text": "x"})
        assert (refused.status, refused.code, refused.json["code"]) == (400,) + ("insufficient_credit",) * 2


async def test_text_to_speech_is_charged_by_a_header_of_the_reply(tmp_path: Path, empty_redis: str) -> None:
    """What the upstream bills is charged; where the header is missing, the hold is, marked as estimated."""
    product = speech({"from": "reply_header.X-TTS-Billed-Characters", "estimate": {"default": 1000}})
    async with running(
        tmp_path, empty_redis, changes=changes(product, tts__characters={"per_1k_characters": "0.015"})
    ) as gw:
        key = await gw.open_account("a", tier="free", credit="1")
        got = await gw.call("POST", SPEECH, key, json={"text": "x" * 100})
        assert got.status == 200
        assert (await charged(gw))[-1]["amount"] == parse_usd("0.0015")
        usage = {"X-Sandbox-Usage": '{"billed_characters": 7}'}
        await gw.call("POST", SPEECH, key, json={"text": "x" * 100}, headers=usage)
        await charged(gw, count=2)
        assert await skus(gw, "a") == {"tts.characters": "7"}
        await gw.call("POST", SPEECH, key, json={"text": "x" * 100}, headers=sandbox(usage="missing"))
        last = (await charged(gw, count=3))[-1]
        assert (last["basis"], last["amount"]) == ("estimated", parse_usd("0.015"))
        await gw.call("POST", SPEECH, key, json={"text": "x" * 100}, headers=sandbox(usage="zero"))
        last = (await charged(gw, count=4))[-1]
        assert (last["basis"], last["amount"]) == ("reported", 0)


async def test_a_body_of_no_known_length_holds_as_if_it_were_as_large_as_it_may_be(
    tmp_path: Path, empty_redis: str
) -> None:
    """Estimated by its size, a body that is streamed without its length, or packed, holds no less than another."""
    product = speech({"from": "reply_header.X-TTS-Billed-Characters", "estimate": {"request_bytes_per_unit": 1}})
    product["routes"][0]["body_bytes_max"] = 20_000
    async with running(
        tmp_path, empty_redis, changes=changes(product, tts__characters={"per_1k_characters": "0.015"})
    ) as gw:
        key = await gw.open_account("a", tier="free", credit="1")
        body = orjson.dumps({"text": "x" * 1000})

        async def in_pieces() -> AsyncIterator[bytes]:
            yield body[:500]
            yield body[500:]

        sent = ((body, "identity", len(body)), (in_pieces(), "identity", 20_000), (compress(body), "gzip", 20_000))
        for data, coding, bytes_held in sent:
            headers = {
                "Content-Type": "application/json",
                "Content-Encoding": coding,
                "X-Sandbox-Latency-Seconds": "0.4",
            }
            call = asyncio.create_task(gw.call("POST", SPEECH, key, data=data, headers=headers))
            assert await holding(gw, "a") == bytes_held * 15_000
            await call


async def _render(request: web.Request) -> web.Response:
    body = await request.json()
    if "frames" not in body:
        return web.json_response({"pictures": []})
    return web.json_response({"pictures": ["p"], "billing": [{"megapixels": body["frames"]}]})


@pytest.fixture
async def painter() -> AsyncIterator[str]:
    """A service of its own, that nobody has heard of: its URL."""
    app = web.Application()
    app.router.add_post("/render", _render)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_a_product_of_another_service_is_charged_by_a_field_of_the_reply(
    tmp_path: Path, empty_redis: str, painter: str
) -> None:
    """Another upstream, a fraction as quantity, a fixed hold, a fixed price beside it: all of it in YAML."""
    product = {
        "product": "pictures",
        "title": "Pictures",
        "upstream": "painter",
        "errors": {"body": {"detail": "{message}"}},
        "routes": [
            {
                "name": "render",
                "match": "POST /render",
                "meter": "response",
                "hold": {"fixed": "0.25"},
                "usage": {"megapixels": {"from": "reply.billing.0.megapixels", "estimate": {"default": 1}}},
                "charges": [{"sku": "picture.megapixel", "quantity": "megapixels"}, {"sku": "picture.call"}],
                "unknown_usage": "charge_nothing",
            }
        ],
    }
    changed = changes(product, picture__megapixel={"per_unit": "0.04"}, picture__call={"per_call": "0.001"})

    def painted(data: dict[str, Any]) -> None:
        data["upstreams"]["painter"] = {"base_url": painter, "credential": "the-painters-key"}

    # the harness points every upstream of the project at the sandbox; this one is added after that
    async with running(tmp_path, empty_redis, changes={**changed, "gateway.yaml": painted}) as gw:
        key = await gw.open_account("a", tier="free", credit="1")
        got = await gw.call("POST", "/render", key, json={"frames": 2.5})
        assert (got.status, got.charge) == (200, parse_usd("0.101"))
        assert await skus(gw, "a") == {"picture.megapixel": "2.5", "picture.call": "1"}
        got = await gw.call("POST", "/render", key, json={"frames": 1e-9})
        assert got.charge == parse_usd("0.001") + 0
        got = await gw.call("POST", "/render", key, json={})
        assert (got.status, got.charge) == (200, None), "unknown usage costs nothing here, by the config's word"
        await in_order(gw, "a", balance=parse_usd("0.898"))


@pytest.mark.parametrize("metered", [True, False])
async def test_a_new_route_without_a_price_does_not_start(tmp_path: Path, empty_redis: str, metered: bool) -> None:
    """A metered route whose SKU nobody priced is an error of the config, not a free lunch."""
    product = speech({"from": "request.text", "count": "characters", "estimate": {"default": 1000}})
    changed = changes(product, **({} if metered else {"tts__characters": {"per_1m_characters": "0"}}))
    with pytest.raises(SettingsError) as raised:
        async with running(tmp_path, empty_redis, changes=changed):
            pass
    assert "tts.characters" in raised.value.render()


async def test_an_ordinary_config_has_no_text_to_speech(gw: Running) -> None:
    """What no file describes is not there: 404, and nothing is forwarded."""
    key = await gw.open_account("a", credit="1")
    got = await gw.call("POST", SPEECH, key, json={"text": "x"})
    assert (got.status, got.code) == (404, "route_not_found")
    assert not await gw.seen()
