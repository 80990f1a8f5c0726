"""The contract of `ports.Ledger`, part four: sessions, which are paid for slice by slice, and what may be used once."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import Code, OperationConflict, Refused, UnknownAccount
from gateway.core.money import Nanos
from gateway.ports import Admitted, Ledger, Plan, PlanChanged, Renewal, Renewed, Resource, ResourceRef
from tests.ledger import ledgers
from tests.ledger.ledgers import (
    START_MS,
    World,
    admitted,
    ask,
    bill,
    one_at_a_time,
    opened,
    refused,
    sum_of_entries,
    usd,
)

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures

PAID = Plan(tier="payg")


def slice_of(number: int, amount: int = usd(0.1), *, used: dict[str, Any] | None = None, **next_: Any) -> Renewal:
    """The renewal that charges slice `number` of the session `call-1` and asks for the next one."""
    return Renewal(settlement=bill(name(number), amount, **used or {}), request=ask(name(number + 1), **next_))


def name(number: int) -> str:
    return f"call-1.{number}" if number else "call-1"


async def renewed(ledger: Ledger, renewal: Renewal) -> Renewed:
    """The answer of a renewal whose plan is right."""
    answer = await ledger.renew(renewal)
    assert isinstance(answer, Renewed), answer
    return answer


async def test_a_renewal_charges_the_slice_used_and_holds_the_next(world: World) -> None:
    """One step: the entry of the used slice, its hold gone, the next one open, and what is available then."""
    ledger = await opened(world, signup=usd(1))
    await admitted(ledger, ask(estimate=usd(0.25)))
    answer = await renewed(ledger, slice_of(0, usd(0.2), estimate=usd(0.25)))
    assert (answer.hold, answer.available, answer.refused) == (usd(0.25), usd(0.55), None)
    receipt = answer.receipt
    assert (receipt.charged, receipt.balance, receipt.late) == (usd(0.2), usd(0.8), False)
    (hold,) = await ledger.holds("acme")
    assert (hold.id, hold.amount, hold.expires_ms) == ("call-1.1", usd(0.25), START_MS + 60_000)
    entry = (await ledger.entries("acme"))[-1]
    assert (entry.id, entry.operation, entry.amount) == (receipt.entry_id, "call-1", -usd(0.2))
    assert await ledger.verify("acme") == []


async def test_a_session_runs_until_its_credit_is_gone(world: World) -> None:
    """Slice by slice, the last hold is what is left, and the renewal after it is refused; nothing is overspent."""
    ledger = await opened(world, signup=usd(0.25))
    held = [(await admitted(ledger, ask())).hold]
    while True:
        answer = await renewed(ledger, slice_of(len(held) - 1, held[-1]))
        if answer.refused is not None:
            break
        held.append(answer.hold)
    assert held == [usd(0.1), usd(0.1), usd(0.05)]
    assert answer.refused == Refused(code=Code.INSUFFICIENT_CREDIT)
    assert (answer.hold, answer.available, answer.receipt.balance) == (0, 0, 0)
    assert await ledger.holds("acme") == []
    assert await sum_of_entries(ledger) == 0


async def test_slices_leave_no_room_for_overspending(world: World) -> None:
    """Fifty sessions at once on credit for ten slices: ten run, and each renewal finds only what the others left."""
    ledger = await opened(world, signup=usd(1))
    calls = [f"s{number}" for number in range(50)]
    answers = await asyncio.gather(*(ledger.admit(ask(call)) for call in calls))
    running = [call for call, answer in zip(calls, answers, strict=True) if isinstance(answer, Admitted)]
    assert len(running) == 10
    renewals = [Renewal(settlement=bill(call), request=ask(f"{call}.1")) for call in running]
    over = [await renewed(ledger, renewal) for renewal in renewals]
    assert all(answer.refused is not None for answer in over)
    assert (await ledger.account("acme")).balance == 0


@pytest.mark.parametrize("then", ["nothing", "settled", "released", "expired", "more credit"])
async def test_a_repeated_renewal_gets_the_first_answer(world: World, then: str) -> None:
    """Whatever has become of the next hold since, the same renewal changes nothing and answers the same."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    first = await renewed(ledger, slice_of(0))
    if then == "settled":
        await ledger.settle(bill("call-1.1"))
    elif then == "released":
        await ledger.release(account="acme", hold_id="call-1.1")
    elif then == "expired":
        await world.advance(61)
        await ledger.sweep("acme")
    elif then == "more credit":
        await ledger.grant(operation="more", account="acme", kind="purchase", amount=usd(1))
    before = await world.dump()
    again = await renewed(ledger, slice_of(0))
    assert (first.receipt.repeated, again.receipt.repeated, again) == (False, True, first)
    assert await world.dump() == before


