"""Calls that their clients named: one of all that have a name is done, and its repeats are told so."""

import asyncio
from typing import Any

import pytest

from gateway.core.errors import OperationConflict, UnknownAccount
from gateway.ports import Ledger, NamedCall, Naming, Resource, ResourceRef
from tests.ledger import ledgers
from tests.ledger.ledgers import World, admitted, ask, bill, opened

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures

TAKEN, RUNNING, OTHER = Naming(state="taken"), Naming(state="running"), Naming(state="other")
DAY = 86_400


async def name(ledger: Ledger, hold_id: str = "call-1", word: str = "n", **changes: Any) -> Naming:
    """Name a call of the account's."""
    values: dict[str, Any] = {
        "account": "acme",
        "name": word,
        "content": "c",
        "hold_id": hold_id,
        "lease_seconds": 60,
        "keep_seconds": DAY,
        "names_max": 100,
    }
    return await ledger.name_call(NamedCall(**values | changes))


async def keep(
    ledger: Ledger, hold_id: str = "call-1", word: str = "n", answer: bytes = b"yes", room: int = 99
) -> bool:
    """Keep a call's answer."""
    return await ledger.keep_answer(account="acme", name=word, hold_id=hold_id, answer=answer, bytes_max=99)


async def free(ledger: Ledger, hold_id: str = "call-1") -> None:
    """Free a call's name."""
    await ledger.free_name(account="acme", name="n", hold_id=hold_id)


async def test_whether_a_name_is_taken(world: World) -> None:
    """From when it is taken until it is freed, or its time is over."""
    ledger = await opened(world)
    found = [await ledger.has_name(account="acme", name="n")]
    await name(ledger)
    found.append(await ledger.has_name(account="acme", name="n"))
    await free(ledger)
    found.append(await ledger.has_name(account="acme", name="n"))
    await name(ledger)
    await world.advance(DAY)
    found.append(await ledger.has_name(account="acme", name="n"))
    assert found == [False, True, False, False]


async def test_a_repeat_gets_the_first_answer_for_as_long_as_it_is_kept(world: World) -> None:
    """Taken, charged, kept: each repeat gets the very bytes, something else is told apart, a day later it is over."""
    ledger = await opened(world)
    assert await name(ledger) == TAKEN
    await admitted(ledger, ask())
    await ledger.settle(bill())
    answer = b"\x00\xff\r\n" * 7
    assert await keep(ledger, answer=answer)
    before = await world.dump()
    assert await name(ledger, "call-2") == Naming(state="done", hold_id="call-1", answer=answer)
    assert await name(ledger, "call-2", content="d") == OTHER
    assert await world.dump() == before, "a repeat writes nothing"
    await world.advance(DAY - 1)
    assert (await name(ledger, "call-2")).state == "done"
    await world.advance(1)
    assert await name(ledger, "call-2", content="d") == TAKEN


async def test_a_name_is_taken_while_its_call_runs(world: World) -> None:
    """Before there is a hold for a lease; then for as long as the hold is open, whatever is asked."""
    ledger = await opened(world)
    assert await name(ledger, lease_seconds=5) == TAKEN
    await world.advance(4.9)
    assert await name(ledger, "call-2") == RUNNING
    assert await name(ledger, "call-2", content="d") == OTHER
    await admitted(ledger, ask(lease_seconds=30))
    await world.advance(29)
    assert await name(ledger, "call-2") == RUNNING
    await ledger.extend(account="acme", hold_ids=["call-1"], lease_seconds=30)
    await world.advance(29)
    assert await name(ledger, "call-2") == RUNNING
    await world.advance(1)
    assert await name(ledger, "call-2") == TAKEN, "nobody served the call any more"


@pytest.mark.parametrize("end", ["release", "expire", "never held"])
async def test_a_call_that_came_to_nothing_has_no_name(world: World, end: str) -> None:
    """Released, expired or never held: the name is free, also for something else."""
    ledger = await opened(world)
    await name(ledger, lease_seconds=600 if end != "never held" else 1)
    if end != "never held":
        await admitted(ledger, ask(lease_seconds=5))
    if end == "release":
        await ledger.release(account="acme", hold_id="call-1")
    else:
        await world.advance(5)
    assert await name(ledger, "call-2", content="d") == TAKEN
    assert not await keep(ledger), "it is another call's now"


async def test_a_charged_call_keeps_its_name_without_an_answer(world: World) -> None:
    """Settled in time, late, or accepted as a job: a repeat is told that it is done, and of what call."""
    ledger = await opened(world)
    ref = ResourceRef(kind="transcript", id="t-1")
    for number, way in enumerate(("settle", "late", "accept")):
        hold_id, word = f"call-{number}", f"n{number}"
        assert await name(ledger, hold_id, word) == TAKEN
        await admitted(ledger, ask(hold_id, lease_seconds=5))
        if way == "accept":
            job = Resource(ref=ref, state="open", product="speech-to-text", hold=hold_id)
            await ledger.accept(account="acme", resource=job, deadline_seconds=3600, keep_seconds=0)
        else:
            await world.advance(6 if way == "late" else 0)
            await ledger.settle(bill(hold_id))
        assert await name(ledger, "repeat", word) == RUNNING, "its answer may come in a moment"
        await world.advance(60 if way == "accept" else 5)
        assert await name(ledger, "repeat", word) == Naming(state="done", hold_id=hold_id)
        await ledger.free_name(account="acme", name=word, hold_id=hold_id)
        assert (await name(ledger, "repeat", word)).state == "done", "it is not to be had back"
    await ledger.release(account="acme", hold_id="call-2", resource=ref)
    assert await name(ledger, "repeat", "n2") == TAKEN, "a failed job was not charged"


