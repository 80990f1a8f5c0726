"""What only RedisLedger promises: round trips, caches, faults of the link, broken-off writes, real time, drift."""

import asyncio
import random
from typing import Any

import pytest

from gateway.core.admission import Rate, Scaling, Window, window_at
from gateway.core.errors import Code, LedgerUnavailable, Refused
from gateway.core.money import Nanos
from gateway.ledger.link import LinkSettings
from gateway.ledger.records import UnreadableRecord
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ledger.slots import hash_slot
from gateway.ports import (
    CallFinished,
    DeliveryTried,
    Drift,
    ExportTried,
    JobLooked,
    Key,
    PaymentTold,
    Plan,
    QueueLeft,
    Renewal,
    Resource,
    ResourceRef,
    SessionFinished,
    Swept,
)
from tests.fakes.link import CuttingRelay
from tests.ledger.ledgers import FREE, RedisWorld, admitted, ask, bill, one_at_a_time, opened, refused, usd


class Events:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, dict[str, str]]] = []

    def call_finished(self, record: CallFinished) -> None:
        raise AssertionError("a ledger finishes no calls")

    def session_finished(self, record: SessionFinished) -> None:
        raise AssertionError("nor sessions")

    def job_looked(self, record: JobLooked) -> None:
        raise AssertionError("nor looks at jobs")

    def queue_left(self, record: QueueLeft) -> None:
        raise AssertionError("nor submits")

    def delivery_tried(self, record: DeliveryTried) -> None:
        raise AssertionError("nor delivers")

    def payment_told(self, record: PaymentTold) -> None:
        raise AssertionError("nor tells of payments")

    def export_tried(self, record: ExportTried) -> None:
        raise AssertionError("nor exports")

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        self.seen.append((name, value, facts))


async def test_the_hot_path_is_one_round_trip_each(link: SingleLink) -> None:
    """A known key costs nothing to identify; admit, renew and settle are one command each, on the wire."""
    world = RedisWorld(link)
    ledger = await opened(world)
    await ledger.identify("acme-digest")
    counted = world.link.commands
    assert await ledger.identify("acme-digest") is not None
    assert world.link.commands == counted
    await admitted(ledger, ask(concurrency=one_at_a_time()))
    assert world.link.commands == counted + 1
    await ledger.renew(Renewal(settlement=bill(), request=ask("call-1.1", concurrency=one_at_a_time())))
    assert world.link.commands == counted + 2
    await ledger.settle(bill("call-1.1"))
    assert world.link.commands == counted + 3


async def test_a_call_is_one_command_on_the_wire(redis_url: str, link: SingleLink) -> None:
    """What the server sees of admit and settle, once it has the scripts, is one EVALSHA each."""
    await opened(RedisWorld(link))
    async with CuttingRelay(redis_url) as relay:
        behind = SingleLink(LinkSettings(url=relay.url))
        await behind.open()
        world = RedisWorld(behind)
        ledger = world.ledger
        for call in ("a", "b"):
            relay.writes.clear()
            await admitted(ledger, ask(call))
            await ledger.settle(bill(call))
        assert relay.writes == [1, 1]
        await behind.close()


