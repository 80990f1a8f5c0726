"""The contract of `ports.Ledger`: what an account has in place of its plan's is part of its plan."""

from dataclasses import replace

import pytest

from gateway.core.errors import LedgerRefused, OperationConflict
from gateway.ports import Plan, PlanChanged, Renewal, Renewed
from tests.ledger import ledgers
from tests.ledger.ledgers import FREE, World, admitted, ask, bill, opened, usd
from tests.ledger.test_queues import claim, take

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures
MORE = replace(FREE, overrides="jobs.concurrency=9\x1foverdraft=5")


async def test_overrides_are_laid_over_what_is_there(world: World) -> None:
    """What is named changes, the rest stays, tier and rate card too; None takes one away; a replay changes nothing."""
    ledger = await opened(world)
    change = {"jobs.concurrency": "9", "overdraft": "5"}
    account = await ledger.change_account(operation="1", account="acme", overrides=change)
    assert account.plan == MORE
    before = await world.dump()
    assert await ledger.change_account(operation="1", account="acme", overrides=change) == account
    assert await world.dump() == before
    with pytest.raises(OperationConflict):
        await ledger.change_account(operation="1", account="acme", overrides={"overdraft": "6"})
    account = await ledger.change_account(
        operation="2", account="acme", tier="payg", overrides={"jobs.concurrency": None, "requests": "1/2"}
    )
    assert account.plan == Plan(tier="payg", overrides="overdraft=5\x1frequests=1/2")
    account = await ledger.change_account(
        operation="3", account="acme", overrides={"overdraft": None, "requests": None, "none": None}
    )
    assert account.plan == Plan(tier="payg")
    assert await ledger.account("acme") == account


async def test_an_admission_by_other_overrides_is_told_them(world: World) -> None:
    """Also the renewal of a session: nothing is written until it is asked with the plan that the account has."""
    ledger = await opened(world)
    await admitted(ledger, ask("s", estimate=usd(1)))
    await ledger.change_account(operation="1", account="acme", overrides={"jobs.concurrency": "9", "overdraft": "5"})
    before = await world.dump()
    assert await ledger.admit(ask("a")) == PlanChanged(plan=MORE)
    renewal = Renewal(settlement=bill("s", usd(1)), request=ask("s.1", estimate=usd(1)))
    assert await ledger.renew(renewal) == PlanChanged(plan=MORE)
    assert await world.dump() == before
    await admitted(ledger, ask("a", plan=MORE))
    assert isinstance(await ledger.renew(replace(renewal, request=ask("s.1", plan=MORE))), Renewed)
    identity = await ledger.identify("acme-digest")
    assert identity is not None and identity.plan == MORE
    await ledger.change_account(operation="2", account="acme", overrides={"jobs.concurrency": None, "overdraft": None})
    assert await ledger.admit(ask("b", plan=MORE)) == PlanChanged(plan=FREE)


async def test_no_account_has_more_than_it_may(world: World) -> None:
    """What would be too long is refused whole, and changes nothing."""
    ledger = await opened(world)
    before = await world.dump()
    with pytest.raises(LedgerRefused):
        await ledger.change_account(
            operation="1", account="acme", status="suspended", overrides={f"p{n}.models": "m" * 100 for n in range(50)}
        )
    assert await world.dump() == before


@pytest.mark.parametrize(("places", "turns"), [("3", [b"c"]), ("none", [b"c", b"d", b"e"]), ("1", [])])
async def test_jobs_that_wait_have_the_accounts_own_places(world: World, places: str, turns: list[bytes]) -> None:
    """Two places by the plan are taken and three jobs wait: the account's own places decide whose turn it is."""
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d", "e")
    await ledger.change_account(
        operation="1", account="acme", overrides={"jobs.concurrency": places, "x.requests": "1/2"}
    )
    assert [turn.body for turn in await claim(world)] == turns
    await ledger.change_account(operation="2", account="acme", overrides={"jobs.concurrency": None})
    await ledger.settle(bill("a", usd(1)))
    await ledger.settle(bill("b", usd(1)))
    assert len(await claim(world)) == {"3": 1, "none": 0, "1": 2}[places]
    assert await ledger.verify("acme") == []
