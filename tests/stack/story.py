"""What happens on the stack: load, a reload with another price, Redis pulled until somebody is woken, Redis back.

Owns: the order, and what must be true at the end. Does not know: how the parts work, or how panels are drawn.
"""

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.panels import drawing, panels, picture, series
from gateway.core.money import format_usd
from gateway.exports.database import connect
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ports import Entry
from gateway.settings.exports import PostgresExport
from tests.docs.queries import RULES
from tests.exports.database import Postgres
from tests.fakes.collector import Collector
from tests.fakes.events import EventService
from tests.faults.stage import kill, start_again
from tests.harness import Change
from tests.pipeline.helpers import until, without_rates
from tests.pipeline.sockets import slices
from tests.stack.explained import Lists, versions_in_order
from tests.stack.load import Customers
from tests.system.processes import Served, World
from tests.system.prometheus import Prometheus

ALERT = "LedgerAway"
SKU, NEW_PRICE, NEW_LIST = "llm.gpt-5.2.output", {"per_1m_tokens": "28"}, "reloaded"
_SOON_SECONDS = 40.0


@dataclass(kw_only=True)
class Told:
    """What came of it."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)
    """An SVG for each row of the dashboard, by its title."""
    started: float = 0.0

    def happens(self) -> float:
        """Something happens now, that pictures are to mark."""
        self.moments.append(time.time())
        return self.moments[-1]

    def say(self, what: str, figure: object) -> None:
        """One line of the report."""
        self.lines.append((what, str(figure)))

    def expect(self, true: object, otherwise: str) -> None:
        """Note what does not hold, and go on."""
        if not true:
            self.wrong.append(otherwise)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Everything, up."""

    redis: EmbeddedRedis
    postgres: Postgres
    collector: Collector
    webhooks: EventService
    prometheus: Prometheus
    world: World
    served: Served


@asynccontextmanager
async def stack(directory: Path, *, hurried: bool) -> AsyncIterator[Stack]:
    """Redis, PostgreSQL, collector, sandbox, gateway with two workers, Prometheus: on loopback, until the block ends.

    `hurried`: alerts wait for a twentieth of their time.
    """
    async with AsyncExitStack() as parts:
        redis = await parts.enter_async_context(EmbeddedRedis(directory / "redis", fsync="always"))
        postgres = Postgres()
        parts.callback(postgres.remove)
        await asyncio.to_thread(postgres.start)
        collector = await parts.enter_async_context(Collector())
        webhooks = await parts.enter_async_context(EventService())
        changes = _changes(postgres.url, collector.url)
        world = await parts.enter_async_context(World(directory, redis.url, changes).opened())
        served = await world.serve("gateway", workers=2)
        rules = directory / "rules.yaml"
        rules.write_text(_hurried(RULES.read_text()) if hurried else RULES.read_text())
        prometheus = await parts.enter_async_context(Prometheus(directory / "prometheus", served, [rules]))
        yield Stack(
            redis=redis,
            postgres=postgres,
            collector=collector,
            webhooks=webhooks,
            prometheus=prometheus,
            world=world,
            served=served,
        )


def _changes(database: str, collector: str) -> Mapping[str, Change]:
    def gateway(data: dict[str, Any]) -> None:
        data["limits"].update({"hold_lease_seconds": 5, "drain_seconds": 20})
        data["customers"]["public_url"] = "http://127.0.0.1"  # at the port that it will have
        data["outward"] = {"allow": ["127.0.0.1"]}
        data["export"]["postgres"] = {"url": database}
        data["tracing"] = {"otlp": {"url": collector}, "sample": 0.1}

    def jobs(data: dict[str, Any]) -> None:
        data["jobs"]["transcript"].update(look_first_seconds=1, look_seconds_max=2)

    sessions = slices(slice_seconds=2, renew_before_seconds=0.5, warn_seconds=0, redis_grace_seconds=3)
    products = {**sessions, "config/products/speech-to-text.yaml": jobs}
    return {**products, "config/tiers.yaml": without_rates, "gateway.yaml": gateway}


def _hurried(text: str) -> str:
    rules = yaml.safe_load(text)
    for rule in (rule for group in rules["groups"] for rule in group["rules"] if "for" in rule):
        size, unit = int(rule["for"][:-1]), {"s": 1, "m": 60, "h": 3600}[rule["for"][-1]]
        rule["for"] = f"{max(1, size * unit // 20)}s"
    return yaml.safe_dump(rules, sort_keys=False)


async def happen(all_of_it: Stack, seconds: float) -> Told:
    """The story, in about so long."""
    told, customers = Told(started=time.time()), Customers(all_of_it.world, all_of_it.served, all_of_it.webhooks.url)
    going_on = asyncio.create_task(customers.go_on())
    try:
        await asyncio.sleep(seconds * 0.3)
        reload_began, reload_over = await _reload(all_of_it, told)
        await asyncio.sleep(seconds * 0.15)
        await _pull_redis(all_of_it, told)
        await asyncio.sleep(max(0.0, told.started + seconds - time.time()))
        customers.end()
        async with asyncio.timeout(_SOON_SECONDS):
            await going_on
    finally:
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)
    await _books(all_of_it, customers, told, reload_began, reload_over)
    await asyncio.to_thread(_draw, all_of_it.prometheus.url, told, time.time())
    return told


