"""The contract of `ports.Ledger`, part five: jobs that the gateway follows by itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import UnknownAccount
from gateway.ports import FollowedJob, Lag, Ledger, Resource, ResourceRef
from tests.ledger import ledgers
from tests.ledger.ledgers import START_MS, RedisWorld, World, admitted, ask, bill, opened

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures


def ref(name: str) -> ResourceRef:
    return ResourceRef(kind="transcript", id=name)


async def made(ledger: Ledger, name: str = "t-1", *, account: str = "acme", look_seconds: float = 10.0) -> Resource:
    """A job of the account under a hold `call of <name>`, for an hour."""
    hold_id = f"call-of-{name}"
    await admitted(ledger, ask(hold_id, account=account))
    job = Resource(ref=ref(name), state="open", product="speech-to-text", hold=hold_id, facts={"held": 7})
    await ledger.accept(account=account, resource=job, deadline_seconds=3600, keep_seconds=0, look_seconds=look_seconds)
    return job


async def claimed(ledger: Ledger, limit: int = 100) -> list[str]:
    """The ids of what is to be looked at, taken for a minute."""
    return sorted(job.record.ref.id for job in await ledger.claim_jobs(limit=limit, lease_seconds=60))


def ids(jobs: Sequence[FollowedJob]) -> list[str]:
    return [job.record.ref.id for job in jobs]


async def test_a_job_is_claimed_when_its_look_is_due(world: World) -> None:
    """Not before, with its record, and by when it was due; the record says how long it is waited for."""
    ledger = await opened(world)
    job = await made(ledger)
    assert await claimed(ledger) == []
    await world.advance(12)
    backlog = await ledger.backlog()
    assert backlog.looks == Lag(accounts=1, since_ms=START_MS + 10_000, now_ms=START_MS + 12_000)
    (found,) = await ledger.claim_jobs(limit=5, lease_seconds=60)
    assert (await ledger.backlog()).looks.accounts == 0
    record = replace(job, created_ms=START_MS, deadline_ms=START_MS + 3_600_000)
    assert found == FollowedJob(account="acme", record=record, look_ms=START_MS + 10_000, now_ms=START_MS + 12_000)


async def test_a_claimed_job_is_nobody_elses_within_the_lease(world: World) -> None:
    """A second visitor gets nothing; after the lease of one that was killed the job is due again."""
    ledger = await opened(world)
    await made(ledger, look_seconds=0)
    assert await claimed(ledger) == ["t-1"]
    await world.advance(59)
    assert await claimed(ledger) == []
    await world.advance(1)
    assert await claimed(ledger) == ["t-1"]


async def test_a_claim_takes_so_many_and_leaves_the_rest_to_others(world: World) -> None:
    """Ten jobs of two accounts, taken four at a time: each once."""
    ledger = await opened(world)
    await opened(world, account="rival")
    for number in range(10):
        await made(ledger, f"t-{number}", account="rival" if number % 2 else "acme", look_seconds=number / 10)
    await world.advance(1)
    taken = [await claimed(ledger, limit=4) for _ in range(5)]
    assert all(len(part) <= 4 for part in taken)
    assert sorted(job for part in taken for job in part) == [f"t-{number}" for number in range(10)]


async def test_a_look_is_put_off(world: World) -> None:
    """The next one is when it was said, sooner or later than the lease."""
    ledger = await opened(world)
    await made(ledger, "soon", look_seconds=0)
    await made(ledger, "late", look_seconds=0)
    assert await claimed(ledger) == ["late", "soon"]
    await ledger.look_later(account="acme", ref=ref("soon"), seconds=5)
    await ledger.look_later(account="acme", ref=ref("late"), seconds=100)
    assert ids(await ledger.jobs("acme")) == ["soon", "late"]
    await world.advance(5)
    assert await claimed(ledger) == ["soon"]
    await world.advance(60)
    assert await claimed(ledger) == ["soon"]
    await world.advance(35)
    assert await claimed(ledger) == ["late"]


async def test_since_when_a_job_is_gone_is_remembered(world: World) -> None:
    """The first time counts; a put-back without a look says nothing; a look that finds it takes it back."""
    ledger = await opened(world)
    await made(ledger)

    async def gone_ms() -> int:
        (job,) = await ledger.jobs("acme")
        return job.record.gone_ms - START_MS if job.record.gone_ms else 0

    await world.advance(1)
    await ledger.look_later(account="acme", ref=ref("t-1"), seconds=1, gone=True)
    await world.advance(1)
    await ledger.look_later(account="acme", ref=ref("t-1"), seconds=1, gone=True)
    await ledger.look_later(account="acme", ref=ref("t-1"), seconds=1)
    assert await gone_ms() == 1000
    await ledger.look_later(account="acme", ref=ref("t-1"), seconds=1, gone=False)
    assert await gone_ms() == 0


@pytest.mark.parametrize("end", ["settled", "released", "forgotten"])
async def test_a_job_that_is_over_is_not_followed(world: World, end: str) -> None:
    """Whoever ends it: it is not claimed again, and cannot be put off into life."""
    ledger = await opened(world)
    await made(ledger, look_seconds=0)
    if end == "settled":
        await ledger.settle(bill("call-of-t-1", resource=ref("t-1")))
    elif end == "released":
        await ledger.release(account="acme", hold_id="call-of-t-1", resource=ref("t-1"))
    else:
        await ledger.forget(account="acme", ref=ref("t-1"))
    await ledger.look_later(account="acme", ref=ref("t-1"), seconds=0, gone=True)
    assert await ledger.jobs("acme") == []
    assert await claimed(ledger) == []


async def test_a_job_given_up_frees_its_credit_and_is_still_charged_if_it_turns_up(world: World) -> None:
    """The hold is over, nobody follows the job; a result that comes after all is one charge, late."""
    ledger = await opened(world)
    await made(ledger)
    assert await ledger.give_up(account="acme", ref=ref("t-1"), hold_id="call-of-t-1")
    assert not await ledger.give_up(account="acme", ref=ref("t-1"), hold_id="call-of-t-1")
    assert (await ledger.account("acme")).held == 0
    assert await ledger.jobs("acme") == []
    found = await ledger.resource(account="acme", ref=ref("t-1"))
    assert found is not None
    assert found.state == "open"
    receipt = await ledger.settle(bill("call-of-t-1", resource=ref("t-1")))
    assert receipt.late
    assert await ledger.verify("acme") == []


async def test_a_job_past_its_deadline_is_still_followed(world: World) -> None:
    """Its hold is over by then; whoever looks at it decides what becomes of it."""
    ledger = await opened(world)
    await made(ledger)
    await world.advance(4000)
    (found,) = await ledger.claim_jobs(limit=5, lease_seconds=60)
    assert found.now_ms > found.record.deadline_ms
    assert await ledger.holds("acme") == []


async def test_an_account_lost_from_the_index_comes_back_with_its_sweep(world: World) -> None:
    """A visitor that dies between taking an account and putting it back delays its jobs, and loses none."""
    ledger = await opened(world)
    await made(ledger, look_seconds=0)
    if isinstance(world, RedisWorld):
        await world.direct.call("DEL", "gw:followed")
        assert await claimed(ledger) == []
    await ledger.sweep("acme")
    assert await claimed(ledger) == ["t-1"]


async def test_an_accept_that_is_repeated_keeps_its_look(world: World) -> None:
    """A replay from the spool does not put a job back to its beginning, nor follow one that is over."""
    ledger = await opened(world)
    job = await made(ledger, look_seconds=10)
    again: dict[str, Any] = {"account": "acme", "resource": job, "deadline_seconds": 3600, "keep_seconds": 0}
    await world.advance(9)
    await ledger.accept(**again, look_seconds=10)
    await world.advance(1)
    assert await claimed(ledger) == ["t-1"]
    await ledger.settle(bill("call-of-t-1", resource=ref("t-1")))
    await ledger.accept(**again, look_seconds=0)
    assert await claimed(ledger) == []


async def test_unknown_accounts_have_no_jobs(world: World) -> None:
    """Their verbs say so."""
    for verb in (
        world.ledger.jobs("nobody"),
        world.ledger.look_later(account="nobody", ref=ref("t"), seconds=1),
        world.ledger.give_up(account="nobody", ref=ref("t"), hold_id="h"),
    ):
        with pytest.raises(UnknownAccount):
            await verb
