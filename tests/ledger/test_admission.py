"""The contract of `ports.Ledger`, part one: who is admitted, who is refused, what is held."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.admission import KEY_RATE, Rate, Scaling
from gateway.core.errors import Code, OperationConflict, Refused
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ports import Admitted, Key, Plan, PlanChanged, Resource, ResourceRef
from tests.ledger import ledgers
from tests.ledger.ledgers import (
    DOLLAR,
    FREE,
    START_MS,
    World,
    admitted,
    ask,
    asking,
    bill,
    one_at_a_time,
    opened,
    refused,
    usd,
)

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures

JOB = ResourceRef(kind="transcript", id="t-1")


async def test_a_known_key_is_identified_and_no_other(world: World) -> None:
    """A digest leads to the account, the key and a hint of the plan; an unknown one to nothing."""
    ledger = await opened(world)
    identity = await ledger.identify("acme-digest")
    assert identity is not None
    assert (identity.account, identity.key_id, identity.plan) == ("acme", "acme-key", FREE)
    assert await ledger.identify("other-digest") is None


async def test_what_was_identified_is_known(world: World) -> None:
    """Without asking again, and the same; of a key that nobody has, nothing ever is."""
    ledger = await opened(world)
    identity = await ledger.identify("acme-digest")
    assert ledger.known("acme-digest") == identity
    assert await ledger.identify("other-digest") is None
    assert ledger.known("other-digest") is None


async def test_an_unknown_digest_is_looked_up_again(world: World) -> None:
    """There is no negative caching: a key works in the instant that it is made."""
    assert await world.ledger.identify("acme-digest") is None
    await opened(world)
    assert await world.ledger.identify("acme-digest") is not None


async def test_admission_sets_the_estimate_aside(world: World) -> None:
    """The hold is the estimate, and what is available shrinks by it."""
    ledger = await opened(world)
    answer = await admitted(ledger, ask(estimate=usd(2)))
    assert answer == Admitted(hold=usd(2), available=usd(48))
    account = await ledger.account("acme")
    assert (account.balance, account.held, account.open_holds) == (usd(50), usd(2), 1)
    (hold,) = await ledger.holds("acme")
    assert (hold.id, hold.amount, hold.key_id, hold.product) == ("call-1", usd(2), "acme-key", "speech-to-text")
    assert (hold.created_ms, hold.expires_ms, hold.price_version) == (START_MS, START_MS + 60_000, "2026-11-01")


async def test_a_hold_is_never_more_than_what_is_available(world: World) -> None:
    """A customer with little left is admitted with what there is, and a second call finds nothing."""
    ledger = await opened(world, signup=5)
    assert await admitted(ledger, ask("a", estimate=usd(1))) == Admitted(hold=Nanos(5), available=Nanos(0))
    assert (await refused(ledger, ask("b"))).code is Code.INSUFFICIENT_CREDIT


async def test_the_overdraft_of_the_tier_is_available_too(world: World) -> None:
    """Available is balance - holds + overdraft."""
    ledger = await opened(world, signup=0)
    assert (await refused(ledger, ask("a"))).code is Code.INSUFFICIENT_CREDIT
    assert (await admitted(ledger, ask("a", estimate=usd(1), overdraft=usd(3)))).available == usd(2)


async def test_a_product_may_ask_that_credit_covers_the_estimate(world: World) -> None:
    """With `covers_estimate` a call that could cost more than is available is refused."""
    ledger = await opened(world, signup=usd(1))
    over = ask(estimate=Nanos(usd(1) + 1), covers_estimate=True)
    assert (await refused(ledger, over)).code is Code.INSUFFICIENT_CREDIT
    assert (await admitted(ledger, replace(over, estimate=usd(1)))).available == 0


async def test_free_calls_need_no_credit_and_hold_nothing(world: World) -> None:
    """`metered` false passes by credit, budget and concurrency."""
    ledger = await opened(world, signup=0, monthly_budget=Nanos(0))
    answer = await admitted(ledger, ask(metered=False, estimate=Nanos(0), concurrency=one_at_a_time(0)))
    assert answer == Admitted(hold=Nanos(0), available=Nanos(0))
    assert await ledger.holds("acme") == []


async def test_the_guards_refuse_in_their_order(world: World) -> None:
    """With everything wrong at once, each guard answers when those before it are put right, and nothing is written."""
    ledger = await opened(world, signup=0, disabled=True, products=("other",), monthly_budget=Nanos(0))
    await ledger.change_account(operation="suspend", account="acme", status="suspended")
    request = ask(
        key_id="nobody",
        entitled=False,
        rates=(Rate(name="r", quota=0, window_seconds=30),),
        concurrency=one_at_a_time(0),
        resources=(JOB,),
    )

    async def changed(operation: str, **changes: Any) -> None:
        await ledger.change_key(operation=operation, account="acme", key_id="acme-key", changes=changes)

    async def refuses(code: Code) -> Refused:
        before = await world.dump()
        answer = await refused(ledger, request)
        assert answer.code is code
        assert await world.dump() == before
        return answer

    await refuses(Code.UNAUTHORIZED)
    request = replace(request, key_id="acme-key")
    await refuses(Code.KEY_DISABLED)
    await changed("enable", disabled=False)
    await refuses(Code.ACCOUNT_SUSPENDED)
    await ledger.change_account(operation="resume", account="acme", status="active")
    await refuses(Code.NOT_ENTITLED)  # by the tier
    request = asking(request, entitled=True)
    await refuses(Code.NOT_ENTITLED)  # by the key
    await changed("products", products=["other", "speech-to-text"])
    await refuses(Code.INSUFFICIENT_CREDIT)
    await ledger.grant(operation="top-up", account="acme", kind="purchase", amount=usd(1))
    await refuses(Code.KEY_BUDGET_EXCEEDED)
    await changed("budget", monthly_budget=usd(1))
    assert (await refuses(Code.RATE_LIMITED)).retry_after_seconds == 30
    request = asking(request, rates=(Rate(name="r", quota=1, window_seconds=30),))
    answer = await refuses(Code.TOO_MANY_CONCURRENT)
    assert (answer.details, answer.retry_after_seconds) == ({"limit": "0"}, 1)
    request = asking(request, concurrency=one_at_a_time(1))
    await refuses(Code.NOT_FOUND)
    await ledger.accept(
        account="acme",
        resource=Resource(ref=JOB, state="kept", product="speech-to-text"),
        deadline_seconds=0,
        keep_seconds=0,
    )
    await admitted(ledger, request)


async def test_unknown_accounts_are_refused_like_unknown_keys(world: World) -> None:
    """Admission does not tell an account that is not there from a key that is not."""
    assert (await refused(world.ledger, ask(account="nobody"))).code is Code.UNAUTHORIZED


async def test_an_expired_key_is_refused(world: World) -> None:
    """A key works until its expiry by the store's clock, and not at it."""
    ledger = await opened(world, expires_ms=START_MS + 1000)
    await world.advance(0.999)
    await admitted(ledger, ask("a"))
    await world.advance(0.001)
    assert (await refused(ledger, ask("b"))).code is Code.KEY_DISABLED


