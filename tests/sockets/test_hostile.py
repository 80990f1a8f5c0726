"""Both ends of many sockets send anything at all: every socket ends, nothing raises, nothing is left."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from gateway.core.errors import Code, Refused
from gateway.core.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encoded
from tests.sockets.relaying import MASK, Observed, Wire, relaying, until

OPCODES = (CONTINUATION, CONTINUATION, TEXT, TEXT, BINARY, BINARY, CLOSE, PING, PONG, 3)
TEXTS = (b'{"type":"session.update"}', b'{"type":"session.update","type":1}', b'{"type":"Begin"}', b"{}", b"\\u")


def anything(chance: random.Random, key: bytes) -> bytes:
    """A frame that may keep the rules, alone or after others, or may not."""
    opcode = chance.choice(OPCODES)
    payload = chance.randbytes(chance.choice([0, 1, 125, 126, 5000, 70_000] if opcode < CLOSE else [0, 2, 125]))
    if opcode == TEXT:
        payload = chance.choice(TEXTS)
    elif opcode == CLOSE and chance.random() < 0.8:
        payload = b"\x03\xe8ok"
    raw = encoded(opcode, payload, key)
    luck = chance.random()
    if luck < 0.25:
        return bytes((raw[0] & 0x7F,)) + raw[1:]
    if luck < 0.27:
        return raw[: chance.randrange(len(raw) + 1)]
    return raw if luck < 0.98 else chance.randbytes(20)


async def rage(chance: random.Random, wire: Wire, key: bytes) -> None:
    """Send for a while, then leave in one way or another."""
    reading = asyncio.create_task(wire.gone())
    with suppress(ConnectionError, RuntimeError):  # the other end was first; uvloop says so in its own way
        for _ in range(chance.randrange(1, 25)):
            wire.writer.write(b"".join(anything(chance, key) for _ in range(chance.randrange(1, 4))))
            await wire.writer.drain()
            await asyncio.sleep(chance.random() * 0.004)
        if chance.random() < 0.5:
            wire.close(1000)
            await asyncio.sleep(0.01)
    wire.drop()
    await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize("seed", range(4))
async def test_anything_at_all(seed: int) -> None:
    """With judgements that take their time, pings, small buffers; both ends in any order."""
    chance = random.Random(seed)
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, error: errors.append(error))

    async def judge(_kind: str, _message: Mapping[str, Any]) -> Refused | None:
        await asyncio.sleep(chance.random() * 0.01)
        return chance.choice([None, Refused(code=Code.NOT_FOUND)])

    def prepare(watcher: Observed) -> None:
        watcher.judge = judge

    async with relaying(
        from_client=frozenset({"session.update"}), from_upstream=frozenset({"Begin"}), prepare=prepare,
        ping_seconds=seed % 2 * 0.02, buffer_bytes_max=10_000, message_bytes_max=60_000, stalled_seconds_max=0.5,
    ) as relay:  # fmt: skip
        for _ in range(25):
            client, upstream = await relay.both()
            await asyncio.gather(rage(chance, client, MASK), rage(chance, upstream, b""))
        await relay.ended(25)
        await until(lambda: relay.server.connections == [])
        assert relay.faults == []
    assert errors == []
