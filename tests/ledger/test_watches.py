"""The contract of `ports.Ledger`, part seven: watches. A crossing is one delivery, until it has recovered."""

import asyncio
from typing import Any

import pytest

from gateway.core.errors import LedgerRefused, UnknownAccount
from gateway.core.money import Nanos
from gateway.ledger import rules
from gateway.ledger.link import LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import GrantKind, Ledger, Renewal, Watch, WatchKind
from tests.ledger import ledgers
from tests.ledger.ledgers import DOLLAR, START_MS, RedisWorld, World, admitted, ask, bill, opened, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures
DAY = 86_400


def watching(kind: WatchKind = "balance_below", amount: int = 25 * DOLLAR, name: str = "low", **more: Any) -> Watch:
    return Watch(id=name, kind=kind, amount=amount, channel="alert", **more)


async def watched(world: World, *watches: Watch, signup: int = 50 * DOLLAR, **key: Any) -> Ledger:
    """An account that is watched."""
    ledger = await opened(world, signup, **key)
    for watch in watches or (watching(),):
        await ledger.put_watch(account="acme", watch=watch)
    return ledger


async def told(ledger: Ledger) -> list[tuple[str, str, str]]:
    """Id, subject and value of what was posted since the last time, which is delivered now."""
    found = await ledger.deliveries("acme")
    for delivery in found:
        await ledger.delivered(account="acme", delivery_id=delivery.id)
    return sorted((one.id, one.payload["subject"], one.payload["value"]) for one in found)


async def spend(ledger: Ledger, dollars: float, call: str = "call-1", **more: Any) -> None:
    """A charge, whose hold nobody took: it is made all the same."""
    await ledger.settle(bill(call, usd(dollars), **more))


async def give(ledger: Ledger, dollars: float, name: str = "g-1", kind: GrantKind = "purchase", **more: Any) -> None:
    await ledger.grant(operation=name, account="acme", kind=kind, amount=usd(dollars), **more)


async def correct(ledger: Ledger, dollars: float, name: str) -> None:
    await ledger.correct(operation=name, account="acme", key_id="acme-key", amount=usd(dollars), data={})


async def test_a_balance_that_crosses_is_told_once_until_it_recovers(world: World) -> None:
    """Everything about the crossing is in the delivery; more charges below say nothing; a grant that does not lift the
    balance enough does not re-arm, one that does is followed by the next crossing."""
    ledger = await watched(world)
    await spend(ledger, 25)
    assert await told(ledger) == []
    await spend(ledger, 1, "call-2")
    (posted,) = await ledger.deliveries("acme")
    assert (posted.id, posted.channel, posted.due_ms) == ("alert:low:1", "alert", START_MS)
    assert posted.payload == {
        "watch": "low", "kind": "balance_below", "amount": str(25 * DOLLAR), "subject": "", "value": str(24 * DOLLAR),
        "balance": str(24 * DOLLAR), "at": START_MS,
    }  # fmt: skip
    assert [watch.told for watch in await ledger.watches("acme")] == [("below",)]
    await told(ledger)
    await spend(ledger, 4, "call-3")
    await give(ledger, 3)
    await spend(ledger, 1, "call-4")
    assert await told(ledger) == []
    await give(ledger, 3, "g-2")
    assert [watch.told for watch in await ledger.watches("acme")] == [()]
    await spend(ledger, 0.5, "call-5")
    assert await told(ledger) == [("alert:low:2", "", str(usd(24.5)))]


async def test_every_way_down_is_found(world: World) -> None:
    """A correction that charges more, and credit that expires, cross like a charge; repeats say nothing more."""
    ledger = await watched(world, signup=24 * DOLLAR)
    await told(ledger)
    await give(ledger, 10, expires_ms=START_MS + 5000)
    await world.advance(6)
    await ledger.sweep("acme")
    assert [name for name, _, _ in await told(ledger)] == ["alert:low:2"]
    await give(ledger, 2, "g-2")
    for _ in range(2):
        await correct(ledger, -1.5, "more")
    assert [name for name, _, _ in await told(ledger)] == ["alert:low:3"]
    await give(ledger, 10, "g-3")
    for _ in range(2):
        await spend(ledger, 30)
    assert [name for name, _, _ in await told(ledger)] == ["alert:low:4"]
    made = await ledger.grant(operation="g-4", account="acme", kind="goodwill", amount=usd(100))
    await ledger.end_grant(operation="end", account="acme", grant_id=made.id, data={})
    assert [name for name, _, _ in await told(ledger)] == ["alert:low:5"]