async def test_repeats_of_a_call_that_has_no_answer_to_keep_do_not_wait(world: World) -> None:
    """They are told at once that it is done; it cannot be had back, and has no answer."""
    ledger = await opened(world)
    await name(ledger)
    await admitted(ledger, ask())
    await ledger.settle(bill())
    assert await name(ledger, "call-2") == RUNNING
    assert not await keep(ledger, answer=b"")
    await free(ledger)
    assert await name(ledger, "call-2") == Naming(state="done", hold_id="call-1")
    assert await name(ledger, "call-2", content="d") == OTHER
    await world.advance(DAY)
    assert await name(ledger, "call-2") == TAKEN


async def test_of_two_hundred_at_once_one_takes_the_name(world: World) -> None:
    """The others are told that it runs."""
    ledger = await opened(world)
    answers = await asyncio.gather(*(name(ledger, f"call-{n}") for n in range(200)))
    assert (answers.count(TAKEN), answers.count(RUNNING)) == (1, 199)


async def test_every_verb_may_be_repeated(world: World) -> None:
    """The same hold takes its name again, keeps the first answer, and frees its name once; other content conflicts."""
    ledger = await opened(world)
    for _ in range(2):
        assert await name(ledger) == TAKEN
    with pytest.raises(OperationConflict):
        await name(ledger, content="d")
    assert await keep(ledger)
    before = await world.dump()
    assert await keep(ledger)
    assert await name(ledger) == TAKEN
    await free(ledger)
    assert await world.dump() == before, "what has an answer is done"
    assert await name(ledger, "call-2", "m") == TAKEN
    for _ in range(2):
        await ledger.free_name(account="acme", name="m", hold_id="call-2")
    assert await name(ledger, "call-3", "m") == TAKEN


async def test_only_its_own_call_frees_a_name_and_not_while_it_is_held(world: World) -> None:
    """Another call's word, or one that comes while the hold is open, changes nothing."""
    ledger = await opened(world)
    await name(ledger)
    await free(ledger, "call-2")
    assert await name(ledger, "call-2") == RUNNING
    await admitted(ledger, ask())
    await free(ledger)
    assert await name(ledger, "call-2") == RUNNING
    assert not await keep(ledger, "call-2")


async def test_names_are_bounded_and_leave_with_their_time(world: World) -> None:
    """At most so many: then it is said when there is room; freed and forgotten ones make room; own ones need none."""
    ledger = await opened(world)
    for number in range(3):
        assert await name(ledger, f"call-{number}", f"n{number}", names_max=3) == TAKEN
        await world.advance(0.5)
    full = await name(ledger, "call-9", "n9", names_max=3)
    assert full == Naming(state="full", retry_after_seconds=DAY - 1)
    assert (await name(ledger, "call-9", "n0", names_max=3)) == RUNNING, "a name that is there is found"
    await ledger.free_name(account="acme", name="n1", hold_id="call-1")
    assert await name(ledger, "call-9", "n9", names_max=3) == TAKEN
    assert (await name(ledger, "call-8", "n8", names_max=3)).state == "full"
    await world.advance(DAY - 1.5)
    assert await name(ledger, "call-8", "n8", names_max=3) == TAKEN


async def test_kept_answers_are_bounded_together(world: World) -> None:
    """What has no room is not kept, and still is done; the oldest make room when their time is over."""
    ledger = await opened(world)
    for number in range(3):
        await name(ledger, f"call-{number}", f"n{number}")
        await admitted(ledger, ask(f"call-{number}"))
        await ledger.settle(bill(f"call-{number}"))
        assert await keep(ledger, f"call-{number}", f"n{number}", b"x" * 40) == (number < 2)
        await world.advance(1)
    assert await name(ledger, "repeat", "n2") == Naming(state="done", hold_id="call-2")
    await world.advance(DAY - 3)
    assert await keep(ledger, "call-2", "n2", b"x" * 40)
    assert (await name(ledger, "repeat", "n2")).answer == b"x" * 40


async def test_names_are_of_one_account(world: World) -> None:
    """The same word of another account is another name; of an account that is not there is none."""
    ledger = await opened(world)
    await opened(world, account="rival")
    assert await name(ledger) == TAKEN
    assert await name(ledger, account="rival") == TAKEN
    before = await world.dump()
    with pytest.raises(UnknownAccount):
        await name(ledger, account="nobody")
    with pytest.raises(UnknownAccount):
        await ledger.keep_answer(account="nobody", name="n", hold_id="h", answer=b"a", bytes_max=9)
    with pytest.raises(UnknownAccount):
        await ledger.free_name(account="nobody", name="n", hold_id="h")
    assert await world.dump() == before


async def test_nothing_is_left_of_names_in_the_end(world: World) -> None:
    """A day after the last one the store has nothing of them."""
    ledger = await opened(world)
    before = await world.dump()
    if world.kind == "memory":
        pytest.skip("it keeps everything")
    for number in range(3):
        await name(ledger, f"call-{number}", f"n{number}")
        assert await keep(ledger, f"call-{number}", f"n{number}")
        await world.advance(5)
    await world.advance(DAY)
    await asyncio.sleep(0.05)
    assert (await world.dump()).keys() == before.keys()