async def test_the_script_follows_a_quotas_use_as_the_core_does(link: SingleLink) -> None:
    """Five hundred stored windows at random: the quota that an admission shows is the one that the core finds."""
    world, chance = RedisWorld(link), random.Random(7)
    ledger = await opened(world)
    for number in range(500):
        least, grow_at = chance.choice([1, 4, 5, 100, 10**9]), chance.randint(1, 100)
        scaling = Scaling(
            grow_at_percent=grow_at,
            grow_percent=chance.choice([10, 50, chance.randint(1, 100)]),
            shrink_below_percent=chance.randint(0, grow_at),
            quota_max=chance.choice([least, 2 * least, 1_000 * least]),
        )
        rate = Rate(name="r", quota=least, window_seconds=chance.choice([1, 60]), scaling=scaling)
        quota = chance.randint(1, 3 * least)
        start_ms = world.now - chance.choice([-5, 0, 999, 1000, 60_000, 61_000, 180_000, 10**7])
        last = Window(start_ms=start_ms, count=chance.randint(0, quota - 1), quota=quota)
        await link.call("HSET", "gw:{acme}:account", "rate.r", f"{last.start_ms}:{last.count}:{last.quota}")
        wanted = window_at(rate, last, world.now)
        answer = await ledger.admit(ask(f"call-{number}", metered=False, rates=(rate,)))
        if wanted.count >= wanted.quota:
            assert isinstance(answer, Refused)
        else:
            (state,) = (await admitted(ledger, ask(f"call-{number}", metered=False, rates=(rate,)))).rates
            assert (state.rate.quota, state.remaining) == (wanted.quota, wanted.quota - wanted.count - 1), (rate, last)


async def test_another_process_learns_of_a_new_plan_from_admit(link: SingleLink) -> None:
    """The remembered plan is a hint: admit corrects it, and the next identify knows."""
    here, there = RedisWorld(link).ledger, RedisWorld(link).ledger
    await opened(RedisWorld(link))
    await here.identify("acme-digest")
    await there.change_account(operation="up", account="acme", plan=Plan(tier="payg"))
    identity = await here.identify("acme-digest")
    assert identity is not None
    assert identity.plan == FREE
    await here.admit(ask())
    identity = await here.identify("acme-digest")
    assert identity is not None
    assert identity.plan == Plan(tier="payg")


async def test_the_cache_of_identities_is_bounded_and_forgets_what_the_store_forgot(link: SingleLink) -> None:
    """At most so many are remembered; a key that the store does not know any more is looked up again."""
    ledger = RedisLedger(link, identities_max=2)
    for account in ("a", "b", "c"):
        await ledger.open_account(operation="o", account=account, plan=FREE)
        await ledger.put_key(operation="k", key=Key(id="k", account=account), digest=account)
        await ledger.identify(account)
    assert "identities=2 plans=2" in repr(ledger)
    await link.call("FLUSHALL")
    assert await ledger.identify("c") is not None
    assert (await refused(ledger, ask(account="c"))).code is Code.UNAUTHORIZED
    assert await ledger.identify("c") is None


async def test_leases_end_by_the_servers_own_clock(link: SingleLink) -> None:
    """With nothing but TIME, a hold of one second is over after one, and the observer is told."""
    events = Events()
    ledger = RedisLedger(link, observer=events)
    await ledger.open_account(operation="o", account="acme", plan=FREE, signup=usd(1))
    await ledger.put_key(operation="k", key=Key(id="acme-key", account="acme"), digest="d")
    await admitted(ledger, ask("a", estimate=usd(1), lease_seconds=1))
    assert (await refused(ledger, ask("b"))).code is Code.INSUFFICIENT_CREDIT
    await asyncio.sleep(1.05)
    await admitted(ledger, ask("b", estimate=usd(1)))
    assert events.seen == [("hold_expired", 1, {"product": "speech-to-text"})]
    assert (await ledger.settle(bill("a", usd(1)))).late


async def test_holds_that_end_by_time_are_told_by_product(link: SingleLink) -> None:
    """What one script ends of several products is told of each, and once."""
    events = Events()
    world = RedisWorld(link)
    world.ledger = RedisLedger(world.link, observer=events)
    ledger = await opened(world)
    for number, product in enumerate(("chat", "speech", "chat")):
        await admitted(ledger, ask(f"{number}", product=product))
    await world.advance(3600)
    assert (await ledger.sweep("acme")).holds == 3
    assert (await ledger.sweep("acme")).holds == 0
    assert sorted(events.seen) == [
        ("hold_expired", 1, {"product": "speech"}),
        ("hold_expired", 2, {"product": "chat"}),
    ]


