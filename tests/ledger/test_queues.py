"""The contract of `ports.Ledger`: jobs beyond an account's places wait, first in, first out, and lose nothing by it."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.admission import Concurrency
from gateway.core.errors import Code, OperationConflict
from gateway.ports import AdmissionRequest, Admitted, Ledger, Plan, QueuedJob, Resource, ResourceRef
from tests.ledger import ledgers
from tests.ledger.ledgers import World, admitted, ask, bill, opened, refused, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures
PLACES = Concurrency(name="jobs", limit=2, queued_max=3)
LIMITS = {("jobs", "free"): 2, ("jobs", "payg"): 3}
DAY = 86_400


def want(hold: str, limit: Concurrency = PLACES, **changes: Any) -> AdmissionRequest:
    """A job of a dollar."""
    return ask(hold, estimate=usd(1), concurrency=limit, **changes)


def job(hold: str) -> Resource:
    """The job of a hold, under an id of ours."""
    ref = ResourceRef(kind="transcript", id=f"ours-{hold}")
    return Resource(ref=ref, state="queued", product="speech-to-text", hold=hold, key_id="acme-key", facts={"held": 1})


async def take(world: World, *holds: str) -> list[Admitted]:
    """Ask for these one after the other, a moment apart; those that are queued are put into the queue."""
    ledger, answers = world.ledger, []
    for hold in holds:
        answers.append(await admitted(ledger, want(hold)))
        await world.advance(0.01)
        if answers[-1].queued:
            assert await ledger.enqueue(account="acme", resource=job(hold), body=hold.encode(), deadline_seconds=DAY)
    return answers


async def claim(world: World, limit: int = 10, limits: dict[tuple[str, str], int] | None = None) -> list[QueuedJob]:
    """Those whose turn it is, at the next look at the queue."""
    await world.advance(0.3)
    ledger = world.ledger
    return list(await ledger.claim_queued(limit=limit, lease_seconds=30, limits=LIMITS if limits is None else limits))


async def waiting(ledger: Ledger) -> list[str]:
    """The holds of those that wait, in order."""
    return [ref.id.removeprefix("ours-") for ref in await ledger.queued("acme")]


async def test_beyond_its_places_a_call_waits_and_holds_its_credit(world: World) -> None:
    """Two run, three wait, the next one is refused; credit is held for all five."""
    ledger = await opened(world)
    answers = await take(world, "a", "b", "c", "d", "e")
    assert [answer.queued for answer in answers] == [False, False, True, True, True]
    assert {answer.hold for answer in answers} == {usd(1)}
    assert (await refused(ledger, want("f"))).code == Code.TOO_MANY_CONCURRENT
    assert (await ledger.account("acme")).held == usd(5)
    assert [hold.concurrency_class for hold in await ledger.holds("acme")].count("jobs.queued") == 3
    assert await waiting(ledger) == ["c", "d", "e"]
    assert [ref.id for ref in await ledger.queued("acme", limit=2)] == ["ours-c", "ours-d"]
    assert await claim(world) == []
    assert await ledger.waiting(["jobs", "calls"]) == {"jobs": 3, "calls": 0}
    await ledger.release(account="acme", hold_id="a")
    assert len(await claim(world)) == 1
    assert await ledger.waiting(["jobs"]) == {"jobs": 2}
    assert await ledger.waiting([]) == {}
    assert await ledger.verify("acme") == []


async def test_a_place_that_is_free_goes_to_the_first_in_the_queue(world: World) -> None:
    """Whatever ends a running one; a newcomer does not overtake those that wait."""
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d")
    await ledger.settle(bill("a", usd(1)))
    assert (await admitted(ledger, want("e"))).queued
    (turn,) = await claim(world)
    assert (turn.account, turn.record.ref.id, turn.body, turn.allowed) == ("acme", "ours-c", b"c", True)
    assert turn.record.state == "queued"
    assert await claim(world) == []
    await ledger.release(account="acme", hold_id="b")
    assert [turn.body for turn in await claim(world)] == [b"d"]
    assert await ledger.verify("acme") == []


async def test_a_submitted_job_is_followed_and_charged_like_any_other(world: World) -> None:
    """It keeps the id that we gave it, and is found by the upstream's."""
    ledger = await opened(world)
    await take(world, "a", "b", "c")
    await ledger.settle(bill("a", usd(1)))
    (turn,) = await claim(world)
    ref = turn.record.ref
    for _ in range(2):
        await ledger.submitted(account="acme", ref=ref, hold_id="c", upstream="up-c", look_seconds=5, endpoint="eu-1")
    (followed,) = await ledger.jobs("acme")
    assert followed.record.endpoint == "eu-1"
    assert (followed.record.ref, followed.record.upstream_id, followed.record.state) == (ref, "up-c", "open")
    other = ResourceRef(kind="transcript", id="up-x")
    assert await ledger.ids_of_ours(account="acme", refs=[replace(ref, id="up-c"), other]) == [ref.id, None]
    assert await ledger.queued_bodies(account="acme", refs=[ref]) == [None]
    await ledger.settle(bill("c", usd(0.5), resource=ref))
    found = await ledger.resource(account="acme", ref=ref)
    assert found is not None and found.state == "settled"
    assert await ledger.jobs("acme") == [] == await claim(world)
    await ledger.forget(account="acme", ref=ref)
    assert await ledger.ids_of_ours(account="acme", refs=[replace(ref, id="up-c")]) == [None], "nothing of it is kept"
    assert await ledger.verify("acme") == []


