"""Entries that are forgotten in Redis: their real ages, and the books that are proven by what is left."""

from typing import Any

from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import Key
from tests.ledger.ledgers import DOLLAR, FREE, bill, usd


async def test_books_agree_after_entries_are_forgotten(link: SingleLink) -> None:
    """All that both sinks have had goes, page by page; balance, grants, keys and usage are proven by the rest; a
    balance that was tampered with is still found.
    """
    ledger = RedisLedger(link)
    await ledger.open_account(operation="open", account="acme", plan=FREE, signup=usd(10))
    await ledger.put_key(operation="key", key=Key(id="acme-key", account="acme"), digest="d")

    async def have(sink: str) -> None:
        page = await ledger.exportable(sink=sink, account="acme", limit=100)
        await ledger.exported(sink=sink, account="acme", entry_id=page.entries[-1].id, changes=page.changes)

    async def trim(**more: Any) -> int:
        return await ledger.trim(account="acme", sinks=["left", "right"], keep_seconds=0, **more)

    for call in "abcd":
        await ledger.settle(bill(call, DOLLAR))
    assert await trim() == 0
    await have("left")
    assert await trim() == 0
    await ledger.settle(bill("e", DOLLAR))
    await have("right")
    assert await trim(limit=2) == 2
    assert await ledger.verify("acme") == []
    assert await trim() == 3
    assert await trim() == 0, "left has not had the last one"
    assert [entry.operation for entry in await ledger.entries("acme")] == ["e"]
    assert await ledger.verify("acme") == []
    await have("left")
    assert await trim() == 1
    assert await ledger.verify("acme") == []
    await ledger.settle(bill("f", DOLLAR))
    assert await ledger.verify("acme") == []
    assert (await ledger.exportable(sink="left", account="acme", limit=9)).entries[0].operation == "f"
    await link.call("HINCRBY", "gw:{acme}:account", "balance", 7)
    assert "balance" in [drift.what for drift in await ledger.verify("acme")]


async def test_one_process_exports_to_a_sink(link: SingleLink) -> None:
    """Who has the lease keeps it as long as he asks for it; when he does not, another gets it."""
    first, second = RedisLedger(link), RedisLedger(link)
    assert await first.lease_export(sink="left", seconds=60)
    assert not await second.lease_export(sink="left", seconds=60)
    assert await second.lease_export(sink="right", seconds=60)
    assert await first.lease_export(sink="left", seconds=0.05)
    while not await second.lease_export(sink="left", seconds=60):
        pass
    assert not await first.lease_export(sink="left", seconds=60)
