"""What goes through the opening of a session: credentials stay here, tokens are judged, and failures leave nothing."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.core.errors import LedgerRefused
from gateway.core.money import Nanos, parse_usd
from gateway.ports import Plan
from tests.harness import Running, running
from tests.pipeline.helpers import until
from tests.pipeline.sockets import AGENT, PRO, PRO_SECOND, connected, to_the_end
from tests.review.scripted import BEGIN, Service, Socket, service

SECRETS = ("secret-of-a", "secret-of-b", "gwt_", "Names of ledgers", "evil", "forged")


@pytest.fixture
async def upstream() -> AsyncIterator[Service]:
    """An upstream that says what it is told to."""
    async with service() as made:
        yield made


@pytest.fixture
async def small(tmp_path: Path, empty_redis: str, upstream: Service) -> AsyncIterator[Running]:
    """A gateway before it, with slices of one second."""
    async with running(tmp_path, empty_redis, changes=upstream.changes()) as gateway:
        yield gateway


async def token_of(gw: Running, key: str, expires: int = 60) -> str:
    """A temporary token."""
    got = await gw.call("GET", f"/v3/token?expires_in_seconds={expires}", key)
    assert got.status == 200, got.body
    return str(got.json["token"])


async def opened(gw: Running, path: str, headers: dict[str, str] | None = None) -> int:
    """Open a session and end it: the close's code."""
    async with connected(gw, None, path, headers=headers or {}) as socket:
        await socket.send_json({"type": "Terminate"})
        return (await to_the_end(socket))[1]


async def test_nothing_of_the_customers_credentials_goes_on(small: Running, upstream: Service) -> None:
    """Neither key nor token, wherever they stand, nor what a client says of itself that is ours to say."""
    key = await small.open_account("a", credit="1")
    token = await token_of(small, key)
    headers = {
        "Authorization": f"Bearer {key}",
        "X-Api-Key": key,
        "X-Account-Id": "forged",
        "X_Account_Id": "forged",
        "X-Gateway-Call-Id": "forged",
        "X-Call-Id": "forged",
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "forged",
        "Forwarded": "for=forged",
        "X-Real-IP": "6.6.6.6",
        "Connection": "Upgrade, X-Forged",
        "X-Forged": "forged",
        "Sec-WebSocket-Extensions": "permessage-deflate",
    }
    for query in (f"&token={token}&token={token}", f"&%74oken={token}", ""):
        assert await opened(small, PRO + query, headers) == 1000
    for socket in upstream.sockets:
        request = socket.request
        text = f"{request.raw_path} {list(request.headers.items())}"
        assert not [secret for secret in (*SECRETS, "6.6.6.6") if secret in text], text
        assert request.headers["Authorization"] == "sandbox-service-key"
        assert request.headers["X-Account-Id"] == "a"
        assert request.headers["X-Forwarded-For"] == "127.0.0.1"
        assert "Sec-WebSocket-Extensions" not in request.headers
        assert "Sec-WebSocket-Protocol" not in request.headers


async def test_the_answer_to_a_handshake(small: Running, upstream: Service) -> None:
    """It names the call and the server, chooses the upstream's subprotocol, and has nothing of anybody else's."""
    upstream.protocols = ("b",)
    key = await small.open_account("a", credit="1")
    for protocols, chosen in ((("a", "b"), "b"), ((), None)):
        async with connected(small, key, protocols=protocols) as socket:
            headers = socket._response.headers
            assert socket.protocol == chosen
            assert headers["Server"] == "gateway"
            assert headers["X-Gateway-Call-Id"]
            assert {name.lower() for name in headers} <= {
                "server", "x-gateway-call-id", "upgrade", "connection", "sec-websocket-accept",
                "sec-websocket-protocol", "ratelimit", "ratelimit-policy", "date",
            }  # fmt: skip
            await socket.send_json({"type": "Terminate"})
            assert (await to_the_end(socket))[1] == 1000


async def test_whoever_offers_a_subprotocol_is_refused_in_band_as_well(small: Running) -> None:
    """Browsers fail a handshake in which none of those they offered is chosen, and would show no reason."""
    async with connected(small, "nobody", protocols=("a", "b")) as socket:
        said, code = await to_the_end(socket)
        assert (socket.protocol, said[-1]["error"], code) == ("a", "Unauthorized Connection: Invalid API key", 1008)


