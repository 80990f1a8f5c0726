"""The contract of `ports.Ledger`: charges that are given back."""

import asyncio
from typing import Any

import pytest

from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ports import Ledger, Receipt
from tests.ledger import ledgers
from tests.ledger.ledgers import RedisWorld, World, bill, opened, sum_of_entries, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures

WHY = {"reason": "the audio was silence", "actor": "ops"}


async def charged(ledger: Ledger, dollars: float = 2) -> str:
    """The entry of a new charge."""
    return (await ledger.settle(bill("call-1", usd(dollars)))).entry_id


async def refund(ledger: Ledger, entry: str, amount: float | None, operation: str = "back", **more: Any) -> Receipt:
    """A refund of that charge."""
    values: dict[str, Any] = {"account": "acme", "data": WHY}
    given = None if amount is None else usd(amount)
    return await ledger.refund(operation=operation, entry_id=entry, amount=given, **values | more)


async def test_a_charge_comes_back_in_parts_and_never_twice(world: World) -> None:
    """Parts add up to the charge and not to a nano more; the rest is what was not named; the books agree."""
    ledger = await opened(world)
    entry = await charged(ledger)
    first = await refund(ledger, entry, 0.5)
    assert (first.charged, first.balance) == (-usd(0.5), usd(48.5))
    assert await refund(ledger, entry, 0.5) == first
    with pytest.raises(OperationConflict):
        await refund(ledger, entry, 0.25)
    with pytest.raises(LedgerRefused, match=r"1\.500000000"):
        await ledger.refund(operation="more", account="acme", entry_id=entry, amount=Nanos(usd(1.5) + 1), data=WHY)
    rest = await refund(ledger, entry, None, "rest")
    assert (rest.charged, rest.balance) == (-usd(1.5), usd(50))
    for amount in (None, 0.001):
        with pytest.raises(LedgerRefused, match=r" 0\.000000000"):
            await refund(ledger, entry, amount, "again")
    written = (await ledger.entries("acme"))[-1]
    assert (written.kind, written.id) == ("correction", rest.entry_id)
    said = {name: written.data[name] for name in ("refunds", "call_id", "key_id", "reason", "actor")}
    assert said == {"refunds": entry, "call_id": "call-1", "key_id": "acme-key", **WHY}
    (key,) = await ledger.keys("acme")
    assert key.spent == 0
    assert await sum_of_entries(ledger, "acme") == usd(50)
    assert await ledger.verify("acme") == []


async def test_racing_refunds_give_back_one_charge(world: World) -> None:
    """Of many refunds of the whole charge at once, by operations of their own, one is made."""
    ledger = await opened(world)
    entry = await charged(ledger)
    found = await asyncio.gather(
        *(refund(ledger, entry, 2, f"op-{number}") for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(one, Receipt) for one in found) == 1
    assert all(isinstance(one, Receipt | LedgerRefused) for one in found)
    assert (await ledger.account("acme")).balance == usd(50)


async def test_what_is_no_charge_is_not_given_back(world: World) -> None:
    """A grant's entry, an unknown one, what is no id, and amounts that are none; an account that is not there."""
    ledger = await opened(world)
    await charged(ledger)
    grant, charge = await ledger.entries("acme")
    for entry in (grant.id, "99999999999-0", "x", ""):
        with pytest.raises(LedgerRefused):
            await refund(ledger, entry, None)
    for amount in (Nanos(0), Nanos(-1), Nanos(BALANCE_MAX + 1)):
        with pytest.raises(LedgerRefused):
            await ledger.refund(operation="x", account="acme", entry_id=charge.id, amount=amount, data=WHY)
    with pytest.raises(UnknownAccount):
        await refund(ledger, charge.id, None, account="nobody")
    assert (await ledger.account("acme")).balance == usd(48)


async def test_verify_finds_what_was_given_back_beyond_a_charge_or_is_not_counted(world: World) -> None:
    """A counter that the entries do not explain, one that is lost, one above its charge."""
    if not isinstance(world, RedisWorld):
        pytest.skip("only a store can be wrong")
    ledger = await opened(world)
    entry = await charged(ledger)
    await refund(ledger, entry, 0.5)
    assert await ledger.verify("acme") == []
    for counted, wrong in (
        (usd(0.4), {"": (usd(0.4), usd(0.5))}),
        (usd(9), {"": (usd(9), usd(0.5)), ".most": (usd(9), usd(2))}),
    ):
        await world.direct.call("HSET", "gw:{acme}:refunds", entry, str(counted))
        found = {drift.what: (drift.stored, drift.recomputed) for drift in await ledger.verify("acme")}
        assert found == {f"refunded.{entry}{what}": amounts for what, amounts in wrong.items()}
    await world.direct.call("DEL", "gw:{acme}:refunds")
    with pytest.raises(LedgerRefused, match=r"1\.500000000"):  # the entries know it still
        await refund(ledger, entry, 2, "again")
    more = {"call_id": "call-1", "reason": "more"}
    await ledger.correct(operation="c", account="acme", key_id="acme-key", amount=Nanos(-usd(0.5)), data=more)
    await refund(ledger, entry, 2, "again")
    await world.direct.call("HSET", "gw:{acme}:refunds", entry, str(usd(2.5)))
    (drift,) = await ledger.verify("acme")
    assert (drift.what, drift.stored, drift.recomputed) == (f"refunded.{entry}.most", usd(2.5), usd(2))