async def test_another_plan_than_asked_with_is_told_and_nothing_written(world: World) -> None:
    """A change of tier is in force for the next admission, whatever a process remembers."""
    ledger = await opened(world)
    assert await ledger.identify("acme-digest") is not None
    paid = Plan(tier="payg", rate_card="startup")
    await ledger.change_account(operation="upgrade", account="acme", plan=paid)
    before = await world.dump()
    assert await ledger.admit(ask()) == PlanChanged(plan=paid)
    assert await world.dump() == before
    await admitted(ledger, ask(plan=paid))
    identity = await ledger.identify("acme-digest")
    assert identity is not None
    assert identity.plan == paid


async def test_a_repeated_admission_gets_the_first_answer(world: World) -> None:
    """The same request again holds nothing more and counts in no rate; another request by that id is a conflict."""
    ledger = await opened(world)
    request = ask(rates=(Rate(name="r", quota=5, window_seconds=60),), concurrency=one_at_a_time(1))
    first = await admitted(ledger, request)
    await ledger.grant(operation="more", account="acme", kind="goodwill", amount=usd(1))
    before = await world.dump()
    await world.advance(1)
    assert await admitted(ledger, request) == first
    with pytest.raises(OperationConflict):
        await ledger.admit(replace(request, estimate=usd(2)))
    assert await world.dump() == before


