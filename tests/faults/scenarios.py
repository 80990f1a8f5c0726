"""The faults: each opens sessions or calls on a real gateway, breaks something, and looks at what it cost.

Owns: what is broken and when, and what must hold then. Each returns its figures; what does not hold is an assertion.
Does not know: how many clients there are, or where servers keep their data: that is its stage's.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import aiohttp

from gateway.ledger.embedded import EmbeddedRedis
from tests.fakes.link import CuttingRelay
from tests.faults.crowd import AGENTS, STREAMING, Crowd, Talker, all_over, soon
from tests.faults.figures import Figures, all_entries, by_session, figures
from tests.faults.jobs import jobs_followed
from tests.faults.payments import payments_made
from tests.faults.stage import (
    RENEW_BEFORE_SECONDS,
    SLICE_SECONDS,
    SOON_SECONDS,
    Stage,
    holding,
    kill,
    start_again,
)
from tests.pipeline.helpers import CHAT_PATH
from tests.system.processes import Served, World
from tests.system.test_workers import until_told

#: How long Redis is shortly away, leases and a grace that outlast that, a grace that does not.
AWAY_SECONDS: Final = 1.5
LONG_LEASE_SECONDS: Final = 20
LONG_GRACE_SECONDS: Final = 10.0
SHORT_GRACE_SECONDS: Final = 1.0
#: Of workers that were replaced. Long enough for a crowd to come in meanwhile.
DRAIN_SECONDS: Final = 5.0
_RESTARTING: Final = 1012
#: How the dialects say that the ledger is away.
_LEDGER_AWAY: Final = {STREAMING.name: 3005, AGENTS.name: 1011}


async def worker_killed(stage: Stage) -> list[Figures]:
    """kill -9 of one of two workers: at most a slice of each of its sessions is lost, and nobody else notices."""
    async with stage.redis() as redis, stage.world(redis) as (world, crowds):
        served = await _one_slice_paid(stage, world, crowds)
        await _cut(served, world, crowds)
        await _again(served, crowds)
        found = await _lost_with_it(stage, "kill -9 of a worker", world, crowds)
        assert all(row.lost_most <= SLICE_SECONDS and not row.late for row in found), found
        return found


async def worker_killed_without_redis(stage: Stage) -> list[Figures]:
    """The same while Redis is away: what was used since then is lost as well, and others pay for all of it."""
    async with stage.redis() as redis, stage.world(redis) as (world, crowds):
        served = await _one_slice_paid(stage, world, crowds)
        kill(redis)
        away = time.monotonic()
        await asyncio.sleep(AWAY_SECONDS / 2)
        await _cut(served, world, crowds)
        unpaid_seconds = SLICE_SECONDS + time.monotonic() - away
        await start_again(redis)
        await _again(served, crowds)
        found = await _lost_with_it(stage, "kill -9 of a worker, Redis away", world, crowds)
        assert all(row.lost_most <= unpaid_seconds for row in found), found
        return found


async def redis_restarted(stage: Stage) -> list[Figures]:
    """Redis dies and comes back within the grace: no session ends, each is charged to the last nano-dollar."""
    lasting = {"grace_seconds": LONG_GRACE_SECONDS, "hold_lease_seconds": LONG_LEASE_SECONDS}
    async with stage.redis() as redis, stage.world(redis, **lasting) as (world, crowds):
        served = await world.serve("one", workers=stage.workers)
        await stage.fill(crowds, served)
        await asyncio.sleep(RENEW_BEFORE_SECONDS)
        kill(redis)
        await asyncio.sleep(AWAY_SECONDS)
        await start_again(redis)
        return await _going_on("Redis dead, shortly", world, crowds)


async def redis_silent(stage: Stage) -> list[Figures]:
    """The line to Redis is a black hole, within the grace: sessions go on, new ones are refused, nothing is lost."""
    async with (
        stage.redis() as redis,
        CuttingRelay(redis.url) as relay,
        stage.world(redis, grace_seconds=LONG_GRACE_SECONDS, hold_lease_seconds=LONG_LEASE_SECONDS) as (world, crowds),
    ):
        served = await world.serve("one", redis_url=relay.url, workers=stage.workers)
        await stage.fill(crowds, served)
        relay.pause()
        await asyncio.sleep(AWAY_SECONDS)
        for crowd in crowds:
            assert await crowd.refusal(served) == _LEDGER_AWAY[crowd.kind.name]
        relay.resume()
        return await _going_on("Redis silent, shortly", world, crowds)


async def redis_away(stage: Stage) -> list[Figures]:
    """Redis is away for longer than the grace: all sessions end in good order, and are charged when it is back.

    What a worker has spooled that is killed meanwhile is charged by another.
    """
    async with stage.redis() as redis, stage.world(redis, grace_seconds=SHORT_GRACE_SECONDS) as (world, crowds):
        served = await _ended_without(redis, stage, world, crowds)
        killed = served.workers[0]
        os.kill(killed, signal.SIGKILL)
        await soon(lambda: killed not in served.workers, SOON_SECONDS)
        await start_again(redis)
        return await _charged_later("Redis away, long", world, crowds, served)


async def redis_away_and_gateway_killed(stage: Stage) -> list[Figures]:
    """The same, and all of the gateway is killed, and started again before Redis is back."""
    async with stage.redis() as redis, stage.world(redis, grace_seconds=SHORT_GRACE_SECONDS) as (world, crowds):
        served = await _ended_without(redis, stage, world, crowds, stage.workers)
        assert await served.end(signal.SIGKILL) == -signal.SIGKILL
        served = await _started_before(redis, stage, world)
        return await _charged_later("Redis away, then gateway killed", world, crowds, served)


async def redis_away_and_gateway_stopped(stage: Stage) -> list[Figures]:
    """Redis is away, and the gateway is told to stop: all sessions end in good order, and are charged by the next."""
    async with (
        stage.redis() as redis,
        stage.world(redis, grace_seconds=LONG_GRACE_SECONDS, shutdown_seconds_max=1.0) as (
            world,
            crowds,
        ),
    ):
        served = await world.serve("one", workers=stage.workers)
        await stage.fill(crowds, served)
        kill(redis)
        await asyncio.sleep(SLICE_SECONDS)  # renewals wait for an answer
        assert await served.end(signal.SIGTERM) == 0
        for crowd in crowds:
            assert await all_over(crowd.talkers) == {_RESTARTING}
        served = await _started_before(redis, stage, world)
        return await _charged_later("Redis away, then SIGTERM", world, crowds, served)


async def redeployed(stage: Stage) -> list[Figures]:
    """SIGHUP: sessions stay with their workers for a while, new ones go to new workers. SIGTERM: all end at once.

    All of them end in good order, and are told to come again.
    """
    async with (
        stage.redis() as redis,
        stage.world(redis, drain_seconds=DRAIN_SECONDS, shutdown_seconds_max=1.0) as (
            world,
            crowds,
        ),
    ):
        served = await world.serve("one", workers=2)
        await stage.fill(crowds, served)
        last = set(served.workers)
        served.process.send_signal(signal.SIGHUP)
        await until_told(served, "reloaded", 1)
        old = [crowd.open for crowd in crowds]
        assert old == [crowd.talkers for crowd in crowds], "they go on"
        await stage.fill(crowds, served)
        new = [crowd.talkers[stage.sessions :] for crowd in crowds]
        for each in old:
            assert await all_over(each) == {_RESTARTING}
        assert [crowd.open for crowd in crowds] == new
        await soon(lambda: not last.intersection(served.workers), SOON_SECONDS)
        assert await served.end(signal.SIGTERM) == 0
        assert served.errors == ""
        for each in new:
            assert await all_over(each) == {_RESTARTING}
        found = [await figures("SIGHUP", world, each) for each in old]
        found += [await figures("SIGTERM", world, each) for each in new]
        assert all(row.exact and not row.late for row in found), found
        for before, after in zip(old, new, strict=True):
            assert not await _processes(world, before) & await _processes(world, after)
        return found


async def calls_killed(stage: Stage) -> list[Figures]:
    """kill -9 with calls and streams in the air: charged is what was answered to its end, once, and no hold stays."""
    async with stage.redis() as redis, stage.world(redis) as (world, _):
        served = await world.serve("one", workers=2)
        key = await world.open_account("calls", credit="1000")

        async def answered(*, stream: bool = False, **pace: float) -> bool:
            knobs: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100, **pace}
            try:
                return await world.chat(served, key, {"stream": stream}, **knobs) == 200
            except aiohttp.ClientError:
                return False

        both = [partial(answered, latency_seconds=4.0), partial(answered, stream=True, event_seconds=0.05)]
        calls = [asyncio.create_task(call()) for call in both for _ in range(stage.sessions)]
        await world.holding("calls", len(calls))
        await soon(lambda: _calls_seen_by_vendor(world) == len(calls), SOON_SECONDS)
        os.kill(served.workers[0], signal.SIGKILL)
        cut = (await asyncio.gather(*calls)).count(False)
        assert 0 < cut < len(calls)
        assert all(await asyncio.gather(*(answered() for _ in range(cut)))), "who asks again is answered"
        await holding(world, "calls", 0)
        entries = await all_entries(world.ledger, "calls")
        charges = [entry.amount for entry in entries if entry.kind == "charge"]
        assert len(charges) == len(calls)
        assert len(set(charges)) == 1
        served_by_vendor = _calls_seen_by_vendor(world)
        row = Figures(
            fault="kill -9 of a worker",
            what="calls and SSE",
            opened=len(calls) + cut,
            cut=cut,
            unit="calls",
            used=served_by_vendor,
            charged=len(charges),
            lost=served_by_vendor - len(charges),
            lost_most=1,
            holds=(await world.ledger.account("calls")).open_holds,
            late=sum(bool(entry.data.get("late")) for entry in entries),
            drift=len(await world.ledger.verify("calls")),
        )
        assert row.in_order
        assert row.lost == row.cut, "each of them had reached the vendor"
        return [row]


Scenario = Callable[[Stage], Coroutine[Any, Any, list[Figures]]]
SCENARIOS: Final[Sequence[Scenario]] = (
    worker_killed,
    worker_killed_without_redis,
    calls_killed,
    redis_restarted,
    redis_silent,
    redis_away,
    redis_away_and_gateway_killed,
    redis_away_and_gateway_stopped,
    redeployed,
    jobs_followed,
    payments_made,
)


# ---- what several of them do


async def _one_slice_paid(stage: Stage, world: World, crowds: Sequence[Crowd]) -> Served:
    """A gateway whose sessions have all paid once, and are about to pay again."""
    served = await world.serve("one", workers=2)
    await stage.fill(crowds, served)
    await asyncio.sleep(2 * (SLICE_SECONDS - RENEW_BEFORE_SECONDS) - 0.3)
    return served


async def _cut(served: Served, world: World, crowds: Sequence[Crowd]) -> None:
    """One worker is killed: some lines break, and the vendor sees it."""
    os.kill(served.workers[0], signal.SIGKILL)
    for crowd in crowds:
        await soon(partial(_seen_by_vendor, world, crowd), SOON_SECONDS)


async def _again(served: Served, crowds: Sequence[Crowd]) -> None:
    """Whoever was cut connects again, and is admitted at the first attempt, leases or no."""
    for crowd in crowds:
        await crowd.join(served, len(crowd.lost))


async def _lost_with_it(stage: Stage, fault: str, world: World, crowds: Sequence[Crowd]) -> list[Figures]:
    """The holds of those that were cut end by themselves; everybody else goes on, and pays for all of it."""
    found = []
    for crowd in crowds:
        lost = crowd.lost
        await holding(world, crowd.kind.name, stage.sessions)
        await crowd.finish()
        assert crowd.lost == lost
        assert (await figures(fault, world, [talker for talker in crowd.talkers if not talker.lost])).exact
        found.append(await figures(fault, world, crowd.talkers))
    assert all(row.in_order and row.lost_most for row in found), found
    return found


async def _going_on(fault: str, world: World, crowds: Sequence[Crowd]) -> list[Figures]:
    """Redis is back: everybody is there, is heard, and ends as it likes."""
    heard = [crowd.heard for crowd in crowds]
    await asyncio.sleep(SLICE_SECONDS)
    for crowd, before in zip(crowds, heard, strict=True):
        assert crowd.open == crowd.talkers, "nobody was cut"
        assert crowd.heard > before
        await crowd.finish()
        await holding(world, crowd.kind.name, 0)
    found = [await figures(fault, world, crowd.talkers) for crowd in crowds]
    assert all(row.exact and not row.late for row in found), found
    return found


async def _ended_without(
    redis: EmbeddedRedis, stage: Stage, world: World, crowds: Sequence[Crowd], workers: int = 2
) -> Served:
    """A gateway whose sessions have all ended because Redis stayed away."""
    served = await world.serve("one", workers=workers)
    await stage.fill(crowds, served)
    kill(redis)
    for crowd in crowds:
        assert await all_over(crowd.talkers) == {_LEDGER_AWAY[crowd.kind.name]}
    return served


async def _started_before(redis: EmbeddedRedis, stage: Stage, world: World) -> Served:
    """The next gateway on the same spool, started while Redis is still away."""
    starting = asyncio.create_task(world.serve("one", workers=stage.workers))
    await asyncio.sleep(1.5)
    assert not starting.done(), "it is not ready without a ledger"
    await start_again(redis)
    return await starting


async def _charged_later(fault: str, world: World, crowds: Sequence[Crowd], served: Served) -> list[Figures]:
    """Redis is back: everything that was spooled is charged, once."""
    await soon(lambda: not served.spooled, 20)
    assert not (served.directory / "spool" / "rejected.jsonl").exists()
    for crowd in crowds:
        await holding(world, crowd.kind.name, 0)
    found = [await figures(fault, world, crowd.talkers) for crowd in crowds]
    assert all(row.exact for row in found), found
    return found


def _calls_seen_by_vendor(world: World) -> int:
    return sum(entry.path == CHAT_PATH for entry in world.sandbox.state.entries)


def _seen_by_vendor(world: World, crowd: Crowd) -> bool:
    """Some of the lines are lost, and the vendor knows it of each of them."""
    state = world.sandbox.state
    if crowd.kind is STREAMING:
        going_on = sum(record.ended is None for record in state.streams.values())
    else:
        going_on = sum(record.connected for record in state.agent_sessions.values())
    return bool(crowd.lost) and going_on == len(crowd.open)


async def _processes(world: World, talkers: Sequence[Talker]) -> set[str]:
    """The processes that served these: ids of calls begin with their process's."""
    charged = by_session(await all_entries(world.ledger, talkers[0].kind.name))
    return {charged[talker.session].call[:16] for talker in talkers}
