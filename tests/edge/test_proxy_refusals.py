"""How the gateway says no, what it adds to a yes, and what it never tells anybody."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.errors import LedgerUnavailable
from gateway.core.money import Nanos, parse_usd
from gateway.ledger.embedded import EmbeddedRedis
from gateway.sandbox import SandboxSettings
from tests.fakes.link import CuttingRelay
from tests.fakes.upstream import Line, ScriptedUpstream, chunk, message
from tests.harness import Got, Running, running
from tests.upstream.proxying import (
    CHARGED,
    CHAT,
    CHAT_PATH,
    FREE_PATH,
    JSON,
    PRICE,
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
    is_refusal(await gw.call("GET", "/v2/transcript/x", key), 404, "not_found", dialect="stt")
    is_refusal(await gw.call("GET", "/nowhere", key), 404, "route_not_found", dialect="own")
    got = await gw.call("PATCH", "/v2/transcript", key)
    is_refusal(got, 405, "method_not_allowed", dialect="own")
    assert got.headers["Allow"] == "GET, HEAD, POST"
    assert not await gw.seen()


async def test_every_refusal_of_the_ledger_has_its_code_and_its_dialect(gw: Running) -> None:
    """The guards, in their order, in the words of the product; nothing reaches the upstream."""
    free = await gw.open_account("free", tier="free")
    is_refusal(await gw.call("POST", CHAT_PATH, free, json=CHAT), 403, "not_entitled")
    disabled = await gw.open_account("disabled", disabled=True)
    is_refusal(await gw.call("POST", CHAT_PATH, disabled, json=CHAT), 403, "key_disabled")
    expired = await gw.open_account("expired")
    expiry = {"expires_ms": 1000}
    await gw.ledger.change_key(operation="expire", account="expired", key_id="key-expired", changes=expiry)
    is_refusal(await gw.call("POST", "/v2/transcript", expired, json=JOB), 403, "key_disabled", dialect="stt")
    suspended = await gw.open_account("suspended")
    await gw.ledger.change_account(operation="suspend", account="suspended", status="suspended")
    is_refusal(await gw.call("POST", CHAT_PATH, suspended, json=CHAT), 403, "account_suspended")
    other = await gw.open_account("other", products=("speech-to-text",))
    is_refusal(await gw.call("POST", CHAT_PATH, other, json=CHAT), 403, "not_entitled")
    poor = await gw.open_account("poor", credit="0")
    is_refusal(await gw.call("POST", CHAT_PATH, poor, json=CHAT), 400, "insufficient_credit")
    is_refusal(await gw.call("POST", "/v2/transcript", poor, json=JOB), 400, "insufficient_credit", dialect="stt")
    spent = await gw.open_account("spent", monthly_budget=Nanos(1))
    assert (await gw.call("POST", CHAT_PATH, spent, json=CHAT)).status == 200
    is_refusal(await gw.call("POST", CHAT_PATH, spent, json=CHAT), 403, "key_budget_exceeded")
    assert len(await gw.seen()) == 1


def narrow(data: dict[str, Any]) -> None:
    """Two requests in a minute, one transcript at a time."""
    data["tiers"]["payg"]["requests"] = {"quota": 2, "window_seconds": 60}
    data["tiers"]["contracted"]["products"]["speech-to-text"] = {"concurrency": 1}


def following(data: dict[str, Any]) -> None:
    """Three requests in three seconds; after a window with three, six."""
    requests = {"quota": 3, "window_seconds": 3, "scaling": {"grow_percent": 100}}
    data["tiers"]["payg"]["products"]["llm-gateway"]["requests"] = requests


async def test_the_quota_in_force_is_told(tmp_path: Path, empty_redis: str) -> None:
    """Where a quota follows its use, success and refusal show what it has become."""
    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": following}) as gw:
        key = await gw.open_account("a")
        for quota in (3, 6):
            answers = await asyncio.gather(*(gw.call("POST", CHAT_PATH, key, json=CHAT) for _ in range(8)))
            assert sorted(got.status for got in answers) == [200] * quota + [429] * (8 - quota)
            for got in answers:
                assert f'"llm-gateway";q={quota};w=3' in got.headers["RateLimit-Policy"]
            await asyncio.sleep(3.1)  # less than two windows, however slow the calls were


async def test_rates_are_told_on_success_and_on_refusal(tmp_path: Path, empty_redis: str) -> None:
    """What is left with every success; 429 says when to come back, and counts nothing."""
    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": narrow}) as gw:
        key = await gw.open_account("a")
        for left in (1, 0):
            got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
            assert got.status == 200
            assert got.headers["RateLimit-Policy"] == '"account";q=2;w=60, "llm-gateway-gpt-5.2";q=30;w=60'
            assert got.headers["RateLimit"].startswith(f'"account";r={left};t=')
        for _ in range(2):
            got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
            is_refusal(got, 429, "rate_limited")
            seconds = int(got.headers["Retry-After"])
            assert 0 < seconds <= 60
            assert got.headers["RateLimit"] == f'"account";r=0;t={seconds}'
            assert '"account";q=2;w=60' in got.headers["RateLimit-Policy"]
        got = await gw.call("GET", "/v2/transcript", key)
        is_refusal(got, 429, "rate_limited", dialect="stt")
        assert len(await gw.seen()) == 2


async def test_concurrency_is_429_as_well(tmp_path: Path, empty_redis: str) -> None:
    """With Retry-After; a job that is not finished counts."""
    async with running(
        tmp_path,
        empty_redis,
        changes={"config/tiers.yaml": narrow},
        sandbox=SandboxSettings(job_seconds=60),
    ) as gw:
        key = await gw.open_account("a", tier="contracted")
        assert (await gw.call("POST", "/v2/transcript", key, json=JOB)).status == 200
        got = await gw.call("POST", "/v2/transcript", key, json=JOB)
        is_refusal(got, 429, "too_many_concurrent", dialect="stt")
        assert int(got.headers["Retry-After"]) > 0


async def test_without_the_ledger_nothing_is_forwarded(
    tmp_path: Path, redis_server: EmbeddedRedis, empty_redis: str
) -> None:
    """503 with Retry-After for keys that are known and unknown; when it is back, so is service."""
    assert empty_redis
    async with CuttingRelay(redis_server.url) as relay, running(tmp_path, relay.url) as gw:
        key = await gw.open_account("a")
        assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 200
        await relay.stop()
        for each in (key, "never-seen"):
            got = await gw.call("POST", CHAT_PATH, each, json=CHAT)
            is_refusal(got, 503, "ledger_unavailable")
            assert got.headers["Retry-After"] == "1"
        got = await gw.call("POST", "/v2/transcript", key, json=JOB)
        is_refusal(got, 503, "ledger_unavailable", dialect="stt")
        assert len(await gw.seen()) == 1
        assert (await gw.call("GET", FREE_PATH, None)).status == 200  # public: it asks nobody
        await relay.start()

        async def served() -> bool:
            return (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 200

        await until(served)
        await nothing_held(gw)


async def test_without_the_ledger_a_success_is_still_a_success(
    tmp_path: Path, redis_server: EmbeddedRedis, empty_redis: str
) -> None:
    """What cannot be settled now is settled from the spool, once; the customer notices nothing."""
    assert empty_redis
    came, go = asyncio.Event(), asyncio.Event()

    async def script(line: Line) -> None:
        await line.request()
        came.set()
        await go.wait()
        await line.send(message("HTTP/1.1 200 OK", JSON, body=CHARGED))
        await line.ended()

    async with (
        CuttingRelay(redis_server.url) as relay,
        before(ScriptedUpstream(script), tmp_path, relay.url) as gw,
        await opened(gw) as client,
    ):
        key = await gw.open_account("a")
        await client.send(chat_bytes(key))
        await came.wait()
        await relay.stop()
        go.set()
        got = await client.reply(b"POST")
        assert (got.status, got.body) == (200, CHARGED)
        await relay.start()

        async def charged() -> bool:
            with suppress(LedgerUnavailable):
                return await gw.balance("a") == parse_usd("100") - parse_usd(PRICE)
            return False

        await until(charged)
        await nothing_held(gw)
        assert not await gw.ledger.verify("a")


async def test_a_fault_of_ours_is_a_refusal_like_any_other(gw: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 in the product's dialect, nothing held, and its text told to nobody."""
    key = await gw.open_account("a")

    def broken(*_: Any) -> Any:
        raise ValueError("marker-of-a-fault")

    monkeypatch.setattr("gateway.pipeline.pricing.charge", broken)
    got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
    is_refusal(got, 500, "internal")
    assert b"marker" not in got.body
    await nothing_held(gw)


