"""The contract of `ports.Ledger`: volumes of a month, of which no two charges get the same part."""

import asyncio
from itertools import pairwise

import pytest

from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from tests.ledger import ledgers
from tests.ledger.ledgers import RedisWorld, World, admitted, ask, bill, opened, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures


async def test_each_charge_is_told_what_the_month_had_before(world: World) -> None:
    """By SKU; a replay gets the first answer and takes nothing, also after the charge; another month begins at zero."""
    ledger = await opened(world)
    await admitted(ledger, ask("one"))
    assert await ledger.take_volume(account="acme", hold_id="one", volumes={"a": 5, "b": 7}) == {"a": 0, "b": 0}
    await ledger.settle(bill("one", usd(1)))
    assert await ledger.take_volume(account="acme", hold_id="two", volumes={"b": 1}) == {"b": 7}
    before = await world.dump()
    assert await ledger.take_volume(account="acme", hold_id="one", volumes={"b": 7, "a": 5}) == {"a": 0, "b": 0}
    assert await world.dump() == before
    assert await ledger.volumes("acme", month="2026-11") == {"a": 5, "b": 8}
    await world.advance(10 * 86_400)
    assert await ledger.take_volume(account="acme", hold_id="three", volumes={"a": 1}) == {"a": 0}
    assert await ledger.volumes("acme", month="2026-12") == {"a": 1}


async def test_what_is_not_charged_takes_nothing(world: World) -> None:
    """Other volumes for a hold, a released hold, one that was settled without: a conflict, and nothing is written."""
    ledger = await opened(world)
    for hold_id in ("released", "settled"):
        await admitted(ledger, ask(hold_id))
    await ledger.release(account="acme", hold_id="released")
    await ledger.settle(bill("settled", usd(1)))
    await ledger.take_volume(account="acme", hold_id="taken", volumes={"a": 1})
    before = await world.dump()
    for hold_id, volume in (("released", 1), ("settled", 1), ("taken", 2)):
        with pytest.raises(OperationConflict):
            await ledger.take_volume(account="acme", hold_id=hold_id, volumes={"a": volume})
    for sku, volume in (("a", 0), ("a", -1), ("", 1), ("a", 10**17)):
        with pytest.raises(LedgerRefused):
            await ledger.take_volume(account="acme", hold_id="new", volumes={sku: volume})
    with pytest.raises(LedgerRefused):
        await ledger.volumes("acme", month="November")
    assert await world.dump() == before
    with pytest.raises(UnknownAccount):
        await ledger.take_volume(account="nobody", hold_id="x", volumes={"a": 1})
    with pytest.raises(UnknownAccount):
        await ledger.volumes("nobody", month="2026-11")


async def test_verify_finds_volumes_that_charges_took_and_are_not_there(world: World) -> None:
    """A counter below what the entries say was taken; what was taken for a charge that never came is no drift."""
    if not isinstance(world, RedisWorld):
        pytest.skip("only a store can be wrong")
    ledger = await opened(world)
    for hold, volume in (("a", 5), ("b", 7), ("never", 100)):
        await ledger.take_volume(account="acme", hold_id=hold, volumes={"sku": volume})
        if hold != "never":
            await ledger.settle(bill(hold, usd(1), volumes={"sku": volume}))
        await world.advance(5 * 86_400)
    assert await ledger.verify("acme") == []
    await world.direct.call("HINCRBY", "gw:{acme}:volume:2026-12", "sku", -101)
    (drift,) = await ledger.verify("acme")
    assert (drift.what, drift.stored, drift.recomputed) == ("volume.sku", 11, 12)


async def test_at_once_no_two_get_the_same_part(world: World) -> None:
    """Fifty charges at once lie end to end, beyond what a double counts exactly."""
    ledger = await opened(world)
    large = 10**16 - 1
    taken = await asyncio.gather(
        *(ledger.take_volume(account="acme", hold_id=f"c{n}", volumes={"a": large}) for n in range(50))
    )
    starts = sorted(each["a"] for each in taken)
    assert starts[0] == 0 and all(later - earlier == large for earlier, later in pairwise(starts))
    assert await ledger.volumes("acme", month="2026-11") == {"a": 50 * large}
