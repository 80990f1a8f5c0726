"""The epoch: a Redis that lost its data, or is another one, is refused until ops say that it is right."""

import asyncio
from pathlib import Path

import pytest

from gateway.core.errors import Code, LedgerUnavailable, UnknownAccount
from gateway.ledger.epoch import EPOCHS_MAX, Epoch, Memory, following, judge, key_of, new_epoch
from gateway.ledger.link import LinkDown, LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import Key
from tests.ledger.ledgers import FREE, admitted, ask, bill, refused, usd

PREFIX = "gw"


def memory(machine: Path) -> Memory:
    """What a machine remembers."""
    return Memory(machine, "redis://user:secret@here:6379/0", PREFIX)


async def meet(url: str, machine: Path) -> str:
    """Connect as a machine does; the epoch that the server has."""
    link = SingleLink(LinkSettings(url=url, down_seconds=0.05), Epoch(PREFIX, memory(machine)))
    try:
        await link.open()
        found = await link.call("GET", key_of(PREFIX))
        assert isinstance(found, bytes)
        return found.decode()
    finally:
        await link.close()


async def test_the_first_machine_begins_the_epoch_and_all_remember_it(
    link: SingleLink, redis_url: str, tmp_path: Path
) -> None:
    """One word stands in Redis, the same on every machine's disk, over restarts."""
    first = await meet(redis_url, tmp_path / "a")
    assert await meet(redis_url, tmp_path / "b") == first == await meet(redis_url, tmp_path / "a")
    assert memory(tmp_path / "a").read() == memory(tmp_path / "b").read() == first


async def test_a_redis_that_came_back_empty_is_refused(link: SingleLink, redis_url: str, tmp_path: Path) -> None:
    """Nothing is asked of it, nothing is written to it, and the refusal says what to do."""
    await meet(redis_url, tmp_path / "a")
    await link.call("FLUSHALL")
    with pytest.raises(LinkDown, match=r"lost the ledger's data.*gateway ledger condition"):
        await meet(redis_url, tmp_path / "a")
    assert await link.call("DBSIZE") == 0


async def test_another_redis_is_refused_until_a_new_epoch_begins(
    link: SingleLink, redis_url: str, tmp_path: Path
) -> None:
    """After ops say that it is right, every machine that knew the old one goes on, and remembers the new one."""
    for machine in "ab":
        await meet(redis_url, tmp_path / machine)
    await link.call("SET", key_of(PREFIX), new_epoch())
    with pytest.raises(LinkDown, match="not the Redis that this machine knew"):
        await meet(redis_url, tmp_path / "a")
    theirs = await link.call("GET", key_of(PREFIX))
    assert isinstance(theirs, bytes)
    begun = following(memory(tmp_path / "b").read(), theirs.decode())
    await link.call("SET", key_of(PREFIX), begun)
    for machine in "ab":
        assert await meet(redis_url, tmp_path / machine) == begun
        assert memory(tmp_path / machine).read() == begun.split()[0]


async def test_a_running_link_notices_when_the_server_changes(link: SingleLink, redis_url: str, tmp_path: Path) -> None:
    """The data goes while a link is up: at its next connection it is refused, and every call with it."""
    running = SingleLink(LinkSettings(url=redis_url, down_seconds=0.05), Epoch(PREFIX, memory(tmp_path)))
    await running.open()
    await link.call("FLUSHALL")
    await link.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    for _ in range(2):
        with pytest.raises(LinkDown, match="lost the ledger's data"):
            await running.call("PING")
    await running.close()


def test_old_epochs_are_bounded() -> None:
    """However often a new one begins, and however often the same is named."""
    text = ""
    for _ in range(EPOCHS_MAX + 10):
        text = following(text, text, text.split(" ", maxsplit=1)[0])
    words = text.split()
    assert len(words) == EPOCHS_MAX + 1 == len(set(words))


