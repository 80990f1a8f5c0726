"""The demo's accounts: made once, whatever happens in between."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import LedgerUnavailable, UnknownAccount
from gateway.demo import ACCOUNTS, EMPTY, PAID, DemoError, require_free, sandbox_of, seed
from gateway.demo_month import DAYS, Past
from gateway.edge.keys import key_digest
from gateway.edge.ledger import open_ledger
from gateway.ledger.memory import MemoryLedger
from gateway.ports import Ledger
from gateway.settings.load import load
from gateway.settings.products import NO_UPSTREAM
from gateway.settings.runtime import Listener, Runtime
from tests.cli.runtimes import PEPPER, make_runtime, usd
from tests.harness import ROOT


class Store:
    """A ledger whose clock a test moves, and which forgets operations, as a real one does in time."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000
        self.ledger = MemoryLedger(lambda: self.now_ms)

    def forget(self) -> None:
        """A month later: no operation and no end of a hold is remembered."""
        self.now_ms += 30 * 86_400_000
        for books in self.ledger._books.values():
            books.operations.clear()
            books.ends.clear()


class Failing:
    """The ledger until it has been asked so many times; then nobody answers."""

    def __init__(self, ledger: MemoryLedger, calls: int) -> None:
        self._ledger = ledger
        self.calls = calls

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            if not self.calls:
                raise LedgerUnavailable("killed")
            self.calls -= 1
            return await getattr(self._ledger, name)(*arguments, **named)

        return call


async def standing(ledger: MemoryLedger) -> dict[str, tuple[str, int, int, int]]:
    """Of each demo account: tier, balance, debt, number of keys."""
    found: dict[str, tuple[str, int, int, int]] = {}
    for demo in ACCOUNTS:
        account = await ledger.account(demo.id)
        found[demo.id] = (account.plan.tier, account.balance, account.debt, len(await ledger.keys(demo.id)))
    return found


EXPECTED = {
    "demo-free": ("free", usd(50), 0, 1),
    "demo-paid": ("payg", usd(100), 0, 1),
    "demo-empty": ("free", 0, 0, 1),
}


@pytest.fixture
def runtime() -> Runtime:
    return make_runtime()


async def test_the_accounts_are_as_they_are_described(runtime: Runtime) -> None:
    """Free with its grant, paid with its purchase, empty with nothing; each found by its fixed key."""
    ledger = Store().ledger
    for demo in ACCOUNTS:
        await seed(ledger, runtime, demo)
        identity = await ledger.identify(key_digest(PEPPER, demo.secret))
        assert identity is not None
        assert (identity.account, identity.plan.tier) == (demo.id, demo.tier)
    assert await standing(ledger) == EXPECTED


async def test_a_later_run_changes_nothing(runtime: Runtime) -> None:
    """Seeding again, at once or a month later, gives nobody anything."""
    store = Store()
    for _ in range(3):
        for demo in ACCOUNTS:
            await seed(store.ledger, runtime, demo)
        assert await standing(store.ledger) == EXPECTED
        store.forget()


@pytest.mark.parametrize("pause_ms", [0, 1_000, 120_000])
async def test_a_killed_run_is_completed_by_the_next(runtime: Runtime, pause_ms: int) -> None:
    """Killed after any of its steps, the demo is whole after the next run, soon or when its hold has expired."""
    for demo in ACCOUNTS:
        for calls in range(20):
            store = Store()
            failing: Any = Failing(store.ledger, calls)
            try:
                await seed(failing, runtime, demo)
            except LedgerUnavailable:
                store.now_ms += pause_ms
                account = await seed(store.ledger, runtime, demo)
                assert (account.balance, account.held) == (EXPECTED[demo.id][1], 0)
                assert not await store.ledger.verify(demo.id)
            else:
                break
        else:
            pytest.fail("seeding takes more steps than were tried")


class MemoryPast:
    """The past of a ledger in memory (or of one that fails): the test's clock is put there."""

    def __init__(self, store: Store, ledger: Any = None) -> None:
        self._store = store
        self._present = store.now_ms
        self._ledger = ledger or store.ledger

    async def at(self, account: str, ms: int) -> Ledger:
        self._store.now_ms = ms
        found: Ledger = self._ledger
        return found

    async def now(self, account: str) -> None:
        self._store.now_ms = self._present


async def look_back(ledger: Ledger) -> list[tuple[str, int, int]]:
    """What the entries of the account with a month say: kind, amount and time."""
    return [(each.kind, each.amount, each.at_ms) for each in await ledger.entries(PAID.id, limit=1000)]


