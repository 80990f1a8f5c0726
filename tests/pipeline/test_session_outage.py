"""Sessions while the ledger is away, while prices change, and when the gateway stops."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import Nanos, parse_usd
from gateway.ports import Plan
from tests.fakes.link import CuttingRelay
from tests.harness import Running, running
from tests.pipeline.helpers import beside, charges, in_order, until
from tests.pipeline.sockets import PRO_SECOND, begun, slices, to_the_end

GRACE_SECONDS = 4.0


def impatient(data: dict[str, Any]) -> None:
    """Short waits for the ledger, short leases."""
    data["redis"].update(command_seconds_max=0.3, connect_seconds_max=0.2)
    data["limits"].update(sweep_seconds=0.2, hold_lease_seconds=3)


CHANGES = {
    **slices(
        slice_seconds=1, renew_before_seconds=0.3, warn_seconds=0, grace_seconds=1, redis_grace_seconds=GRACE_SECONDS
    ),
    "gateway.yaml": impatient,
}


@pytest.fixture
async def relay(empty_redis: str) -> AsyncIterator[CuttingRelay]:
    """The line between the gateway under test and the ledger's server."""
    async with CuttingRelay(empty_redis) as relay:
        yield relay


@pytest.fixture
async def books(tmp_path: Path, empty_redis: str) -> AsyncIterator[Running]:
    """A gateway with a line of its own to the ledger: what it reads is the truth."""
    async with running(tmp_path / "books", empty_redis, changes=CHANGES) as gw:
        yield gw


@pytest.fixture
async def cut(tmp_path: Path, books: Running, relay: CuttingRelay) -> AsyncIterator[Running]:
    """The gateway under test, whose line to the ledger is the relay."""
    async with beside(books, tmp_path / "cut", relay.url, CHANGES) as gw:
        yield gw


async def test_a_session_outlives_a_short_outage_and_pays_for_all_of_it(
    books: Running, cut: Running, relay: CuttingRelay
) -> None:
    """Within the grace it goes on unheld; when the ledger is back, everything is charged, once."""
    key = await books.open_account("a", credit="1")
    socket = await begun(cut, key)
    await asyncio.sleep(0.5)
    await relay.stop()
    await asyncio.sleep(1.5)
    assert not socket.closed
    await relay.start()
    await asyncio.sleep(1.5)
    await socket.send_json({"type": "Terminate"})
    said, code = await to_the_end(socket)
    assert (said[-1]["type"], code) == ("Termination", 1000)
    await in_order(books, "a", balance=Nanos(parse_usd("1") - said[-1]["session_duration_seconds"] * PRO_SECOND))


async def test_a_session_that_ends_during_an_outage_is_settled_from_the_spool(
    books: Running, cut: Running, relay: CuttingRelay
) -> None:
    """Its end waits on the disk, and is charged when the ledger is back."""
    key = await books.open_account("a", credit="1")
    socket = await begun(cut, key)
    await asyncio.sleep(0.5)
    await relay.stop()
    await asyncio.sleep(1.0)
    await socket.send_json({"type": "Terminate"})
    said, code = await to_the_end(socket)
    assert code == 1000
    await relay.start()

    async def charged() -> bool:
        return sum(entry["amount"] for entry in await charges(books, "a")) > 0 and not len(cut.gateway.spool)

    assert await until(charged)

    async def free() -> bool:
        return not (await books.ledger.account("a")).held

    assert await until(free)
    await in_order(books, "a", balance=Nanos(parse_usd("1") - said[-1]["session_duration_seconds"] * PRO_SECOND))


async def test_a_session_ends_when_the_ledger_stays_away(books: Running, cut: Running, relay: CuttingRelay) -> None:
    """Beyond the grace: terminated in good order, and charged from the spool."""
    key = await books.open_account("a", credit="1")
    socket = await begun(cut, key)
    await asyncio.sleep(0.3)
    await relay.stop()
    said, code = await to_the_end(socket)
    assert (said[-1]["error_code"], code) == (3005, 3005)
    await relay.start()

    async def charged() -> bool:
        return not len(cut.gateway.spool) and not (await books.ledger.account("a")).held

    assert await until(charged)
    spent = parse_usd("1") - await books.balance("a")
    assert GRACE_SECONDS * PRO_SECOND < spent <= (GRACE_SECONDS + 8) * PRO_SECOND
    assert not await books.ledger.verify("a")


