"""Numbers that were made to differ by hand: found, told, and made to agree, either way, by an entry that says so."""

import asyncio
import time
from typing import Any

import pytest

from gateway.core.money import Nanos
from gateway.core.months import month_of
from gateway.ledger.rebuilding import Rebuilt, months_done, volume_hashes
from gateway.ledger.redis import RedisLedger
from gateway.ledger.repairing import Repair, Trust
from gateway.ledger.single import SingleLink
from gateway.ports import Key, Ledger
from gateway.workers.verifier import Verifier
from tests.ledger import ledgers
from tests.ledger.ledgers import DOLLAR, FREE, World, admitted, ask, bill, one_at_a_time, opened, usd

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures
ACCOUNT = "gw:{acme}:account"


async def made(link: SingleLink) -> RedisLedger:
    """An account with grants, charges and an open hold."""
    ledger = RedisLedger(link)
    await ledger.open_account(operation="open", account="acme", plan=FREE, signup=usd(10))
    await ledger.put_key(operation="key", key=Key(id="acme-key", account="acme"), digest="d")
    await ledger.grant(operation="g", account="acme", kind="promotion", amount=usd(2), expires_ms=4_000_000_000_000)
    for call in "abc":
        await ledger.settle(bill(call, DOLLAR))
    await admitted(ledger, ask("open", concurrency=one_at_a_time(3)))
    return ledger


async def repair(ledger: RedisLedger, trust: Trust, *, apply: bool = True, operation: str = "fix") -> Repair:
    """Repair the account."""
    return await ledger.repair(
        operation=operation, account="acme", trust=trust, data={"reason": "a hand slipped"}, apply=apply
    )