@pytest.mark.parametrize("end", ["settled", "released", "expired"])
async def test_an_ended_hold_is_not_taken_again(world: World, end: str) -> None:
    """The id of a call that is over cannot be admitted once more."""
    ledger = await opened(world)
    await admitted(ledger, ask())
    if end == "settled":
        await ledger.settle(bill())
    elif end == "released":
        await ledger.release(account="acme", hold_id="call-1")
    else:
        await world.advance(60)
    with pytest.raises(OperationConflict):
        await ledger.admit(ask())


async def test_rates_are_counted_in_windows_from_the_first_request(world: World) -> None:
    """The window starts with its first counted request and starts afresh after its seconds."""
    ledger = await opened(world)
    rate = Rate(name="r", quota=2, window_seconds=10)
    states = []
    for number in range(2):
        answer = await admitted(ledger, ask(f"a{number}", rates=(rate,)))
        states.append((answer.rates[0].remaining, answer.rates[0].reset_seconds))
        await world.advance(2.5)
    assert states == [(1, 10), (0, 8)]
    assert (await refused(ledger, ask("b", rates=(rate,)))).retry_after_seconds == 5
    await world.advance(5)
    assert (await admitted(ledger, ask("b", rates=(rate,)))).rates[0].remaining == 1


async def test_all_rates_are_checked_before_any_is_counted(world: World) -> None:
    """A call that the second rate refuses does not count in the first."""
    ledger = await opened(world)
    wide, none = Rate(name="wide", quota=2, window_seconds=60), Rate(name="none", quota=0, window_seconds=60)
    await refused(ledger, ask("a", rates=(wide, none)))
    assert (await admitted(ledger, ask("a", rates=(wide,)))).rates[0].remaining == 1


async def test_each_key_has_the_rate_of_keys_for_itself(world: World) -> None:
    """One key's requests leave another's alone, whichever calls they are; those of both count in the account's rate."""
    ledger = await opened(world)
    await ledger.put_key(operation="second", key=Key(id="second", account="acme"), digest="second")
    rates = (Rate(name="account", quota=4, window_seconds=60), Rate(name=KEY_RATE, quota=2, window_seconds=10))
    for number, metered in enumerate((True, False)):
        answer = await admitted(ledger, ask(f"a{number}", rates=rates, metered=metered))
        assert [state.remaining for state in answer.rates] == [3 - number, 1 - number]
    await world.advance(4)
    no = await refused(ledger, ask("a2", rates=rates))
    assert (no.details, no.retry_after_seconds) == ({"rate": "key", "quota": "2"}, 6)
    answer = await admitted(ledger, ask("b0", key_id="second", rates=rates))
    assert [state.remaining for state in answer.rates] == [1, 1], "what was refused counted in no rate"
    assert (await admitted(ledger, ask("b1", key_id="second", rates=rates[1:]))).rates[0].remaining == 0
    await world.advance(6)
    assert (await admitted(ledger, ask("a2", rates=rates))).rates[1].remaining == 1
    await refused(ledger, ask("a3", rates=rates))
    assert not await ledger.verify("acme")


