"""The ledgers that the contract is checked on, each with a clock that the test moves, and short ways to ask them.

Owns: the fixture `world` (memory, Redis, Redis Cluster, Redis behind sentinels), builders of requests and settlements.
Does not know: what the answers should be.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import pytest

from gateway.core.admission import Concurrency, Rate
from gateway.core.errors import Refused
from gateway.core.money import NANOS_PER_USD, ZERO, Nanos
from gateway.core.pricing import Charge, LineItem
from gateway.ledger.connection import NOTHING, Packed, Part
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings, RedisLink, Reply, Script, State
from gateway.ledger.links import open_link
from gateway.ledger.lua import ALONE
from gateway.ledger.memory import MemoryLedger
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import AdmissionRequest, AdmissionTerms, Admitted, Key, Ledger, Plan, PlanChanged, Settlement
from tests.ports import free_ports

START_MS = 1_795_435_200_000  # 2026-11-23 12:00 UTC
FREE = Plan(tier="free")
DOLLAR = Nanos(NANOS_PER_USD)
YEARS_SECONDS = 400_000_000
RATE = Rate(name="r", quota=5, window_seconds=60)


def usd(dollars: float) -> Nanos:
    """Nano-dollars of a round number of dollars."""
    return Nanos(round(dollars * NANOS_PER_USD))


class ClockedLink:
    """A link whose scripts take the time from the test instead of TIME; nothing else about them is another, unless
    `source` makes it so.
    """

    def __init__(self, link: RedisLink, clock: Callable[[], int], source: Callable[[str], str] = str) -> None:
        self.link = link
        self.clock = clock
        self.source = source
        self.commands = 0
        self._scripts: dict[str, Script] = {}

    @property
    def state(self) -> State:
        return self.link.state

    @property
    def nodes(self) -> Sequence[RedisLink]:
        return self.link.nodes

    async def open(self) -> None:
        await self.link.open()

    async def close(self) -> None:
        await self.link.close()

    @property
    def is_cluster(self) -> bool:
        return self.link.is_cluster

    def where_is(self, key: str) -> str | None:
        return self.link.where_is(key)

    async def confirm(self, *, within_seconds: float = 0.0) -> None:
        await self.link.confirm(within_seconds=within_seconds)

    def call(self, *parts: Part) -> Awaitable[Reply]:
        self.commands += 1
        if parts == ("TIME",):
            return self._time()
        return self.link.call(*parts)

    async def _time(self) -> Reply:
        seconds, ms = divmod(self.clock(), 1000)
        return [str(seconds).encode(), str(ms * 1000).encode()]

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Part],
        *,
        first_keys: Packed = NOTHING,
        last_args: Packed = NOTHING,
    ) -> Awaitable[Reply]:
        self.commands += 1
        args = [f"{int(args[0])}@{self.clock()}", *args[1:]]
        return self.link.run(self.clocked(script), keys, args, first_keys=first_keys, last_args=last_args)

    def clocked(self, script: Script) -> Script:
        """The script that runs in its place."""
        if script.name not in self._scripts:
            self._scripts[script.name] = Script(script.name, self.source(_with_clock(script)))
        return self._scripts[script.name]


def _with_clock(script: Script) -> str:
    if script.name in ALONE:
        return script.source  # it has no use for the time
    source = script.source.replace(
        "local REMEMBER = ARGV[1]", "local REMEMBER, test_ms = string.match(ARGV[1], '^(%d+)@(%d+)$')"
    ).replace("local time = call('TIME')", "local time = {math.floor(test_ms / 1000), test_ms % 1000 * 1000}")
    assert source.count("test_ms") == 3, "lib.lua reads the time in another way now"
    return source


class World:
    """One ledger and its time."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.now = START_MS

    ledger: Ledger

    async def advance(self, seconds: float) -> None:
        """Let time pass for the ledger."""
        self.now += round(seconds * 1000)

    async def dump(self) -> Any:
        """Everything that is stored."""
        raise NotImplementedError


class MemoryWorld(World):
    """The specification."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.ledger: MemoryLedger = MemoryLedger(lambda: self.now)

    async def dump(self) -> Any:
        return copy.deepcopy((self.ledger._books, self.ledger._digests))


class RedisWorld(World):
    """RedisLedger on a real server."""

    def __init__(self, link: RedisLink, kind: str = "redis", *, direct: RedisLink | None = None) -> None:
        super().__init__(kind)
        self.direct = direct or link  # for the test's own hands
        self.link = ClockedLink(link, lambda: self.now)
        self.ledger: RedisLedger = RedisLedger(self.link, operation_seconds=YEARS_SECONDS)

    async def names(self) -> list[str]:
        found: list[str] = []
        for node in self.direct.nodes:
            names = await node.call("KEYS", "*")
            assert isinstance(names, list)
            found += [name.decode() for name in names if isinstance(name, bytes)]
        return sorted(found)

    async def advance(self, seconds: float) -> None:
        """Keys that live for a time grow older too."""
        await super().advance(seconds)
        names = await self.names()
        for name, left in zip(names, await asyncio.gather(*(self.direct.call("PTTL", n) for n in names)), strict=True):
            if isinstance(left, int) and 0 < left < YEARS_SECONDS * 500:
                await self.direct.call("PEXPIRE", name, left - round(seconds * 1000))

    async def dump(self) -> Any:
        names = await self.names()
        return dict(zip(names, await asyncio.gather(*(self.direct.call("DUMP", name) for name in names)), strict=True))


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one server that has all slots: enough for it to refuse what crosses slots."""
    port, bus = free_ports(2)
    server = EmbeddedRedis(
        tmp_path_factory.mktemp("cluster"),
        appendonly=False,
        port=port,
        extra_args=("--cluster-enabled", "yes", "--cluster-port", str(bus)),
    )
    server.start_sync()
    yield server.url
    server.stop_sync()


