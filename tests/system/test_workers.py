"""A gateway of several workers: one port, one sum of metrics, workers that are lost or replaced while calls go on."""

import asyncio
import os
import resource
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import pytest
import yaml

from gateway.core.money import parse_usd
from gateway.edge.process.child import Child
from gateway.edge.process.control import ask
from gateway.edge.process.files import FILES_OF_A_CONNECTION, FILES_OF_ITS_OWN
from gateway.edge.server.listening import listen
from gateway.settings.runtime import Limits, Listener
from tests.harness import ROOT
from tests.pipeline.helpers import until, without_rates
from tests.system.processes import Served, World

CHARGE = parse_usd("0.00315")
TOKENS: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
LEASE_SECONDS = 3
SETTLED = 'gateway_calls_total{outcome="settled",product="llm-gateway",route="chat.completions",status_class="2xx"}'
CHARGED = 'gateway_charges_nanos_total{basis="reported",product="llm-gateway"}'
SECONDS = 'gateway_call_seconds_count{product="llm-gateway"}'
HOLDS = 'gateway_holds_open{product="llm-gateway"}'
pytestmark = pytest.mark.system


def limits(data: dict[str, Any]) -> None:
    """Holds of a killed worker end soon."""
    data["limits"].update(hold_lease_seconds=LEASE_SECONDS, sweep_seconds=0.2)


CHANGES = {"config/tiers.yaml": without_rates, "gateway.yaml": limits}


def events(served: Served, name: str) -> list[dict[str, Any]]:
    """The lines of the log that are about this; without one that is being written."""
    lines = (served.directory / "stdout").read_bytes().split(b"\n")[:-1]
    return [line for line in map(orjson.loads, lines) if line["event"] == name]


async def counted(served: Served, name: str, *values: float) -> float:
    """The metric, once it has one of these values."""
    found = 0.0

    async def done() -> bool:
        nonlocal found
        found = (await served.metrics())[name]
        return found in values

    assert await until(done), found
    return found


async def until_told(served: Served, name: str, count: int) -> None:
    """Wait until the log has so many lines about this."""

    async def told() -> bool:
        return len(events(served, name)) >= count

    assert await until(told)


async def test_workers_share_a_port_and_their_metrics_are_one(tmp_path: Path, empty_redis: str) -> None:
    """400 calls on 4 workers: each takes a good part of them, and the sums are right to the last nano-dollar. Each may
    open the files that its connections need, whatever the shell said.
    """
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        try:
            served = await world.serve("one", workers=4)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        key = await world.open_account("a", credit="10")
        assert len(served.workers) == 4
        wanted = FILES_OF_ITS_OWN + FILES_OF_A_CONNECTION * Limits().connections_max
        may_open = {resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] for pid in served.workers}
        assert may_open == {min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted}
        for _ in range(4):
            assert set(await asyncio.gather(*(world.chat(served, key, **TOKENS) for _ in range(100)))) == {200}
        metrics = await served.metrics()
        assert (metrics[SETTLED], metrics[CHARGED], metrics[SECONDS]) == (400, 400 * CHARGE, 400)
        assert (metrics["gateway_workers"], metrics[HOLDS]) == (4, 0)
        assert await served.end() == 0
        assert served.errors == ""
        boots = Counter(line["call_id"][:16] for line in events(served, "call"))
        assert boots.total() == 400
        assert len(boots) == 4
        assert min(boots.values()) > 20
        assert await world.charged("a") == [CHARGE] * 400
        assert not await world.ledger.verify("a")


