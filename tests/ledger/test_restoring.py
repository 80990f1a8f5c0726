"""An account that is read and written back, on every kind of server: on a cluster its keys' digests are elsewhere."""

from collections.abc import AsyncIterator

import pytest

from gateway.core.errors import LedgerRefused, OperationConflict
from gateway.core.money import Nanos
from gateway.ports import Entry
from tests.ledger import ledgers
from tests.ledger.ledgers import DOLLAR, RedisWorld, World, admitted, ask, bill, opened, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures


async def test_an_account_is_written_back_and_repaired(world: World) -> None:
    """From its page of the export: balance, grants, usage and key are as before, and open holds are over. Then a number
    is made to differ, and to agree again.
    """
    if not isinstance(world, RedisWorld):
        pytest.skip("only a store can be lost")
    await opened(world, signup=usd(20))
    ledger = world.ledger
    await ledger.grant(operation="g", account="acme", kind="promotion", amount=usd(1), expires_ms=world.now + 10**9)
    await ledger.credit_payment(account="acme", provider="stripe", payment="pi_1", amount=usd(1))
    for call in "abc":
        await ledger.settle(bill(call, DOLLAR))
    before = await ledger.account("acme"), await ledger.usage("acme", since="2026-11-01", until="2026-12-01")
    await admitted(ledger, ask("open"))
    page = await ledger.exportable(sink="postgres", account="acme", limit=100, standing=True)
    assert page.standing is not None
    with pytest.raises(LedgerRefused):
        await ledger.begin_restore()
    for node in world.direct.nodes:
        await node.call("FLUSHALL")

    async def told() -> AsyncIterator[Entry]:
        for entry in page.entries:
            yield entry

    await ledger.begin_restore()
    done = await ledger.restore_account("acme", page.standing, told(), sink="postgres", sinks=[], forget_ms=0)
    again = await ledger.restore_account("acme", page.standing, told(), sink="postgres", sinks=[], forget_ms=0)
    await ledger.end_restore()
    assert done is not None
    assert (done.entries, done.balance, done.keys, again) == (6, usd(19), 1, None)
    assert (await ledger.account("acme"), await ledger.usage("acme", since="2026-11-01", until="2026-12-01")) == before
    assert await ledger.identify("acme-digest") is not None
    await opened(world, account="rival")
    with pytest.raises(OperationConflict):
        await ledger.credit_payment(account="rival", provider="stripe", payment="pi_1", amount=usd(1))
    await admitted(ledger, ask("next"))
    await ledger.settle(bill("next", DOLLAR))
    assert await ledger.verify("acme") == []

    await world.direct.call("HINCRBY", "gw:{acme}:account", "balance", 5)
    repair = await ledger.repair(operation="r", account="acme", trust="entries", data={"reason": "test"}, apply=True)
    assert (repair.balance, repair.amount) == (usd(18), Nanos(0))
    assert await ledger.verify("acme") == []
    with pytest.raises(LedgerRefused):
        await ledger.begin_restore()