async def test_a_quota_follows_its_use(world: World) -> None:
    """A quota of ten grows by ten percent after a busy window, sinks after idle ones; answers show the one in force."""
    ledger = await opened(world)
    rate = Rate(name="streams", quota=10, window_seconds=60, scaling=Scaling())
    admissions: list[int] = []
    for idle in (0, 60, 60, 60, 90, 125, 185, 10**7):
        await world.advance(idle)
        calls = [f"{len(admissions)}-{number}" for number in range(20)]
        answers = [await ledger.admit(ask(call, metered=False, rates=(rate,))) for call in calls]
        states = [answer.rates[0] for answer in answers if isinstance(answer, Admitted)]
        admissions.append(len(states))
        assert [state.remaining for state in states] == list(range(len(states)))[::-1]
        assert {state.rate for state in states} == {replace(rate, quota=len(states))}
        details = {"rate": "streams", "quota": str(len(states))}
        assert answers[-1] == Refused(code=Code.RATE_LIMITED, details=details, retry_after_seconds=60)
    assert admissions == [10, 11, 12, 13, 14, 14, 13, 10]
    again = await refused(ledger, ask("plain", metered=False, rates=(replace(rate, scaling=None),)))
    assert again.details["quota"] == "10"


async def test_a_keys_products_hold_for_add_ons(world: World) -> None:
    """What the request uses of other products must be in the key's list too."""
    ledger = await opened(world, products=("speech-to-text", "guardrails"))
    assert (await refused(ledger, ask(add_ons=("guardrails", "understanding")))).code is Code.NOT_ENTITLED
    assert (await refused(ledger, ask(add_ons=("guard",)))).code is Code.NOT_ENTITLED
    await admitted(ledger, ask(add_ons=("guardrails",)))
    await ledger.change_key(operation="all", account="acme", key_id="acme-key", changes={"products": None})
    await admitted(ledger, ask("call-2", add_ons=("understanding",)))


async def test_free_calls_count_in_rates_and_their_repeats_do_not(world: World) -> None:
    """A repeat of a free call's admission is the same call; an hour later it is a new one."""
    ledger = await opened(world)
    free = ask(metered=False, rates=(Rate(name="r", quota=5, window_seconds=7200),))
    first = await admitted(ledger, free)
    assert first.rates[0].remaining == 4
    assert await admitted(ledger, free) == first
    with pytest.raises(OperationConflict):
        await ledger.admit(asking(free, product="other"))
    await world.advance(3600)
    assert (await admitted(ledger, free)).rates[0].remaining == 3


async def test_concurrency_counts_open_holds_of_its_class(world: World) -> None:
    """A class is full until one of its own holds ends; other classes are not touched."""
    ledger = await opened(world)
    await admitted(ledger, ask("a", concurrency=one_at_a_time(2)))
    await admitted(ledger, ask("b", concurrency=one_at_a_time(2)))
    assert (await refused(ledger, ask("c", concurrency=one_at_a_time(2)))).code is Code.TOO_MANY_CONCURRENT
    await admitted(ledger, ask("d", concurrency=one_at_a_time(1, "streams")))
    await ledger.release(account="acme", hold_id="a")
    await admitted(ledger, ask("c", concurrency=one_at_a_time(2)))
    await ledger.settle(bill("b"))
    await admitted(ledger, ask("e", concurrency=one_at_a_time(2)))
    await world.advance(60)
    await admitted(ledger, ask("f", concurrency=one_at_a_time(1)))


async def test_resources_must_be_the_accounts_own(world: World) -> None:
    """A foreign id answers exactly as an unknown id; an own one comes back with its record."""
    ledger = await opened(world)
    await opened(world, account="rival")
    mine = Resource(ref=JOB, state="kept", product="speech-to-text", facts={"seconds": 12.5})
    await ledger.accept(account="acme", resource=mine, deadline_seconds=0, keep_seconds=0)
    foreign = await refused(ledger, ask("r1", account="rival", resources=(JOB,)))
    unknown = await refused(ledger, ask("r2", account="rival", resources=(ResourceRef(kind="transcript", id="x"),)))
    assert foreign == unknown == Refused(code=Code.NOT_FOUND)
    answer = await admitted(ledger, ask("m", resources=(JOB,)))
    assert answer.resources == (replace(mine, created_ms=START_MS),)


