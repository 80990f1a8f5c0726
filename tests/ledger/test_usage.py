"""What was charged, by day, product and key: counted with the charge, told for any days, and proven by the entries."""

import pytest

from gateway.core.errors import LedgerRefused, UnknownAccount
from gateway.ports import Key, Ledger, Renewal, UsageDay
from tests.ledger import ledgers
from tests.ledger.ledgers import RedisWorld, World, admitted, ask, bill, opened, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures
DAY = 86_400
FIRST, NEXT, AFTER = "2026-11-23", "2026-11-24", "2026-11-25"  # the clock begins at noon of the first


async def told(
    ledger: Ledger, since: str = "2026-01-01", until: str = "2027-01-02"
) -> list[tuple[str, str, str, int, int]]:
    """Usage as tuples."""
    found = await ledger.usage("acme", since=since, until=until)
    return [(day.day, day.product, day.key_id, day.calls, day.charged) for day in found]


async def test_charges_are_counted_by_day_product_and_key(world: World) -> None:
    """Whatever ends a hold by a charge counts once, on the day of the store's clock; a repeat counts nothing."""
    ledger = await opened(world)
    await ledger.put_key(operation="k2", key=Key(id="other", account="acme"), digest="d2")
    for _ in range(2):
        await ledger.settle(bill("a", usd(1)))
    await ledger.settle(bill("b", usd(2)))
    await ledger.settle(bill("c", usd(3), key_id="other"))
    await ledger.settle(bill("d", 0, product="guardrails"))
    await world.advance(DAY)
    await admitted(ledger, ask("e", estimate=usd(5)))
    await ledger.renew(Renewal(settlement=bill("e", usd(4)), request=ask("f", estimate=usd(1))))
    await ledger.release(account="acme", hold_id="f")
    assert await told(ledger) == [
        (FIRST, "guardrails", "acme-key", 1, 0),
        (FIRST, "speech-to-text", "acme-key", 2, usd(3)),
        (FIRST, "speech-to-text", "other", 1, usd(3)),
        (NEXT, "speech-to-text", "acme-key", 1, usd(4)),
    ]
    assert await ledger.verify("acme") == []


async def test_a_session_is_one_call(world: World) -> None:
    """Its slices add up, it counts once, on the day of its first slice; a repeat of a slice counts nothing."""
    ledger = await opened(world)
    await admitted(ledger, ask("s", estimate=usd(1)))
    for number, (used, next_) in enumerate([("s", "s.1"), ("s.1", "s.2")]):
        slice_ = bill(used, usd(1), call_id="s")
        for _ in range(2):
            await ledger.renew(Renewal(settlement=slice_, request=ask(next_, estimate=usd(1))))
        await world.advance(number * DAY)
    await ledger.settle(bill("s.2", usd(2), call_id="s"))
    assert await told(ledger) == [
        (FIRST, "speech-to-text", "acme-key", 1, usd(2)),
        (NEXT, "speech-to-text", "acme-key", 0, usd(2)),
    ]
    assert await ledger.verify("acme") == []


async def test_corrections_are_lines_of_their_own(world: World) -> None:
    """What comes back and what is charged more is told beside the charges, under no product; of no key it is not."""
    ledger = await opened(world)
    await ledger.settle(bill("a", usd(2)))
    for operation, key_id, amount in [("1", "acme-key", usd(0.5)), ("2", "acme-key", -usd(0.25)), ("3", "", usd(1))]:
        await ledger.correct(operation=operation, account="acme", key_id=key_id, amount=amount, data={})  # type: ignore[arg-type]
    assert await told(ledger) == [
        (FIRST, "", "acme-key", 0, -usd(0.25)),
        (FIRST, "speech-to-text", "acme-key", 1, usd(2)),
    ]
    assert await ledger.verify("acme") == []


async def test_days_are_cut_as_asked(world: World) -> None:
    """From the first day on, without the last; over months; nothing where there is nothing."""
    ledger = await opened(world, signup=usd(1000))
    for number in range(40):
        await ledger.settle(bill(f"call-{number}", usd(1)))
        await world.advance(DAY)
    assert len(await told(ledger)) == 40
    assert [day[0] for day in await told(ledger, NEXT, AFTER)] == [NEXT]
    assert len(await told(ledger, "2026-11-30", "2026-12-03")) == 3
    assert await told(ledger, AFTER, NEXT) == await told(ledger, "2025-12-01", FIRST) == []
    assert await ledger.verify("acme") == []


async def test_what_cannot_be_asked(world: World) -> None:
    """No days, too many of them, no account."""
    ledger = await opened(world)
    for since, until in [("yesterday", NEXT), (FIRST, ""), ("2026-02-30", NEXT), ("2020-01-01", NEXT)]:
        with pytest.raises(LedgerRefused):
            await ledger.usage("acme", since=since, until=until)
    with pytest.raises(UnknownAccount):
        await ledger.usage("nobody", since=FIRST, until=NEXT)
    assert await ledger.usage("acme", since=FIRST, until=NEXT) == []


async def test_verify_finds_usage_that_the_entries_do_not_explain(world: World) -> None:
    """A counter that was changed, from the second day on that is counted."""
    if not isinstance(world, RedisWorld):
        pytest.skip("only a store can be wrong")
    ledger = await opened(world)
    for hold in "ab":
        await ledger.settle(bill(hold, usd(1)))
        await world.advance(DAY)
    line = "24\x1fspeech-to-text\x1facme-key"
    await world.direct.call("HINCRBY", "gw:{acme}:usage:2026-11", line, 5)
    (drift,) = await ledger.verify("acme")
    assert (drift.what, drift.stored, drift.recomputed) == (
        "usage.2026-11-24/speech-to-text/acme-key", usd(1) + 5, usd(1),
    )  # fmt: skip


async def test_a_month_is_forgotten_at_last(world: World) -> None:
    """It is kept for 400 days after its last new line."""
    if not isinstance(world, RedisWorld):
        pytest.skip("memory forgets nothing")
    ledger = await opened(world)
    await ledger.settle(bill("a", usd(1)))
    left = await world.direct.call("TTL", "gw:{acme}:usage:2026-11")
    assert isinstance(left, int)
    assert 400 * DAY - 60 <= left <= 400 * DAY
    assert isinstance((await ledger.usage("acme", since=FIRST, until=NEXT))[0], UsageDay)
