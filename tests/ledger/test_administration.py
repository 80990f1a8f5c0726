"""The contract of `ports.Ledger`, part three: accounts, keys, grants, and who may see what."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ledger import rules
from gateway.ports import Account, Entry, Grant, Identity, Key, Ledger, Plan, Resource, ResourceRef
from tests.ledger import ledgers
from tests.ledger.ledgers import FREE, START_MS, World, admitted, ask, bill, opened, sum_of_entries, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures


async def test_an_account_opens_with_its_signup_grant(world: World) -> None:
    """Plan, balance and grant are there at once, and the grant has its entry."""
    account = await world.ledger.open_account(operation="o", account="acme", plan=FREE, signup=usd(50))
    grant = Grant(id="g00000001", kind="signup", amount=usd(50), remaining=usd(50), created_ms=START_MS)
    assert account == Account(
        id="acme",
        plan=FREE,
        status="active",
        balance=usd(50),
        held=Nanos(0),
        debt=Nanos(0),
        open_holds=0,
        created_ms=START_MS,
        grants=(grant,),
    )
    assert await world.ledger.account("acme") == account
    (entry,) = await world.ledger.entries("acme")
    assert (entry.kind, entry.amount, entry.balance, entry.operation) == ("grant", usd(50), usd(50), "o")
    assert entry.data == {
        "kind": "signup",
        "priority": 50,
        "expires_ms": None,
        "note": "",
        "grants": {grant.id: usd(50)},
    }


async def test_an_account_may_open_with_nothing(world: World) -> None:
    """Without a signup grant there is no grant and no entry."""
    account = await world.ledger.open_account(operation="o", account="acme", plan=Plan(tier="payg"))
    assert (account.balance, account.grants) == (0, ())
    assert await world.ledger.entries("acme") == []


async def test_every_account_is_listed(world: World) -> None:
    """accounts() tells each account, and only accounts."""
    wanted = {f"account-{number}" for number in range(60)}
    for account in wanted:
        await world.ledger.open_account(operation="o", account=account, plan=FREE)
    assert {account async for account in world.ledger.accounts()} == wanted
    await world.ledger.ping()


async def test_what_keys_may_of_billing_is_kept(world: World) -> None:
    """A key may manage billing unless something else is said of it, when it is made or later."""
    ledger = await opened(world)
    for billing in ("manage", "read", "none"):
        key = Key(id=billing, account="acme", billing=billing)
        assert (await ledger.put_key(operation=f"k-{billing}", key=key, digest=billing)).billing == billing
    changed = await ledger.change_key(operation="c", account="acme", key_id="none", changes={"billing": "manage"})
    assert changed.billing == "manage"
    assert {key.id: key.billing for key in await ledger.keys("acme")} == {
        "acme-key": "manage", "manage": "manage", "read": "read", "none": "manage",
    }  # fmt: skip
    for wrong in ("", "all", None):
        with pytest.raises(LedgerRefused):
            await ledger.change_key(operation="d", account="acme", key_id="read", changes={"billing": wrong})


async def test_accounts_are_read_in_order_a_page_at_a_time(world: World) -> None:
    """Pages follow each other in the order of ids, also of those alone that have a text in them."""
    names = [f"{word}-{number}" for number in range(4) for word in ("b", "a", "ab")]
    for account in names:
        await world.ledger.open_account(operation="o", account=account, plan=FREE)
    for text, wanted in (("", sorted(names)), ("b-", sorted(name for name in names if "b-" in name)), ("c", [])):
        seen: list[str] = []
        while page := await world.ledger.accounts_after(seen[-1] if seen else "", limit=3, containing=text):
            assert len(page) <= 3
            seen += page
        assert seen == wanted
    assert await world.ledger.accounts_after("b", limit=2) == ["b-0", "b-1"]


REPEATS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("open_account", {"account": "new", "plan": FREE, "signup": usd(1)}, {"signup": usd(2)}),
    ("change_account", {"account": "acme", "plan": Plan(tier="payg")}, {"plan": Plan(tier="payg", rate_card="x")}),
    ("change_account", {"account": "acme", "status": "suspended"}, {"status": "active"}),
    ("grant", {"account": "acme", "kind": "purchase", "amount": usd(5), "note": "card"}, {"amount": usd(6)}),
    ("put_key", {"key": Key(id="k2", account="acme", name="two"), "digest": "d2"}, {"digest": "d3"}),
    ("change_key", {"account": "acme", "key_id": "acme-key", "changes": {"name": "x"}}, {"changes": {"name": "y"}}),
    ("change_key", {"account": "acme", "key_id": "acme-key", "changes": {"billing": "read"}}, {"changes": {}}),
]


@pytest.mark.parametrize(("verb", "arguments", "other"), REPEATS)
async def test_a_repeat_gets_the_first_answer_and_other_content_is_a_conflict(
    world: World, verb: str, arguments: dict[str, Any], other: dict[str, Any]
) -> None:
    """However much has happened in between, a repeat answers as the first time did; nothing is written."""
    ledger = await opened(world)
    operate: Callable[..., Awaitable[object]] = getattr(ledger, verb)
    first = await operate(operation="op", **arguments)
    await ledger.grant(operation="between", account="acme", kind="goodwill", amount=usd(3))
    await ledger.change_key(operation="between-2", account="acme", key_id="acme-key", changes={"name": "between"})
    before = await world.dump()
    assert await operate(operation="op", **arguments) == first
    with pytest.raises(OperationConflict):
        await operate(operation="op", **arguments | other)
    assert await world.dump() == before


async def test_one_operation_id_is_one_operation(world: World) -> None:
    """An id that was used for one verb is a conflict for another."""
    ledger = await opened(world)
    await ledger.grant(operation="op", account="acme", kind="goodwill", amount=usd(3))
    with pytest.raises(OperationConflict):
        await ledger.change_account(operation="op", account="acme", status="suspended")


async def test_an_account_exists_once(world: World) -> None:
    """Another operation cannot open it again."""
    ledger = await opened(world)
    before = await world.dump()
    with pytest.raises(LedgerRefused):
        await ledger.open_account(operation="other", account="acme", plan=FREE, signup=usd(50))
    assert await world.dump() == before


@pytest.mark.parametrize("account", ["", "a{b}", "a|b", "a b", "x" * 129, "ä", ":"])
async def test_ids_are_plain_words(world: World, account: str) -> None:
    """What would make an ambiguous key name is refused for accounts and keys."""
    ledger = await opened(world)
    with pytest.raises(LedgerRefused):
        await ledger.open_account(operation="o", account=account, plan=FREE)
    with pytest.raises(LedgerRefused):
        await ledger.put_key(operation="o", key=Key(id=account, account="acme"), digest="d")


async def test_an_upgrade_keeps_what_is_left_of_the_grant(world: World) -> None:
    """Changing the tier moves no money."""
    ledger = await opened(world)
    await ledger.settle(bill("call-1", usd(20)))
    account = await ledger.change_account(operation="up", account="acme", plan=Plan(tier="payg"))
    assert (account.plan.tier, account.balance) == ("payg", usd(30))
    (grant,) = account.grants
    assert (grant.kind, grant.amount, grant.remaining) == ("signup", usd(50), usd(30))


async def test_no_account_holds_more_than_the_most(world: World) -> None:
    """Up to $9,000,000, to the nano-dollar; holds do not make room, debt does."""
    ledger = await opened(world, signup=1)

    async def give(operation: str, amount: int) -> Grant:
        return await ledger.grant(operation=operation, account="acme", kind="purchase", amount=Nanos(amount))

    before = await world.dump()
    for amount in (BALANCE_MAX, BALANCE_MAX + 1, 2**63):
        with pytest.raises(LedgerRefused):
            await give("too-much", amount)
    assert await world.dump() == before
    await give("all", BALANCE_MAX - 1)
    await admitted(ledger, ask())
    with pytest.raises(LedgerRefused):
        await give("one-more", 1)
    assert (await ledger.account("acme")).balance == BALANCE_MAX
    await ledger.settle(bill("x", BALANCE_MAX + 5))
    assert (await give("again", BALANCE_MAX)).remaining == BALANCE_MAX - 5


@pytest.mark.parametrize(
    "wrong", [{"amount": 0}, {"amount": -5}, {"expires_ms": START_MS}, {"expires_ms": 10**14}, {"priority": 10**9}]
)
async def test_a_grant_that_makes_no_sense_is_refused(world: World, wrong: dict[str, int]) -> None:
    """Nothing, less than nothing, over already: refused, and nothing is written."""
    ledger = await opened(world)
    before = await world.dump()
    values: dict[str, Any] = {"operation": "g", "account": "acme", "kind": "goodwill", "amount": usd(1)}
    with pytest.raises(LedgerRefused):
        await ledger.grant(**values | wrong)
    assert await world.dump() == before


async def test_what_is_left_of_a_grant_is_taken_off_once(world: World) -> None:
    """One that was given by mistake: what was spent of it is spent, others stay, and a repeat takes nothing more."""
    ledger = await opened(world)
    its: dict[str, Any] = {"account": "acme", "kind": "goodwill", "priority": 10}
    wrong = await ledger.grant(operation="g-1", amount=usd(1000), expires_ms=START_MS + 86_400_000, **its)
    await ledger.grant(operation="g-2", amount=usd(3), **its)
    await ledger.settle(bill("call-1", usd(20)))
    ended = partial(ledger.end_grant, account="acme", grant_id=wrong.id, data={"reason": "mistyped", "actor": "ops"})
    receipt = await ended(operation="end")
    assert (receipt.charged, receipt.balance, receipt) == (usd(980), usd(53), await ended(operation="end"))
    account = await ledger.account("acme")
    assert (account.balance, [grant.remaining for grant in account.grants]) == (usd(53), [usd(3), usd(50)])
    (entry,) = await ledger.entries("acme", newest_first=True, limit=1)
    explained = {"grants": {wrong.id: usd(980)}, "reason": "mistyped", "actor": "ops"}
    assert (entry.id, entry.kind, entry.amount, entry.data) == (receipt.entry_id, "grant_expiry", usd(-980), explained)
    for name, grant_id in (("end-2", wrong.id), ("end-3", "g00000009"), ("end-4", f"{account.grants[0].id}.left")):
        with pytest.raises(LedgerRefused):
            await ended(operation=name, grant_id=grant_id)
    with pytest.raises(OperationConflict):
        await ended(operation="end", grant_id=account.grants[0].id)
    await world.advance(86_400)
    await ledger.sweep("acme")
    assert ((await ledger.account("acme")).balance, await ledger.verify("acme")) == (usd(53), [])


async def test_keys_are_made_listed_and_changed(world: World) -> None:
    """Everything that a key carries comes back as it was put, and as it was changed."""
    ledger = await opened(world)
    made = await ledger.put_key(
        operation="k",
        key=Key(
            id="k2", account="acme", name="café", expires_ms=START_MS + 5, products=("a", "b"), monthly_budget=usd(2)
        ),
        digest="d2",
    )
    assert made == Key(
        id="k2",
        account="acme",
        name="café",
        expires_ms=START_MS + 5,
        products=("a", "b"),
        monthly_budget=usd(2),
        created_ms=START_MS,
    )
    assert [key.id for key in await ledger.keys("acme")] == ["acme-key", "k2"]
    again: dict[str, Any] = {"operation": "k", "key": replace(made, created_ms=0), "digest": "d2"}
    await world.advance(1)
    assert await ledger.put_key(**again) == made  # a repeat may come when it is over, another key may not be
    with pytest.raises(LedgerRefused):
        await ledger.put_key(**again | {"operation": "late", "key": replace(made, id="k3"), "digest": "d3"})
    changes = {"name": "", "disabled": True, "expires_ms": None, "products": [], "monthly_budget": None}
    changed = await ledger.change_key(operation="c", account="acme", key_id="k2", changes=changes)
    assert changed == Key(id="k2", account="acme", disabled=True, products=(), created_ms=START_MS)
    assert (await ledger.keys("acme"))[1] == changed
    changed = await ledger.change_key(operation="c2", account="acme", key_id="k2", changes={"products": None})
    assert changed.products is None


async def test_a_key_is_made_and_changed_in_time(world: World) -> None:
    """From a given time on neither is done, but for a repeat, and nothing is written; what is no time is refused."""
    ledger = await opened(world)
    made: dict[str, Any] = {"key": Key(id="k2", account="acme", expires_ms=START_MS + 9_000), "digest": "d2"}
    changed: dict[str, Any] = {"account": "acme", "key_id": "acme-key", "changes": {"expires_ms": START_MS + 5}}
    deeds: tuple[tuple[Any, dict[str, Any]], ...] = ((ledger.put_key, made), (ledger.change_key, changed))
    firsts = [await deed(operation=deed.__name__, **its, before_ms=START_MS + 5) for deed, its in deeds]
    await world.advance(1)
    before = await world.dump()
    late = {"put_key": {"key": Key(id="k3", account="acme"), "digest": "d3"}, "change_key": {}}
    for (deed, its), first in zip(deeds, firsts, strict=True):
        assert await deed(operation=deed.__name__, **its, before_ms=START_MS + 5) == first
        for wrong in (START_MS + 5, 0, -1, rules.EXPIRES_MS_MAX + 1):
            with pytest.raises(LedgerRefused):
                await deed(operation="late", **its | late[deed.__name__], before_ms=wrong)
    assert await world.dump() == before


@pytest.mark.parametrize(
    "changes",
    [{"spent": 0}, {"id": "x"}, {"disabled": "yes"}, {"monthly_budget": -1}, {"products": "abc"}, {"expires_ms": -1}],
)
async def test_a_key_takes_no_other_changes(world: World, changes: dict[str, Any]) -> None:
    """Unknown fields and values are refused, and so is an unknown key."""
    ledger = await opened(world)
    before = await world.dump()
    with pytest.raises(LedgerRefused):
        await ledger.change_key(operation="c", account="acme", key_id="acme-key", changes=changes)
    with pytest.raises(LedgerRefused):
        await ledger.change_key(operation="c", account="acme", key_id="nobody", changes={"name": "x"})
    assert await world.dump() == before


async def test_a_digest_and_a_key_id_belong_to_one_key(world: World) -> None:
    """A digest in use anywhere, or an id in use in the account, is refused, and nothing is written."""
    ledger = await opened(world)
    await opened(world, account="rival")
    before = await world.dump()
    for key, digest in (
        (Key(id="new", account="rival"), "acme-digest"),
        (Key(id="new", account="acme"), "acme-digest"),
        (Key(id="acme-key", account="acme"), "new-digest"),
    ):
        with pytest.raises(LedgerRefused):
            await ledger.put_key(operation="other", key=key, digest=digest)
    assert await world.dump() == before
    assert await ledger.identify("new-digest") is None


async def test_a_key_goes_over_to_another_digest(world: World) -> None:
    """It is found by the new one for ever, by the old one for a week, and is the same key; again, and back, alike."""
    ledger = await opened(world)
    await ledger.put_key(operation="k2", key=Key(id="second", account="acme"), digest="second-digest")
    for digest, new in (("acme-digest", "acme-new"), ("second-digest", "second-new")):
        found = await ledger.identify(digest) if digest == "acme-digest" else None
        identity = found or Identity(account="acme", key_id="second", plan=FREE)
        for _ in range(2):
            await ledger.move_key(identity=identity, old=digest, new=new, pepper="p2")
        assert await ledger.identify(new) == identity
    assert {key.id: key.pepper for key in await ledger.keys("acme")} == {"acme-key": "p2", "second": "p2"}
    await admitted(ledger, ask())
    await world.advance(rules.MOVED_SECONDS)
    assert await ledger.identify("second-digest") is None
    await ledger.put_key(operation="k3", key=Key(id="third", account="acme"), digest="third-digest")
    third = Identity(account="acme", key_id="third", plan=FREE)
    await ledger.move_key(identity=third, old="third-digest", new="third-new", pepper="p2")
    await ledger.move_key(identity=third, old="third-new", new="third-digest", pepper="p1")
    await world.advance(rules.MOVED_SECONDS)
    assert await ledger.identify("third-digest") == third
    assert await ledger.identify("third-new") is None
    assert [key.pepper for key in await ledger.keys("acme") if key.id == "third"] == ["p1"]
    with pytest.raises(LedgerRefused):
        await ledger.move_key(identity=replace(third, key_id="none"), old="x", new="y", pepper="p")


UNKNOWN: list[Callable[[Ledger], Awaitable[object]]] = [
    lambda ledger: ledger.accept(
        account="x",
        resource=Resource(ref=ResourceRef(kind="k", id="i"), state="kept", product="p"),
        deadline_seconds=1,
        keep_seconds=1,
    ),
    lambda ledger: ledger.settle(bill(account="x")),
    lambda ledger: ledger.release(account="x", hold_id="h"),
    lambda ledger: ledger.extend(account="x", hold_ids=["h"], lease_seconds=1),
    lambda ledger: ledger.sweep("x"),
    lambda ledger: ledger.change_account(operation="o", account="x", status="active"),
    lambda ledger: ledger.grant(operation="o", account="x", kind="goodwill", amount=usd(1)),
    lambda ledger: ledger.put_key(operation="o", key=Key(id="k", account="x"), digest="d"),
    lambda ledger: ledger.change_key(operation="o", account="x", key_id="k", changes={"name": "n"}),
    lambda ledger: ledger.account("x"),
    lambda ledger: ledger.keys("x"),
    lambda ledger: ledger.holds("x"),
    lambda ledger: ledger.entries("x"),
    lambda ledger: ledger.verify("x"),
]


@pytest.mark.parametrize("use", UNKNOWN, ids=range(len(UNKNOWN)))
async def test_an_account_that_is_not_there(world: World, use: Callable[[Ledger], Awaitable[object]]) -> None:
    """Every method on it raises UnknownAccount and makes nothing."""
    before = await world.dump()
    with pytest.raises(UnknownAccount):
        await use(world.ledger)
    assert await world.dump() == before


async def test_tenants_do_not_touch_each_other(world: World) -> None:
    """The same hold, operation and key ids in two accounts are two of each."""
    ledger = await opened(world)
    await opened(world, account="rival", signup=usd(1))
    await admitted(ledger, ask("same", estimate=usd(1)))
    await admitted(ledger, ask("same", account="rival", estimate=usd(1)))
    await ledger.settle(bill("same", usd(2)))
    assert (await ledger.account("rival")).held == usd(1)
    await ledger.grant(operation="same", account="acme", kind="goodwill", amount=usd(1))
    await ledger.grant(operation="same", account="rival", kind="goodwill", amount=usd(2))
    assert [await sum_of_entries(ledger, account) for account in ("acme", "rival")] == [usd(49), usd(3)]


@pytest.mark.parametrize("after", ["x", "1", "1-0-0", "(1-0", "-"])
async def test_entries_follow_an_entrys_id_and_nothing_else(world: World, after: str) -> None:
    """A cursor that entries() did not give is refused."""
    ledger = await opened(world)
    with pytest.raises(LedgerRefused):
        await ledger.entries("acme", after=after)
    with pytest.raises(LedgerRefused):
        await ledger.entries("acme", before=after)
    assert await ledger.entries("acme", limit=0) == []


async def test_entries_are_read_from_either_end(world: World) -> None:
    """In their order or in reverse, between two ids, so many at a time: nothing is left out or told twice."""
    ledger = await opened(world)
    for number in range(6):
        await ledger.grant(operation=f"g{number}", account="acme", kind="goodwill", amount=usd(1))
    every = list(await ledger.entries("acme"))
    newest = every[::-1]
    assert list(await ledger.entries("acme", newest_first=True)) == newest
    pages: list[Entry] = []
    before = ""
    while page := await ledger.entries("acme", before=before, limit=3, newest_first=True):
        pages += page
        before = page[-1].id
    assert pages == newest
    assert list(await ledger.entries("acme", after=every[1].id, before=every[5].id)) == every[2:5]
    assert list(await ledger.entries("acme", after=every[1].id, before=every[5].id, limit=2, newest_first=True)) == [
        every[4], every[3],
    ]  # fmt: skip
    assert await ledger.entries("acme", before=every[0].id, newest_first=True) == []
    assert await ledger.entries("acme", after=every[5].id, before=every[1].id) == []
    assert await ledger.entries("acme", before="0-0", newest_first=True) == []
