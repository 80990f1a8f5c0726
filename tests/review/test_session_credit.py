"""Every limit of credit, at its edge, in an open session: nothing is served beyond it, and nothing charged."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.core.money import Nanos, format_usd, parse_usd
from gateway.ports import Plan
from tests.harness import Change, Running, running
from tests.pipeline.helpers import NO_CREDIT, in_order, until
from tests.pipeline.sockets import PRO_SECOND, begun, connected, to_the_end
from tests.review.scripted import BEGIN, Service, Socket, service


async def for_ever(socket: Socket) -> None:
    """A session that begins, and ends without a report when it is told to."""
    await socket.say(BEGIN)
    await socket.hear()
    await socket.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Service]:
    """An upstream that never reports: only our clock counts."""
    async with service() as made:
        made.script = for_ever
        yield made


@pytest.fixture
async def small(tmp_path: Path, empty_redis: str, upstream: Service) -> AsyncIterator[Running]:
    """A gateway before it, with slices of one second."""
    async with running(tmp_path, empty_redis, changes=upstream.changes()) as gateway:
        yield gateway


def seconds(count: float) -> str:
    """Credit for so many seconds, in dollars."""
    return format_usd(Nanos(int(count * PRO_SECOND)))


async def ends(socket: aiohttp.ClientWebSocketResponse, text: str, after: float) -> None:
    """The session is cut about so many seconds from now, for this reason."""
    started = time.monotonic()
    said, code = await to_the_end(socket)
    assert code == 1008
    assert text in said[-1]["error"]
    assert after - 0.6 < time.monotonic() - started < after + 5


async def nothing_held(gw: Running, account: str) -> bool:
    """Whether every hold has ended."""
    return not (await gw.ledger.account(account)).held


async def test_a_keys_budget_ends_a_session(small: Running) -> None:
    """Whatever its account has: cut when the budget is used up, to the nano-dollar."""
    key = await small.open_account("a", credit="1", monthly_budget=parse_usd(seconds(2)))
    await ends(await begun(small, key), "budget", 2)
    await in_order(small, "a", balance=Nanos(parse_usd("1") - 2 * PRO_SECOND))
    async with connected(small, key) as socket:
        said, _ = await to_the_end(socket)
    assert "budget" in said[-1]["error"]


async def test_an_overdraft_is_credit(small: Running) -> None:
    """A session of an account that is invoiced goes on below zero."""
    key = await small.open_account("a", tier="contracted", credit=seconds(1))
    socket = await begun(small, key)
    await asyncio.sleep(2.2)
    assert not socket.closed
    await socket.send_json({"type": "Terminate"})
    await to_the_end(socket)
    assert await until(lambda: nothing_held(small, "a"))
    assert -6 * PRO_SECOND < await small.balance("a") < -1 * PRO_SECOND
    assert not await small.ledger.verify("a")


async def test_the_last_nano_dollar_is_spent_once(small: Running) -> None:
    """It opens a session, which is over at once; the next one is refused."""
    key = await small.open_account("a", credit="0.000000001")
    await ends(await begun(small, key), NO_CREDIT, 0)
    await in_order(small, "a", balance=Nanos(0))
    async with connected(small, key) as socket:
        said, _ = await to_the_end(socket)
    assert NO_CREDIT in said[-1]["error"]


async def test_sessions_that_race_for_the_last_slices_share_them(small: Running) -> None:
    """Five at once on credit for six and a half seconds: all of it is spent, and nothing beyond."""
    key = await small.open_account("a", credit=seconds(6.5))
    sockets = [await begun(small, key) for _ in range(5)]
    await asyncio.gather(*(to_the_end(socket) for socket in sockets))
    assert await until(lambda: nothing_held(small, "a"))
    # What the first to end leaves of its last slice may be what another one asked for a moment before.
    assert 0 <= await small.balance("a") < 0.5 * PRO_SECOND
    assert not await small.ledger.verify("a")


async def test_credit_that_comes_while_a_session_ends_is_for_the_next(tmp_path: Path, empty_redis: str) -> None:
    """A session that is being cut is cut, costs what it had, and leaves what was paid in."""
    cut, topped_up = asyncio.Event(), asyncio.Event()
    async with service() as upstream:

        async def slow(socket: Socket) -> None:
            await socket.say(BEGIN)
            await socket.hear()
            cut.set()
            await topped_up.wait()
            await socket.say({"type": "Termination", "session_duration_seconds": 3})
            await socket.close()

        upstream.script = slow
        async with running(tmp_path, empty_redis, changes=upstream.changes()) as gw:
            key = await gw.open_account("a", credit=seconds(1))
            end = asyncio.create_task(to_the_end(await begun(gw, key)))
            await cut.wait()
            await gw.ledger.grant(operation="t", account="a", kind="purchase", amount=Nanos(PRO_SECOND))
            topped_up.set()
            _, code = await end
            assert code == 1008
            await in_order(gw, "a", balance=Nanos(PRO_SECOND))


async def test_the_next_slice_is_of_the_model_that_runs(small: Running, upstream: Service) -> None:
    """One that is dearer than what was asked for is held and renewed by its own price, not all the time."""
    key = await small.open_account("a", credit="1")
    async with connected(small, key, "/v3/ws?sample_rate=16000&speech_model=universal-streaming-english"):
        assert await until(lambda: _held_is(small, PRO_SECOND))


async def _held_is(gw: Running, amount: int) -> bool:
    return (await gw.ledger.account("a")).held == amount


async def test_a_refusal_in_the_middle_has_its_words(small: Running) -> None:
    """The plan that no longer has the product is named, and so are those that have it."""
    key = await small.open_account("a", tier="payg", credit="1")
    socket = await begun(small, key)
    await small.ledger.change_account(operation="out", account="a", plan=Plan(tier="gone"))
    said, code = await to_the_end(socket)
    assert code == 1008
    assert said[-1]["error"] == (
        "Unauthorized Connection: Your plan (unknown) does not include Streaming speech-to-text. "
        "It is included in: Free, Pay as you go, Contracted."
    )


async def test_what_an_account_loses_of_its_plan_ends_its_open_sessions(small: Running) -> None:
    """Within a second, though the slice is paid; its own plan is not among those that are said to have the product."""
    key = await small.open_account("a", tier="payg", credit="1")
    socket = await begun(small, key)
    name = "streaming-speech-to-text.included"
    await small.ledger.change_account(operation="out", account="a", overrides={name: "no"})
    said, code = await to_the_end(socket)
    assert code == 1008
    assert said[-1]["error"].endswith(
        "Your plan (Pay as you go) does not include Streaming speech-to-text. It is included in: Free, Contracted."
    )


def turns_cost(changes: Mapping[str, Change]) -> Mapping[str, Change]:
    """The config in which turns cost as well, as they are reported."""
    before = changes["config/products/streaming.yaml"]

    def product(data: dict[str, Any]) -> None:
        before(data)
        route = data["routes"][0]
        route["usage"]["turns"] = {"from": "frame.turn_order", "default": 0}
        route["charges"].append({"sku": "streaming.turns", "quantity": "turns"})
        route["session"]["frames"]["reports"] = ["Turn"]
        del route["sample"]

    def prices(data: dict[str, Any]) -> None:
        data["price_lists"][0]["prices"]["streaming.turns"] = {"per_unit": "0.0001"}

    return {**changes, "config/products/streaming.yaml": product, "config/prices.yaml": prices}


async def test_what_is_reported_uses_up_a_hold_as_time_does(
    tmp_path: Path, empty_redis: str, upstream: Service
) -> None:
    """Credit for ten turns and eight seconds: the eleventh turn ends it long before the slice is over."""

    async def talkative(socket: Socket) -> None:
        await socket.say(BEGIN)
        for number in range(1, 101):
            await socket.say({"type": "Turn", "turn_order": number})
            await asyncio.sleep(0.02)
        await for_ever(socket)

    upstream.script = talkative
    changes = turns_cost(upstream.changes(slice_seconds=30, renew_before_seconds=5))
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="0.001")
        socket = await begun(gw, key)
        started = time.monotonic()
        said, code = await to_the_end(socket)
        assert code == 1008
        assert NO_CREDIT in said[-1]["error"]
        assert time.monotonic() - started < 15
        await in_order(gw, "a", balance=Nanos(0))