async def test_a_killed_worker_is_replaced_and_what_it_counted_stays(tmp_path: Path, empty_redis: str) -> None:
    """Killed with calls in the air: the others serve on, its holds expire, no counter goes down."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="10")
        assert set(await asyncio.gather(*(world.chat(served, key, **TOKENS) for _ in range(40)))) == {200}
        await asyncio.sleep(1.2)  # they have reported
        calls = [asyncio.create_task(world.chat(served, key, latency_seconds=60)) for _ in range(20)]
        await world.holding("a", 20)
        first, second = served.workers
        os.kill(first, signal.SIGKILL)
        await until_told(served, "worker_lost", 1)
        metrics = await served.metrics()
        going_on = metrics[HOLDS]  # what the other worker serves
        assert (metrics[SETTLED], metrics[CHARGED]) == (40, 40 * CHARGE)
        assert await world.chat(served, key, **TOKENS) == 200
        await counted(served, "gateway_workers", 2)
        assert second in served.workers
        assert first not in served.workers

        async def expired() -> bool:
            return (await world.ledger.account("a")).open_holds == going_on

        assert await until(expired, LEASE_SECONDS + 2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        metrics = await served.metrics()
        assert (metrics[SETTLED], metrics[CHARGED]) == (41, 41 * CHARGE)
        assert metrics['gateway_events_total{event="worker_lost",product=""}'] == 1
        assert not await world.ledger.verify("a")


#: What a call of this model costs by each of two price lists.
MODEL: Final = "gpt-5.1"
REVISIONS: Final = {"2026-10-07": parse_usd("0.00225"), "2026-10-07-b": parse_usd("0.00325")}


def revise(served: Served, version: str) -> None:
    """Rewrite the price list as this revision has it."""
    path = served.directory / "config/prices.yaml"
    data = yaml.safe_load(path.read_text())
    data["price_lists"][-1]["version"] = version
    output = {"2026-10-07": "10", "2026-10-07-b": "20"}[version]
    data["price_lists"][-1].setdefault("prices", {})[f"llm.{MODEL}.output"] = {"per_1m_tokens": output}
    path.write_text(yaml.safe_dump(data, sort_keys=False))


async def reloads_under_load(directory: Path, redis_url: str, *, reloads: int) -> None:
    """Short calls all the time, on kept connections and on new ones, and another price list again and again."""
    async with World(directory, redis_url, CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="1000")
        over = asyncio.Event()

        async def customer(*, kept: bool) -> list[int]:
            connector = aiohttp.TCPConnector(limit=0, force_close=not kept)
            async with aiohttp.ClientSession(connector=connector) as http:
                found = []
                while not over.is_set():
                    found.append(await world.chat(served, key, {"model": MODEL}, http=http, **TOKENS))
                    await asyncio.sleep(0.01)
                return found

        customers = [asyncio.create_task(customer(kept=bool(number % 2))) for number in range(10)]
        for count in range(1, reloads + 1):
            before = set(served.workers)
            revise(served, list(REVISIONS)[count % 2])
            if count % 2:
                served.process.send_signal(signal.SIGHUP)
            else:
                (done,) = await asyncio.to_thread(ask, served.directory / "spool", "reload")
                assert done["ok"] and len(done["changes"]) > 1
            await until_told(served, "reloaded", count)
            assert not before.intersection(served.workers[-2:])
            await asyncio.sleep(0.5)
        over.set()
        statuses = [status for each in await asyncio.gather(*customers) for status in each]
        assert set(statuses) == {200}
        await counted(served, SETTLED, len(statuses))
        charged = await explained(world, "a")
        assert charged.total() == len(statuses) and set(charged) == set(REVISIONS)
        spent = sum(REVISIONS[version] * count for version, count in charged.items())
        assert (await served.metrics())[CHARGED] == spent
        assert await served.end() == 0
        assert served.errors == ""
        account = await world.ledger.account("a")
        assert (account.balance, account.held) == (parse_usd("1000") - spent, 0)
        assert not await world.ledger.verify("a")


async def explained(world: World, account: str) -> Counter[str]:
    """The account's charges by the price list that each says it was priced by, which explains it to the nano-dollar."""
    found: Counter[str] = Counter()
    after = ""
    while page := await world.ledger.entries(account, after=after, limit=1000):
        for entry in page:
            if entry.kind == "charge":
                assert -entry.amount == REVISIONS[entry.data["price_version"]]
                found[entry.data["price_version"]] += 1
        after = page[-1].id
    return found


async def test_a_reload_refuses_and_cuts_nothing(tmp_path: Path, empty_redis: str) -> None:
    """Calls under three reloads with a price change each: all are answered, and charged once, by one of the lists."""
    await reloads_under_load(tmp_path, empty_redis, reloads=3)


@pytest.mark.soak
async def test_twenty_reloads_refuse_and_cut_nothing(tmp_path: Path, empty_redis: str) -> None:
    """The same, for longer."""
    await reloads_under_load(tmp_path, empty_redis, reloads=20)


