"""The Python client of the credit API, on a whole gateway, over connections that break."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

import aiohttp.test_utils
import pytest
from aiohttp import web

from gateway.client import CreditClient, NotSettled, Problem, Refused, Unanswered
from gateway.core.errors import NO_CREDIT
from gateway.core.money import parse_usd
from tests.edge.plugged import TOKEN, plugged
from tests.harness import running
from tests.upstream.proxying import until


class Call(TypedDict):
    """Who pays, and for what."""

    account: str
    route: str


ROUTE: Call = {"account": "acme", "route": "rendering.create"}


@asynccontextmanager
async def losing(port: int, replies: int) -> AsyncIterator[str]:
    """A way to a port on which so many replies are lost after they were made: its URL."""
    left = replies

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            while asked := await reader.read(65536):
                back.write(asked)
                reply = await there.read(65536)
                if left:
                    left -= 1
                    break
                writer.write(reply)
        back.close()
        writer.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_block_holds_and_settles(tmp_path: Path, empty_redis: str) -> None:
    """A block is charged what it says, gives back what it does not, and is renewed while it runs; money is exact."""
    async with (
        running(tmp_path, empty_redis, changes=plugged(hold_seconds=3)) as gw,
        CreditClient(gw.url, TOKEN) as credit,
    ):
        key = await gw.open_account("acme", credit="10")
        async with credit.hold(api_key=key, product="rendering", estimate={"megapixels": Decimal("2.5")}) as hold:
            assert (hold.account, hold.route, hold.held, hold.available) == (
                "acme", "rendering.create", Decimal("0.25"), Decimal("9.75"),
            )  # fmt: skip
            receipt = await hold.settle({"megapixels": Decimal("0.000000011"), "layers": 1})
        assert (receipt.charged, receipt.balance, receipt.settled, receipt.late) == (
            Decimal("0.020000001"), Decimal("9.979999999"), True, False,
        )  # fmt: skip
        with pytest.raises(ZeroDivisionError):
            async with credit.hold(**ROUTE, amount="3"):
                raise ZeroDivisionError
        with pytest.raises(NotSettled):
            async with credit.hold(**ROUTE, amount="3"):
                pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0), credit.hold(**ROUTE, amount="3"):
                await asyncio.sleep(60)
        with pytest.raises(Refused) as refused:
            await credit.open(**ROUTE, request={"gold": True})
        assert (refused.value.status, refused.value.code) == (400, "unpriced_field")
        with pytest.raises(Problem) as problem:
            async with credit.hold(**ROUTE) as hold:
                await hold.settle({"pixels": 1})
        assert (problem.value.status, problem.value.code) == (422, "invalid_request")
        assert await hold.release()  # what it had begun to settle is its own to end
        assert await gw.ledger.holds("acme") == []
        async with credit.hold(**ROUTE) as hold:
            await asyncio.sleep(4)  # longer than it lives
            assert (await hold.settle({"megapixels": 1})).late is False
        await gw.open_account("empty", credit="0")
        with pytest.raises(Refused) as refused:
            await credit.open(account="empty", route="rendering.create")
        assert (refused.value.code, refused.value.detail) == ("insufficient_credit", NO_CREDIT)
        assert await gw.balance("acme") == parse_usd("9.879999999")


async def test_what_goes_on_is_paid_in_slices(tmp_path: Path, empty_redis: str) -> None:
    """Each slice is charged as the next one is held, once though replies are lost; the last one ends with the block."""
    async with running(tmp_path, empty_redis, changes=plugged(hold_seconds=3)) as gw:
        await gw.open_account("acme", credit="10")
        async with losing(gw.gateway.customers_port, 2) as url, CreditClient(url, TOKEN) as credit:
            async with credit.hold(**ROUTE, amount="1") as hold:
                assert hold.seconds == 3
                first, held = hold.id, []
                for wanted in ({}, {"next_amount": "3"}, {"estimate": {"megapixels": Decimal("2.5")}}):
                    receipt = await hold.next_slice({"megapixels": 1}, **wanted)
                    assert (receipt.charged, receipt.settled) == (Decimal("0.1"), True)
                    held.append(hold.held)
                assert held == [Decimal("1"), Decimal("3"), Decimal("0.25")]
                assert hold.id != first
                await asyncio.sleep(4)  # longer than it lives: it is the new one that is renewed
                assert (await hold.settle(amount="0.2")).late is False
            assert await gw.ledger.holds("acme") == []
            assert await gw.balance("acme") == parse_usd("9.5")
            with pytest.raises(ZeroDivisionError):
                async with credit.hold(**ROUTE, amount="1") as hold:
                    await hold.next_slice(amount="0.5")
                    raise ZeroDivisionError
            async with credit.hold(**ROUTE, amount="1", seconds=600) as hold:
                await hold.next_slice(amount="0")
                assert hold.seconds == 600, "as long as the one before"
                assert await credit.release(hold.id)
                with pytest.raises(Problem, match="hold_ended"):
                    await hold.renew()
                await hold.release()
            async with credit.hold(**ROUTE, amount="1") as hold:
                slicing = asyncio.create_task(hold.next_slice(amount="1"))
                await asyncio.sleep(0)
                slicing.cancel()  # it is done all the same, and what follows is about the next one
                assert (await hold.settle(amount="1")).charged == Decimal("1")
            with pytest.raises(Refused) as refused:
                async with credit.hold(**ROUTE, amount="1") as hold:
                    await hold.next_slice(amount="8")
            assert refused.value.code == "insufficient_credit"
        assert await gw.ledger.holds("acme") == []
        assert await gw.balance("acme") == -parse_usd("1")
        assert await gw.ledger.verify("acme") == []


async def test_what_is_not_answered_is_done_once(tmp_path: Path, empty_redis: str) -> None:
    """With every second reply lost each hold is taken once and charged once; with all lost nothing is claimed."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        await gw.open_account("acme", credit="10")
        for _ in range(3):
            async with losing(gw.gateway.customers_port, 1) as url, CreditClient(url, TOKEN) as credit:
                hold = await credit.open(**ROUTE, amount="1")
            async with losing(gw.gateway.customers_port, 1) as url, CreditClient(url, TOKEN) as credit:
                assert (await credit.settle(hold.id, amount="0.5")).charged == Decimal("0.5")
        assert await gw.balance("acme") == parse_usd("8.5")
        assert await gw.ledger.holds("acme") == []
        async with losing(gw.gateway.customers_port, 99) as url, CreditClient(url, TOKEN, repeat_seconds=0.5) as credit:
            with pytest.raises(Unanswered):
                await credit.open(**ROUTE, amount="1")
        assert len(await gw.ledger.holds("acme")) == 1  # taken by the first attempt, once