async def test_quick_and_whole_verification_agree_where_all_is_well(world: World) -> None:
    """The last entry is believed, or all are read: nothing differs, before the first entry and after many."""
    ledger: Ledger = await opened(world, signup=0)
    assert await ledger.verify("acme", entries=False) == []
    await ledger.grant(operation="g", account="acme", kind="goodwill", amount=usd(1))
    for call in "abcd":
        await ledger.settle(bill(call, DOLLAR // 3))
    assert await ledger.verify("acme", entries=False) == await ledger.verify("acme") == []


@pytest.mark.parametrize("trust", ["entries", "counter"])
@pytest.mark.parametrize("change", [usd(3), -usd(3), -usd(20)])
async def test_a_balance_that_was_changed(link: SingleLink, trust: Trust, change: int) -> None:
    """First it is only said what would be done. Then it is done, once: the balance is the trusted one, grants and debt
    follow, both verifications agree, calls are charged as ever, and a replay of all entries makes the same account.
    """
    ledger = await made(link)
    right = (await ledger.account("acme")).balance
    await link.call("HINCRBY", ACCOUNT, "balance", change)
    await ledger.settle(bill("after", DOLLAR))  # whose entry has a balance that is not the sum
    told = await repair(ledger, trust, apply=False)
    assert {drift.what.rpartition(".")[2] for drift in told.drift} == {"balance", "grants"}
    assert (told.entry_id, len(await ledger.entries("acme"))) == ("", 6)
    wanted = right - usd(1) + (change if trust == "counter" else 0)
    assert (told.balance, told.amount) == (wanted, change if trust == "counter" else 0)
    done = await repair(ledger, trust)
    again = await repair(ledger, trust)
    assert (done.balance, done.amount) == (told.balance, told.amount)
    assert again.drift == ()
    assert await ledger.verify("acme") == await ledger.verify("acme", entries=False) == []
    entries = await ledger.entries("acme")
    entry = entries[-1]
    assert (entry.id, entry.kind, entry.amount, entry.balance) == (done.entry_id, "correction", done.amount, wanted)
    assert (entry.data["repair"], entry.data["reason"]) == (trust, "a hand slipped")
    assert entry.data["drift"]["balance"] == [right - usd(1) + change, right - usd(1)]
    account = await ledger.account("acme")
    assert (account.balance, account.held) == (wanted, DOLLAR // 10)
    assert sum(grant.remaining for grant in account.grants) - account.debt == wanted
    rebuilt = Rebuilt(remember_ms=0)
    for each in entries:
        rebuilt.add(each)
    assert (rebuilt.balance, rebuilt.debt) == (wanted, account.debt)
    assert sum(grant.left for grant in rebuilt.grants.values()) == wanted + account.debt
    await ledger.settle(bill("open", DOLLAR))
    await ledger.grant(operation="more", account="acme", kind="goodwill", amount=usd(50))
    assert await ledger.verify("acme") == []
    assert (await ledger.account("acme")).balance == wanted + usd(49)


async def test_what_follows_from_records_is_counted_anew(link: SingleLink) -> None:
    """Holds, places, orders of ends and of burning, grants, usage and what keys spent: whatever was done to them."""
    ledger = await made(link)
    (hold,) = await ledger.holds("acme")
    wrong: list[tuple[Any, ...]] = [
        ("HINCRBY", ACCOUNT, "held", 5),
        ("HINCRBY", ACCOUNT, "open.jobs", 4),
        ("HINCRBY", "gw:{acme}:key:acme-key", "held", -5),
        ("HINCRBY", "gw:{acme}:key:acme-key", "spent", 7),
        ("ZREM", "gw:{acme}:due", "g:g00000002"),
        ("ZADD", "gw:{acme}:due", 5_000_000_000_000, "h:nobody"),
        ("DEL", "gw:{acme}:burn"),
        ("HINCRBY", "gw:{acme}:grants", "g00000001.left", 3),
    ]
    for command in wrong:
        await link.call(*command)
    found = {drift.what for drift in await ledger.verify("acme")}
    assert found == {"held", "open.jobs", "key.acme-key.held", "key.acme-key.spent", "due", "burn", "grants"}
    before = await ledger.account("acme")
    await repair(ledger, "entries")
    assert await ledger.verify("acme") == []
    assert (await ledger.account("acme")).balance == before.balance
    assert list(await ledger.holds("acme")) == [hold]
    await ledger.release(account="acme", hold_id="open")
    assert await ledger.verify("acme") == []


async def test_the_time_of_what_a_hand_took_away_holds_up_nothing(link: SingleLink) -> None:
    """A hold is gone, and a grant, and their time comes: the account is served, and can be repaired."""
    ledger = await made(link)
    await link.call("HDEL", "gw:{acme}:holds", "open")
    await link.call("ZADD", "gw:{acme}:due", 1, "h:open", 2, "g:g00000009")
    assert (await ledger.account("acme")).held == DOLLAR // 10
    assert {drift.what for drift in await ledger.verify("acme")} == {"held", "open.jobs", "key.acme-key.held"}
    await repair(ledger, "entries")
    await ledger.settle(bill("open", DOLLAR))
    assert await ledger.verify("acme") == []


async def test_an_account_that_is_busy_is_repaired_all_the_same(link: SingleLink) -> None:
    """Charges that are made while it is looked at count; nothing is written by what was seen before them."""
    ledger = await made(link)
    await link.call("HINCRBY", ACCOUNT, "balance", 99)
    stop = asyncio.Event()

    async def calls(number: int) -> int:
        count = 0
        while not stop.is_set():
            await ledger.settle(bill(f"busy-{number}-{count}", 1000))
            count += 1
            await asyncio.sleep(0.002)
        return count

    tasks = [asyncio.create_task(calls(number)) for number in range(3)]
    await asyncio.sleep(0.05)
    await repair(RedisLedger(link), "entries")
    await asyncio.sleep(0.05)
    stop.set()
    charged = sum(await asyncio.gather(*tasks))
    assert await ledger.verify("acme") == []
    assert (await ledger.account("acme")).balance == usd(12) - 3 * DOLLAR - 1000 * charged


async def test_drift_is_told_once_and_counted(link: SingleLink) -> None:
    """By an account that differs, and how much; once it is repaired no more; an account that cannot be read, too."""
    ledger = await made(link)
    for number in range(4):
        await ledger.open_account(operation="o", account=f"quiet-{number}", plan=FREE, signup=usd(1))

    class Told:
        def __init__(self) -> None:
            self.events: list[tuple[str, str]] = []

        def call_finished(self, record: Any) -> None:
            """Nobody calls here."""

        session_finished = job_looked = queue_left = delivery_tried = payment_told = export_tried = call_finished

        def event(self, name: str, *, value: int = 1, **facts: str) -> None:
            self.events.append((facts["account"], facts["what"]))

    told = Told()
    verifier = Verifier(ledger=ledger, observer=told, accounts_max=3)

    async def once_round() -> tuple[float, float]:
        for _ in range(2):
            await verifier.round()
        gauges = verifier.gauges()
        return gauges["gateway_ledger_drift_accounts"], gauges["gateway_ledger_drift_nanos"]

    assert await once_round() == (0, 0)
    await link.call("HINCRBY", ACCOUNT, "balance", 11)
    await link.call("HSET", "gw:{quiet-1}:holds", "odd", "9")
    assert await once_round() == await once_round() == (2, 11)
    assert sorted(told.events) == [("acme", "balance, grants"), ("quiet-1", "unreadable")]
    await repair(ledger, "counter")
    await link.call("DEL", "gw:{quiet-1}:holds")
    assert await once_round() == (0, 0)
    assert (await ledger.account("acme")).balance == Nanos(usd(9) + 11)


async def test_volumes_and_refunds_are_counted_anew(link: SingleLink) -> None:
    """A volume below what charges took of it, and what was given back: as the entries have them."""
    ledger = await made(link)
    await ledger.take_volume(account="acme", hold_id="v", volumes={"sku": 7})
    receipt = await ledger.settle(bill("v", DOLLAR, volumes={"sku": 7}))
    await ledger.refund(operation="r", account="acme", entry_id=receipt.entry_id, amount=Nanos(5), data={})
    month = month_of(int(time.time() * 1000))
    await link.call("HSET", f"gw:{{acme}}:volume:{month}", "sku", "2")
    await link.call("HSET", "gw:{acme}:refunds", receipt.entry_id, "1")
    done = await repair(ledger, "counter")
    assert {drift.what for drift in done.drift} == {"volume.sku", f"refunded.{receipt.entry_id}"}
    assert await ledger.verify("acme") == []
    assert await ledger.volumes("acme", month=month) == {"sku": 7}


def test_months_are_done_as_far_as_entries_know() -> None:
    """What was stored beside them may be older: a month that was given, or charged, is not done once more; volumes are
    never less than charges took.
    """
    rebuilt = Rebuilt(remember_ms=0, granted="2026-12", closed="2026-11")
    rebuilt.entered.volumes.update({("2026-12", "a"): 7, ("2026-12", "b"): 1, ("2025-01", "a"): 9})
    stale = {"granted": "2026-11", "commitment": "2026-10:2026-10=5,2027-01=0"}
    assert months_done(rebuilt, stale) == {"granted": "2026-12", "commitment": "2026-12:2026-10=5,2027-01=0"}
    assert months_done(Rebuilt(remember_ms=0), stale) == stale
    assert months_done(Rebuilt(remember_ms=0), {}) == {}
    stored = {"2026-12": {"a": "2", "b": "3"}}
    assert volume_hashes(rebuilt, stored, "2026-01") == {"2026-12": {"a": "7", "b": "3"}}
