"""Holds that are charged if nobody ends them: what was told of one counts, also where the ledger was away meanwhile."""

from pathlib import Path

from gateway.ledger.spool import Spool
from gateway.pipeline.books import Books
from gateway.pipeline.unsettled import UNSETTLED, Notes, UnsettledCourier
from gateway.workers.outbox import Outbox
from tests.ledger.ledgers import World, admitted, ask, bill, opened, usd
from tests.ledger.test_one_account import Time
from tests.pipeline.helpers import until
from tests.pipeline.test_volume_steps import Leaving
from tests.review.test_faults import Told


async def test_what_waits_in_a_spool_comes_before_the_charge_of_a_hold(tmp_path: Path) -> None:
    """The ledger is back after the ends of two holds: what was settled costs what was told, the other what was held."""
    world, told = World("memory"), Told()
    world.ledger = ledger = Leaving(lambda: world.now)
    await opened(world)
    spool = Spool(tmp_path, bytes_max=100_000)
    spool.open("one")
    books = Books(ledger=ledger, spool=spool, observer=told, clock=Time(), operation_seconds=1000)
    couriers = {UNSETTLED: UnsettledCourier(ledger=ledger, observer=told)}
    outbox = Outbox(ledger=ledger, couriers=couriers, observer=told, clock=Time())

    async def idle() -> bool:
        return not len(outbox)

    for name in ("settled", "left"):
        await admitted(ledger, ask(name, lease_seconds=10))
        await Notes(ledger).post(bill(name, usd(0.1)), 10)
    ledger.away = True
    assert await books.settle(bill("settled", usd(0.02))) == "spooled"
    await world.advance(300)
    ledger.away = False
    await outbox.round()
    assert await until(idle)
    assert await books.replay() == (1, 0)
    await world.advance(60)
    await outbox.round()
    assert await until(idle)
    charged = {entry.operation: -entry.amount for entry in (await ledger.entries("acme"))[1:]}
    assert charged == {"settled": usd(0.02), "left": usd(0.1)}
    assert await ledger.deliveries("acme") == []
    assert told.events.count("unsettled_charged") == 1
    spool.close()