async def test_tokens_that_open_nothing(small: Running, upstream: Service) -> None:
    """Expired, cut, too long, in no alphabet: all are an invalid key, and none is a fault."""
    key = await small.open_account("a", credit="1")
    short, token = await token_of(small, key, expires=1), await token_of(small, key)
    await asyncio.sleep(2.1)
    for text in (
        short, token[:-1], token[:-5], token + "A", token.swapcase(), "gwt_", "gwt_.", "gwt_" + "A" * 5000,
        "gwt_%FF%FE", "gwt_%C3%A9.%C3%A9", "gwt_%00.%00", "%F0%9F%98%80", token.replace("gwt_", "gwt-"), key, "",
    ):  # fmt: skip
        assert await opened(small, f"{PRO}&token={text}") == 1008, text
    for text in (short, token[:-1], "gwt_\u00e9.\u00e9"):
        assert await opened(small, PRO, {"Authorization": text}) == 1008, text
    assert upstream.asked == 0
    assert await small.balance("a") == parse_usd("1")


async def test_an_empty_token_is_none(small: Running) -> None:
    """Some clients send the parameter always: the key beside it counts, and without one it is the key that misses."""
    key = await small.open_account("a", credit="1")
    assert await opened(small, f"{PRO}&token=", {"Authorization": key}) == 1000
    async with connected(small, None, f"{PRO}&token=") as socket:
        said, _ = await to_the_end(socket)
    assert said[-1]["error"] == "Unauthorized Connection: Missing Authorization header"


@pytest.mark.parametrize(("path", "code", "words"), [
    (PRO, 3005, {"error": "Session Cancelled: An error occurred"}),
    (AGENT, 1011, {"code": "upstream_unreachable"}),
])  # fmt: skip
async def test_what_refuses_us_is_not_said_to_a_customer(
    tmp_path: Path, empty_redis: str, path: str, code: int, words: dict[str, str]
) -> None:
    """A service that does not take our credential says so in band; a customer's key is good, and operators are told."""

    def revoked(data: dict[str, Any]) -> None:
        for upstream in data["upstreams"].values():
            upstream["credential"] = "revoked"

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": revoked}) as gw:
        async with connected(gw, await gw.open_account("a", credit="1"), path) as socket:
            said, closed = await to_the_end(socket)
        assert closed == code
        assert len(said) == 1
        assert said[0].items() >= words.items()
        assert await until(lambda: nothing_open(gw))
        assert await gw.balance("a") == parse_usd("1")
        events = gw.gateway.measured().figures()["counts"]["gateway_events"]
        assert sum(count for labels, count in events if labels[0] == "credential_refused") == 1


async def test_an_account_of_ours_that_runs_dry_is_our_fault(small: Running, upstream: Service) -> None:
    """The same while a session is open: no word of an account that is not the client's."""

    async def script(socket: Socket) -> None:
        await socket.say(BEGIN)
        await socket.hear()
        await socket.say({"type": "Error", "error_code": 1008, "error": "Unauthorized Connection: no credit"})
        await socket.close(1008)

    upstream.script = script
    key = await small.open_account("a", credit="1")
    async with connected(small, key) as socket:
        await socket.send_json({"type": "ForceEndpoint"})
        said, code = await to_the_end(socket)
    assert ([each["type"] for each in said], said[-1]["error_code"], code) == (["Begin", "Error"], 3005, 3005)
    assert await until(lambda: nothing_open(small))


async def test_a_token_pays_from_its_own_account_by_the_plan_of_now(small: Running) -> None:
    """A plan that has changed since is no obstacle, and another account's key beside it pays nothing."""
    mine, other = await small.open_account("a", credit="1", tier="free"), await small.open_account("b", credit="1")
    token = await token_of(small, mine)
    await small.ledger.change_account(operation="up", account="a", plan=Plan(tier="payg"))
    assert await opened(small, f"{PRO}&token={token}", {"Authorization": other}) == 1000
    assert await until(lambda: nothing_open(small))
    assert await small.balance("a") == parse_usd("1") - PRO_SECOND
    assert await small.balance("b") == parse_usd("1")