async def test_a_repeated_refusal_is_the_first_one(world: World) -> None:
    """A renewal that was refused stays so, though there is credit by now; the next hold may be asked for by admit."""
    ledger = await opened(world, signup=usd(0.1))
    await admitted(ledger, ask())
    first = await renewed(ledger, slice_of(0))
    assert first.refused == Refused(code=Code.INSUFFICIENT_CREDIT)
    await ledger.grant(operation="more", account="acme", kind="purchase", amount=usd(1))
    assert await renewed(ledger, slice_of(0)) == first
    request = slice_of(0).request
    answer = await admitted(ledger, request)
    assert (answer.hold, await admitted(ledger, request)) == (usd(0.1), answer)
    assert await renewed(ledger, slice_of(0)) == first
    assert (await renewed(ledger, slice_of(1))).hold == usd(0.1)


async def test_the_same_renewal_with_other_content_is_a_conflict(world: World) -> None:
    """Another charge, another estimate, another next hold: an error, and nothing changes."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    await renewed(ledger, slice_of(0))
    before = await world.dump()
    right = slice_of(0)
    for wrong in (slice_of(0, 7), slice_of(0, estimate=usd(3)), replace(right, request=ask("call-1.2"))):
        with pytest.raises(OperationConflict):
            await ledger.renew(wrong)
    assert await world.dump() == before


@pytest.mark.parametrize("use", ["open", "settled", "released", "expired", "free"])
async def test_the_next_hold_is_a_new_one(world: World, use: str) -> None:
    """An id that another call has, or had, is a conflict: neither charge nor hold is written."""
    ledger = await opened(world)
    await admitted(ledger, ask(lease_seconds=900))
    if use == "free":
        await admitted(ledger, ask("call-1.1", metered=False, rates=(ledgers.RATE,)))
    else:
        await admitted(ledger, ask("call-1.1"))
    if use == "settled":
        await ledger.settle(bill("call-1.1"))
    elif use == "released":
        await ledger.release(account="acme", hold_id="call-1.1")
    elif use == "expired":
        await world.advance(60)
        await ledger.sweep("acme")
    before = await world.dump()
    with pytest.raises(OperationConflict):
        await ledger.renew(slice_of(0))
    assert await world.dump() == before


async def test_a_slice_that_was_released_cannot_be_renewed(world: World) -> None:
    """Given back is given back."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    await ledger.release(account="acme", hold_id="call-1")
    before = await world.dump()
    with pytest.raises(OperationConflict):
        await ledger.renew(slice_of(0))
    assert await world.dump() == before


