"""Jobs that nobody asks for: the gateway follows them by itself, and each is charged once, whoever sees its end."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import parse_usd
from gateway.edge.clock import SystemClock
from gateway.pipeline.follow import judge
from gateway.ports import FollowedJob, Resource, ResourceRef
from gateway.settings.load import load
from tests.harness import Change, Running, running
from tests.pipeline.helpers import (
    beside,
    charges,
    finished,
    in_order,
    sandbox,
    submitted,
    until,
    without_rates,
)
from tests.settings.project import ROOT
from tests.system.processes import World

HOUR = parse_usd("0.21")


def followed_closely(**job: Any) -> dict[str, Change]:
    """A config whose jobs are looked at all the time, and whose leases are short."""

    def of_jobs(data: dict[str, Any]) -> None:
        data["jobs"]["transcript"] |= {"look_first_seconds": 0.1, "look_seconds_max": 0.5, "gone_seconds": 1, **job}

    def of_gateway(data: dict[str, Any]) -> None:
        data["limits"] |= {"hold_lease_seconds": 3, "sweep_seconds": 0.2}
        data["upstreams"]["speech-to-text"] |= {"looks_per_second_max": 200, "looks_max": 20}

    return {
        "config/products/speech-to-text.yaml": of_jobs,
        "gateway.yaml": of_gateway,
        "config/tiers.yaml": without_rates,
    }


async def over(gw: Running, account: str) -> bool:
    """Whether the account has nothing open."""
    return not (await gw.ledger.account(account)).open_holds and not await gw.ledger.jobs(account)


def counted(gw: Running, name: str, **labels: str) -> float:
    """A counter as it stands."""
    return gw.gateway.measured().registry.get_sample_value(name, labels) or 0.0


async def test_what_nobody_polls_is_charged_when_it_ends(tmp_path: Path, empty_redis: str) -> None:
    """A completed job is charged what it reports, a failed one nothing, one without a report its hold."""
    async with running(tmp_path, empty_redis, changes=followed_closely()) as gw:
        for account, knobs in (("done", {}), ("failed", {"job_status": "error"}), ("mute", {"usage": "missing"})):
            key = await gw.open_account(account, credit="50")
            await submitted(gw, key, 60, knobs={"job_seconds": 1.2, **knobs}, sentiment_analysis=True)
            assert (await gw.ledger.account(account)).open_holds == 1
        assert await until(lambda: over(gw, "done"))
        assert await until(lambda: over(gw, "failed"))
        assert await until(lambda: over(gw, "mute"))
        await in_order(gw, "done", balance=parse_usd("49.996166667"))
        await in_order(gw, "failed", balance=parse_usd("50"))
        (charge,) = await charges(gw, "mute")
        assert (charge["basis"], charge["amount"]) == ("estimated", parse_usd("0.23"))
        assert (_looks(gw, "settled"), _looks(gw, "released")) == (2, 1)
        assert _looks(gw, "running") >= 3
        charged = sum(
            counted(gw, "gateway_charges_nanos_total", product="speech-to-text", basis=basis)
            for basis in ("reported", "estimated")
        )
        assert charged == parse_usd("0.003833333") + parse_usd("0.23"), "what the reconciler charges is counted too"


async def test_a_poll_after_the_reconciler_is_free(tmp_path: Path, empty_redis: str) -> None:
    """The result is the customer's, who has paid for it: no second charge, whoever comes later."""
    async with running(tmp_path, empty_redis, changes=followed_closely()) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        path = await submitted(gw, key)
        assert await until(lambda: over(gw, "a"))
        assert (await finished(gw, key, path)).charge is None
        assert (await gw.call("DELETE", path, key)).status == 200
        assert len(await charges(gw, "a")) == 1
        await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_polls_exports_deletes_and_two_reconcilers_at_once_are_one_charge(
    tmp_path: Path, empty_redis: str
) -> None:
    """Thirty jobs, each seen by everybody in any order on two gateways: thirty charges."""
    changes = followed_closely(look_first_seconds=0.05)
    async with (
        running(tmp_path / "a", empty_redis, changes=changes) as one,
        beside(one, tmp_path / "b", empty_redis, changes=changes) as other,
    ):
        key = await one.open_account("a", credit="50")
        paths = [await submitted(one, key, knobs={"job_seconds": 0.2 + 0.02 * n}) for n in range(30)]

        async def pestered(number: int, path: str) -> None:
            gw = (one, other)[number % 2]
            for _ in range(20):
                await asyncio.sleep(0.04)
                await gw.call("GET", path, key)
                if number % 3 == 0:
                    await gw.call("GET", f"{path}/srt", key)
                if number % 5 == 0 and (await gw.call("DELETE", path, key)).status == 200:
                    return

        await asyncio.gather(*(pestered(number, path) for number, path in enumerate(paths)))
        assert await until(lambda: over(one, "a"))
        assert len(await charges(one, "a")) == 30
        await in_order(one, "a", balance=parse_usd("43.7"))