@pytest.mark.parametrize(
    ("request_", "pace"),
    [({}, {"latency_seconds": 10}), ({"stream": True}, {"event_seconds": 0.2})],
    ids=["a whole reply", "a stream"],
)
async def test_what_is_open_at_a_reload_is_served_to_its_end(
    tmp_path: Path, empty_redis: str, request_: dict[str, Any], pace: dict[str, Any]
) -> None:
    """A reply that takes its time, by the workers that it began with; then they are gone."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="10")
        last = set(served.workers)
        calls = [asyncio.create_task(world.chat(served, key, request_, **pace, **TOKENS)) for _ in range(10)]
        await world.holding("a", 10)
        served.process.send_signal(signal.SIGHUP)
        await until_told(served, "reloaded", 1)
        assert await world.chat(served, key, **TOKENS) == 200
        assert not any(call.done() for call in calls)
        assert last < set(served.workers)
        assert await asyncio.gather(*calls) == [200] * 10

        async def gone() -> bool:
            return not last.intersection(served.workers)

        assert await until(gone)
        assert await served.end() == 0
        assert served.errors == ""
        assert (await world.charged("a")) == [CHARGE] * 11
        assert not events(served, "worker_lost")


async def test_what_is_still_open_after_drain_seconds_is_cut(tmp_path: Path, empty_redis: str) -> None:
    """It ends with the workers that it began with, and its hold is given back."""

    def soon(data: dict[str, Any]) -> None:
        limits(data)
        data["limits"].update(drain_seconds=1)

    async with World(tmp_path, empty_redis, {**CHANGES, "gateway.yaml": soon}).opened() as world:
        served = await world.serve("one")
        key = await world.open_account("a", credit="10")
        call = asyncio.create_task(world.chat(served, key, latency_seconds=60))
        await world.holding("a", 1)
        served.process.send_signal(signal.SIGHUP)
        with pytest.raises(aiohttp.ClientError):
            await call
        assert await world.chat(served, key, **TOKENS) == 200

        async def released() -> bool:
            return (await world.ledger.account("a")).held == 0

        assert await until(released)
        assert await world.charged("a") == [CHARGE]


async def test_workers_that_end_do_not_pile_up(tmp_path: Path, empty_redis: str) -> None:
    """Four generations may end at once. The fifth reload gives the oldest only as long as a shutdown would."""

    def short(data: dict[str, Any]) -> None:
        limits(data)
        data["limits"].update(shutdown_seconds_max=1)

    async with World(tmp_path, empty_redis, {**CHANGES, "gateway.yaml": short}).opened() as world:
        served = await world.serve("one")
        key = await world.open_account("a", credit="10")
        calls = []
        for count in range(1, 6):
            calls.append(asyncio.create_task(world.chat(served, key, latency_seconds=60)))
            await world.holding("a", count)
            served.process.send_signal(signal.SIGHUP)
            await until_told(served, "reloaded", count)
        first, *others = calls
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(first, 30)
        assert not any(call.done() for call in others)
        for call in others:
            call.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def test_a_reload_takes_up_the_config(tmp_path: Path, empty_redis: str) -> None:
    """Customers who connect, and operators, are served by the new one as soon as the log says so; a connection that is
    kept has at most one more call of the old one.
    """
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one")
        key = await world.open_account("a", credit="10")
        assert await world.chat(served, key) == 200  # whose connection is kept
        old = await served.config()
        url = f"{served.ops_url}/admin/accounts/a"

        def change(data: dict[str, Any]) -> None:
            data["admin_token"] = "another-token-0123456789"
            data["upstreams"]["llm-gateway"]["credential"] = "wrong"

        world.change(served, change)
        served.process.send_signal(signal.SIGHUP)
        await until_told(served, "reloaded", 1)
        async with aiohttp.ClientSession() as http:
            assert await world.chat(served, key, http=http) != 200
        assert await served.config() != old
        with suppress(aiohttp.ClientConnectionError):  # it is closed just now
            await world.chat(served, key)
        assert await world.chat(served, key) != 200
        headers = {"Authorization": "Bearer another-token-0123456789"}
        async with world.http.get(url, headers=headers) as response:
            assert response.status == 200
        assert f'config="{await served.config()}"' in next(n for n in await served.metrics() if "gateway_info" in n)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("invalid", "limits.calls_max: must be at least 1"),
        ("unreadable", "gateway.yaml: the file cannot be read"),
        ("fixed", "only a restart changes workers, customers"),
        ("failing", "Not a directory"),
    ],
)
async def test_a_reload_that_fails_changes_nothing(tmp_path: Path, empty_redis: str, name: str, reason: str) -> None:
    """The last config is served on, by the same workers; log and metrics tell why."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one")
        key = await world.open_account("a", credit="10")
        workers, config = served.workers, await served.config()
        match name:
            case "invalid":
                world.change(served, lambda data: data["limits"].update(calls_max=0))
            case "unreadable":
                (served.directory / "gateway.yaml").unlink()
            case "fixed":
                world.change(served, lambda data: (data.update(workers=7), data["customers"].update(port=1))[0])
            case "failing":
                (served.directory / "spool").rename(served.directory / "spool-of-before")
                (served.directory / "spool").write_text("in the way")
        served.process.send_signal(signal.SIGHUP)
        await until_told(served, "reload_failed", 1)
        (told,) = events(served, "reload_failed")
        assert reason in told["reason"]
        await counted(served, 'gateway_events_total{event="reload_failed",product=""}', 1)
        assert served.workers == workers
        assert await served.config() == config
        assert await world.chat(served, key, **TOKENS) == 200
        assert not events(served, "reloaded")