async def _take_all_slots(url: str) -> str:
    """The URL of the cluster, once its server serves all slots."""
    link = SingleLink(LinkSettings(url=url, connect_seconds_max=10.0, command_seconds_max=10.0))
    await link.open()
    info = b""
    while b"cluster_state:ok" not in info:
        if b"cluster_slots_assigned:0" in info:
            await link.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        answer = await link.call("CLUSTER", "INFO")
        assert isinstance(answer, bytes)
        info = answer
    await link.close()
    return url.removesuffix("/0").replace("redis://", "redis+cluster://")


@pytest.fixture(params=["memory", "redis", "cluster", "sentinel"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Each ledger in turn, empty."""
    if request.param == "memory":
        yield MemoryWorld()
        return
    if request.param != "cluster":
        url = request.getfixturevalue(f"{request.param}_url")
    else:
        url = await _take_all_slots(request.getfixturevalue("cluster_url"))
    link = open_link(LinkSettings(url=url, connect_seconds_max=10.0, command_seconds_max=10.0))
    await link.open()
    for node in link.nodes:
        await node.call("FLUSHALL")
    yield RedisWorld(link, request.param)
    await link.close()


async def opened(world: World, signup: int = 50 * DOLLAR, account: str = "acme", **key: Any) -> Ledger:
    """An account with one key, `<account>-key`, found by the digest `<account>-digest`."""
    ledger = world.ledger
    await ledger.open_account(operation="open", account=account, plan=FREE, signup=Nanos(signup))
    made = Key(id=f"{account}-key", account=account, **key)
    await ledger.put_key(operation="key", key=made, digest=f"{account}-digest")
    return ledger


TERMS: Final = AdmissionTerms(
    plan=FREE, product="speech-to-text", entitled=True, metered=True, overdraft=ZERO, price_version="2026-11-01"
)


def ask(hold_id: str = "call-1", *, account: str = "acme", **changes: Any) -> AdmissionRequest:
    """A metered call of ten cents by the account's key."""
    request = AdmissionRequest(
        account=account, key_id=f"{account}-key", terms=TERMS, hold_id=hold_id, estimate=Nanos(DOLLAR // 10)
    )
    return asking(request, **changes)


def asking(request: AdmissionRequest, **changes: Any) -> AdmissionRequest:
    """A request with other fields, its own or of its terms."""
    of_terms = {name: changes.pop(name) for name in changes.keys() & {each.name for each in fields(AdmissionTerms)}}
    return replace(request, terms=replace(request.terms, **of_terms), **changes)


def one_at_a_time(limit: int = 1, name: str = "jobs") -> Concurrency:
    """A limit of open holds."""
    return Concurrency(name=name, limit=limit)


def bill(hold_id: str = "call-1", amount: int = DOLLAR // 10, *, account: str = "acme", **changes: Any) -> Settlement:
    """The charge of a call, in one line (two from a cent up)."""
    parts = [amount] if amount < 10_000_000 else [amount - amount // 3, amount // 3]
    items = tuple(
        LineItem(sku=f"sku-{n}", quantity="1.5", unit="second", unit_price="0.21 per_hour", amount=Nanos(part))
        for n, part in enumerate(parts)
    )
    values: dict[str, Any] = {
        "account": account,
        "hold_id": hold_id,
        "key_id": f"{account}-key",
        "product": "speech-to-text",
        "route": "transcribe",
        "call_id": hold_id,
        "charge": Charge(amount=Nanos(amount), items=items, price_version="2026-11-01", rate_card=""),
        "upstream_id": "up-1",
    }
    return Settlement(**values | changes)


async def admitted(ledger: Ledger, request: AdmissionRequest) -> Admitted:
    """The answer of a call that must be admitted."""
    answer = await ledger.admit(request)
    assert isinstance(answer, Admitted), answer
    return answer


async def refused(ledger: Ledger, request: AdmissionRequest) -> Refused:
    """The answer of a call that must be refused."""
    answer = await ledger.admit(request)
    assert isinstance(answer, Refused) and not isinstance(answer, PlanChanged), answer
    return answer


async def sum_of_entries(ledger: Ledger, account: str = "acme") -> int:
    """What the entries say that the balance is, read page by page."""
    total, after = 0, ""
    while page := await ledger.entries(account, after=after, limit=7):
        total, after = total + sum(entry.amount for entry in page), page[-1].id
    return total
