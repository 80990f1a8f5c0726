"""Every state that a Redis can be in, made of a real one under the load of paying customers.

Owns: how each state begins and ends, the load, the count of what it cost. What is seen of a state is asserted by those
who ask for it. Does not know: how many customers there are.
"""

import asyncio
import io
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp
import orjson

from gateway.core.errors import LedgerUnavailable
from gateway.core.money import format_usd, parse_usd
from gateway.edge.app import Gateway
from gateway.edge.ledger import open_ledger
from gateway.edge.observing import Observing
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.links import open_link
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.sandbox import SandboxSettings, start
from gateway.settings.load import load
from gateway.settings.runtime import Runtime
from tests.fakes.link import CuttingRelay
from tests.faults.figures import all_entries
from tests.faults.proof import Proof
from tests.harness import Change, open_account, write_config
from tests.pipeline.helpers import CHAT, CHAT_PATH, fixed_hold, sandbox, until, without_rates
from tests.ports import free_ports

CHARGE: Final = parse_usd("0.00315")
COMMAND_SECONDS: Final = 1.0
#: Where nobody is to be refused, however slow the machine is beside the server.
PATIENT_SECONDS: Final = 10.0
LEASE_SECONDS: Final = 3
#: How long a state lasts, and how long the customers are served before and after it.
AWAY_SECONDS: Final = 2.0
SERVED_SECONDS: Final = 0.7
#: Calls that must have been answered in a state before it ends.
ANSWERS_MIN: Final = 5
#: The poor have credit for so many calls: they run out of it while all this happens.
POOR_CALLS: Final = 8


def _changes(command_seconds: float) -> Mapping[str, Change]:
    def gateway(data: dict[str, Any]) -> None:
        data["redis"].update(command_seconds_max=command_seconds, connect_seconds_max=0.5)
        data["limits"].update(hold_lease_seconds=LEASE_SECONDS, sweep_seconds=0.2)

    return {
        "gateway.yaml": gateway,
        "config/tiers.yaml": without_rates,
        "config/products/llm-gateway.yaml": fixed_hold("0.00315"),
    }


@dataclass
class Bench:
    """A server with a line to it, which a state may change; `admin` is a line of our own."""

    directory: Path
    redis: EmbeddedRedis
    relay: CuttingRelay
    admin: SingleLink
    others: list[EmbeddedRedis] = field(default_factory=list)
    starting: asyncio.Task[None] | None = None
    cutting: asyncio.Task[None] | None = None
    cuts: int = 0
    back_at: float = 0.0

    def send(self, how: signal.Signals) -> None:
        """To the server."""
        assert self.redis.pid is not None, "the server is ours"
        os.kill(self.redis.pid, how)

    async def kill(self) -> None:
        """Without a word."""
        await self.admin.close()
        self.send(signal.SIGKILL)
        await self.redis.stop()  # only the process is collected

    async def back(self) -> None:
        """The server again, on what its directory has: in a thread, for it may be long in answering."""
        await asyncio.to_thread(self.redis.start_sync)
        self.back_at = time.monotonic()
        await self.admin.open()

    async def config(self, name: str, value: str) -> None:
        """Change the server."""
        await self.admin.call("CONFIG", "SET", name, value)

    async def cut(self) -> None:
        """Everybody else must connect again."""
        await self.admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


Act = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class State:
    """How a Redis comes into a state, and out of it."""

    name: str
    begin: Act
    end: Act
    word: str = "link_down"
    """What the gateway's events call it."""
    options: tuple[str, ...] = ()
    """Of the server."""
    refuses: bool = True
    """Whether calls are refused in it."""
    lost_max: int = 0
    bound: str = "0"


async def _stopped(bench: Bench) -> None:
    bench.send(signal.SIGSTOP)


async def _continued(bench: Bench) -> None:
    bench.send(signal.SIGCONT)


