"""Whether a Redis is fit to hold money: what its own word says, asked of a real one."""

from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.condition import judge
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.epoch import Memory
from gateway.ledger.link import LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink

FIT = {
    "redis_version": "7.2.4", "maxmemory": "0", "maxmemory_policy": "noeviction", "role": "master", "aof_enabled": "1",
    "aof_last_write_status": "ok",
}  # fmt: skip

ADVICE = "run the version that wrote it, or a newer one"


@pytest.mark.parametrize(
    ("facts", "level", "text"),
    [
        ({"redis_version": "6.2.14"}, "fault", "too old"),
        ({"redis_version": "odd"}, "fault", "too old"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": "1000"}, "fault", "balances are thrown away"),
        ({"maxmemory_policy": "volatile-ttl"}, "warning", "would throw balances away"),
        ({"used_memory": "1001", "maxmemory": "1000"}, "fault", "its memory is full"),
        ({"used_memory": "950", "maxmemory": "1000"}, "warning", "nearly full"),
        ({"role": "slave"}, "fault", "replica"),
        ({"aof_enabled": "0"}, "warning", "appendonly is off"),
        ({"aof_last_write_status": "err"}, "fault", "disk is full"),
    ],
)
def test_what_a_server_says_of_itself(facts: dict[str, str], level: str, text: str) -> None:
    """Each weakness is one finding, which says what to do; without it there is none."""
    assert judge(FIT) == []
    (finding,) = judge(FIT | facts)
    assert finding.level == level
    assert text in finding.text


async def test_a_real_server(tmp_path: Path) -> None:
    """The embedded server is fit; one that evicts, without its file, and of an unknown epoch is not."""
    async with EmbeddedRedis(tmp_path / "redis") as server:
        link = SingleLink(LinkSettings(url=server.url))
        await link.open()
        ledger, machine = RedisLedger(link), Memory(tmp_path / "machine", server.url, "gw")
        found = await ledger.condition(machine)
        assert (list(found.findings), found.epochs) == ([], [])
        assert found.servers[0].startswith("Valkey ")
        settings: tuple[tuple[Any, ...], ...] = (
            ("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru"), ("appendonly", "no"),
        )  # fmt: skip
        for name, value in settings:
            await link.call("CONFIG", "SET", name, value)
        machine.write("another")
        found = await ledger.condition(machine)
        assert [finding.level for finding in found.findings] == ["fault", "fault", "warning"]
        epoch = await ledger.begin_epoch(machine)
        assert (await ledger.condition(machine)).epochs == [epoch, "another"]
        await link.close()


async def test_data_of_another_layout_is_left_alone(tmp_path: Path) -> None:
    """What is not marked is marked once, and stays so; a number that this version does not know is a fault."""
    async with EmbeddedRedis(tmp_path / "redis") as server:
        link = SingleLink(LinkSettings(url=server.url))
        await link.open()
        ledger, machine = RedisLedger(link), Memory(tmp_path / "machine", server.url, "gw")
        assert (await ledger.condition(machine)).layout is None
        for written, found in ((None, "1"), ("2", "2"), ("x", "x")):
            if written is not None:
                await link.call("SET", "gw:layout", written)
            await ledger.complete(machine, await ledger.condition(machine))
            condition = await ledger.condition(machine)
            assert condition.layout == found
            told = [finding.text for finding in condition.faults]
            assert told == (
                [] if found == "1" else [f"its data has layout {found}, and this version knows 1: {ADVICE}"]
            )
        await link.close()
