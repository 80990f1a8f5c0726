"""The demo's accounts: made once, whatever happens in between."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import LedgerUnavailable, UnknownAccount
from gateway.demo import ACCOUNTS, EMPTY, DemoError, require_free, sandbox_of, seed
from gateway.edge.keys import key_digest
from gateway.ledger.memory import MemoryLedger
from gateway.settings.runtime import Listener, Runtime
from tests.cli.runtimes import PEPPER, make_runtime, usd


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