async def test_a_refused_session_does_not_use_a_token_up(tmp_path: Path, empty_redis: str, upstream: Service) -> None:
    """A token that is good once is good after a top-up, and then no more."""
    changes = dict(upstream.changes())
    before = changes["config/products/streaming.yaml"]

    def once(data: dict[str, Any]) -> None:
        before(data)
        next(route for route in data["routes"] if "mints" in route)["mints"]["once"] = True

    changes["config/products/streaming.yaml"] = once
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="0")
        token = await token_of(gw, key)
        assert await opened(gw, f"{PRO}&token={token}") == 1008
        await gw.ledger.grant(operation="t", account="a", kind="purchase", amount=Nanos(10 * PRO_SECOND))
        assert await opened(gw, f"{PRO}&token={token}") == 1000
        assert await opened(gw, f"{PRO}&token={token}") == 1008
        assert await until(lambda: nothing_open(gw))
        assert await gw.balance("a") == 9 * PRO_SECOND


async def nothing_open(gw: Running) -> bool:
    """Whether no call and no hold is open, for the gateway as for the ledger."""
    pipeline, ledger = gw.gateway.pipeline, gw.ledger
    held = [(await ledger.account(account)).held for account in ("a", "b") if await ledger_has(gw, account)]
    return not (pipeline.calls_open or len(gw.gateway.leases) or len(pipeline.sessions) or any(held))


async def ledger_has(gw: Running, account: str) -> bool:
    """Whether there is such an account."""
    try:
        await gw.ledger.account(account)
    except LedgerRefused:
        return False
    return True


async def test_what_hundreds_of_failed_sessions_leave_behind(small: Running, upstream: Service) -> None:
    """No hold, no task, no socket, no timer; and in logs and metrics nothing that is secret."""
    rich, poor = await small.open_account("a", credit="1"), await small.open_account("b", credit="0")
    token = await token_of(small, rich)
    small.gateway.observing.logs._stream = logged = io.BytesIO()

    async def refused(socket: Socket) -> None:
        await socket.say({"type": "Error", "error_code": 3006, "error": "evil"})
        await socket.close(3006)

    async def cut(socket: Socket) -> None:
        socket.cut()

    async def broken(socket: Socket) -> None:
        await socket.say(BEGIN)
        assert socket.request.transport is not None
        socket.request.transport.write(b"\x8f\x00")
        await socket.hear()

    async def turned_away(_socket: Socket) -> None:
        raise AssertionError("no handshake came so far")

    async def one(key: str, path: str, headers: dict[str, str], *, leaves: bool) -> None:
        try:
            async with connected(small, key, path, headers=headers) as socket:
                if leaves:
                    assert socket._writer.transport is not None
                    socket._writer.transport.abort()
                    return
                await to_the_end(socket)
        except (aiohttp.ClientError, ConnectionError):
            assert leaves

    async def many(count: int) -> None:
        secret = PRO + "&prompt=Names+of+ledgers"
        for script, status in ((refused, 101), (cut, 101), (broken, 101), (turned_away, 503)):
            upstream.script, upstream.status = script, status
            kinds = [(rich, secret, False), (rich, f"{secret}&token={token}", False), (rich, secret, True)]
            if script is refused:
                kinds += [(poor, secret, False), ("forged", secret, False), (rich, secret + "&evil=1", False)]
            await asyncio.gather(
                *(one(key, path, {}, leaves=leaves) for key, path, leaves in kinds for _ in range(count))
            )
        assert await until(lambda: nothing_open(small))

    await many(2)
    await asyncio.sleep(0.3)
    tasks = len(asyncio.all_tasks())
    await many(20)
    assert await until(lambda: _is_at_most(tasks))
    assert not small.gateway.services.dialer._sockets
    assert not small.gateway._customers.calls
    assert not await small.ledger.verify("a")
    async with small.http.get(f"{small.ops_url}/metrics") as response:
        told = await response.text()
    small.gateway.observing.flush()
    lines = logged.getvalue().decode()
    assert lines.count('"event":"call"') > 200
    assert "internal_error" not in lines
    assert not [secret for secret in SECRETS if secret in told + lines]


async def _is_at_most(tasks: int) -> bool:
    return len(asyncio.all_tasks()) <= tasks
