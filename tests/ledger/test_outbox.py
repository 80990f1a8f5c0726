"""The contract of `ports.Ledger`, part six: the outbox."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import LedgerRefused, UnknownAccount
from gateway.ledger import rules
from gateway.ports import Delivery, Lag, Ledger
from tests.ledger import ledgers
from tests.ledger.ledgers import START_MS, MemoryWorld, RedisWorld, World, opened

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures


async def posted(ledger: Ledger, name: str = "d-1", *, account: str = "acme", **more: Any) -> bool:
    """Whether a delivery is new."""
    terms: dict[str, Any] = {"channel": "alert", "payload": {"n": 1, "text": "\x1f ü"}}
    return await ledger.post(account=account, delivery_id=name, **terms | more)


async def claimed(ledger: Ledger, limit: int = 100) -> list[str]:
    """The ids of what is due, taken for a minute."""
    return sorted(delivery.id for delivery in await ledger.claim_deliveries(limit=limit, lease_seconds=60))


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


async def test_a_delivery_is_claimed_when_it_is_due(world: World) -> None:
    """Not before, with everything that was posted, by one only within the lease, and again after it."""
    ledger = await opened(world)
    assert await posted(ledger, seconds=10)
    assert await claimed(ledger) == []
    await world.advance(12)
    (found,) = await ledger.claim_deliveries(limit=5, lease_seconds=60)
    assert found == Delivery(
        account="acme", id="d-1", channel="alert", payload={"n": 1, "text": "\x1f ü"}, created_ms=START_MS,
        due_ms=START_MS + 10_000, now_ms=START_MS + 12_000,
    )  # fmt: skip
    await world.advance(59)
    assert await claimed(ledger) == []
    await world.advance(1)
    assert await claimed(ledger) == ["d-1"]


async def test_what_nobody_claims_is_in_the_backlog(world: World) -> None:
    """Once it is due, by account, since the time at which the first was; not while somebody has claimed it."""
    ledger = await opened(world)
    await opened(world, account="beta")
    await posted(ledger, seconds=10)
    await posted(ledger, "d-2", seconds=20)
    await posted(ledger, account="beta", seconds=15)
    assert (await ledger.backlog()).deliveries == Lag(accounts=0, since_ms=None, now_ms=START_MS)
    await world.advance(30)
    backlog = await ledger.backlog()
    assert backlog.deliveries == Lag(accounts=2, since_ms=START_MS + 10_000, now_ms=START_MS + 30_000)
    assert backlog.deliveries.seconds == 20
    assert (backlog.looks.accounts, backlog.looks.seconds) == (0, 0)
    await claimed(ledger)
    assert (await ledger.backlog()).deliveries.accounts == 0


async def test_what_is_delivered_is_gone_and_cannot_be_posted_again(world: World) -> None:
    """Nor delivered twice, put off, buried or revived."""
    ledger = await opened(world)
    await posted(ledger)
    for _ in range(2):
        await ledger.delivered(account="acme", delivery_id="d-1")
    await ledger.put_off(account="acme", delivery_id="d-1", seconds=0, why="late")
    await ledger.bury(account="acme", delivery_id="d-1", why="late")
    assert not await ledger.revive(account="acme", delivery_id="d-1")
    assert not await posted(ledger)
    assert await claimed(ledger) == []
    assert await ledger.delivery(account="acme", delivery_id="d-1") is None


async def test_the_same_delivery_again_can_only_hasten_its_first_attempt(world: World) -> None:
    """An earlier time counts, with what is said then, a later one not; nor does any once it was claimed or failed."""
    ledger = await opened(world)
    assert await posted(ledger, seconds=100)
    assert not await posted(ledger, seconds=10, payload={"n": 2})
    assert not await posted(ledger, seconds=50, payload={"n": 3})
    assert not await posted(ledger, seconds=10, payload={"n": 4})
    await world.advance(10)
    (found,) = await ledger.claim_deliveries(limit=5, lease_seconds=60)
    assert found.payload["n"] == 2
    assert not await posted(ledger)
    assert await claimed(ledger) == []
    await ledger.put_off(account="acme", delivery_id="d-1", seconds=20, why="busy")
    assert not await posted(ledger)
    assert await claimed(ledger) == []


async def test_an_attempt_that_failed_is_counted_and_told(world: World) -> None:
    """One that was none is not counted and keeps the reason; a reason is one short line."""
    ledger = await opened(world)
    await posted(ledger)
    await ledger.put_off(account="acme", delivery_id="d-1", seconds=5, why="answered\n500" + "!" * 500)
    await ledger.put_off(account="acme", delivery_id="d-1", seconds=5, attempted=False)
    (found,) = await ledger.deliveries("acme")
    assert (found.attempts, found.due_ms) == (1, START_MS + 5000)
    assert found.why == ("answered 500" + "!" * 500)[:200]
    await world.advance(5)
    assert await claimed(ledger) == ["d-1"]


async def test_a_dead_letter_is_kept_and_can_be_revived(world: World) -> None:
    """It is not delivered meanwhile; revived, it has all its attempts anew; buried again, it counts as before."""
    ledger = await opened(world)
    await posted(ledger)
    await ledger.put_off(account="acme", delivery_id="d-1", seconds=0, why="answered 500")
    for _ in range(2):
        await ledger.bury(account="acme", delivery_id="d-1", why="answered 410")
    assert await claimed(ledger) == []
    assert not await posted(ledger)
    assert await ledger.deliveries("acme") == []
    (found,) = await ledger.deliveries("acme", dead=True)
    assert (found.attempts, found.why, found.dead) == (2, "answered 410", True)
    assert found == await ledger.delivery(account="acme", delivery_id="d-1")
    assert await ledger.revive(account="acme", delivery_id="d-1")
    assert not await ledger.revive(account="acme", delivery_id="d-1")
    (again,) = await ledger.claim_deliveries(limit=5, lease_seconds=60)
    assert (again.attempts, again.why, again.dead, again.payload) == (0, "", False, found.payload)
    await ledger.bury(account="acme", delivery_id="d-1", why="answered 410")
    await ledger.delivered(account="acme", delivery_id="d-1")
    assert await ledger.deliveries("acme", dead=True) == []


async def test_dead_letters_are_bounded_in_time_and_number(world: World) -> None:
    """They are kept for a month, and the newest thousand of them."""
    ledger = await opened(world)
    await posted(ledger, "old")
    await ledger.bury(account="acme", delivery_id="old", why="gone")
    await world.advance(rules.DEAD_SECONDS - 1)
    await ledger.sweep("acme")
    assert ids(await ledger.deliveries("acme", dead=True)) == ["old"]
    await world.advance(1)
    await ledger.sweep("acme")
    assert await ledger.deliveries("acme", dead=True) == []
    for number in range(rules.DEAD_MAX + 3):
        await posted(ledger, f"d-{number:04}")
        await ledger.bury(account="acme", delivery_id=f"d-{number:04}", why="gone")
    kept = ids(await ledger.deliveries("acme", dead=True, limit=5000))
    assert kept == [f"d-{number:04}" for number in range(rules.DEAD_MAX + 2, 2, -1)]
    assert await posted(ledger, "d-0000")


async def test_a_delivery_too_many_is_a_dead_letter_at_once(world: World) -> None:
    """An account whose target is away for long does not fill the store; ops see what was not delivered. Alerts and
    payments have places of their own."""
    ledger = await opened(world)
    names = [f"w-{number}" for number in range(rules.WAITING_MAX)]
    if isinstance(world, RedisWorld):
        await world.direct.call("ZADD", "gw:{acme}:outbox", *[word for name in names for word in (world.now, name)])
    elif isinstance(world, MemoryWorld):
        await posted(ledger)
        (one,) = world.ledger._books["acme"].posts.kept.values()
        world.ledger._books["acme"].posts.kept = {name: replace(one, id=name) for name in names}
    assert await posted(ledger, "one-more", channel="webhook")
    assert not await posted(ledger, "one-more", channel="webhook")
    assert await posted(ledger, "autopay", channel="autopay")
    (dead,) = await ledger.deliveries("acme", dead=True)
    assert (dead.id, dead.why) == ("one-more", "too many deliveries wait")


async def test_a_claim_takes_so_many_and_leaves_the_rest_to_others(world: World) -> None:
    """Ten deliveries of two accounts, taken four at a time: each once. An account of none says nothing."""
    ledger = await opened(world)
    await opened(world, account="rival")
    await opened(world, account="quiet")
    for number in range(10):
        await posted(ledger, f"d-{number}", account="rival" if number % 2 else "acme", seconds=number / 10)
    await world.advance(1)
    taken = [await claimed(ledger, limit=4) for _ in range(5)]
    assert all(len(part) <= 4 for part in taken)
    assert sorted(name for part in taken for name in part) == [f"d-{number}" for number in range(10)]
    assert ids(await ledger.deliveries("acme", limit=2)) == ["d-0", "d-2"]
    await world.advance(61)
    few = await ledger.claim_deliveries(limit=9, lease_seconds=60, account_max=2, busy=["rival"])
    assert ids(few) == ["d-0", "d-2"]


async def test_an_account_lost_from_the_index_comes_back_with_its_sweep(world: World) -> None:
    """A visitor that dies between taking an account and putting it back delays its deliveries, and loses none."""
    ledger = await opened(world)
    await posted(ledger)
    if isinstance(world, RedisWorld):
        await world.direct.call("DEL", "gw:outbox")
        assert await claimed(ledger) == []
    await ledger.sweep("acme")
    assert await claimed(ledger) == ["d-1"]


async def test_what_cannot_be_a_delivery_is_refused(world: World) -> None:
    """Its id, channel, size and delay are bounded."""
    ledger = await opened(world)
    for wrong in (
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 257},
        {"channel": "A"},
        {"payload": {"text": "x" * rules.PAYLOAD_BYTES_MAX}},
        {"seconds": -1.0},
        {"seconds": 1e9},
    ):
        with pytest.raises(LedgerRefused):
            await posted(ledger, **wrong)
    assert await ledger.deliveries("acme") == []


async def test_unknown_accounts_have_no_deliveries(world: World) -> None:
    """Their verbs say so."""
    ledger, its = world.ledger, {"account": "nobody", "delivery_id": "d"}
    for verb in (
        posted(ledger, account="nobody"),
        ledger.delivered(**its),
        ledger.put_off(account="nobody", delivery_id="d", seconds=1),
        ledger.bury(**its, why="x"),
        ledger.revive(**its),
        ledger.deliveries("nobody"),
        ledger.delivery(**its),
    ):
        with pytest.raises(UnknownAccount):
            await verb