async def test_a_changed_plan_is_told_and_nothing_written(world: World) -> None:
    """Not even the charge: the renewal is made again with the plan in force."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    await ledger.change_account(operation="up", account="acme", plan=PAID)
    before = await world.dump()
    assert await ledger.renew(slice_of(0)) == PlanChanged(plan=PAID)
    assert await world.dump() == before
    assert (await renewed(ledger, slice_of(0, plan=PAID))).hold == usd(0.1)


async def test_the_guards_of_a_renewal_refuse_in_their_order(world: World) -> None:
    """Each of guards 1 to 5 ends a session at its next renewal, and the slice used is charged in any case."""
    ledger = await opened(world, signup=usd(0.9), products=("other",), monthly_budget=usd(0.5), disabled=True)
    await ledger.change_account(operation="suspend", account="acme", status="suspended")

    async def refuses(number: int, code: Code, **request: Any) -> None:
        before = (await ledger.account("acme")).balance
        answer = await renewed(ledger, slice_of(number, **request))
        assert answer.refused is not None
        assert (answer.refused.code, answer.hold) == (code, 0)
        assert answer.receipt.balance == before - usd(0.1)

    async def changed(operation: str, **changes: Any) -> None:
        await ledger.change_key(operation=operation, account="acme", key_id="acme-key", changes=changes)

    nobody: dict[str, Any] = {"key_id": "nobody"}
    await refuses(0, Code.UNAUTHORIZED, used=nobody, **nobody, plan=PAID, entitled=False)
    await refuses(1, Code.KEY_DISABLED, entitled=False)
    await changed("enable", disabled=False)
    await refuses(2, Code.ACCOUNT_SUSPENDED, entitled=False)
    await ledger.change_account(operation="resume", account="acme", status="active")
    await refuses(3, Code.NOT_ENTITLED, entitled=False)
    await refuses(4, Code.NOT_ENTITLED)
    await changed("products", products=None)
    await refuses(5, Code.INSUFFICIENT_CREDIT, covers_estimate=True, estimate=usd(1))
    await refuses(6, Code.KEY_BUDGET_EXCEEDED)
    await changed("budget", monthly_budget=None)
    await refuses(7, Code.TOO_MANY_CONCURRENT, concurrency=one_at_a_time(0))
    assert (await renewed(ledger, slice_of(8, usd(0.05)))).hold == usd(0.05)
    assert await ledger.verify("acme") == []


async def test_the_place_in_its_class_passes_from_slice_to_slice(world: World) -> None:
    """A session that runs keeps its place, even when the limit has sunk below those that run; no other takes it."""
    ledger = await opened(world)
    await admitted(ledger, ask(concurrency=one_at_a_time(1)))
    assert (await renewed(ledger, slice_of(0, concurrency=one_at_a_time(1)))).hold == usd(0.1)
    await refused(ledger, ask("other", concurrency=one_at_a_time(1)))
    assert (await renewed(ledger, slice_of(1, concurrency=one_at_a_time(0)))).refused is None
    moved = await renewed(ledger, slice_of(2, concurrency=one_at_a_time(0, "other")))
    assert moved.refused == Refused(code=Code.TOO_MANY_CONCURRENT, details={"limit": "0"}, retry_after_seconds=1)
    assert (await ledger.account("acme")).open_holds == 0
    assert await ledger.verify("acme") == []


@pytest.mark.parametrize("crowd", [0, 1])
async def test_an_expired_slice_is_charged_late_and_has_lost_its_place(world: World, crowd: int) -> None:
    """A process that was away too long pays late; its session goes on only if there is room."""
    ledger = await opened(world)
    await admitted(ledger, ask(concurrency=one_at_a_time(1)))
    await world.advance(61)
    for number in range(crowd):
        await admitted(ledger, ask(f"other-{number}", concurrency=one_at_a_time(1)))
    answer = await renewed(ledger, slice_of(0, concurrency=one_at_a_time(1)))
    assert (answer.receipt.late, answer.receipt.charged) == (True, usd(0.1))
    assert (answer.refused is not None) == bool(crowd)
    assert await ledger.verify("acme") == []


async def test_a_charge_that_was_settled_before_is_not_made_again(world: World) -> None:
    """After a plain settlement of the same slice the renewal has its receipt, and judges the next hold by itself."""
    ledger = await opened(world)
    await admitted(ledger, ask(concurrency=one_at_a_time(1)))
    receipt = await ledger.settle(bill())
    answer = await renewed(ledger, slice_of(0, concurrency=one_at_a_time(1)))
    assert (answer.receipt, answer.hold, answer.available) == (receipt, usd(0.1), usd(49.8))
    assert answer.receipt.repeated
    assert await renewed(ledger, slice_of(0, concurrency=one_at_a_time(1))) == answer
    assert await sum_of_entries(ledger) == usd(49.9)


async def test_a_settlement_after_its_renewal_gets_the_renewals_receipt(world: World) -> None:
    """A spool that replays what a renewal has charged changes nothing; another charge is a conflict."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    answer = await renewed(ledger, slice_of(0))
    before = await world.dump()
    assert await ledger.settle(bill()) == answer.receipt
    with pytest.raises(OperationConflict):
        await ledger.settle(bill("call-1", 7))
    assert not await ledger.release(account="acme", hold_id="call-1")
    assert await world.dump() == before