async def test_what_a_session_gives_back_is_no_recovery(world: World) -> None:
    """Slices that are charged and corrected around the threshold do not flood; a correction well above it re-arms."""
    ledger = await watched(world)
    await spend(ledger, 25.2)
    assert len(await told(ledger)) == 1
    for number in range(5):
        await correct(ledger, 0.3, f"back-{number}")
        await spend(ledger, 0.3, f"slice-{number}")
    assert await told(ledger) == []
    await correct(ledger, 3, "refund")
    await spend(ledger, 3, "call-2")
    assert len(await told(ledger)) == 1


async def test_only_what_is_given_is_a_recovery(world: World) -> None:
    """A balance that a correction brought back above the threshold, but not well above, has not recovered when it is
    charged there, swept, or watched again, whatever else is watched."""
    ledger = await watched(world, watching(), watching("spent_day", 1000 * DOLLAR, "day"))
    await spend(ledger, 25.5)
    assert len(await told(ledger)) == 1
    await correct(ledger, 1, "back")
    await spend(ledger, 0.1, "call-2")
    await ledger.sweep("acme")
    await ledger.put_watch(account="acme", watch=watching())
    assert [watch.told for watch in await ledger.watches("acme")] == [(), ("below",)]
    await spend(ledger, 1, "call-3")
    assert await told(ledger) == []


async def test_a_watch_that_is_put_below_its_threshold_tells_at_once(world: World) -> None:
    """So does one with another amount; the same one again does not, with whatever data. A dropped one is silent, and
    put again it has a number of its own."""
    ledger = await watched(world, watching(amount=60 * DOLLAR))
    assert len(await told(ledger)) == 1
    kept = await ledger.put_watch(account="acme", watch=watching(amount=60 * DOLLAR, data={"to": ["x"]}))
    assert (kept.told, kept.data) == (("below",), {"to": ["x"]})
    assert await told(ledger) == []
    await ledger.put_watch(account="acme", watch=watching(amount=40 * DOLLAR))
    assert await told(ledger) == []
    for _ in range(2):
        await ledger.drop_watch(account="acme", watch_id="low")
    assert await ledger.watches("acme") == []
    await spend(ledger, 45)
    assert await told(ledger) == []
    await ledger.put_watch(account="acme", watch=watching())
    assert [name for name, _, _ in await told(ledger)] == ["alert:low:2"]


async def test_a_percentage_is_of_the_last_purchase(world: World) -> None:
    """Without a purchase there is nothing to tell; a new one moves the threshold, other grants do not."""
    ledger = await watched(world, watching("balance_below_percent", 20))
    await spend(ledger, 45)
    assert await told(ledger) == []
    await give(ledger, 100, kind="goodwill")
    await give(ledger, 50, "p-1")
    await spend(ledger, 145.5, "call-2")
    assert await told(ledger) == [("alert:low:1", "", str(usd(9.5)))]
    await give(ledger, 5, "p-2")
    await spend(ledger, 13, "call-3")
    assert await told(ledger) == []
    await spend(ledger, 0.6, "call-4")
    assert await told(ledger) == [("alert:low:2", "", str(usd(0.9)))]


async def test_each_grant_that_is_nearly_spent_is_told_once(world: World) -> None:
    """At the percentage, or in one charge through it and beyond; each grant for itself."""
    ledger = await watched(world, watching("grant_nearly_spent", 80), signup=10 * DOLLAR)
    await give(ledger, 10)
    await spend(ledger, 7.9)
    assert await told(ledger) == []
    await spend(ledger, 0.1, "call-2")
    assert await told(ledger) == [("alert:low:1", "g00000001", str(2 * DOLLAR))]
    await spend(ledger, 1, "call-3")
    assert await told(ledger) == []
    await spend(ledger, 12, "call-4")
    assert await told(ledger) == [("alert:low:2", "g00000002", "0")]
    assert [watch.told for watch in await ledger.watches("acme")] == [()]