def _draw(url: str, told: Told, end: float) -> None:
    """What Prometheus has of it, a picture for each row."""
    start, drawn, shown = told.started, defaultdict[str, list[str]](list), Counter[str]()
    for panel in panels():
        lines = series(url, panel, start=start, end=end, rate_seconds=max(10, round((end - start) / 30)))
        drawn[panel.row].append(drawing(panel, lines, start=start, end=end, moments=told.moments))
        shown[panel.row] += bool(lines)
    told.pictures = {row: picture(drawings) for row, drawings in drawn.items()}
    told.wrong += [f"nothing in the row {row}" for row in drawn if not shown[row]]
    told.say("panels with something in them", f"{shown.total()} of {sum(map(len, drawn.values()))}")


async def _reload(all_of_it: Stack, told: Told) -> tuple[int, int]:
    """A price is doubled while calls go on. When the reload began and was over, in milliseconds."""
    served = all_of_it.served
    path = served.directory / "config" / "prices.yaml"
    data = yaml.safe_load(path.read_text())
    now = datetime.now(tz=UTC)
    since = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    begun = [each for each in data["price_lists"] if each["effective_from"] <= since]
    data["price_lists"] = [*begun, {"version": NEW_LIST, "effective_from": since, "prices": {SKU: NEW_PRICE}}]
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    before, began = await served.config(), told.happens()
    served.process.send_signal(signal.SIGHUP)

    async def over() -> bool:
        return await served.config() != before

    told.expect(await until(over, _SOON_SECONDS), "the new prices are not taken up")
    ended = time.time()
    told.say("reload with another price, seconds", f"{ended - began:.1f}")
    return int(began * 1000), int(ended * 1000)


async def _pull_redis(all_of_it: Stack, told: Told) -> None:
    """Redis is killed, stays away until the alert fires, and comes back with what it had."""

    async def fires() -> bool:
        return ALERT in await all_of_it.prometheus.firing()

    async def is_quiet() -> bool:
        return not await fires()

    pulled = told.happens()
    kill(all_of_it.redis)
    told.expect(await until(fires, 90), f"{ALERT} does not fire")
    back = told.happens()
    told.say(f"from Redis pulled to {ALERT}, seconds", f"{back - pulled:.1f}")
    await start_again(all_of_it.redis)
    told.expect(await until(is_quiet, _SOON_SECONDS), f"{ALERT} is not resolved")
    told.say(f"from Redis back to {ALERT} resolved, seconds", f"{time.time() - back:.1f}")


async def _books(all_of_it: Stack, customers: Customers, told: Told, began_ms: int, over_ms: int) -> None:
    """Every charge explains itself, at the price of its time; accounts, export and customers agree."""
    world, charges = all_of_it.world, {}
    lists = Lists.of(all_of_it.served.directory / "config" / "prices.yaml")
    *_, old, _ = lists.prices
    for account in customers.accounts:

        async def free(account: str = account) -> bool:
            return not (await world.ledger.account(account)).open_holds

        told.expect(await until(free, _SOON_SECONDS), f"{account} still holds")
        entries = await _entries(world, account)
        told.expect(not await world.ledger.verify(account), f"the numbers of {account} do not agree")
        charges[account] = [entry for entry in entries if entry.kind == "charge"]
        for entry in charges[account]:
            told.expect(not (why := lists.wrong(entry)), f"{account}: {why}")
    calls = charges["chats"] + charges["streams"]
    wrong = versions_in_order(calls, before_ms=began_ms, after_ms=over_ms + 2000, old=old, new=NEW_LIST)
    told.expect(not wrong, wrong)
    at = {version: [entry for entry in calls if entry.data["price_version"] == version] for version in (old, NEW_LIST)}
    told.expect(all(at.values()), "no chat before the reload, or none after it")
    told.expect(not charges["penniless"], "who has no credit was charged")
    total = sum(-entry.amount for entry in charges["chats"])
    told.expect(total == customers.charged("chats"), "answers told of other charges than the ledger has")
    exported = await _exported(all_of_it, charges, told)
    told.say("calls and sessions, refused ones included", sum(customers.answers.values()))
    told.say("refused for want of credit", customers.answers["penniless", 400] + customers.answers["penniless", 402])
    told.say("charges", sum(map(len, charges.values())))
    told.say("all explained, dollars", format_usd(sum(-e.amount for each in charges.values() for e in each)))
    told.say("chats at the old price", len(at[old]))
    told.say("chats at the new price", len(at[NEW_LIST]))
    told.say("entries in PostgreSQL", exported)
    told.say("webhooks called", len(all_of_it.webhooks.events))
    told.expect(all_of_it.webhooks.events, "nobody's webhook was called")
    told.say("spans told to the collector", len(all_of_it.collector.spans))
    told.expect(all_of_it.collector.spans, "no span was told")
    told.expect(not all_of_it.served.errors, all_of_it.served.errors)


async def _entries(world: World, account: str) -> list[Entry]:
    """All of an account, the oldest first."""
    return list(await world.ledger.entries(account, limit=100_000))


async def _exported(all_of_it: Stack, charges: Mapping[str, list[Entry]], told: Told) -> int:
    """How many entries PostgreSQL has, once it has the charges to the last nano-dollar."""
    wanted = {account: sum(entry.amount for entry in entries) for account, entries in charges.items() if entries}
    connection = await connect(PostgresExport(url=all_of_it.postgres.url))
    try:

        async def agrees() -> bool:
            found = await connection.fetch(
                "select account, sum(amount)::bigint as amount from entries where kind = 'charge' group by account"
            )
            return {row["account"]: row["amount"] for row in found} == wanted

        told.expect(await until(agrees, _SOON_SECONDS), "PostgreSQL has other charges than the ledger")
        count: int = await connection.fetchval("select count(*) from entries")
        return count
    finally:
        await connection.close()
