"""`allow_up_to` under load: what is served while a real Redis is dead or silent stays within bounds, and is paid."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import parse_usd
from gateway.ledger.embedded import EmbeddedRedis
from tests.harness import Change, Running, running
from tests.ledger.test_spool import full_disk
from tests.pipeline.helpers import charges, chat, fixed_hold, in_order, served_without_ledger, until, without_rates

LLM = "config/products/llm-gateway.yaml"
CHARGE = parse_usd("0.00315")
TOKENS: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
OF_ONE, IN_ALL = parse_usd("0.05"), parse_usd("0.20")


def impatient(data: dict[str, Any]) -> None:
    """Short waits for the ledger; whoever asked it in vain is not held for long."""
    data["redis"].update(command_seconds_max=0.3, connect_seconds_max=0.2)
    data["limits"].update(sweep_seconds=0.2, hold_lease_seconds=3)


def bounded(data: dict[str, Any]) -> None:
    """Five cents for an account, twenty for all; each call holds more than it costs."""
    served_without_ledger("0.05", "0.20")(data)
    fixed_hold("0.005")(data)


CHANGES: dict[str, Change] = {"gateway.yaml": impatient, "config/tiers.yaml": without_rates, LLM: bounded}


class Customers:
    """One customer for each account, who calls again and again."""

    def __init__(self, gw: Running, keys: dict[str, str]) -> None:
        self.gw = gw
        self.served: Counter[str] = Counter()
        self.refused = 0
        self.exposed_most: Counter[str] = Counter()
        self._keys = keys
        self._over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._call(account)) for account in keys for _ in range(3)]
        self._tasks.append(asyncio.create_task(self._watch()))

    async def _call(self, account: str) -> None:
        while not self._over.is_set():
            got = await chat(self.gw, self._keys[account], latency_seconds=0.02, **TOKENS)
            assert (got.status, got.code) in {(200, ""), (503, "ledger_unavailable")}
            self.served[account] += got.status == 200
            self.refused += got.status == 503
            await asyncio.sleep(0.005)

    async def _watch(self) -> None:
        while not self._over.is_set():
            allowance = self.gw.gateway.allowance
            self.exposed_most["all"] = max(self.exposed_most["all"], sum(allowance.exposure.values()))
            for account in self._keys:
                self.exposed_most[account] = max(self.exposed_most[account], allowance.of_account(account))
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        """Let them finish."""
        self._over.set()
        await asyncio.gather(*self._tasks)


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_exposure_stays_within_its_bounds_and_is_charged_once(tmp_path: Path, how: str) -> None:
    """24 callers of 8 accounts, before, during and after: bounded for each and for all, every answer paid once."""
    async with (
        EmbeddedRedis(tmp_path / "redis", fsync="always") as redis,
        running(tmp_path, redis.url, changes=CHANGES) as gw,
    ):
        keys = {f"a{number}": await gw.open_account(f"a{number}", credit="10") for number in range(8)}
        customers = Customers(gw, keys)

        async def served() -> bool:
            return customers.served.total() > 10

        assert await until(served)
        assert redis.pid is not None
        before = customers.served.total()
        os.kill(redis.pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        await asyncio.sleep(2)
        async with gw.http.get(gw.ops_url + "/metrics") as response:
            assert 'gateway_exposure_nanos{product="llm-gateway"}' in await response.text()
        if how == "killed":
            await redis.stop()  # only the process is collected
            await redis.start()
        else:
            os.kill(redis.pid, signal.SIGCONT)

        async def enforcing() -> bool:
            return not len(gw.gateway.spool) and not any(gw.gateway.allowance.exposure.values())

        assert await until(enforcing)
        await customers.end()
        assert before > 10
        assert customers.refused > 50
        assert IN_ALL - parse_usd("0.005") < customers.exposed_most.pop("all") <= IN_ALL
        assert max(customers.exposed_most.values()) <= OF_ONE

        async def free() -> bool:
            return not [name for name in keys if (await gw.ledger.account(name)).open_holds]

        assert await until(free)
        for account in keys:
            assert len(await charges(gw, account)) == customers.served[account]
            await in_order(gw, account, balance=parse_usd("10") - customers.served[account] * CHARGE)  # type: ignore[arg-type]


async def test_who_may_not_call_with_the_ledger_may_not_without_it(tmp_path: Path) -> None:
    """Spent, suspended, never seen: refused. A spool that keeps nothing more: nobody is served. Others are."""
    async with (
        EmbeddedRedis(tmp_path / "redis", fsync="always") as redis,
        running(tmp_path, redis.url, changes=CHANGES) as gw,
    ):
        good, spent, suspended, new = [
            await gw.open_account(name, credit="0" if name == "spent" else "10")
            for name in ("good", "spent", "suspended", "new")
        ]
        await gw.ledger.change_account(operation="suspend", account="suspended", status="suspended")
        assert [(await chat(gw, key)).status for key in (good, spent, suspended)] == [200, 400, 403]
        assert redis.pid is not None
        os.kill(redis.pid, signal.SIGKILL)
        assert [(await chat(gw, key, **TOKENS)).status for key in (good, spent, suspended, new)] == [200, 503, 503, 503]
        with full_disk(1):
            assert [(await chat(gw, good, **TOKENS)).status for _ in range(3)] == [200, 503, 503]
            assert (len(gw.gateway.spool), gw.gateway.spool.unwritten) == (2, 1)
        await redis.stop()
        await redis.start()

        async def replayed() -> bool:
            return not len(gw.gateway.spool)

        assert await until(replayed)
        assert len(await charges(gw, "good")) == 3


async def test_credit_that_came_back_counts_without_the_ledger_too(tmp_path: Path) -> None:
    """Who was refused and then topped up is served again, with the ledger and without."""
    async with (
        EmbeddedRedis(tmp_path / "redis", fsync="always") as redis,
        running(tmp_path, redis.url, changes=CHANGES) as gw,
    ):
        key = await gw.open_account("a", credit="0")
        assert (await chat(gw, key)).status == 400
        await gw.ledger.grant(operation="top-up", account="a", kind="purchase", amount=parse_usd("1"))
        assert (await chat(gw, key)).status == 200
        assert redis.pid is not None
        os.kill(redis.pid, signal.SIGKILL)
        assert (await chat(gw, key)).status == 200