async def test_the_order_of_accounts_is_made_good_by_a_walk(link: SingleLink) -> None:
    """Accounts that an older version opened, and an id whose opening was broken off, are in every page all the same or
    in none; after a walk over all of them the pages come from the order."""
    ledger = RedisLedger(link)
    for account in ("b", "a", "c", "d"):
        await ledger.open_account(operation="o", account=account, plan=FREE)
    await link.call("ZREM", "{gw:accounts}:order", "a", "c")
    await link.call("SADD", "gw:accounts", "broken")
    assert await ledger.accounts_after("", limit=3) == ["a", "b", "c"]
    assert await link.call("ZRANGE", "{gw:accounts}:order", 0, -1) == [b"a", b"b", b"broken", b"c", b"d"]
    assert await ledger.accounts_after("b", limit=3) == ["c", "d"]


async def test_one_process_does_a_work_for_all(link: SingleLink) -> None:
    """Who has the lease keeps it as long as he asks for it; when he does not, another gets it."""
    first, second = RedisLedger(link), RedisLedger(link)
    assert await first.lease_work(work="sweep", seconds=60)
    assert not await second.lease_work(work="sweep", seconds=60)
    assert await second.lease_work(work="other", seconds=60)
    assert await first.lease_work(work="sweep", seconds=0.05)
    while not await second.lease_work(work="sweep", seconds=60):
        pass
    assert not await first.lease_work(work="sweep", seconds=60)


async def test_what_was_done_before_its_reply_was_lost_is_answered_as_done(redis_url: str, link: SingleLink) -> None:
    """A release and a sweep that the link repeats say what their first time did; a second call says that it did not."""
    direct = RedisWorld(link)
    await opened(direct)
    for call in ("a", "b", "c"):
        await admitted(direct.ledger, ask(call, estimate=Nanos(5)))
    async with CuttingRelay(redis_url) as relay:
        behind = SingleLink(LinkSettings(url=relay.url))
        await behind.open()
        world = RedisWorld(behind)
        relay.drop_replies(2)
        assert await world.ledger.release(account="acme", hold_id="a")
        assert not await world.ledger.release(account="acme", hold_id="a")
        world.now += 60_000
        relay.drop_replies(2)
        assert await world.ledger.sweep("acme") == Swept(holds=2, held=Nanos(10))
        assert await world.ledger.sweep("acme") == Swept()
        assert relay.replies_to_drop == 0
        await behind.close()


async def test_a_link_that_is_down_is_an_unavailable_ledger(redis_url: str, link: SingleLink) -> None:
    """Every kind of call says LedgerUnavailable, tells the observer, and works again when the line does."""
    await opened(RedisWorld(link))
    events = Events()
    async with CuttingRelay(redis_url) as relay:
        behind = SingleLink(LinkSettings(url=relay.url, command_seconds_max=0.1, down_seconds=0.05))
        await behind.open()
        ledger = RedisLedger(behind, observer=events)
        relay.pause()
        for work in (ledger.identify("acme-digest"), ledger.admit(ask()), ledger.settle(bill()), ledger.ping()):
            with pytest.raises(LedgerUnavailable):
                await work
        relay.resume()
        assert events.seen[1] == ("ledger_error", 1, {"reason": "link_down", "operation": "admit"})
        for _ in range(100):
            try:
                await ledger.ping()
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.02)
        assert await ledger.identify("acme-digest") is not None
        await behind.close()


async def test_an_error_of_the_server_is_an_unavailable_ledger(link: SingleLink) -> None:
    """A settlement that the server cannot do is kept for later like one that it did not get."""
    world = RedisWorld(link)
    await opened(world)
    await link.call("DEL", "gw:{acme}:burn")
    await link.call("SET", "gw:{acme}:burn", "not a sorted set")
    with pytest.raises(LedgerUnavailable):
        await world.ledger.settle(bill())


