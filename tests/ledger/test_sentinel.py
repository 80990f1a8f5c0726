"""The ledger behind sentinels: found by name, through failovers in good order and of a primary that was killed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.core.errors import LedgerUnavailable
from gateway.ledger.link import LinkDown, LinkSettings
from gateway.ledger.links import open_link
from gateway.ledger.redis import RedisLedger
from gateway.ledger.sentinel import SENTINEL_PORT, SentinelLink, Sentinels
from gateway.ports import Key
from tests.ledger.ledgers import DOLLAR, FREE, admitted, ask, bill, sum_of_entries
from tests.ledger.sentinels import SERVICE, Pair, pair
from tests.ports import free_ports

#: Written only while the replica has what was written a second ago.
CAREFUL = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1", "--repl-diskless-sync-delay", "0")
CENT = DOLLAR // 100
Answer = TypeVar("Answer")


@asynccontextmanager
async def ledger_of(url: str) -> AsyncIterator[RedisLedger]:
    """A ledger behind sentinels."""
    link = open_link(LinkSettings(url=url, command_seconds_max=1.0, down_seconds=0.1))
    assert isinstance(link, SentinelLink)
    await link.open()
    yield RedisLedger(link)
    await link.close()


async def persistently(operation: Callable[[], Awaitable[Answer]]) -> Answer:
    """Do an operation until its outcome is known, as the spool does: it has an id."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await operation()
            except LedgerUnavailable:
                await asyncio.sleep(0.05)


async def opened(ledger: RedisLedger) -> None:
    """An account with fifty dollars and a key."""
    await ledger.open_account(operation="open", account="acme", plan=FREE, signup=50 * DOLLAR)  # type: ignore[arg-type]
    await ledger.put_key(operation="key", key=Key(id="acme-key", account="acme"), digest="acme-digest")


async def calls(ledger: RedisLedger, first: int, count: int) -> None:
    """So many calls of a cent, one after the other, each held and charged."""
    for number in range(first, first + count):
        hold = f"call-{number}"
        await persistently(lambda hold=hold: admitted(ledger, ask(hold, estimate=CENT)))  # type: ignore[misc]
        await persistently(lambda hold=hold: ledger.settle(bill(hold, CENT)))  # type: ignore[misc]


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Pair]:
    """A pair with its sentinels."""
    async with pair(tmp_path, options=CAREFUL) as found:
        yield found


async def test_failovers_lose_and_double_nothing(servers: Pair) -> None:
    """Charges go on over a failover in good order and the death of a primary; the books agree to the nano-dollar."""
    async with ledger_of(servers.url) as ledger:
        await opened(ledger)
        await calls(ledger, 0, 20)
        working = asyncio.create_task(calls(ledger, 20, 200))
        await servers.fail_over()
        await working
        account = await persistently(lambda: ledger.account("acme"))
        assert (account.balance, account.held) == (50 * DOLLAR - 220 * CENT, 0)
        assert await ledger.verify("acme") == []

        await servers.steady()
        dead = await servers.kill()
        with pytest.raises(LedgerUnavailable):
            await ledger.settle(bill("call-lost", CENT))
        await servers.changed(dead.port)
        # The other one is alone now, and takes no writes until it has a replica again.
        with pytest.raises(LedgerUnavailable, match="NOREPLICAS"):
            await persistently_until_it_says(ledger)
        assert await sum_of_entries(ledger) == 50 * DOLLAR - 220 * CENT


async def persistently_until_it_says(ledger: RedisLedger) -> None:
    """Ask until the new primary itself answers."""
    async with asyncio.timeout(20):
        while True:
            try:
                await ledger.settle(bill("call-lost", CENT))
            except LedgerUnavailable as error:
                if "NOREPLICAS" in str(error):
                    raise
                await asyncio.sleep(0.05)


async def test_sentinels_that_know_nothing(servers: Pair) -> None:
    """An unknown service, no sentinel at all, or a server that is none: LinkDown in bound, and the reason."""
    port = servers.servers[0].port
    (nowhere,) = free_ports(1)
    for url, why in [
        (servers.url.replace(SERVICE, "other"), "does not know the service"),
        (f"redis+sentinel://127.0.0.1:{nowhere}/{SERVICE}", "no sentinel knows the primary"),
        (f"redis+sentinel://127.0.0.1:{port}/{SERVICE}", "a sentinel answered: ERR unknown command"),
    ]:
        link = open_link(LinkSettings(url=url))
        with pytest.raises(LinkDown, match=why):
            await link.open()
        await link.close()
    some_dead = f"redis+sentinel://127.0.0.1:{nowhere},127.0.0.1:{servers.watchers[0]}/{SERVICE}"
    link = open_link(LinkSettings(url=some_dead))
    await link.open()
    assert await link.call("PING") == b"PONG"
    await link.close()


def test_the_url_of_sentinels() -> None:
    """Hosts with and without ports, IPv6, a database, passwords of both kinds, which never show."""
    found = Sentinels.parse("redis+sentinel://me:p%40ss@a:1,b,[::1]:3/books/2?sentinel_password=wo%3Drd")
    assert list(found.places) == [("a", 1), ("b", SENTINEL_PORT), ("::1", 3)]
    assert (found.service, found.password) == ("books", "wo=rd")
    assert (found.primary.username, found.primary.password, found.primary.db) == ("me", "p@ss", 2)
    assert "p@ss" not in repr(found) and "wo=rd" not in repr(found)
    for url, why in [("redis+sentinel://a:1", "name the service"), ("redis+sentinel://:1/x", "has a host")]:
        with pytest.raises(ValueError, match=why):
            Sentinels.parse(url)