async def test_a_keys_budget_counts_what_it_holds_and_has_spent(world: World) -> None:
    """The hold is at most the budget's rest; holds of the key count, and settled charges stay counted."""
    ledger = await opened(world, monthly_budget=usd(3))
    assert (await admitted(ledger, ask("a", estimate=usd(2)))).hold == usd(2)
    assert (await admitted(ledger, ask("b", estimate=usd(2)))).hold == usd(1)
    assert (await refused(ledger, ask("c"))).code is Code.KEY_BUDGET_EXCEEDED
    await ledger.settle(bill("a", usd(0.5)))
    await ledger.release(account="acme", hold_id="b")
    (key,) = await ledger.keys("acme")
    assert (key.spent, key.held) == (usd(0.5), 0)
    assert (await admitted(ledger, ask("c", estimate=usd(9)))).hold == usd(2.5)


@pytest.mark.parametrize(
    ("days", "fresh"), [(7.4, False), (7.5, True), (38.4, True), (98, True), (463.5, True), (829, True)]
)
async def test_a_keys_budget_starts_afresh_each_month(world: World, days: float, fresh: bool) -> None:
    """The calendar month is UTC by the store's clock: over year ends and a leap day too."""
    ledger = await opened(world, monthly_budget=usd(1))
    await admitted(ledger, ask("a", estimate=usd(1)))
    await ledger.settle(bill("a", usd(1)))
    await world.advance(days * 86_400)
    (key,) = await ledger.keys("acme")
    assert key.spent == (0 if fresh else usd(1))
    answer = await ledger.admit(ask("b"))
    assert isinstance(answer, Admitted) == fresh
    await ledger.settle(bill("b", usd(0.25)))
    (key,) = await ledger.keys("acme")
    assert key.spent == (usd(0.25) if fresh else usd(1.25))
    assert await ledger.verify("acme") == []


async def test_two_hundred_at_once_never_get_more_than_there_is(world: World) -> None:
    """With holds of a tenth of the balance exactly ten of two hundred are admitted, fifty times over."""
    ledger = await opened(world, signup=0)
    for turn in range(50):
        await ledger.grant(operation=f"top-up-{turn}", account="acme", kind="purchase", amount=usd(1))
        calls = [f"{turn}-{number}" for number in range(200)]
        answers = await asyncio.gather(*(ledger.admit(ask(call, estimate=usd(0.1))) for call in calls))
        inside = [call for call, answer in zip(calls, answers, strict=True) if isinstance(answer, Admitted)]
        assert len(inside) == 10
        assert (await ledger.account("acme")).held == usd(1)
        await asyncio.gather(*(ledger.settle(bill(call, usd(0.1))) for call in inside))
        assert (await ledger.account("acme")).balance == 0


async def test_large_amounts_stay_exact(world: World) -> None:
    """At the largest balance, beside a large overdraft, no nano-dollar is lost to rounding."""
    ledger = await opened(world, signup=BALANCE_MAX)
    odd = Nanos(8_999_999_999_999_993)
    assert await admitted(ledger, ask("a", estimate=odd)) == Admitted(hold=odd, available=Nanos(7))
    assert (await admitted(ledger, ask("b", estimate=odd))).hold == 7
    answer = await admitted(ledger, ask("c", estimate=Nanos(3), overdraft=Nanos(BALANCE_MAX)))
    assert answer == Admitted(hold=Nanos(3), available=Nanos(BALANCE_MAX - 3))
    receipt = await ledger.settle(bill("a", odd))
    assert (receipt.charged, receipt.balance) == (odd, 7)
    assert await ledger.verify("acme") == []
    assert DOLLAR == 10**9