async def test_a_job_is_followed_after_a_restart(tmp_path: Path, empty_redis: str) -> None:
    """What is open is in the store: the gateway that comes next follows what the one before took in."""
    changes, elsewhere = followed_closely(), empty_redis.replace("db=0", "db=1")
    assert elsewhere != empty_redis
    async with running(tmp_path / "elsewhere", elsewhere) as world:
        async with beside(world, tmp_path / "a", empty_redis, changes=changes) as first:
            key = await first.open_account("a", credit="50")
            await submitted(first, key, knobs={"job_seconds": 0.5})
        await asyncio.sleep(0.6)
        async with beside(world, tmp_path / "b", empty_redis, changes=changes) as second:
            assert not await charges(second, "a"), "nobody followed it meanwhile"
            assert await until(lambda: over(second, "a"))
            await in_order(second, "a", balance=parse_usd("49.79"))


async def test_a_job_that_is_gone_gives_its_credit_back(tmp_path: Path, empty_redis: str) -> None:
    """Unknown to the service for a while, by its words or its status: counted, no hold stays, nothing is charged. One
    that turns up after all is charged when its result leaves.
    """
    async with running(tmp_path, empty_redis, changes=followed_closely()) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        paths = [await submitted(gw, key, knobs={"job_seconds": seconds}) for seconds in (2.5, 3600)]
        lost = gw.sandbox.state.jobs.pop(paths[0].rpartition("/")[2])
        assert await until(lambda: _follows(gw, "a", 1))
        assert (await gw.ledger.account("a")).open_holds == 1
        assert counted(gw, "gateway_events_total", event="job_gone", product="speech-to-text") == 1
        await gw.knobs(status=404)
        assert await until(lambda: over(gw, "a"))
        await gw.knobs(status=None)
        assert counted(gw, "gateway_events_total", event="job_gone", product="speech-to-text") == 2
        await in_order(gw, "a", balance=parse_usd("50"))
        gw.sandbox.state.jobs.keep(lost.id, lost)
        assert (await finished(gw, key, paths[0])).charge == HOUR
        (charge,) = await charges(gw, "a")
        assert charge["late"]
        await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_a_gone_job_can_cost_its_hold(tmp_path: Path, empty_redis: str) -> None:
    """Where the settings say so: one charge, marked as estimated, and never another."""
    changes = followed_closely(gone="charge_hold", gone_seconds=0)
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        path = await submitted(gw, key, knobs={"job_seconds": 1.0})
        lost = gw.sandbox.state.jobs.pop(path.rpartition("/")[2])
        assert await until(lambda: over(gw, "a"))
        gw.sandbox.state.jobs.keep(lost.id, lost)
        assert (await finished(gw, key, path)).charge is None
        (charge,) = await charges(gw, "a")
        assert (charge["basis"], charge["amount"]) == ("estimated", HOUR)
        await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_a_service_that_says_nothing_is_asked_again(tmp_path: Path, empty_redis: str) -> None:
    """Errors, refusals of us, silence: the job stays open, with its hold, and is charged when the service is back."""
    async with running(tmp_path, empty_redis, changes=followed_closely()) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        await submitted(gw, key, knobs={"job_seconds": 0.2})
        for knobs in ({"status": 500}, {"status": 429}, {"status": 401}, {"body": "no_reply"}, {"body": "truncated"}):
            await gw.knobs(status=None, body=None)
            await gw.knobs(**knobs)
            silent = _looks(gw, "silent")
            assert await until(lambda before=silent: _grown(gw, before)), knobs  # type: ignore[misc]
            assert (await gw.ledger.account("a")).open_holds == 1
        await gw.knobs(status=None, body=None)
        assert await until(lambda: over(gw, "a"))
        await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_looks_are_bounded_for_each_upstream(tmp_path: Path, empty_redis: str) -> None:
    """Forty jobs are due at once: at most so many looks a second, and so many together; all get their turn."""
    changes = followed_closely()

    def few(data: dict[str, Any]) -> None:
        changes_of_gateway(data)
        data["upstreams"]["speech-to-text"] |= {"looks_per_second_max": 20, "looks_max": 2}

    changes_of_gateway, changes["gateway.yaml"] = changes["gateway.yaml"], few
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="50")
        for _ in range(40):
            await submitted(gw, key, 36)
        began, before = SystemClock.monotonic(), len(gw.sandbox.state.entries)
        assert await until(lambda: over(gw, "a"), 20)
        looks = len(gw.sandbox.state.entries) - before
        assert looks <= 20 * (SystemClock.monotonic() - began) + 21
        await in_order(gw, "a", balance=parse_usd("49.916"))