def test_a_machine_without_memory_takes_what_it_finds(tmp_path: Path) -> None:
    """Nothing, one or many epochs; what was remembered is read back."""
    assert judge("", []) == judge("", ["a", "b"]) == judge("b", ["a", "b"]) == ""
    assert judge("b", []) != judge("b", ["a"]) != ""
    assert memory(tmp_path / "nowhere").read() == ""
    memory(tmp_path / "new" / "directory").write("a")
    assert memory(tmp_path / "new" / "directory").read() == "a"
    other = Memory(tmp_path / "new" / "directory", "redis://user:changed@here:6379/0", PREFIX)
    assert other.read() == "a"
    assert Memory(tmp_path / "new" / "directory", "redis://there:6379/0", PREFIX).read() == ""
    assert not [path for path in (tmp_path / "new" / "directory").iterdir() if "secret" in path.name]


async def test_a_ledger_that_is_emptied_under_its_open_line_is_left_alone(
    link: SingleLink, redis_url: str, tmp_path: Path
) -> None:
    """Whoever misses something there asks first: no key is unknown, no charge refused, no account opened anew."""

    async def asked(ledger: RedisLedger, what: str) -> object:
        match what:
            case "an unknown key":  # believed for a second after somebody asked
                async with asyncio.timeout(30):
                    while await ledger.identify("another-digest") is None:  # noqa: ASYNC110 - nothing announces itself
                        await asyncio.sleep(0.02)
            case "a call":
                return await ledger.admit(ask("call-2"))
            case "a charge":
                return await ledger.settle(bill("call-1", usd(1)))
            case "a sign-up":
                return await ledger.open_account(operation="again", account="acme", plan=FREE, signup=usd(50))
        return await ledger.condition(memory(tmp_path))

    for what in ("an unknown key", "a call", "a charge", "a sign-up", "its condition"):
        running = SingleLink(LinkSettings(url=redis_url, down_seconds=60), Epoch(PREFIX, memory(tmp_path)))
        await running.open()
        ledger = RedisLedger(running, PREFIX)
        await ledger.open_account(operation="open", account="acme", plan=FREE, signup=usd(50))
        await ledger.put_key(operation="key", key=Key(id="acme-key", account="acme"), digest="digest")
        await admitted(ledger, ask("call-1", estimate=usd(2)))
        epochs = await link.call("GET", key_of(PREFIX))
        assert isinstance(epochs, bytes)
        await link.call("FLUSHALL")
        with pytest.raises(LedgerUnavailable, match="lost the ledger's data"):
            await asked(ledger, what)
        assert running.state == "down", what
        assert await link.call("DBSIZE") == 0
        await running.close()
        await link.call("SET", key_of(PREFIX), epochs)


async def test_what_was_never_there_is_no_loss(link: SingleLink, redis_url: str, tmp_path: Path) -> None:
    """With the epoch in its place an unknown key is unknown, an unknown account too, and the line stays up."""
    running = SingleLink(LinkSettings(url=redis_url), Epoch(PREFIX, memory(tmp_path)))
    await running.open()
    ledger = RedisLedger(running, PREFIX)
    assert await ledger.identify("nobody's") is None
    assert (await refused(ledger, ask())).code is Code.UNAUTHORIZED
    with pytest.raises(UnknownAccount):
        await ledger.settle(bill("call-1", usd(1)))
    assert running.state == "up"
    await running.close()


async def test_a_key_whose_account_is_gone_is_not_unknown(link: SingleLink) -> None:
    """Nothing deletes accounts: its part of the data was lost, as with one primary of a cluster."""
    ledger = RedisLedger(link, PREFIX)
    await ledger.open_account(operation="open", account="acme", plan=FREE)
    await ledger.put_key(operation="key", key=Key(id="acme-key", account="acme"), digest="digest")
    await link.call("DEL", "gw:{acme}:account")
    with pytest.raises(LedgerUnavailable, match="is gone"):
        await ledger.identify("digest")