async def test_the_last_slice_marks_the_session(world: World) -> None:
    """A renewal carries the session's record along as a settlement does."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    ref = ResourceRef(kind="session", id="s-1")
    session = Resource(ref=ref, state="open", product="streaming", hold="call-1")
    await ledger.accept(account="acme", resource=session, deadline_seconds=60, keep_seconds=0)
    await ledger.renew(slice_of(0, used={"resource": ref, "resource_usage": {"seconds": 3}}))
    record = await ledger.resource(account="acme", ref=ref)
    assert record is not None
    assert (record.state, record.usage) == ("settled", {"seconds": 3})


async def test_an_account_that_is_not_there_has_no_sessions(world: World) -> None:
    """Neither is renewed nor used once; nothing is made."""
    before = await world.dump()
    with pytest.raises(UnknownAccount):
        await world.ledger.renew(slice_of(0))
    with pytest.raises(UnknownAccount):
        await world.ledger.use_once(account="acme", name="t", by="call-1", seconds=60)
    with pytest.raises(UnknownAccount):
        await world.ledger.used(account="acme", name="t")
    assert await world.dump() == before


async def test_a_name_is_used_by_one_only(world: World) -> None:
    """The first user may say so again; others may not until it is forgotten; each account has names of its own."""
    ledger = await opened(world)
    await opened(world, account="rival")

    async def use(by: str, account: str = "acme") -> bool:
        return await ledger.use_once(account=account, name="token", by=by, seconds=60)

    assert not await ledger.used(account="acme", name="token")
    assert await use("call-1")
    await world.advance(59)
    assert await ledger.used(account="acme", name="token")
    assert await use("call-1")
    assert not await use("call-2")
    assert await use("call-2", "rival")
    await world.advance(1)
    assert not await ledger.used(account="acme", name="token")
    assert await use("call-2")
    assert not await use("call-1")


async def test_a_name_that_was_used_for_nothing_is_given_back(world: World) -> None:
    """By its user, as often as it likes; by no other one, and not in another account's name."""
    ledger = await opened(world)
    await opened(world, account="rival")
    assert await ledger.use_once(account="acme", name="n", by="one", seconds=60)
    await ledger.unuse(account="acme", name="n", by="two")
    await ledger.unuse(account="rival", name="n", by="one")
    await ledger.unuse(account="acme", name="other", by="one")
    assert await ledger.used(account="acme", name="n")
    for _ in range(2):
        await ledger.unuse(account="acme", name="n", by="one")
        assert not await ledger.used(account="acme", name="n")
    assert await ledger.use_once(account="acme", name="n", by="two", seconds=60)
    with pytest.raises(UnknownAccount):
        await ledger.unuse(account="nobody", name="n", by="one")


async def test_of_many_at_once_one_uses_the_name(world: World) -> None:
    """Two hundred that open a session with one token: one does."""
    ledger = await opened(world)
    uses = (ledger.use_once(account="acme", name="t", by=f"call-{n}", seconds=60) for n in range(200))
    assert sum(await asyncio.gather(*uses)) == 1


async def test_changes_grow_with_what_administration_does(world: World) -> None:
    """Plan, status, keys, grants and corrections count, each once; calls do not; an unknown account has none."""
    ledger = await opened(world)
    await opened(world, account="rival")

    async def changes() -> int:
        mine, rivals, nobodys = await ledger.changes(["acme", "rival", "nobody"])
        assert (rivals, nobodys) == (2, 0)
        return mine

    counted = await changes()
    for _ in range(2):
        await ledger.change_account(operation="plan", account="acme", plan=PAID)
        await ledger.change_account(operation="status", account="acme", status="active")
        await ledger.change_key(operation="key-2", account="acme", key_id="acme-key", changes={"name": "n"})
        await ledger.grant(operation="grant", account="acme", kind="purchase", amount=usd(1))
        await ledger.correct(operation="correct", account="acme", key_id="acme-key", amount=Nanos(1), data={})
    assert await changes() == counted + 5
    await admitted(ledger, ask(plan=PAID))
    await ledger.renew(slice_of(0, plan=PAID))
    await ledger.release(account="acme", hold_id="call-1.1")
    assert await changes() == counted + 5
