"""What a sink of the export has not had of an account: told in order, remembered, and forgotten only behind it."""

import pytest

from gateway.core.errors import LedgerRefused, UnknownAccount
from gateway.ports import Key, Ledger
from tests.ledger import ledgers
from tests.ledger.ledgers import DOLLAR, RedisWorld, World, bill, opened, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures
DAY = 86_400


async def charged(ledger: Ledger, *calls: str, account: str = "acme") -> None:
    """So many charges."""
    for call in calls:
        await ledger.settle(bill(call, DOLLAR // 10, account=account))


async def told(ledger: Ledger, sink: str, *, limit: int = 100, account: str = "acme") -> list[str]:
    """The operations that the sink is told of next, and now has."""
    page = await ledger.exportable(sink=sink, account=account, limit=limit)
    last = page.entries[-1].id if page.entries else ""
    await ledger.exported(sink=sink, account=account, entry_id=last, changes=page.changes)
    return [entry.operation for entry in page.entries]


async def test_each_sink_is_told_everything_once_in_order(world: World) -> None:
    """Page by page, from where it is; another sink has a place of its own; a sink that is rewound begins anew."""
    ledger = await opened(world)
    await charged(ledger, "a", "b", "c")
    page = await ledger.exportable(sink="left", account="acme", limit=2)
    assert [entry.operation for entry in page.entries] == ["open", "a"]
    assert page.more
    assert page.standing is None
    assert await told(ledger, "left", limit=2) == ["open", "a"]
    assert await told(ledger, "left", limit=2) == ["b", "c"]
    assert await told(ledger, "left") == []
    assert await told(ledger, "right") == ["open", "a", "b", "c"]
    await charged(ledger, "d")
    page = await ledger.exportable(sink="left", account="acme", limit=1)
    assert (page.entries, page.more) == (tuple((await ledger.entries("acme"))[-1:]), False)
    await ledger.rewind_export(sink="left", account="acme")
    assert await told(ledger, "left") == ["open", "a", "b", "c", "d"]
    with pytest.raises(UnknownAccount):
        await ledger.exportable(sink="left", account="nobody", limit=1)
    with pytest.raises(LedgerRefused):
        await ledger.exported(sink="left", account="acme", entry_id="the last one", changes=0)


async def test_accounts_wait_for_each_sink_until_they_are_claimed(world: World) -> None:
    """Those that were changed through this ledger, since they were noted; those first that wait longest."""
    ledger = await opened(world)
    await ledger.note_exports()
    assert (await ledger.export_lag(sink="left")).accounts == 0, "there are no sinks yet"
    ledger.export_to(["left", "right"])
    await charged(ledger, "a")
    await ledger.note_exports()
    await world.advance(60)
    await opened(world, account="umbrella")
    await charged(ledger, "b")
    await ledger.note_exports()
    lag = await ledger.export_lag(sink="left")
    assert (lag.accounts, lag.seconds) == (2, 60)
    assert await ledger.claim_exports(sink="left", limit=1) == {"acme": world.now - 60_000}
    assert await ledger.claim_exports(sink="left", limit=10) == {"umbrella": world.now}
    assert await ledger.claim_exports(sink="left", limit=10) == {}
    await ledger.put_back_exports(sink="right", accounts={"umbrella": world.now - 90_000, "acme": world.now})
    assert list(await ledger.claim_exports(sink="right", limit=10)) == ["umbrella", "acme"]
    assert (await ledger.export_lag(sink="right")).seconds == 0
    await ledger.end_grant(operation="e", account="acme", grant_id="g00000001", data={"reason": "mistyped"})
    await ledger.note_exports()
    assert "acme" in await ledger.claim_exports(sink="left", limit=10)


async def test_who_asks_all_accounts_finds_those_that_are_behind(world: World) -> None:
    """By a new entry, or by a change that has none: a key that was made."""
    ledger = await opened(world)
    assert await ledger.export_behind(sink="left", account="acme")
    assert not await ledger.export_behind(sink="left", account="nobody")
    await told(ledger, "left")
    assert not await ledger.export_behind(sink="left", account="acme")
    assert await ledger.export_behind(sink="right", account="acme")
    await charged(ledger, "a")
    assert await ledger.export_behind(sink="left", account="acme")
    await told(ledger, "left")
    await ledger.put_key(operation="k2", key=Key(id="other", account="acme"), digest="d2")
    assert await ledger.export_behind(sink="left", account="acme")
    assert await told(ledger, "left") == []
    assert not await ledger.export_behind(sink="left", account="acme")


async def test_entries_are_forgotten_only_past_every_sink_and_their_age(world: World) -> None:
    """Then the books still agree, what is left is told as before, and what comes after is charged as ever."""
    ledger = await opened(world, signup=usd(100))
    await charged(ledger, "a", "b")
    await world.advance(70 * DAY)
    await charged(ledger, "c")

    async def trim(keep_days: int = 62, limit: int = 1000) -> int:
        return await ledger.trim(
            account="acme", sinks=["left", "right"], keep_seconds=keep_days * DAY, limit=limit
        )  # fmt: skip

    assert await trim() == 0, "no sink has had anything"
    assert await told(ledger, "left") == ["open", "a", "b", "c"]
    assert await trim() == 0, "right has had nothing"
    assert await told(ledger, "right", limit=2) == ["open", "a"]
    assert await trim(keep_days=80) == 0, "nothing is that old"
    if isinstance(world, RedisWorld):
        return  # its entries are named by the server's own time, which is not the test's
    assert await trim(limit=1) == 1
    assert await trim() == 1
    assert await trim() == 0
    assert [entry.operation for entry in await ledger.entries("acme")] == ["b", "c"]
    assert await told(ledger, "right") == ["b", "c"]
    assert await trim() == 1
    assert await told(ledger, "left") == []
    await charged(ledger, "d")
    assert [entry.operation for entry in await ledger.entries("acme")] == ["c", "d"]
    assert await ledger.verify("acme") == []
    assert (await ledger.account("acme")).balance == usd(100) - 4 * DOLLAR // 10