async def test_a_grant_that_will_expire_is_told_by_a_sweep(world: World) -> None:
    """Once, so many days before, with what is left; grants that never expire are not."""
    ledger = await watched(world, watching("grant_expiring", 7))
    await give(ledger, 10, expires_ms=START_MS + 9 * DAY * 1000)
    await ledger.sweep("acme")
    assert await told(ledger) == []
    await world.advance(2 * DAY)
    for _ in range(2):
        await ledger.sweep("acme")
    assert await told(ledger) == [("alert:low:1", "g00000002", str(10 * DOLLAR))]
    await world.advance(8 * DAY)
    await give(ledger, 1, "g-2", expires_ms=world.now + DAY * 1000)
    await ledger.sweep("acme")
    assert await told(ledger) == [("alert:low:2", "g00000003", str(DOLLAR))]


async def test_what_is_spent_in_a_day_and_a_month_is_told_once_each(world: World) -> None:
    """What was spent before the watch was put counts; what was given back does not; another day begins anew."""
    ledger = await opened(world)
    await spend(ledger, 4)
    await correct(ledger, 1, "back")
    await ledger.put_watch(account="acme", watch=watching("spent_day", 5 * DOLLAR, "day"))
    await ledger.put_watch(account="acme", watch=watching("spent_month", 8 * DOLLAR, "month"))
    assert await told(ledger) == []
    await spend(ledger, 2, "call-2")
    await spend(ledger, 1, "call-3")
    assert await told(ledger) == [("alert:day:1", "2026-11-23", str(5 * DOLLAR))]
    await world.advance(DAY)
    await spend(ledger, 4, "call-4")
    assert await told(ledger) == [("alert:month:2", "2026-11", str(10 * DOLLAR))]
    await spend(ledger, 6, "call-5")
    assert await told(ledger) == [("alert:day:3", "2026-11-24", str(10 * DOLLAR))]
    await world.advance(10 * DAY)
    await spend(ledger, 9, "call-6")
    assert [name for name, _, _ in await told(ledger)] == ["alert:day:4", "alert:month:5"]
    await ledger.drop_watch(account="acme", watch_id="day")
    await ledger.put_watch(account="acme", watch=watching("spent_day", 9 * DOLLAR, "day"))
    assert await told(ledger) == [("alert:day:6", "2026-12-04", str(9 * DOLLAR))]


async def test_a_watch_that_begins_anew_tells_what_it_finds(world: World) -> None:
    """Below its threshold once more, however often; above it, it waits for the next fall, whatever had lifted it."""
    ledger = await watched(world)
    await spend(ledger, 26)
    for _ in range(2):
        await ledger.put_watch(account="acme", watch=watching(), anew=True)
    assert [name for name, _, _ in await told(ledger)] == ["alert:low:1", "alert:low:2", "alert:low:3"]
    await correct(ledger, 1.5, "back")
    await ledger.put_watch(account="acme", watch=watching(), anew=True)
    assert await told(ledger) == []
    await spend(ledger, 1, "call-2")
    assert [name for name, _, _ in await told(ledger)] == ["alert:low:4"]


async def test_a_payment_that_is_taken_back_is_not_spent(world: World) -> None:
    """A refund, and a dispute that is won, are neither spending nor its return, before the watch was put and after."""
    ledger = await opened(world)

    async def said(amount: int, source: str, *, final: bool = False) -> None:
        await ledger.reverse_payment(
            account="acme",
            provider="stripe",
            payment="pi_1",
            source=source,
            amount=usd(amount),
            final=final,
            why=source,
        )

    await ledger.credit_payment(account="acme", provider="stripe", payment="pi_1", amount=usd(40))
    await said(10, "refund")
    await ledger.put_watch(account="acme", watch=watching("spent_day", 5 * DOLLAR, "day"))
    await ledger.put_watch(account="acme", watch=watching("spent_month", 5 * DOLLAR, "month"))
    await said(20, "dispute")
    await spend(ledger, 4)
    assert await told(ledger) == []
    await said(0, "dispute", final=True)
    await spend(ledger, 1, "call-2")
    assert [value for _, _, value in await told(ledger)] == [str(5 * DOLLAR)] * 2