@pytest.mark.system
async def test_jobs_end_exactly_once_though_gateways_are_killed(tmp_path: Path, empty_redis: str) -> None:
    """Three hundred jobs on two gateways, of which half are never polled, and one gateway is killed again and again:
    every completed job is charged exactly once, every failed one nothing, no hold is left, the books agree.
    """
    async with World(tmp_path, empty_redis, followed_closely()).opened() as world:
        served = [await world.serve("one"), await world.serve("two")]
        keys = {name: await world.open_account(name) for name in ("a", "b", "c")}

        async def made(number: int) -> str:
            knobs = sandbox(job_seconds=1 + number % 40 / 10, job_status="completed" if number % 10 else "error")
            body = {"audio_url": "https://example.com/a.wav?duration=36"}
            headers = {"Authorization": keys["abc"[number % 3]]} | knobs
            async with world.http.post(
                f"{served[number % 2].url}/v2/transcript", json=body, headers=headers
            ) as response:
                assert response.status == 200, await response.text()
                return str((await response.json())["id"])

        async def polled(number: int, name: str) -> None:
            headers = {"Authorization": keys["abc"[number % 3]]}
            for _ in range(6):
                await asyncio.sleep(0.7)
                async with world.http.get(f"{served[0].url}/v2/transcript/{name}", headers=headers) as response:
                    await response.read()

        names = await asyncio.gather(*(made(number) for number in range(300)))
        polls = asyncio.gather(*(polled(number, names[number]) for number in range(0, 300, 2)))
        for _ in range(2):
            await asyncio.sleep(0.5)
            await served[1].end(signal.SIGKILL)
            served[1] = await world.serve("two")
        await polls

        async def all_over() -> bool:
            return not any([(await world.ledger.account(name)).open_holds for name in keys])

        assert await until(all_over, 30)
        charged = [amount for name in keys for amount in await world.charged(name)]
        assert charged == [parse_usd("0.0021")] * 270
        for name in keys:
            assert not await world.ledger.jobs(name)
            assert not await world.ledger.verify(name)
        assert await served[0].end() == 0


# ---- what is decided


def looked(age: float, *, gone_for: float = 0.0) -> FollowedJob:
    """A job of this age in seconds, an hour before its deadline's day is over."""
    now = 2_000_000_000_000
    record = Resource(
        ref=ResourceRef(kind="transcript", id="t"),
        state="open",
        product="speech-to-text",
        hold="h",
        created_ms=now - round(age * 1000),
        deadline_ms=now - round(age * 1000) + 86_400_000,
        gone_ms=now - round(gone_for * 1000) if gone_for else 0,
    )
    return FollowedJob(account="a", record=record, look_ms=now, now_ms=now)


@pytest.mark.parametrize(
    ("age", "found", "gone_for", "verdict"),
    [
        (0, "running", 0, 10),
        (10, "running", 0, 10),
        (100, "running", 0, 50),
        (10_000, "running", 0, 300),
        (86_399, "running", 0, 300),
        (86_400, "running", 0, "expired"),
        (86_400, "unknown", 1, "expired"),
        (100, "silent", 0, 100),
        (10_000, "silent", 0, 300),
        (86_400, "silent", 0, 300),
        (2 * 86_400, "silent", 0, "expired"),
        (10, "unknown", 0, 10),
        (10_000, "unknown", 119, 120),
        (10_000, "unknown", 120, "gone"),
    ],
)
def test_when_to_look_again(age: float, found: Any, gone_for: float, verdict: float | str) -> None:
    """Half the age within bounds; more rarely where nothing is said; until it is gone, or its time is over."""
    runtime = load(ROOT / "gateway.yaml", {})
    job = next(route.job for route in runtime.routes if route.job is not None)
    assert judge(job, looked(age, gone_for=gone_for), found) == verdict


async def _follows(gw: Running, account: str, count: int) -> bool:
    return len(await gw.ledger.jobs(account)) == count


def _looks(gw: Running, outcome: str) -> float:
    return counted(gw, "gateway_job_looks_total", product="speech-to-text", outcome=outcome)


async def _grown(gw: Running, before: float) -> bool:
    return _looks(gw, "silent") > before