async def test_the_month_is_believable_and_made_once(redis_url: str) -> None:
    """On Redis: every product, every day, in order, priced by the config, never in debt, and books that agree; another
    run adds nothing, and after a call of the present nothing is ever added."""
    project = load(ROOT / "gateway.yaml", {})
    settings = replace(project.redis, url=redis_url, prefix="month")
    async with open_ledger(replace(project, redis=settings)) as ledger:
        past = Past(ledger, "month")
        account = await seed(ledger, project, PAID, past)
        entries = await ledger.entries(PAID.id, limit=1000)
        times = [entry.at_ms for entry in entries]
        assert times == sorted(times)
        assert {time // 86_400_000 for time in times} == {account.created_ms // 86_400_000 + day for day in range(DAYS)}
        assert times[-1] < time.time() * 1000
        assert all(entry.balance > 0 for entry in entries)
        charges = [entry for entry in entries if entry.kind == "charge"]
        assert len({entry.data["product"] for entry in charges}) == 4
        assert len({entry.data["key_id"] for entry in charges}) == 2
        assert all("late" not in entry.data and entry.data["items"] for entry in charges)
        assert not await ledger.verify(PAID.id)
        assert account.balance == PAID.purchase
        assert await seed(ledger, project, PAID, past) == account
        await ledger.grant(operation="of-today", account=PAID.id, kind="goodwill", amount=usd(1))
        assert (await ledger.entries(PAID.id, after=entries[-1].id))[0].at_ms > times[-1] + 3_600_000
        await seed(ledger, project, PAID, past)
        assert len(await ledger.entries(PAID.id, limit=1000)) == len(entries) + 1


@pytest.mark.parametrize("pause_ms", [0, 86_400_000])
async def test_a_month_that_was_broken_off_is_completed(pause_ms: int) -> None:
    """Killed after any of its steps, the next run makes the rest of it: the same month, once."""
    project = load(ROOT / "gateway.yaml", {})
    whole = Store()
    await seed(whole.ledger, project, PAID, MemoryPast(whole))
    expected = await look_back(whole.ledger)
    for calls in (1, 2, 3, 4, 5, 9, 10, 11, 12, 50, 51, 301, 452):
        store = Store()
        failing: Any = Failing(store.ledger, calls)
        with pytest.raises(LedgerUnavailable):
            await seed(failing, project, PAID, MemoryPast(store, failing))
        store.now_ms += pause_ms
        await seed(store.ledger, project, PAID, MemoryPast(store))
        assert len(await look_back(store.ledger)) == len(expected)
        assert (await store.ledger.account(PAID.id)).balance == PAID.purchase
        assert not await store.ledger.verify(PAID.id)


async def test_another_pepper_makes_the_key_anew(runtime: Runtime) -> None:
    """With another key_pepper the old digests are nobody's; the fixed key works all the same."""
    ledger = Store().ledger
    await seed(ledger, runtime, EMPTY)
    await seed(ledger, replace(runtime, key_pepper="another"), EMPTY)
    assert await ledger.identify(key_digest("another", EMPTY.secret)) is not None
    assert (await standing_of(ledger)) == (0, 2)


async def standing_of(ledger: MemoryLedger) -> tuple[int, int]:
    return (await ledger.account(EMPTY.id)).balance, len(await ledger.keys(EMPTY.id))


async def test_a_config_without_the_tiers_is_told(runtime: Runtime) -> None:
    """The demo needs its tiers, and makes nothing without them."""
    ledger = Store().ledger
    with pytest.raises(DemoError, match="no tier 'free'"):
        await seed(ledger, replace(runtime, tiers={}), EMPTY)
    with pytest.raises(UnknownAccount):
        await ledger.account(EMPTY.id)


def test_the_sandbox_is_where_the_upstreams_are(runtime: Runtime) -> None:
    """One place on this machine with one credential, or an error that names them all."""
    assert sandbox_of(runtime) == (Listener(host="127.0.0.1", port=1), "service")

    def elsewhere(**changes: Any) -> Runtime:
        product = runtime.products["chat"]
        upstream = replace(product.upstream, name="other", **changes)
        return replace(runtime, products={**runtime.products, "chat": replace(product, upstream=upstream)})

    assert sandbox_of(elsewhere(base_url="http://127.0.0.1:1/v1"))[0].port == 1
    served_elsewhere = replace(runtime.products["chat"], upstream=NO_UPSTREAM)
    assert sandbox_of(replace(runtime, products={**runtime.products, "own": served_elsewhere}))[0].port == 1
    for changes in (
        {"base_url": "http://127.0.0.1:2"},
        {"base_url": "https://api.example.com"},
        {"base_url": "http://127.0.0.1"},
        {"credential": "hidden-word"},
    ):
        with pytest.raises(DemoError, match="not in one place here") as told:
            sandbox_of(elsewhere(**changes))
        assert "hidden-word" not in str(told.value)


def test_an_address_that_is_not_ours_is_told() -> None:
    """What cannot be listened on for another reason than being in use says so."""
    with pytest.raises(DemoError, match="cannot be listened on"):
        require_free("customers", Listener(host="192.0.2.1", port=1))