async def _line_silent(bench: Bench) -> None:
    bench.relay.pause()


async def _line_heard(bench: Bench) -> None:
    bench.relay.resume()


def _delayed(seconds: float) -> Act:
    async def act(bench: Bench) -> None:
        bench.relay.reply_delay_seconds = seconds

    return act


def _set(name: str, value: str) -> Act:
    async def act(bench: Bench) -> None:
        await bench.config(name, value)

    return act


async def _demoted(bench: Bench) -> None:
    await bench.admin.call("REPLICAOF", "127.0.0.1", free_ports(1)[0])


async def _promoted(bench: Bench) -> None:
    await bench.admin.call("REPLICAOF", "NO", "ONE")


async def _locked(bench: Bench) -> None:
    await bench.config("requirepass", "another")
    await bench.cut()


async def _killed(bench: Bench) -> None:
    await bench.kill()


async def _back(bench: Bench) -> None:
    await bench.back()


async def _empty(bench: Bench) -> None:
    """Another server, which has nothing, in its place."""
    await bench.kill()
    other = EmbeddedRedis(bench.directory / "empty", port=bench.redis.port)
    await other.start()
    bench.others.append(other)


async def _right_again(bench: Bench) -> None:
    other = bench.others.pop()
    link = SingleLink(LinkSettings(url=other.url))
    await link.open()
    assert await link.call("DBSIZE") == 0, "something was written to a server that is not the ledger's"
    await link.close()
    await other.stop()
    await bench.back()


async def _torn(bench: Bench) -> None:
    """Killed, and the last bytes of its append-only file never reached the disk."""
    await bench.kill()
    (last,) = (bench.redis.directory / "appendonlydir").glob("*.incr.aof")
    with last.open("r+b") as file:
        file.truncate(last.stat().st_size - 10)


async def _loading(bench: Bench) -> None:
    """Killed, and so slow to load that the gateway meets it at that."""
    await asyncio.gather(*(bench.admin.call("SET", f"filler-{number}", number) for number in range(_FILLERS)))
    await bench.admin.call("BGREWRITEAOF")
    while b"aof_rewrite_in_progress:0" not in str(await bench.admin.call("INFO", "persistence")).encode():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await bench.kill()
    bench.starting = asyncio.create_task(bench.back())


async def _loaded(bench: Bench) -> None:
    assert bench.starting is not None
    await bench.starting


#: Keys that make the server load for more than `AWAY_SECONDS`.
_FILLERS: Final = 250
_SLOW_TO_LOAD: Final = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
STATES: Final = (
    State(name="paused (SIGSTOP)", begin=_stopped, end=_continued),
    State(name="black-holed", begin=_line_silent, end=_line_heard),
    State(name="slow, within the deadline", begin=_delayed(0.05), end=_delayed(0), refuses=False),
    State(name="slow, beyond the deadline", begin=_delayed(5.0), end=_delayed(0)),
    State(name="full (OOM)", begin=_set("maxmemory", "1mb"), end=_set("maxmemory", "0"), word="oom"),
    State(name="read-only", begin=_demoted, end=_promoted, word="readonly"),
    State(name="wrong password", begin=_locked, end=_set("requirepass", "")),
    State(name="killed, and restarted", begin=_killed, end=_back),
    State(name="restarted empty, then the right one", begin=_empty, end=_right_again),
    State(name="loading", begin=_loading, end=_loaded, options=_SLOW_TO_LOAD),
    State(
        name="restarted, AOF truncated", begin=_torn, end=_back, lost_max=1,
        bound="what the file had not kept: here its last write",
    ),
)  # fmt: skip


def _losing(what: Literal["replies", "requests"]) -> Act:
    """The line is cut every few commands: before they are done, or after."""

    async def cut(bench: Bench) -> None:
        while True:
            bench.cuts += 1
            (bench.relay.drop_replies if what == "replies" else bench.relay.drop_requests)(1)
            await asyncio.sleep(0.05)

    async def act(bench: Bench) -> None:
        bench.cutting = asyncio.create_task(cut(bench))

    return act