async def test_each_keys_budget_is_told_once_a_month(world: World) -> None:
    """At the percentage, whichever key; one without a budget never; another month begins anew."""
    watches = watching("key_budget", 80, "80"), watching("key_budget", 100, "100")
    ledger = await watched(world, *watches, monthly_budget=usd(10))
    await spend(ledger, 8)
    assert await told(ledger) == [("alert:80:1", "acme-key", str(8 * DOLLAR))]
    await spend(ledger, 1, "call-2")
    await spend(ledger, 5, "call-3", key_id="another")
    assert await told(ledger) == []
    await spend(ledger, 1, "call-4")
    assert await told(ledger) == [("alert:100:2", "acme-key", str(10 * DOLLAR))]
    await world.advance(20 * DAY)
    await spend(ledger, 9, "call-5")
    assert await told(ledger) == [("alert:80:3", "acme-key", str(9 * DOLLAR))]
    assert [watch.told for watch in await ledger.watches("acme")] == [("acme-key:2026-11",), ("acme-key:2026-12",)]


async def test_a_renewal_crosses_like_a_settlement(world: World) -> None:
    """A session's slice takes the balance below the threshold: told in that step."""
    ledger = await watched(world)
    await admitted(ledger, ask())
    await ledger.renew(Renewal(settlement=bill(amount=usd(26)), request=ask("call-1.1")))
    assert await told(ledger) == [("alert:low:1", "", str(24 * DOLLAR))]


async def test_an_event_is_found_by_nobody(world: World) -> None:
    """Its watch only says who is told; whoever learns of the event posts it."""
    ledger = await watched(world, watching("job_anomaly", 0), watching(name="v"))
    await spend(ledger, 60)
    await ledger.sweep("acme")
    assert [name for name, _, _ in await told(ledger)] == ["alert:v:1"]


async def test_what_cannot_be_watched_is_refused(world: World) -> None:
    """Kinds, amounts, names, data and the number of watches are bounded."""
    ledger = await opened(world)
    for wrong in (
        watching(name="a:b"),
        watching("balance_below", -1),
        watching("key_budget", 101),
        watching("anything"),  # type: ignore[arg-type]
        Watch(id="low", kind="balance_below", amount=1, channel="No"),
        watching(data={"x": "x" * rules.WATCH_BYTES_MAX}),
    ):
        with pytest.raises(LedgerRefused):
            await ledger.put_watch(account="acme", watch=wrong)
    for number in range(rules.WATCHES_MAX):
        await ledger.put_watch(account="acme", watch=watching(name=f"w{number:02}"))
    with pytest.raises(LedgerRefused, match="as many watches"):
        await ledger.put_watch(account="acme", watch=watching())
    await ledger.put_watch(account="acme", watch=watching(name="w00", amount=1))
    assert [watch.id for watch in await ledger.watches("acme")] == [f"w{n:02}" for n in range(rules.WATCHES_MAX)]
    for verb in (
        ledger.watches("nobody"),
        ledger.put_watch(account="nobody", watch=watching()),
        ledger.drop_watch(account="nobody", watch_id="low"),
    ):
        with pytest.raises(UnknownAccount):
            await verb


async def test_ten_thousand_debits_that_race_across_a_threshold_are_one_alert(redis_url: str) -> None:
    """Of two processes' ledgers at once: exactly one delivery, and one claim of it; another after the recovery."""
    links = [
        SingleLink(LinkSettings(url=redis_url, connect_seconds_max=10.0, command_seconds_max=10.0)) for _ in range(2)
    ]
    for link in links:
        await link.open()
    await links[0].call("FLUSHALL")
    one, two = (RedisLedger(link) for link in links)
    await opened(RedisWorld(links[0]))
    await one.put_watch(account="acme", watch=watching())
    for turn in range(2):
        for start in range(0, 10_000, 500):
            debits = [
                (one if number % 2 else two).settle(bill(f"{turn}-{number}", 4_000_000))
                for number in range(start, start + 500)
            ]
            await asyncio.gather(*debits)
        claims = await asyncio.gather(*(ledger.claim_deliveries(limit=9, lease_seconds=60) for ledger in (one, two)))
        assert [delivery.id for claimed in claims for delivery in claimed] == [f"alert:low:{turn + 1}"]
        await one.delivered(account="acme", delivery_id=f"alert:low:{turn + 1}")
        await one.grant(operation=f"up-{turn}", account="acme", kind="purchase", amount=Nanos(40 * DOLLAR))
    for link in links:
        await link.close()
