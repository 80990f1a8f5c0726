"""Sessions that end in every way, at any moment, while the ledger loses replies: each is paid for once, by its time."""

import asyncio
import gc
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.link import CuttingRelay
from tests.harness import Running, running
from tests.pipeline.helpers import beside, charges, until
from tests.pipeline.sockets import PRO, PRO_SECOND
from tests.review.scripted import BEGIN, Service, Socket, service

SESSIONS = 40
ENDS = ("cancelled", "cancelled", "aborted", "closed", "terminated", "broken", "left open")
SLICE_SECONDS = 0.5


class Run:
    """One session: how it is to end, after how many seconds, and how long it was open in fact."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.account = f"a{number}"
        self.end = chance.choice(ENDS)
        self.after = chance.choice([0, 0.001, 0.01, chance.random(), chance.random() * 2])
        self.credit = chance.choice([1, 100, 100]) * chance.randint(1, 200_000)
        self.began = self.ended = 0.0

    def __repr__(self) -> str:
        return f"<{self.account} {self.end} after={self.after:.3f} credit={self.credit} seconds={self.seconds:.3f}>"

    async def follow(self, gw: Running, key: str, upstream: Service) -> None:
        """Open it, and end it as planned."""
        headers = {"Authorization": key, "X-Run": self.account}
        with suppress(aiohttp.ClientError, ConnectionError):
            socket = await gw.http.ws_connect(gw.url + PRO, headers=headers)
            reader = asyncio.create_task(self._read(socket))
            await asyncio.wait([reader], timeout=self.after)
            if self.end == "cancelled":
                for client in tuple(gw.gateway._customers.calls):
                    if client.headers.get("X-Run") == self.account:
                        client.cut()
            elif self.end == "aborted":
                if socket._writer.transport is not None:
                    socket._writer.transport.abort()
            elif self.end == "closed":
                await socket.close()
            elif self.end == "terminated":
                await socket.send_json({"type": "Terminate"})
            elif self.end == "broken":
                for each in upstream.sockets:
                    if each.request.headers["X-Run"] == self.account:
                        each.cut()
            await asyncio.wait([reader], timeout=0 if self.end == "aborted" else 3)
            await socket.close()
            self.ended = self.ended or time.monotonic()
            reader.cancel()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            self.began = self.began or time.monotonic()
            if message.json()["type"] != "Begin":
                break
        self.ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it was open, as its client saw it."""
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0


async def never_reports(socket: Socket) -> None:
    """It begins after a moment, and says nothing of its time."""
    with suppress(ConnectionError):
        await asyncio.sleep(0.01)
        await socket.say(BEGIN)
        await socket.hear()
        await socket.close()


def with_leases(before: Any, **link: float) -> Any:
    """Short leases, so that what is lost is found; and the times of the link."""

    def change(data: dict[str, Any]) -> None:
        before(data)
        data["redis"].update(link)
        data["limits"].update(sweep_seconds=0.2, hold_lease_seconds=3)

    return change


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loses", [False, True], ids=["", "replies are lost"])
async def test_every_end_of_many_sessions(tmp_path: Path, empty_redis: str, seed: int, loses: bool) -> None:
    """No hold outlives its lease, the books agree, and a session costs its seconds, give or take a slice."""
    chance = random.Random(seed)
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with service() as upstream, CuttingRelay(empty_redis) as line:
        upstream.script = never_reports
        changes = dict(upstream.changes(slice_seconds=SLICE_SECONDS, renew_before_seconds=0.1, grace_seconds=0.3))
        patient = with_leases(changes["gateway.yaml"], command_seconds_max=10.0, connect_seconds_max=10.0)
        impatient = with_leases(changes["gateway.yaml"], command_seconds_max=0.3, connect_seconds_max=0.2)
        async with (
            running(tmp_path / "books", empty_redis, changes={**changes, "gateway.yaml": patient}) as books,
            beside(books, tmp_path / "gw", line.url, {**changes, "gateway.yaml": impatient}) as gw,
        ):
            runs = [Run(number, chance) for number in range(SESSIONS)]
            keys = {}
            for run in runs:
                credit = f"{run.credit // 10**9}.{run.credit % 10**9:09d}"
                keys[run.account] = await books.open_account(run.account, credit=credit)
            following = [asyncio.create_task(run.follow(gw, keys[run.account], upstream)) for run in runs]
            while loses and not all(task.done() for task in following):
                line.replies_to_drop = 1
                await asyncio.sleep(chance.random() * 0.5)
            line.replies_to_drop = 0
            await asyncio.gather(*following)

            async def over() -> bool:
                held = [(await books.ledger.account(run.account)).open_holds for run in runs]
                return not (any(held) or gw.gateway.pipeline.calls_open or len(gw.gateway.spool))

            assert await until(over), [run for run in runs if (await books.ledger.account(run.account)).open_holds]
            for run in runs:
                assert not await books.ledger.verify(run.account), run
                paid = run.credit - await books.balance(run.account)
                assert paid == sum(entry["amount"] for entry in await charges(books, run.account)), run
                slack = (SLICE_SECONDS + 0.5) * PRO_SECOND
                if not loses:  # a call that never saw its admission's answer is refused
                    assert paid >= min(run.credit, run.seconds * PRO_SECOND) - slack, (run, paid)
                assert paid <= run.seconds * PRO_SECOND + slack, (run, paid)
    gc.collect()
    assert not faults
