"""A ledger that was lost, made anew from what was exported: the same books, and nothing is done twice."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.errors import LedgerRefused, OperationConflict
from gateway.core.money import Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.months import month_of
from gateway.edge.archiving import differences, restore
from gateway.exports.archive import Archive
from gateway.exports.postgres import PostgresSink
from gateway.ledger.link import LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import Entry, Key, Plan, Watch
from gateway.settings.exports import Exports, JsonlExport, PostgresExport
from tests.exports.stage import Stage
from tests.ledger.ledgers import DOLLAR, admitted, ask, bill, usd

FAR_MS = 4_000_000_000_000


async def books(ledger: RedisLedger, account: str) -> dict[str, Any]:
    """All that must be as it was."""
    found = await ledger.account(account)
    return {
        "account": replace(found, held=Nanos(0), open_holds=0),
        "keys": [replace(key, held=Nanos(0)) for key in await ledger.keys(account)],
        "entries": list(await ledger.entries(account, limit=10_000)),
        "usage": list(await ledger.usage(account, since="2026-01-01", until="2027-01-31")),
        "volumes": [await ledger.volumes(account, month=f"2026-{month}") for month in ("11", "12")],
        "commitment": await ledger.commitment(account),
        "autopay": await ledger.autopay(account),
        "watches": list(await ledger.watches(account)),
        "changes": list(await ledger.changes([account])),
    }


async def eventful(ledger: RedisLedger) -> None:
    """An account to which much has happened."""
    await ledger.open_account(operation="open", account="acme", plan=Plan(tier="free"), signup=usd(5))
    for name in ("acme-key", "other"):
        await ledger.put_key(operation=name, key=Key(id=name, account="acme"), digest=f"{name}-digest")
    await ledger.grant(operation="g1", account="acme", kind="promotion", amount=usd(2), priority=9, expires_ms=FAR_MS)
    await ledger.settle(bill("a", usd(1)))
    await ledger.settle(bill("b", usd(8), key_id="other"))  # two of it become debt
    await ledger.grant(operation="g2", account="acme", kind="goodwill", amount=usd(1), note="takes no debt off whole")
    await ledger.credit_payment(account="acme", provider="stripe", payment="pi_1", amount=usd(50))
    for source, amount in (("re_1", usd(4)), ("re_2", usd(3))):
        await ledger.reverse_payment(
            account="acme", provider="stripe", payment="pi_1", source=source, amount=amount, final=False, why="refund"
        )
    await ledger.correct(operation="c1", account="acme", key_id="acme-key", amount=usd(0.5), data={"reason": "late"})
    await ledger.correct(operation="c2", account="acme", key_id="", amount=Nanos(-usd(0.25)), data={"reason": "more"})
    charge = (await ledger.entries("acme"))[2]
    await ledger.refund(operation="r1", account="acme", entry_id=charge.id, amount=usd(0.4), data={"reason": "sorry"})
    await ledger.take_volume(account="acme", hold_id="v", volumes={"tts": 1_500_000})
    await ledger.settle(bill("v", usd(1), volumes={"tts": 1_500_000}))
    await ledger.change_account(operation="up", account="acme", tier="payg", rate_card="gold")
    await ledger.change_key(operation="off", account="acme", key_id="other", changes={"disabled": True, "name": "old"})
    await ledger.put_watch(account="acme", watch=Watch(id="low", kind="balance_below", amount=usd(1), channel="hook"))
    await ledger.set_autopay(
        operation="auto", account="acme",
        changes={"enabled": True, "threshold": usd(5), "target": usd(50), "provider": "stripe", "customer": "cus_1"},
    )  # fmt: skip
    month = month_of(int(time.time() * 1000))
    await ledger.commit(operation="commit", account="acme", month=month, amount=usd(100))
    plan, grant = Plan(tier="payg", rate_card="gold"), MonthlyGrant(amount=usd(3))
    await ledger.grant_monthly(account="acme", plan=plan, month=month, grant=grant, expires_ms=FAR_MS)
    identity = await ledger.identify("acme-key-digest")
    assert identity is not None
    await ledger.move_key(identity=identity, old="acme-key-digest", new="newer-digest", pepper="p2")
    await admitted(ledger, ask("open", plan=Plan(tier="payg", rate_card="gold")))


async def test_a_lost_ledger_is_made_anew(link: SingleLink, database: PostgresExport) -> None:
    """Every number, word and entry is as it was, but for open holds; both proofs hold; what was done is not done again
    by a repeat: a charge from a spool, a payment that is told twice, a refund, a grant; and the next call is charged.
    """
    stage = Stage(link, "postgres")
    ledger = stage.ledger
    await eventful(ledger)
    await stage.traffic(3, 5)
    exporter = stage.exporter(PostgresSink(database))
    await ledger.note_exports()
    await exporter.round()
    await exporter.close()
    assert exporter.caught_up
    before = {account: await books(ledger, account) for account in ("acme", *stage.made)}
    exports = Exports(postgres=database, jsonl=JsonlExport(directory=None))  # type: ignore[arg-type]
    async with Archive.open(database) as archive:
        with pytest.raises(LedgerRefused, match="has accounts"):
            await restore(ledger, archive, exports)
        await link.call("FLUSHALL")
        ledger = RedisLedger(link)
        done = await restore(ledger, archive, exports)
        assert (len(done.accounts), done.there, done.nameless) == (4, 0, ())
        assert sum(one.keys for one in done.accounts) == 5
        assert [(one.keys_lost, one.wrong, one.payment) for one in done.accounts] == [([], "", "")] * 4
        for account, was in before.items():
            assert await books(ledger, account) == was
            assert await ledger.verify(account) == []
            assert await differences(ledger, archive, account) == []
        with pytest.raises(LedgerRefused, match="has accounts"):
            await restore(ledger, archive, exports)
    (looked,) = await ledger.deliveries("acme")
    assert (looked.id, looked.channel) == ("autopay:restored", "autopay")
    assert await ledger.deliveries(next(iter(stage.made))) == [], "it has no autopay"
    assert not await ledger.export_behind(sink="postgres", account="acme")
    assert await ledger.export_behind(sink="jsonl", account="acme"), "another sink goes on where it was"

    identity = await ledger.identify("newer-digest")
    assert identity is not None
    assert (identity.account, identity.key_id) == ("acme", "acme-key")
    receipt = await ledger.settle(bill("b", usd(8), key_id="other"))
    assert (receipt.charged, receipt.entry_id) == (usd(8), before["acme"]["entries"][3].id)
    with pytest.raises(OperationConflict):
        await ledger.settle(bill("b", usd(7), key_id="other"))
    await ledger.credit_payment(account="acme", provider="stripe", payment="pi_1", amount=usd(50))
    for source, amount in (("re_1", usd(4)), ("re_2", usd(3))):
        taken = await ledger.reverse_payment(
            account="acme", provider="stripe", payment="pi_1", source=source, amount=amount, final=False, why="refund"
        )
        assert taken == usd(7)
    again = await ledger.grant(
        operation="g1", account="acme", kind="promotion", amount=usd(2), priority=9, expires_ms=FAR_MS
    )
    assert again.id == "g00000002"
    with pytest.raises(OperationConflict):
        await ledger.correct(operation="c1", account="acme", key_id="acme-key", amount=usd(0.5), data={})
    charge = before["acme"]["entries"][2]
    with pytest.raises(LedgerRefused, match=r"0\.6"):
        await ledger.refund(operation="r2", account="acme", entry_id=charge.id, amount=usd(0.7), data={})
    assert await books(ledger, "acme") == before["acme"]

    plan = Plan(tier="payg", rate_card="gold")
    await admitted(ledger, ask("next", plan=plan))
    await ledger.settle(bill("next", DOLLAR // 10))
    await ledger.grant(operation="g9", account="acme", kind="goodwill", amount=usd(1))
    assert (await ledger.account("acme")).balance == before["acme"]["account"].balance + usd(0.9)
    assert await ledger.verify("acme") == []


async def test_nothing_is_no_ledger(link: SingleLink, database: PostgresExport) -> None:
    """A database without accounts is not taken for the ledger that was lost, and no restoration has begun."""
    stage = Stage(link, "postgres")
    exporter = stage.exporter(PostgresSink(database))
    await exporter.round()
    await exporter.close()
    async with Archive.open(database) as archive:
        with pytest.raises(LedgerRefused, match="no account"):
            await restore(stage.ledger, archive, Exports(postgres=database))
    assert await link.call("KEYS", "*restor*") == []


async def test_a_restoration_that_was_broken_off_goes_on(link: SingleLink, database: PostgresExport) -> None:
    """Accounts that are there stay, the one that was begun is begun anew, and entries beyond `keep_days` stay away."""
    stage = Stage(link, "postgres")
    await stage.traffic(4, 30)
    exporter = stage.exporter(PostgresSink(database))
    await stage.ledger.note_exports()
    await exporter.round()
    await exporter.close()
    before = {account: await books(stage.ledger, account) for account in stage.made}
    await link.call("FLUSHALL")

    class Broken(Archive):
        async def entries(self, account: str) -> AsyncIterator[Entry]:
            number = 0
            async for entry in super().entries(account):
                number += 1
                if account == "account-2" and number == 20:
                    raise ConnectionError("gone")
                yield entry

    async with Broken.open(database) as archive:
        with pytest.raises(Exception, match="gone"):
            await restore(stage.ledger, archive, Exports(postgres=database))
    async with Archive.open(database) as archive:
        done = await restore(stage.ledger, archive, Exports(postgres=database))
    assert (len(done.accounts), done.there) == (2, 2)
    for account, was in before.items():
        assert await books(stage.ledger, account) == was
        assert await stage.ledger.verify(account) == []


async def test_a_backup_that_served_for_a_while(link: SingleLink, database: PostgresExport) -> None:
    """What was charged before it was put back, and after, comes together; the gap is named, and repaired by a word."""
    stage = Stage(link, "postgres")
    ledger, exporter = stage.ledger, stage.exporter(PostgresSink(database))

    async def exported() -> None:
        await ledger.note_exports()
        await exporter.round()

    await stage.traffic(1, 3)
    await exported()
    names = cast("list[bytes]", await link.call("KEYS", "*"))
    backup = {name: cast("bytes", await link.call("DUMP", name)) for name in names}
    await stage.traffic(1, 2)
    await exported()
    await link.call("FLUSHALL")
    for name, value in backup.items():
        await link.call("RESTORE", name, 0, value)
    ((account, made),) = stage.made.items()
    assert await ledger.verify(account) == [], "its books agree"
    async with Archive.open(database) as archive:
        await stage.traffic(1, 1)
        first = (await ledger.entries(account, limit=1, newest_first=True))[0].id
        await exported()
        await exporter.close()
        assert await differences(ledger, archive, account), "but not with the rows"
        await link.call("FLUSHALL")
        (restored,) = (await restore(ledger, archive, Exports(postgres=database))).accounts
    assert (restored.wrong, restored.balance) == (f"entry.{first}.balance", usd(100) - 6 * (DOLLAR // 20))
    assert [entry.operation for entry in await ledger.entries(account)] == made
    assert await ledger.verify(account)
    await ledger.repair(operation="r", account=account, trust="entries", data={"reason": "a backup"}, apply=True)
    assert await ledger.verify(account) == []
    assert (await ledger.account(account)).balance == restored.balance


operations = st.lists(
    st.tuples(
        st.sampled_from(["charge", "charge", "grant", "expiring", "back", "more", "pay", "reverse"]),
        st.integers(1, 3 * DOLLAR),
    ),
    max_size=25,
)


@given(steps=operations, forget=st.integers(0, 12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_history_is_made_anew(redis_url: str, steps: list[tuple[str, int]], forget: int) -> None:
    """Whatever was charged, given, corrected, paid and taken back, in any order, into debt and out of it: what entries
    say of it is what the scripts did; also where the oldest entries stay away.
    """
    link = SingleLink(LinkSettings(url=redis_url))
    await link.open()
    await link.call("FLUSHALL")
    ledger = RedisLedger(link)
    await ledger.open_account(operation="open", account="acme", plan=Plan(tier="free"), signup=usd(2))
    await ledger.put_key(operation="key", key=Key(id="acme-key", account="acme"), digest="d")
    for number, (what, amount) in enumerate(steps):
        name, nanos = f"{what}-{number}", Nanos(amount)
        if what == "charge":
            await ledger.settle(bill(name, amount))
        elif what in {"grant", "expiring"}:
            expires = FAR_MS + number if what == "expiring" else None
            await ledger.grant(
                operation=name, account="acme", kind="goodwill", amount=nanos, priority=amount % 3, expires_ms=expires
            )
        elif what in {"back", "more"}:
            change = Nanos(amount if what == "back" else -amount)
            await ledger.correct(operation=name, account="acme", key_id="acme-key", amount=change, data={})
        elif what == "pay":
            await ledger.credit_payment(account="acme", provider="stripe", payment="pi", amount=usd(1))
        else:
            await ledger.reverse_payment(
                account="acme", provider="stripe", payment="pi", source=f"s{amount % 2}", amount=Nanos(amount % DOLLAR),
                final=amount % 5 == 0, why="refund",
            )  # fmt: skip
    before = await books(ledger, "acme")
    page = await ledger.exportable(sink="postgres", account="acme", limit=1000, standing=True)
    payment = await link.call("HGETALL", "gw:{acme}:pay:stripe:pi")
    await link.call("FLUSHALL")

    async def told() -> AsyncIterator[Entry]:
        for entry in page.entries:
            yield entry

    assert page.standing is not None
    since = [entry.at_ms for entry in page.entries][min(forget, len(page.entries) - 1)]
    done = await ledger.restore_account("acme", page.standing, told(), sink="postgres", sinks=[], forget_ms=since)
    assert done is not None
    assert done.wrong == ""
    after = await books(ledger, "acme")
    kept = len(after["entries"])
    assert after["entries"] == before["entries"][len(before["entries"]) - kept :]
    assert after | {"entries": []} == before | {"entries": []}
    assert await ledger.verify("acme") == []
    if payment:
        again = await link.call("HGETALL", "gw:{acme}:pay:stripe:pi")
        assert _taken(again) == _taken(payment)
    await link.close()


def _taken(flat: Any) -> tuple[bytes, bytes]:
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    return found.get(b"amount", b""), found.get(b"taken", b"0")