# ---- what is never told


async def test_no_secret_and_no_content_is_logged_or_counted(
    tmp_path: Path, empty_redis: str, capfdbinary: pytest.CaptureFixture[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Keys, queries, ids in paths, header values, requests, replies: of calls that go well, badly, and nowhere."""
    caplog.set_level(logging.DEBUG)
    reply = orjson.dumps({**orjson.loads(CHARGED), "id": "fine", "choices": ["marker-reply"]})

    async def script(line: Line) -> None:
        while True:
            request = await line.request()
            if b"marker-garbage" in request.head:
                await line.send(b"HTTP/1.1 marker-reply\r\nX: marker-reply\r\n\r\n")
                return
            if b"marker-cut" in request.head:
                await line.send(message("HTTP/1.1 200 OK", "Content-Length: 99", length=False) + b"marker-reply")
                return
            await line.send(message("HTTP/1.1 200 OK", JSON, "X-Reply: marker-reply", body=reply))

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        body = orjson.dumps({**CHAT, "messages": [{"role": "user", "content": "marker-body"}]})
        bad = chat_bytes("marker-key", "X-Broken\x00: marker-header", body=b"marker-body")
        calls = [
            chat_bytes(key, "X-Some: marker-header", body=body),
            chat_bytes(f"Bearer {key}", body=body),
            chat_bytes("marker-key", body=body),
            chat_bytes("Basic marker-key", body=body),
            chat_bytes(key, body=b"marker-body"),
            chat_bytes(key, body=orjson.dumps({**CHAT, "model": "marker-body"})),
            chat_bytes(key, "X-Some: marker-garbage", body=body),
            chat_bytes(key, "X-Some: marker-cut", body=body),
            get_bytes(f"{FREE_PATH}?token=marker-query"),
            get_bytes("/v2/transcript/marker-id", f"Authorization: {key}"),
            get_bytes("/marker-path?token=marker-query"),
            get_bytes("/marker-path", method="MARKER"),
            bad,
            bad.replace(b"X-Broken\x00", b" marker-folded"),
            get_bytes(FREE_PATH, "X: " + "marker-long" * 10_000),
            get_bytes(f"{FREE_PATH}?{'marker-long' * 10_000}"),
            b"marker-garbage\r\n\r\n",
            b"\x16\x03\x01marker-garbage\r\n\r\n",
            b"GET marker-target HTTP/1.1\r\n\r\n",
            b"GET / HTTP/marker-version\r\n\r\n",
            message("POST /v2/upload HTTP/1.1", "Host: h", f"Authorization: {key}", "Transfer-Encoding: chunked",
                    length=False) + chunk(b"marker-body") + b"marker-chunk\r\n",
        ]  # fmt: skip
        for data in calls:
            async with await opened(gw) as client:
                await client.send(data)
                with suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await client.reply(b"POST")
        await until(lambda: gw.gateway.pipeline.calls_open == 0)
        async with gw.http.get(f"{gw.ops_url}/metrics") as response:
            metrics = await response.read()
        async with gw.http.get(f"{gw.ops_url}/readyz") as response:
            metrics += await response.read()
        await asyncio.sleep(0.3)  # the logs' own pace
        out, err = capfdbinary.readouterr()
        told = out + err + caplog.text.encode() + metrics
        assert b'"event":"call"' in out
        assert b'"outcome":"settled"' in out
        for secret in (b"marker", b"MARKER", key.encode(), b"sandbox-service-key", b"test-admin-token", b"test-pepper"):
            assert secret not in told, told[max(0, told.index(secret) - 300) :][:600]


async def test_labels_are_never_a_clients_word(tmp_path: Path, empty_redis: str) -> None:
    """A thousand different paths, methods and models make no new series."""
    async with before(chat_upstream(), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", tier="contracted")

        async def series(calls: int) -> set[str]:
            """Those that calls make, once so many were counted, which is a moment after they were answered."""
            lines: list[str] = []

            async def counted() -> bool:
                async with gw.http.get(f"{gw.ops_url}/metrics") as response:
                    lines[:] = (await response.text()).splitlines()
                totals = [line for line in lines if line.startswith("gateway_calls_total{")]
                return sum(float(line.rpartition(" ")[2]) for line in totals) == calls

            await until(counted)
            names = {line.rpartition(" ")[0] for line in lines}
            return {name for name in names if "loop_lag" not in name}  # which comes by the clock

        async def calls(name: str) -> None:
            async with await opened(gw) as client:
                await client.ask(get_bytes(f"/nowhere/{name}"))
                await client.ask(get_bytes(f"/v2/transcript/{name}", f"Authorization: {key}"))
                await client.ask(chat_bytes(key, body=orjson.dumps({**CHAT, "model": name})))
                await client.ask(get_bytes(FREE_PATH, f"X-{name}: {name}", method="PROPFIND"))
                await client.ask(chat_bytes(f"key-{name}"))

        await calls("first")
        before_them = await series(3)
        for index in range(50):
            await calls(f"n{index}")
        assert await series(3 * 51) == before_them