async def _whole_again(bench: Bench) -> None:
    assert bench.cutting is not None
    bench.cutting.cancel()
    bench.relay.drop_replies(0)
    bench.relay.drop_requests(0)


#: Not states of a server, but of the line to it.
LINES: Final = (
    State(name="line that loses replies", begin=_losing("replies"), end=_whole_again, refuses=False),
    State(name="line that loses requests", begin=_losing("requests"), end=_whole_again, refuses=False),
)


@dataclass
class Seen:
    """What customers and operators saw of a state."""

    proof: Proof
    answers: Counter[tuple[int, str]]
    """While it lasted, and calls had had the time to notice: statuses and codes."""
    lines: Counter[str]
    """Of the log, but for one for each call: events."""
    words: set[str]
    """The reasons of `ledger_error`."""


class Customers:
    """They call again and again; what they were served is known by the ids of their calls."""

    def __init__(self, url: str, keys: dict[str, str], each: int) -> None:
        self.url = url
        self.served: dict[str, str] = {}
        self.answers: list[tuple[float, float, int, str]] = []
        self.in_flight = 0
        self.over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._call(name, key)) for name, key in keys.items() for _ in range(each)]

    async def _call(self, account: str, key: str) -> None:
        headers = {"Authorization": key, **sandbox(latency_seconds=0.15, input_tokens=1000, output_tokens=100)}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
            while not self.over.is_set():
                began = time.monotonic()
                self.in_flight += 1
                async with http.post(self.url + CHAT_PATH, json=CHAT, headers=headers) as response:
                    await response.read()
                self.in_flight -= 1
                code = response.headers.get("X-Gateway-Error", "")
                self.answers.append((began, time.monotonic(), response.status, code))
                if response.status == 200:
                    self.served[response.headers["X-Gateway-Call-Id"]] = account
                else:
                    await asyncio.sleep(0.1)

    async def served_after(self, moment: float) -> float:
        """Wait for a call that was answered after a moment; how long after."""
        async with asyncio.timeout(20):
            while True:
                for _, ended, status, _ in reversed(self.answers):
                    if status == 200 and ended > moment:
                        return ended - moment
                await asyncio.sleep(0.01)

    async def answered_since(self, moment: float, *, unless: asyncio.Task[None] | None) -> None:
        """Wait for some calls that began after a moment, on however busy a machine; not if something is over."""
        async with asyncio.timeout(20):
            while not (unless and unless.done()):
                if sum(began > moment for began, *_ in self.answers) >= ANSWERS_MIN:
                    return
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Let them finish."""
        self.over.set()
        await asyncio.gather(*self._tasks)


async def pass_through(state: State, directory: Path, *, each: int, begin: asyncio.Barrier | None = None) -> Seen:
    """Serve, come into the state and out of it, serve; then count. `each` customers of each of four accounts.

    Several at once begin together: to start a gateway takes the loop some time.
    """
    async with _bench(directory, state.options) as bench, _gateway_at(bench, state) as (runtime, gateway, log):
        books = open_link(LinkSettings(url=bench.redis.url, command_seconds_max=10.0, connect_seconds_max=10.0))
        await books.open()
        ledger = RedisLedger(books)
        keys = {name: await open_account(ledger, runtime, name, credit="100") for name in ("a", "b", "c")}
        poor = format_usd(POOR_CALLS * CHARGE)
        keys["poor"] = await open_account(ledger, runtime, "poor", credit=poor)
        await books.close()
        if begin is not None:
            await begin.wait()
        customers = Customers(f"http://127.0.0.1:{gateway.customers_port}", keys, each)
        await asyncio.sleep(SERVED_SECONDS)
        in_flight, began = customers.in_flight, time.monotonic()
        await state.begin(bench)
        noticed = began + (COMMAND_SECONDS + 0.2 if state.refuses else 0)
        await asyncio.sleep(AWAY_SECONDS)
        await customers.answered_since(noticed, unless=bench.starting)
        await state.end(bench)
        ended = bench.back_at or time.monotonic()
        recovery = await customers.served_after(ended)
        await asyncio.sleep(SERVED_SECONDS)
        await customers.end()

        async def told() -> bool:
            return not len(gateway.spool)

        assert await until(told), gateway.spool
        await books.open()
        counted = await _counted(ledger, customers.served, keys)
        await books.close()
        gateway.observing.flush()
        during = [(b, e, status, code) for b, e, status, code in customers.answers if b > noticed and e < ended]
        lines = [orjson.loads(line) for line in log.getvalue().splitlines()]
        return Seen(
            Proof(
                fault=f"Redis {state.name}", times=bench.cuts or 1, in_flight=in_flight, recovery_seconds=recovery,
                refusal_seconds=max((e - b for b, e, status, _ in during if status == 503), default=None),
                lost_max=state.lost_max, bound=state.bound, **counted,
            ),
            Counter((status, code) for _, _, status, code in during),
            Counter(line["event"] for line in lines if line["event"] != "call"),
            {line["reason"] for line in lines if line["event"] == "ledger_error" and "reason" in line},
        )  # fmt: skip


async def _counted(ledger: RedisLedger, served: dict[str, str], keys: dict[str, str]) -> dict[str, int]:
    async def free() -> bool:
        try:
            return not sum([(await ledger.account(name)).open_holds for name in keys])
        except LedgerUnavailable:
            return False

    await until(free, LEASE_SECONDS + 4)
    charges: Counter[str] = Counter()
    leaked = overspent = 0
    for name in keys:
        charges.update(entry.data["call_id"] for entry in await all_entries(ledger, name) if entry.kind == "charge")
        account = await ledger.account(name)
        leaked += account.open_holds
        overspent += max(0, -account.balance)
        assert not await ledger.verify(name), "the books differ"
    assert charges.keys() <= served.keys(), "somebody pays for what was not delivered"
    return {
        "lost": len(served.keys() - charges.keys()),
        "doubled": sum(count - 1 for count in charges.values()),
        "overspent_nanos": overspent,
        "leaked": leaked,
    }


@asynccontextmanager
async def _bench(directory: Path, options: tuple[str, ...]) -> AsyncIterator[Bench]:
    redis = EmbeddedRedis(directory / "redis", fsync="always", port=free_ports(1)[0], extra_args=options)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(redis)
        relay = await stack.enter_async_context(CuttingRelay(redis.url))
        admin = SingleLink(LinkSettings(url=redis.url, command_seconds_max=10.0, connect_seconds_max=10.0))
        await admin.open()
        stack.push_async_callback(admin.close)
        yield Bench(directory, redis, relay, admin)


@asynccontextmanager
async def _gateway_at(bench: Bench, state: State) -> AsyncIterator[tuple[Runtime, Gateway, io.BytesIO]]:
    """A gateway whose line to the ledger is the bench's, and what it writes to its log."""
    async with AsyncExitStack() as stack:
        upstream = await start(SandboxSettings(job_seconds=0.05))
        stack.push_async_callback(upstream.stop)
        changes = _changes(COMMAND_SECONDS if state.refuses else PATIENT_SECONDS)
        path = write_config(
            bench.directory / "gateway", upstream_url=upstream.url, redis_url=bench.relay.url, changes=changes
        )
        runtime, log = load(path, {}), io.BytesIO()
        observing = Observing(runtime, lines=log)
        ledger = await stack.enter_async_context(open_ledger(runtime, keep=True, observer=observing.all))
        yield runtime, await stack.enter_async_context(Gateway(runtime, ledger=ledger, observing=observing)), log
