"""The leases of holds in service: one account's trouble is nobody else's."""

from gateway.pipeline.leases import Leases
from tests.ledger.ledgers import MemoryWorld, admitted, ask, opened
from tests.review.test_faults import Told


async def test_an_account_that_the_ledger_lost_holds_up_no_others_leases() -> None:
    """Ops accepted a ledger that lacks it while its call runs: its hold is lost, and the other's lives on."""
    world, told = MemoryWorld(), Told()
    ledger = await opened(world)
    await admitted(ledger, ask("kept"))
    leases = Leases(ledger=ledger, observer=told, lease_seconds=60)
    leases.add("lost", "gone", "llm-gateway")
    leases.add("kept", "acme", "llm-gateway")
    for _ in range(4):
        await world.advance(20)
        await leases.renew()
    assert [hold.id for hold in await ledger.holds("acme")] == ["kept"]
    assert (len(leases), told.events) == (1, ["hold_lost"])
