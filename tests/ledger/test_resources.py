"""The contract of `ports.Ledger`, part four: jobs, uploads and sessions, and whose they are."""

from dataclasses import replace

import pytest

from gateway.core.errors import OperationConflict
from gateway.ports import Resource, ResourceRef, Settlement
from tests.ledger import ledgers
from tests.ledger.ledgers import START_MS, World, admitted, ask, bill, opened, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures

JOB = ResourceRef(kind="transcript", id="t-1")


def job(hold: str = "call-1") -> Resource:
    return Resource(
        ref=JOB,
        state="open",
        product="speech-to-text",
        hold=hold,
        key_id="acme-key",
        price_version="2026-11-01",
        rate_card="card",
        facts={"channels": 2, "add_ons": ["speaker_labels"]},
        endpoint="eu-1",
    )


async def accepted(world: World, resource: Resource | None = None, keep_seconds: int = 0) -> None:
    await world.ledger.accept(
        account="acme", resource=resource or job(), deadline_seconds=3600, keep_seconds=keep_seconds
    )


async def test_an_accepted_job_holds_its_credit_until_its_deadline(world: World) -> None:
    """The hold's expiry becomes the deadline, the record is the account's, the hold names the job."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    await accepted(world)
    await world.advance(3599)
    (hold,) = await ledger.holds("acme")
    assert (hold.expires_ms, hold.resource) == (START_MS + 3_600_000, JOB)
    assert await ledger.resource(account="acme", ref=JOB) == replace(
        job(), created_ms=START_MS, deadline_ms=START_MS + 3_600_000
    )
    await world.advance(1)
    assert await ledger.holds("acme") == []


async def test_accepting_again_changes_nothing_and_another_hold_is_a_conflict(world: World) -> None:
    """A repeat is harmless; somebody else's hold on the same id is not."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    await accepted(world)
    before = await world.dump()
    await accepted(world, replace(job(), facts={"other": 1}))
    with pytest.raises(OperationConflict):
        await accepted(world, job("call-2"))
    assert await world.dump() == before


async def test_what_was_made_for_a_call_is_found_by_the_call(world: World) -> None:
    """For so long, whatever became of it; only where that is asked for, and only by its own account."""
    ledger = await opened(world)
    assert await ledger.made_by(account="acme", call_id="call-1") is None
    for call, kept in (("call-1", 100), ("call-2", 0)):
        await admitted(ledger, ask(call))
        ref = ResourceRef(kind="transcript", id=f"t:{call}")
        await ledger.accept(
            account="acme",
            resource=replace(job(call), ref=ref),
            deadline_seconds=3600,
            keep_seconds=0,
            call_seconds=kept,
        )
    made = ResourceRef(kind="transcript", id="t:call-1")
    assert await ledger.made_by(account="acme", call_id="call-1") == made
    assert await ledger.made_by(account="acme", call_id="call-2") is None
    assert await ledger.made_by(account="nobody", call_id="call-1") is None
    await ledger.release(account="acme", hold_id="call-1", resource=made)
    await ledger.forget(account="acme", ref=made)
    await world.advance(99)
    assert await ledger.made_by(account="acme", call_id="call-1") == made
    await world.advance(1)
    assert await ledger.made_by(account="acme", call_id="call-1") is None


async def test_a_hold_names_the_job_that_was_accepted_last(world: World) -> None:
    """A create call that was made twice at the upstream leaves two records and one hold."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    await accepted(world)
    second = ResourceRef(kind="transcript", id="t-2")
    await accepted(world, replace(job(), ref=second))
    assert [hold.resource for hold in await ledger.holds("acme")] == [second]
    assert list(await ledger.owned(account="acme", refs=[JOB, second])) == [True, True]
    assert not (await ledger.settle(bill(resource=second))).late
    assert await ledger.verify("acme") == []


async def test_a_settled_job_keeps_its_usage_and_a_released_one_says_so(world: World) -> None:
    """The record moves on with its hold; a repeat or a later release moves nothing."""
    ledger = await opened(world)
    for call, ref in (("a", JOB), ("b", ResourceRef(kind="transcript", id="t-2"))):
        await admitted(ledger, ask(call))
        await accepted(world, replace(job(call), ref=ref))
    settlement: Settlement = bill("a", resource=JOB, resource_usage={"audio_seconds": 12.25})
    await ledger.settle(settlement)
    await ledger.release(account="acme", hold_id="a", resource=JOB)
    await ledger.release(account="acme", hold_id="b", resource=ref)
    one, other = [await ledger.resource(account="acme", ref=each) for each in (JOB, ref)]
    assert one is not None
    assert (one.state, one.usage, one.facts["channels"]) == ("settled", {"audio_seconds": 12.25}, 2)
    assert other is not None
    assert other.state == "released"


@pytest.mark.parametrize("end", ["settled", "released"])
async def test_a_job_accepted_after_its_end_is_not_open(world: World, end: str) -> None:
    """When the spool tells of a job only after its hold has ended, the record says how it ended."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    if end == "settled":
        await ledger.settle(bill())
    else:
        await ledger.release(account="acme", hold_id="call-1")
    await accepted(world)
    found = await ledger.resource(account="acme", ref=JOB)
    assert found is not None
    assert found.state == end


async def test_a_job_whose_hold_expired_is_settled_late(world: World) -> None:
    """After the deadline the job is still open, and its usage is charged when it comes."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    await accepted(world)
    await world.advance(4000)
    found = await ledger.resource(account="acme", ref=JOB)
    assert found is not None
    assert found.state == "open"
    assert (await ledger.settle(bill(resource=JOB))).late
    found = await ledger.resource(account="acme", ref=JOB)
    assert found is not None
    assert found.state == "settled"


async def test_foreign_resources_are_as_unknown_ones(world: World) -> None:
    """No account learns of another's: not by reading, listing, forgetting."""
    ledger = await opened(world)
    await opened(world, account="rival")
    await accepted(world, replace(job(""), state="kept"))
    assert await ledger.resource(account="rival", ref=JOB) is None
    await ledger.forget(account="rival", ref=JOB)
    other = ResourceRef(kind="upload", id="t-1")
    assert list(await ledger.owned(account="acme", refs=[JOB, other])) == [True, False]
    assert list(await ledger.owned(account="rival", refs=[JOB])) == [False]
    assert list(await ledger.owned(account="nobody", refs=[JOB])) == [False]


async def test_a_forgotten_resource_is_no_longer_the_accounts(world: World) -> None:
    """After a delete the id is unknown; the charge stays."""
    ledger = await opened(world)
    await ledger.settle(bill())
    await accepted(world, replace(job(""), state="kept"))
    await ledger.forget(account="acme", ref=JOB)
    await ledger.forget(account="acme", ref=JOB)
    assert await ledger.resource(account="acme", ref=JOB) is None
    assert (await ledger.account("acme")).balance == usd(49.9)


async def test_a_record_is_kept_for_its_time(world: World) -> None:
    """`keep_seconds` bounds a record's life; 0 is until it is forgotten."""
    ledger = await opened(world)
    await accepted(world, replace(job(""), state="kept"), keep_seconds=86_400)
    await accepted(world, replace(job(""), state="kept", ref=ResourceRef(kind="upload", id="u")))
    await world.advance(86_399)
    assert await ledger.resource(account="acme", ref=JOB) is not None
    await world.advance(2)
    assert await ledger.resource(account="acme", ref=JOB) is None
    assert await ledger.resource(account="acme", ref=ResourceRef(kind="upload", id="u")) is not None
