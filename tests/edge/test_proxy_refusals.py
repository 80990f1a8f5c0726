"""How the gateway says no, what it adds to a yes, and what it never tells anybody."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.ledger.embedded import EmbeddedRedis
from gateway.ports import Status
from tests.fakes.link import CuttingRelay
from tests.fakes.upstream import Line, ScriptedUpstream, answering, chunk, message
from tests.harness import Got, Running, running
from tests.upstream.proxying import (
    CHARGED,
    CHAT,
    CHAT_PATH,
    FREE_PATH,
    JSON,
    before,
    chat_bytes,
    chat_upstream,
    get_bytes,
    nothing_held,
    opened,
    until,
)

JOB = {"audio_url": "https://example.com/a.wav"}


def is_refusal(got: Got, status: int, code: str, *, dialect: str = "llm") -> None:
    """Everything that every refusal has, and the product's shape of the body."""
    assert (got.status, got.code) == (status, code)
    assert len(got.headers["X-Gateway-Call-Id"]) == 24
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Server"] == "gateway"
    assert "X-Gateway-Charge" not in got.headers
    error = got.json["error"]
    if dialect == "llm":
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == code
    else:
        assert type(error) is str
        assert set(got.json) == {"error"}


async def test_every_refusal_before_the_ledger_has_its_code_and_its_dialect(gw: Running) -> None:
    """By product; unknown paths in the gateway's own words."""
    key = await gw.open_account("a")
    is_refusal(await gw.call("POST", CHAT_PATH, None, json=CHAT), 401, "unauthorized")
    is_refusal(await gw.call("POST", CHAT_PATH, "wrong", json=CHAT), 401, "unauthorized")
    is_refusal(await gw.call("POST", "/v2/transcript", "wrong", json=JOB), 401, "unauthorized", dialect="stt")
    is_refusal(await gw.call("POST", CHAT_PATH, key, json={**CHAT, "model": "no"}), 400, "unknown_model")
    is_refusal(await gw.call("POST", CHAT_PATH, key, data=b"{"), 400, "invalid_request")
    is_refusal(await gw.call("POST", CHAT_PATH, key, json={**CHAT, "model_region": "eu"}), 400, "unsupported")
    job = {**JOB, "something_new": True}
    is_refusal(await gw.call("POST", "/v2/transcript", key, json=job), 400, "unpriced_field", dialect="stt")
    is_refusal(await gw.call("GET", "/v2/transcript/x", key), 400, "not_found", dialect="stt")
    is_refusal(await gw.call("GET", "/nowhere", key), 404, "route_not_found", dialect="own")
    got = await gw.call("PATCH", "/v2/transcript", key)
    is_refusal(got, 405, "method_not_allowed", dialect="own")
    assert got.headers["Allow"] == "GET, HEAD, POST"
    assert not await gw.seen()


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda gw: gw.ledger.set_key("a", disabled=True), 403, "key_disabled"),
    ],
)
async def test_nothing(change: Callable[[Running], Any], status: int, code: str) -> None:
    """x."""