@asynccontextmanager
async def withheld(port: int, path: bytes, *, reply: bool) -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Event]]:
    """A way to a port that keeps requests of a path, or their replies, until it is let go: its URL, whether it keeps
    one, and what lets it go. Whoever has hung up by then gets nothing through.
    """
    keeps, go = asyncio.Event(), asyncio.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = False

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, keeping: bool) -> None:
            nonlocal found
            while piece := await source.read(65536):
                found = found or path in piece
                if found and keeping:
                    keeps.set()
                    await go.wait()
                    if reader.at_eof():
                        break
                sink.write(piece)
            sink.close()

        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back, keeping=not reply), pump(there, writer, keeping=reply))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", keeps, go


async def test_who_is_cancelled_leaves_nothing_behind(tmp_path: Path, empty_redis: str) -> None:
    """A hold that was being taken is given back; a settlement that was being made is made."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        await gw.open_account("acme", credit="10")

        async def work(credit: CreditClient) -> None:
            async with credit.hold(**ROUTE, amount="1") as hold:
                await hold.settle(amount="0.5")

        for path, reply, left in ((b"/holds HTTP", True, "10"), (b"/settle HTTP", False, "9.5")):
            async with (
                withheld(gw.gateway.customers_port, path, reply=reply) as (url, keeps, go),
                CreditClient(url, TOKEN) as credit,
            ):
                working = asyncio.create_task(work(credit))
                await keeps.wait()
                assert len(await gw.ledger.holds("acme")) == 1
                working.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await working
                go.set()
            assert await gw.ledger.holds("acme") == [], path
            assert await gw.balance("acme") == parse_usd(left)


async def test_renewals_follow_the_slices_and_hold_up_nothing() -> None:
    """A block whose hold ended has its next slice renewed again; while renewals go unanswered it can be settled."""
    renewed: list[str] = []
    status = 409

    def hold(number: int) -> dict[str, object]:
        its = {"id": f"hold-{number}", "account": "acme", "route": "r", "held": "1", "available": "1", "seconds": 1}
        charge = {"charged": "0.5", "balance": "9", "settled": True, "late": False, "entry": "1-1", "items": []}
        return {**its, "charge": charge, **charge}

    async def answer(request: web.Request) -> web.Response:
        asked, how = await request.json(), request.path.rpartition("/")[2]
        if how == "renew" and "used" not in asked:
            renewed.append(request.path.split("/")[-2])
            return web.json_response({"code": "hold_ended", "detail": "it has ended"}, status=status)
        return web.json_response(hold(2 if how == "renew" else 1))

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with (
        aiohttp.test_utils.TestServer(app) as server,
        CreditClient(str(server.make_url("")), TOKEN, repeat_seconds=600) as credit,
        credit.hold(**ROUTE, amount="1") as held,
    ):
        await until(lambda: held.lost)
        status = 503
        await held.next_slice(amount="0.5")
        assert (held.id, held.lost) == ("hold-2", False)
        await until(lambda: renewed.count("hold-2") >= 2)  # it asks again and again
        assert (await asyncio.wait_for(held.settle(amount="0.5"), 30)).settled
    assert set(renewed) == {"hold-1", "hold-2"}


async def test_what_the_client_does_not_take(tmp_path: Path, empty_redis: str) -> None:
    """A float would be rounded, and an address that is none would be asked again and again: both are told at once."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        await gw.open_account("acme", credit="10")
        async with CreditClient(gw.url, TOKEN) as credit:
            for asked in ({"amount": 0.1}, {"estimate": {"megapixels": 0.1}}):
                with pytest.raises(TypeError, match="float"):
                    await credit.open(**ROUTE, **asked)
            with pytest.raises(TypeError, match="float"):
                async with credit.hold(**ROUTE, amount="1") as hold:
                    await hold.settle({"megapixels": 0.1})  # type: ignore[dict-item] # what is tried here
            assert await gw.ledger.holds("acme") == []
        async with CreditClient("gateway.internal", TOKEN) as credit:
            with pytest.raises(ValueError, match=r"gateway\.internal"):
                await credit.open(**ROUTE)