async def test_a_claim_has_a_lease_and_can_be_put_off(world: World) -> None:
    """A claimer that is lost is followed by another after the lease; the place is kept meanwhile."""
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d")
    await ledger.settle(bill("a", usd(1)))
    assert len(await claim(world)) == 1
    await world.advance(29)
    assert await claim(world) == []
    await world.advance(2)
    (again,) = await claim(world)
    await ledger.submit_later(account="acme", ref=again.record.ref, seconds=20)
    await world.advance(10)
    assert await claim(world) == []
    assert await waiting(ledger) == ["c", "d"]
    await world.advance(10)
    assert [turn.body for turn in await claim(world)] == [b"c"]


async def test_one_that_cannot_run_is_rejected_and_gives_its_credit_back(world: World) -> None:
    """Its record says why; the next one has its place."""
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d")
    await ledger.settle(bill("a", usd(1)))
    (turn,) = await claim(world)
    for _ in range(2):
        await ledger.reject(account="acme", ref=turn.record.ref, hold_id="c", reason="no audio")
    found = await ledger.resource(account="acme", ref=turn.record.ref)
    assert found is not None
    assert (found.state, found.usage) == ("released", {"error": "no audio"})
    assert await ledger.queued_bodies(account="acme", refs=[found.ref]) == [b"c"]
    assert [turn.body for turn in await claim(world)] == [b"d"]
    with pytest.raises(OperationConflict):
        await ledger.settle(bill("c", usd(1), resource=found.ref))
    assert await ledger.verify("acme") == []


async def test_one_that_waits_can_be_taken_out(world: World) -> None:
    """Released, expired or deleted: it is out of the queue, and a submission that comes too late changes nothing."""
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d")
    await ledger.release(account="acme", hold_id="c", resource=job("c").ref)
    assert await waiting(ledger) == ["d"]
    await ledger.settle(bill("a", usd(1)))
    (turn,) = await claim(world)
    assert turn.held
    await ledger.release(account="acme", hold_id="d", resource=turn.record.ref)
    await ledger.submitted(account="acme", ref=turn.record.ref, hold_id="d", upstream="up-d", look_seconds=0)
    found = await ledger.resource(account="acme", ref=turn.record.ref)
    assert found is not None and (found.state, found.upstream) == ("released", "")
    assert await waiting(ledger) == [] == await ledger.jobs("acme")
    assert await ledger.verify("acme") == []


async def test_what_waits_too_long_expires(world: World) -> None:
    """A queued hold that nobody put into the queue ends with its lease, one in the queue with its deadline."""
    ledger = await opened(world)
    await take(world, "a", "b", "c")
    assert (await admitted(ledger, want("d"))).queued
    await world.advance(61)
    assert not await ledger.enqueue(account="acme", resource=job("d"), body=b"", deadline_seconds=DAY)
    assert await waiting(ledger) == ["c"]
    await world.advance(DAY)
    assert (await ledger.account("acme")).open_holds == 0
    await ledger.sweep("acme")  # whoever comes by finds that there is somebody to be told
    (over,) = await claim(world)
    assert (over.record.ref, over.held, over.allowed) == (job("c").ref, False, True)
    await ledger.reject(account="acme", ref=over.record.ref, hold_id="c", reason="late")
    assert await waiting(ledger) == [] == await claim(world)
    found = await ledger.resource(account="acme", ref=job("c").ref)
    assert found is not None and (found.state, found.usage) == ("released", {"error": "late"})
    assert await ledger.verify("acme") == []


async def test_enqueuing_again_changes_nothing(world: World) -> None:
    """The same hold: queued, once; another hold under its id is a conflict; one that is not queued is not taken."""
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d")
    assert await ledger.enqueue(account="acme", resource=job("c"), body=b"else", deadline_seconds=DAY)
    with pytest.raises(OperationConflict):
        another = replace(job("c"), ref=ResourceRef(kind="transcript", id="another"))
        await ledger.enqueue(account="acme", resource=another, body=b"c", deadline_seconds=DAY)
    assert "another" not in {hold.resource and hold.resource.id for hold in await ledger.holds("acme")}
    assert await ledger.queued_bodies(account="acme", refs=[job("c").ref]) == [b"c"]
    with pytest.raises(OperationConflict):
        await ledger.enqueue(
            account="acme", resource=replace(job("d"), ref=job("c").ref), body=b"", deadline_seconds=DAY
        )
    assert not await ledger.enqueue(account="acme", resource=job("a"), body=b"", deadline_seconds=DAY)
    assert await waiting(ledger) == ["c", "d"]