async def test_a_key_whose_making_was_broken_off_is_finished_by_a_repeat(link: SingleLink) -> None:
    """Between the two writes the key can be listed but not used; the same operation again completes it."""
    world = RedisWorld(link)
    ledger = await opened(world)
    key = Key(id="k2", account="acme")
    made = await ledger.put_key(operation="k2", key=key, digest="d2")
    await link.call("DEL", "gw:key:d2")
    assert await RedisWorld(link).ledger.identify("d2") is None
    assert await ledger.put_key(operation="k2", key=key, digest="d2") == made
    assert await ledger.identify("d2") is not None


async def test_an_account_whose_opening_was_broken_off_is_not_listed(link: SingleLink) -> None:
    """Between the two writes its id is noted but it is no account; the same operation again completes it."""
    ledger = RedisWorld(link).ledger
    await link.call("SADD", "gw:accounts", "acme")
    assert [account async for account in ledger.accounts()] == []
    await ledger.open_account(operation="o", account="acme", plan=FREE)
    assert [account async for account in ledger.accounts()] == ["acme"]


FIFTY, TWO_HOLDS = 50_000_000_000, 200_000_000
PLANTED: list[tuple[str, list[tuple[str, int, int]]]] = [
    ("HINCRBY account balance 7", [("balance", FIFTY + 7, FIFTY), ("grants", FIFTY + 7, FIFTY)]),
    ("HINCRBY account held 7", [("held", TWO_HOLDS + 7, TWO_HOLDS)]),
    ("HINCRBY account debt 7", [("grants", FIFTY, FIFTY - 7)]),
    ("HINCRBY account open.jobs 1", [("open.jobs", 2, 1)]),
    ("HINCRBY account open.other 1", [("open.other", 1, 0)]),
    ("HINCRBY grants g00000001.left -5", [("grants", FIFTY, FIFTY - 5)]),
    ("HINCRBY key:acme-key held -1", [("key.acme-key.held", TWO_HOLDS - 1, TWO_HOLDS)]),
    ("HINCRBY key:acme-key spent 3", [("key.acme-key.spent", 3, 0)]),
    (
        "HDEL holds a",
        [
            ("held", TWO_HOLDS, TWO_HOLDS // 2),
            ("open.jobs", 1, 0),
            ("key.acme-key.held", TWO_HOLDS, TWO_HOLDS // 2),
            ("due", 2, 1),
        ],
    ),
    ("ZREM due h:a", [("due", 1, 2)]),
    ("ZADD due 5 h:x", [("due", 3, 2)]),
    ("DEL burn", [("burn", 0, 1)]),
    ("ZADD burn 5 9999999999999:x", [("burn", 2, 1)]),
]


@pytest.mark.parametrize(("command", "drifts"), PLANTED, ids=[command for command, _ in PLANTED])
async def test_verify_finds_what_was_changed_by_hand(
    link: SingleLink, command: str, drifts: list[tuple[str, int, int]]
) -> None:
    """Every number that could drift is recomputed, and each difference is named with both values."""
    ledger = await opened(RedisWorld(link))
    await admitted(ledger, ask("a", concurrency=one_at_a_time()))
    await admitted(ledger, ask("b"))
    assert await ledger.verify("acme") == []
    verb, key, *rest = command.split(" ")
    await link.call(verb, f"gw:{{acme}}:{key}", *rest)
    wanted = [Drift(account="acme", what=what, stored=stored, recomputed=real) for what, stored, real in drifts]
    assert await ledger.verify("acme") == wanted


async def test_verify_names_the_first_entry_that_is_wrong(link: SingleLink) -> None:
    """An entry that somebody took out shows in the balance, and in the running balance of the next one."""
    ledger = await opened(RedisWorld(link))
    for call in ("a", "b"):
        await ledger.settle(bill(call))
    _, first, second = await ledger.entries("acme")
    await link.call("XDEL", "gw:{acme}:ledger", first.id)
    drifts = {drift.what: (drift.stored, drift.recomputed) for drift in await ledger.verify("acme")}
    assert drifts["balance"] == (usd(49.8), usd(49.9))
    assert drifts[f"entry.{second.id}.balance"] == (usd(49.8), usd(49.9))
    assert drifts["key.acme-key.spent"] == (usd(0.2), usd(0.1))


async def test_verify_is_exact_under_traffic(link: SingleLink) -> None:
    """While calls are admitted and settled, every verification is of one moment: no drift is ever seen."""
    ledger = await opened(RedisWorld(link))

    async def customer(name: str) -> None:
        for turn in range(60):
            await admitted(ledger, ask(f"{name}-{turn}", concurrency=one_at_a_time(100)))
            await ledger.settle(bill(f"{name}-{turn}", 1000 + turn))

    async with asyncio.TaskGroup() as group:
        customers = [group.create_task(customer(name)) for name in "abcdefgh"]
        checks = 0
        while not all(task.done() for task in customers):
            assert await ledger.verify("acme") == []
            checks += 1
    assert checks > 5


@pytest.mark.parametrize("what", ["hold", "entry", "resource", "grant"])
async def test_records_of_another_version_are_not_guessed_at(link: SingleLink, what: str) -> None:
    """What a later version wrote is a fault to this one."""
    ledger = await opened(RedisWorld(link))
    await admitted(ledger, ask("a"))
    ref = ResourceRef(kind="upload", id="u")
    made = Resource(ref=ref, state="kept", product="p")
    await ledger.accept(account="acme", resource=made, deadline_seconds=0, keep_seconds=0)
    work: Any
    if what == "hold":
        await link.call("HSET", "gw:{acme}:holds", "a", "2\x1f1\x1fk")
        work = ledger.holds("acme")
    elif what == "grant":
        await link.call("HSET", "gw:{acme}:grants", "g00000001", "2\x1fx")
        work = ledger.account("acme")
    elif what == "entry":
        await link.call("XADD", "gw:{acme}:ledger", "*", "v", "2")
        work = ledger.entries("acme")
    else:
        await link.call("HSET", "gw:{acme}:res:upload:u", "v", "2")
        work = ledger.resource(account="acme", ref=ref)
    with pytest.raises(UnreadableRecord):
        await work


async def test_the_month_of_a_budget_is_the_stores(link: SingleLink) -> None:
    """By the server's own clock: what was spent in an older month does not count in this one."""
    ledger = RedisLedger(link)
    await ledger.open_account(operation="o", account="acme", plan=FREE, signup=usd(5))
    key = Key(id="acme-key", account="acme", monthly_budget=usd(1))
    await ledger.put_key(operation="k", key=key, digest="d")
    await ledger.settle(bill("a", usd(1)))
    assert (await refused(ledger, ask("b"))).code is Code.KEY_BUDGET_EXCEEDED
    await link.call("HSET", "gw:{acme}:key:acme-key", "month", "2020-02")
    assert (await ledger.keys("acme"))[0].spent == 0
    assert (await admitted(ledger, ask("b", estimate=usd(9)))).hold == usd(1)
    await ledger.settle(bill("b", usd(0.25)))
    assert (await ledger.keys("acme"))[0].spent == Nanos(usd(0.25))


async def test_keys_of_one_account_share_a_slot(link: SingleLink) -> None:
    """Every key but the two indexes, and the order of one, has the account's hash tag."""
    world = RedisWorld(link)
    ledger = await opened(world)
    await admitted(ledger, ask("a"))
    await ledger.settle(bill("a"))
    others = [name for name in await world.names() if "{acme}" not in name]
    assert others == ["gw:accounts", "gw:key:acme-digest", "{gw:accounts}:order"]
    assert hash_slot(others[2]) == hash_slot(others[0])
