"""Where faults happen: a Redis that can be killed, a gateway of small slices and short leases, a crowd of each product.

Owns: the numbers of that config. Does not know: what is broken.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.ledger.embedded import EmbeddedRedis
from tests.faults.crowd import AGENTS, STREAMING, Crowd
from tests.harness import Change
from tests.pipeline.helpers import until, without_rates
from tests.pipeline.sockets import slices
from tests.system.processes import Served, World

SLICE_SECONDS: Final = 2.0
RENEW_BEFORE_SECONDS: Final = 0.5
LEASE_SECONDS: Final = 3
#: How long sessions go on while Redis is away.
GRACE_SECONDS: Final = 3.0
#: What should be at once, on a busy machine.
SOON_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a fault happens: `directory` is its own, `sessions` is how many of each product are open.

    There are so many `workers` where none of them is killed while others go on: else two. Where several faults
    happen at once, their gateways start in `turn`.
    """

    directory: Path
    sessions: int
    workers: int = 2
    turn: AbstractAsyncContextManager[Any] | None = None

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[EmbeddedRedis]:
        """A ledger's server that has on disk whatever it has answered."""
        async with EmbeddedRedis(self.directory / "redis", fsync="always") as redis:
            yield redis

    @asynccontextmanager
    async def world(
        self, redis: EmbeddedRedis, *, grace_seconds: float = GRACE_SECONDS, **limits: Any
    ) -> AsyncIterator[tuple[World, list[Crowd]]]:
        """A vendor and a ledger, and a crowd of each product with an account of its own."""
        async with World(self.directory, redis.url, changes(grace_seconds, **limits), turn=self.turn).opened() as world:
            keys = {kind: await world.open_account(kind.name, credit="1000") for kind in (STREAMING, AGENTS)}
            yield world, [Crowd(world.http, kind, key) for kind, key in keys.items()]

    async def fill(self, crowds: Sequence[Crowd], served: Served) -> None:
        """So many more sessions of each product."""
        await asyncio.gather(*(crowd.join(served, self.sessions) for crowd in crowds))


def changes(grace_seconds: float = GRACE_SECONDS, **limits: Any) -> Mapping[str, Change]:
    """The config of the stage."""

    def gateway(data: dict[str, Any]) -> None:
        data["limits"].update({"hold_lease_seconds": LEASE_SECONDS, "sweep_seconds": 0.2, **limits})
        data["redis"].update(command_seconds_max=1.0, connect_seconds_max=1.0)

    sessions = slices(
        slice_seconds=SLICE_SECONDS,
        renew_before_seconds=RENEW_BEFORE_SECONDS,
        warn_seconds=0,
        grace_seconds=2,
        redis_grace_seconds=grace_seconds,
    )
    return {**sessions, "config/tiers.yaml": without_rates, "gateway.yaml": gateway}


def kill(redis: EmbeddedRedis) -> None:
    """Without a word."""
    assert redis.pid is not None, "the server is ours"
    os.kill(redis.pid, signal.SIGKILL)


async def start_again(redis: EmbeddedRedis) -> None:
    """On the data that it had."""
    await redis.stop()  # it is dead: only the process is collected
    await redis.start()


async def holding(world: World, account: str, count: int) -> None:
    """Wait until the account has exactly so many open holds: as leases run out."""

    async def done() -> bool:
        return (await world.ledger.account(account)).open_holds == count

    assert await until(done, LEASE_SECONDS + SOON_SECONDS), await world.ledger.holds(account)
