"""One account in trouble, whose data a hand spoiled or whose server of a cluster is away, holds up nobody else."""

from pathlib import Path

import pytest

from gateway.core.errors import LedgerUnavailable
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ledger.spool import Spool
from gateway.pipeline.books import Books
from gateway.pipeline.leases import Leases
from gateway.ports import Key, Monthly, Resource, ResourceRef
from gateway.workers.sweeper import Sweeper
from gateway.workers.verifier import Verifier
from tests.ledger.ledgers import DOLLAR, FREE, admitted, ask, bill, usd
from tests.review.test_faults import Told

SOUND = ("acme", "zoo")


class Time:
    """It is always the same second."""

    def now(self) -> float:
        """Seconds since 1970."""
        return 1_790_000_000.0

    monotonic = now


async def made(link: SingleLink) -> RedisLedger:
    """Three accounts with a call under way, a job and a delivery each; every script of the one between fails."""
    ledger = RedisLedger(link)
    for account in ("acme", "mine", "zoo"):
        await ledger.open_account(operation="open", account=account, plan=FREE, signup=usd(10))
        await ledger.put_key(operation="key", key=Key(id=f"{account}-key", account=account), digest=account)
        await admitted(ledger, ask(f"{account}-call", account=account, lease_seconds=60))
        ref = ResourceRef(kind="transcript", id=account)
        job = Resource(ref=ref, state="open", product="stt", hold=f"{account}-job", key_id=f"{account}-key")
        await ledger.accept(account=account, resource=job, deadline_seconds=900, keep_seconds=0)
        await ledger.post(account=account, delivery_id="d", channel="alert", payload={})
    await link.call("RENAME", "gw:{mine}:due", "gw:{mine}:was")
    await link.call("SET", "gw:{mine}:due", "spoilt")
    return ledger


async def test_leases_and_what_is_claimed(link: SingleLink) -> None:
    """Those of the others are renewed, their jobs and deliveries claimed; its own are once it answers again, and what
    ops accepted that the ledger lacks is forgotten.
    """
    ledger, told = await made(link), Told()
    leases = Leases(ledger=ledger, observer=told, lease_seconds=600)
    leases.add("gone", "lost", "stt")
    for account in ("mine", *SOUND):
        leases.add(f"{account}-call", account, "stt")
    await leases.renew()
    assert (len(leases), told.events) == (3, ["hold_lost", "renewal_failed"])
    lives = [hold.expires_ms - hold.created_ms for each in SOUND for hold in await ledger.holds(each)]
    assert len(lives) == 2
    assert min(lives) >= 600_000
    assert [job.account for job in await ledger.claim_jobs(limit=10, lease_seconds=600)] == [*SOUND]
    assert [one.account for one in await ledger.claim_deliveries(limit=10, lease_seconds=600)] == [*SOUND]
    await link.call("RENAME", "gw:{mine}:was", "gw:{mine}:due")
    for index in ("gw:outbox", "gw:followed"):
        score = await link.call("ZSCORE", index, "mine")
        assert isinstance(score, bytes), f"{index}: it is visited again"
        await link.call("ZADD", index, 1, "mine")
    assert [job.account for job in await ledger.claim_jobs(limit=10, lease_seconds=600)] == ["mine"]
    assert [one.account for one in await ledger.claim_deliveries(limit=10, lease_seconds=600)] == ["mine"]


async def test_a_sweep_visits_the_others(link: SingleLink) -> None:
    """And says that it could not sweep all of them."""
    ledger, told, visited = await made(link), Told(), list[str]()

    async def visit(account: str, _monthly: Monthly) -> None:
        visited.append(account)
        if account == "acme":
            raise ValueError

    sweeper = Sweeper(ledger=ledger, observer=told, accounts_max=10, round_seconds=1, visits=(visit,))
    for _ in range(2):
        with pytest.raises((ValueError, LedgerUnavailable)):
            await sweeper.round()
    assert sorted(visited) == ["acme", "acme", "zoo", "zoo"]


async def test_drift_of_the_others_is_found(link: SingleLink) -> None:
    """In every round, and the rounds go on to the end."""
    ledger, told = await made(link), Told()
    for account in SOUND:
        await link.call("HINCRBY", f"gw:{{{account}}}:account", "balance", 5)
    verifier = Verifier(ledger=ledger, observer=told, accounts_max=10)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            await verifier.round()
    assert verifier.gauges()["gateway_ledger_drift_accounts"] == 2
    assert told.events == ["ledger_drift", "ledger_drift"]


async def test_charges_that_wait_in_the_spool(link: SingleLink, tmp_path: Path) -> None:
    """Its own wait, in their order, and are made in the end; those of the others do not wait for them."""
    ledger, told = await made(link), Told()
    spool = Spool(tmp_path, bytes_max=100_000)
    spool.open("one")
    books = Books(ledger=ledger, spool=spool, observer=told, clock=Time(), operation_seconds=1000)
    away = RedisLedger(SingleLink(link._settings))  # it is not open
    kept = Books(ledger=away, spool=spool, observer=told, clock=Time(), operation_seconds=1000)
    for name in ("mine-call", "acme-call", "mine-2", "zoo-call", "mine-3"):
        account = name.partition("-")[0]
        await kept.settle(bill(name, DOLLAR, account=account))
    assert await books.replay() == (2, 0)
    assert len(spool) == 3
    for account in SOUND:
        assert (await ledger.account(account)).balance == usd(9)
        assert await ledger.verify(account) == []
    await link.call("RENAME", "gw:{mine}:was", "gw:{mine}:due")
    assert await books.replay() == (3, 0)
    entries = await ledger.entries("mine")
    assert [entry.operation for entry in entries[1:]] == ["mine-call", "mine-2", "mine-3"]
    assert await ledger.verify("mine") == []
    assert (tmp_path / "one.spool").stat().st_size == 0
    spool.close()


async def test_charges_that_wait_behind_many_accounts_in_trouble(link: SingleLink, tmp_path: Path) -> None:
    """However many: a server that answers an error for each of them is not away."""
    ledger, told = await made(link), Told()
    spool = Spool(tmp_path, bytes_max=100_000)
    spool.open("one")
    away = RedisLedger(SingleLink(link._settings))  # it is not open
    kept = Books(ledger=away, spool=spool, observer=told, clock=Time(), operation_seconds=1000)
    for number in range(5):
        await link.call("SET", f"gw:{{bad-{number}}}:due", "spoilt")
        await kept.settle(bill(f"call-{number}", DOLLAR, account=f"bad-{number}"))
    await kept.settle(bill("zoo-call", DOLLAR, account="zoo"))
    books = Books(ledger=ledger, spool=spool, observer=told, clock=Time(), operation_seconds=1000)
    assert await books.replay() == (1, 0)
    assert (await ledger.account("zoo")).balance == usd(9)
    assert len(spool) == 5
    spool.close()