async def test_replies_that_are_lost_charge_nothing_twice(books: Running, cut: Running, relay: CuttingRelay) -> None:
    """Every renewal loses its first answer, and is asked again with the same content."""
    key = await books.open_account("a", credit="1")
    socket = await begun(cut, key)
    for _ in range(4):
        relay.replies_to_drop = 1
        await asyncio.sleep(0.8)
    relay.replies_to_drop = 0
    await socket.send_json({"type": "Terminate"})
    said, code = await to_the_end(socket)
    assert code == 1000

    async def free() -> bool:
        return not (await books.ledger.account("a")).held and not len(cut.gateway.spool)

    assert await until(free)
    await in_order(books, "a", balance=Nanos(parse_usd("1") - said[-1]["session_duration_seconds"] * PRO_SECOND))


async def test_a_gateway_that_stops_ends_its_sessions_in_good_order(tmp_path: Path, empty_redis: str) -> None:
    """The vendor is told, the client is told to come again, the books are closed."""

    def soon(data: dict[str, Any]) -> None:
        data["limits"]["shutdown_seconds_max"] = 0.5

    changes = {**slices(grace_seconds=1), "gateway.yaml": soon}
    async with running(tmp_path / "books", empty_redis, changes=changes) as books:
        key = await books.open_account("a", credit="1")
        async with beside(books, tmp_path / "other", empty_redis, changes) as gw:
            sockets = [await begun(replace(gw, http=books.http), key) for _ in range(5)]
            ends = [asyncio.create_task(to_the_end(socket)) for socket in sockets]
        for said, code in await asyncio.gather(*ends):
            assert (said[-1]["type"], code) == ("Error", 1012)
        account = await books.ledger.account("a")
        assert account.held == 0
        assert parse_usd("1") - account.balance >= 5 * PRO_SECOND
        assert {record.ended for record in books.sandbox.state.streams.values()} == {"terminated"}
        assert not await books.ledger.verify("a")


async def test_a_price_change_splits_a_session(tmp_path: Path, empty_redis: str) -> None:
    """A price list comes into force while the socket is open: each second costs what it cost then."""
    starts = datetime.now(UTC) + timedelta(seconds=6)

    def dearer(data: dict[str, Any]) -> None:
        prices = {"streaming.universal-3-pro": {"per_hour": "0.90"}}
        data["price_lists"].append({"version": "later", "effective_from": starts.isoformat(), "prices": prices})

    changes = {**slices(slice_seconds=30, renew_before_seconds=5), "config/prices.yaml": dearer}
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="1")
        socket = await begun(gw, key)
        await asyncio.sleep((starts - datetime.now(UTC)).total_seconds() + 1.5)
        await socket.send_json({"type": "Terminate"})
        said, code = await to_the_end(socket)
        assert code == 1000
        entries = await charges(gw, "a")
        assert [entry["price_version"] for entry in entries] == ["2026-10-07", "later"]
        items = [item for entry in entries for item in entry["items"]]
        assert [item["unit_price"] for item in items] == ["0.45 per_hour", "0.90 per_hour"]
        assert sum(float(item["quantity"]) for item in items) == said[-1]["session_duration_seconds"]
        assert items[1]["amount"] == round(float(items[1]["quantity"]) * 2 * PRO_SECOND)
        assert not await gw.ledger.verify("a")


async def test_a_plan_that_no_longer_has_the_product_ends_its_sessions(gw: Running) -> None:
    """A change of tier is seen within the second: another rate card goes on, a tier without the product does not."""
    key = await gw.open_account("a", tier="payg", credit="1")
    socket = await begun(gw, key)
    await gw.ledger.change_account(operation="up", account="a", plan=Plan(tier="contracted"))
    await asyncio.sleep(1.2)
    assert not socket.closed
    await gw.ledger.change_account(operation="out", account="a", plan=Plan(tier="gone"))
    said, code = await to_the_end(socket)
    assert code == 1008
    assert said[-1]["type"] == "Error"
    account = await gw.ledger.account("a")
    assert (account.held, account.open_holds) == (0, 0)
    assert parse_usd("1") - account.balance > PRO_SECOND
    assert not await gw.ledger.verify("a")