async def test_the_queue_of_a_suspended_account_waits(world: World) -> None:
    """It goes on when the account is active again; a disabled key is told; a larger plan has more places."""
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d")
    await ledger.settle(bill("a", usd(1)))
    await ledger.change_account(operation="1", account="acme", status="suspended")
    assert await claim(world) == []
    await ledger.change_account(operation="2", account="acme", status="active", plan=Plan(tier="payg"))
    await ledger.change_key(operation="3", account="acme", key_id="acme-key", changes={"disabled": True})
    await world.advance(1)
    assert [(turn.body, turn.allowed) for turn in await claim(world)] == [(b"c", False), (b"d", False)]


async def test_the_queue_of_a_suspended_account_holds_up_nobody(world: World) -> None:
    """A look with room for one account comes to another's free place, though what it cannot claim has waited longer."""
    ledger = await opened(world)
    await take(world, "a", "b", "c")
    await ledger.change_account(operation="1", account="acme", status="suspended")
    await world.advance(DAY + 1)
    await ledger.sweep("acme")  # the job's time is over: its client is to be told, once the account is active
    await opened(world, account="other")
    answers = [await admitted(ledger, want(hold, account="other")) for hold in ("d", "e", "f")]
    assert [answer.queued for answer in answers] == [False, False, True]
    waits = replace(job("f"), key_id="other-key")
    assert await ledger.enqueue(account="other", resource=waits, body=b"f", deadline_seconds=DAY)
    assert await claim(world) == []
    await ledger.release(account="other", hold_id="d")
    assert [turn.body for turn in await claim(world, 1)] == [b"f"]
    await ledger.change_account(operation="2", account="acme", status="active")
    assert [(turn.account, turn.body, turn.held) for turn in await claim(world, 1)] == [("acme", b"c", False)]
    assert await ledger.verify("acme") == [] == await ledger.verify("other")


async def test_without_credit_one_may_run_where_the_plan_says_so(world: World) -> None:
    """`when_negative`: one at a time, with nothing held; the others wait, or are refused where there is no queue."""
    ledger = await opened(world, signup=usd(0.5))
    await ledger.settle(bill("debt", usd(1)))
    assert (await refused(ledger, want("x"))).code == Code.INSUFFICIENT_CREDIT
    slow = replace(PLACES, when_negative=1)
    first = await admitted(ledger, want("a", slow))
    assert (first.hold, first.queued) == (0, False)
    second = await admitted(ledger, want("b", slow))
    assert (second.hold, second.queued) == (0, True)
    assert (await refused(ledger, want("c", replace(slow, queued_max=0)))).code == Code.TOO_MANY_CONCURRENT
    assert await ledger.verify("acme") == []


async def test_a_claim_takes_at_most_what_it_was_asked_for(world: World) -> None:
    """Places without a limit, and a lost place in the index of accounts that a sweep makes good."""
    ledger = await opened(world)
    await take(world, "a", "b", "c", "d", "e")
    assert [turn.body for turn in await claim(world, 2, {})] == [b"c", b"d"]
    await world.advance(1)
    await ledger.sweep("acme")
    await world.advance(1)
    assert [turn.body for turn in await claim(world, 2, {})] == [b"e"]


async def test_without_credit_the_queue_has_no_more_places_than_the_plan_says(world: World) -> None:
    """What waits with nothing held comes one after the other too, until there is credit again."""
    ledger = await opened(world, signup=usd(0.5))
    await ledger.settle(bill("debt", usd(1)))
    slow = replace(PLACES, when_negative=1)
    for hold in ("a", "b", "c", "d"):
        answer = await admitted(ledger, want(hold, slow))
        await world.advance(0.01)
        assert answer.queued == (hold != "a")
        if answer.queued:
            assert await ledger.enqueue(account="acme", resource=job(hold), body=hold.encode(), deadline_seconds=DAY)
    assert await claim(world) == []
    await ledger.release(account="acme", hold_id="a")
    assert [turn.body for turn in await claim(world)] == [b"b"]
    await ledger.grant(operation="pay", account="acme", kind="purchase", amount=usd(5))
    assert [turn.body for turn in await claim(world)] == [b"c"]
    assert await waiting(ledger) == ["b", "c", "d"]  # two of them are about to be submitted
    assert await ledger.verify("acme") == []