async def test_workers_without_a_supervisor_finish_what_they_serve(tmp_path: Path, empty_redis: str) -> None:
    """The supervisor is killed: its workers take nothing new, answer and charge what they have, and are gone."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="10")
        workers = served.workers
        calls = [asyncio.create_task(world.chat(served, key, latency_seconds=2, **TOKENS)) for _ in range(20)]
        await world.holding("a", 20)
        served.process.kill()
        await served.process.wait()
        assert await asyncio.gather(*calls) == [200] * 20

        async def gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() for pid in workers)

        assert await until(gone)
        with pytest.raises(aiohttp.ClientConnectionError):
            await world.chat(served, key)
        assert await world.charged("a") == [CHARGE] * 20
        assert (await world.ledger.account("a")).held == 0
        assert served.errors == ""


async def test_a_worker_that_is_told_to_end_finishes_and_is_replaced(tmp_path: Path, empty_redis: str) -> None:
    """SIGTERM to a single worker, as a service manager sends it to every process: its calls are answered."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="10")
        (first, second) = served.workers
        calls = [asyncio.create_task(world.chat(served, key, latency_seconds=2, **TOKENS)) for _ in range(20)]
        await world.holding("a", 20)
        os.kill(first, signal.SIGTERM)
        assert await asyncio.gather(*calls) == [200] * 20
        await until_told(served, "worker_lost", 1)
        await counted(served, "gateway_workers", 2)
        assert second in served.workers
        assert (await served.metrics())[SETTLED] == 20


async def test_a_place_that_cannot_be_filled_is_left_to_the_others(tmp_path: Path, empty_redis: str) -> None:
    """A worker dies, and so does each in its place: not hotly, and nobody waits for the missing one."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        key = await world.open_account("a", credit="100")
        spool = served.directory / "spool"
        spool.rename(served.directory / "spool-of-before")
        spool.write_text("in the way")
        os.kill(served.workers[0], signal.SIGKILL)
        await until_told(served, "worker_lost", 3)
        since = time.monotonic()
        lost = len(events(served, "worker_lost"))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as http:
            while len(events(served, "worker_lost")) == lost:  # the pause before the fourth: new connections every time
                assert await asyncio.wait_for(world.chat(served, key, http=http, **TOKENS), 15) == 200
        assert time.monotonic() - since > 0.5
        assert "Not a directory" in events(served, "worker_lost")[-1]["reason"]
        assert await counted(served, "gateway_workers", 1)
        spool.unlink()
        await counted(served, "gateway_workers", 2)
        assert await served.end() == 0


async def test_a_worker_that_says_nothing_is_ended(tmp_path: Path, empty_redis: str) -> None:
    """One whose process stands still, like one whose loop does: it is killed, so that another takes its place."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        with listen(Listener(host="127.0.0.1", port=0)) as listener:
            child = await Child.start(0, world.runtime, listener, silent_seconds_max=2.5)
            await child.ready()
            await asyncio.sleep(3)
            assert child.accepting
            assert child.figures is not None
            os.kill(child.pid, signal.SIGSTOP)
            assert await asyncio.wait_for(child.over(), 30) == -signal.SIGKILL
            assert child.failure == "it said nothing for 2 s"


async def test_a_second_gateway_on_the_port_does_not_start(tmp_path: Path, empty_redis: str) -> None:
    """Workers share a port among themselves, and with nobody else."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        served = await world.serve("one", workers=2)
        (served.directory / "other.yaml").write_bytes((served.directory / "gateway.yaml").read_bytes())
        path = served.directory / "other.yaml"
        data = yaml.safe_load(path.read_text())
        data["ops"]["port"] = 0
        path.write_text(yaml.safe_dump(data))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "serve", "-c", str(path), stderr=asyncio.subprocess.PIPE, cwd=ROOT
        )
        _, said = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 1
        assert said.decode().strip() == (
            f"The gateway cannot listen on 127.0.0.1:{data['customers']['port']}: Address already in use"
        )
