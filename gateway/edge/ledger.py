"""The ledger on its server, opened as the config says: for gateways, and for commands that end.

Owns: whose server it is, that an embedded one is kept running, the order of opening and closing.
Does not know: what is asked of the ledger.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from gateway.core.errors import LedgerUnavailable
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.epoch import Memory
from gateway.ledger.link import LinkDown, LinkSettings
from gateway.ledger.links import guard, open_link
from gateway.ledger.redis import RedisLedger
from gateway.ports import Observer
from gateway.settings.runtime import Runtime


@asynccontextmanager
async def open_redis(runtime: Runtime, *, keep: bool = False) -> AsyncIterator[str]:
    """The URL of the ledger's server: `redis.url`, or an embedded server in `redis.directory` (a running one is used).

    With `keep` an embedded server that ends, or that was another process's, is started again while the block runs.
    """
    if runtime.redis.url:
        yield runtime.redis.url
        return
    async with EmbeddedRedis(runtime.redis.directory) as embedded:
        keeper = asyncio.create_task(embedded.keep()) if keep else None
        try:
            yield embedded.url
        finally:
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)


@asynccontextmanager
async def open_ledger(
    runtime: Runtime, *, keep: bool = False, known: bool = False, observer: Observer | None = None
) -> AsyncIterator[RedisLedger]:
    """The ledger on its server. LinkDown if it cannot be reached; with `known` also if this machine knows another one.

    With `keep`, for those who serve: operations raise LedgerUnavailable until it can be reached, and while it is not
    the ledger that this machine knows.
    """
    settings = runtime.redis
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(open_redis(runtime, keep=keep))
        memory = Memory(runtime.spool_directory, url, settings.prefix)
        link = open_link(
            LinkSettings(
                url=url,
                connect_seconds_max=settings.connect_seconds_max,
                command_seconds_max=settings.command_seconds_max,
            ),
            guard(url, settings.prefix, memory) if keep or (known and memory.read()) else None,
        )
        stack.push_async_callback(link.close)
        try:
            await link.open()
        except LinkDown:
            if not keep:
                raise  # a gateway starts all the same, refuses politely, and is ready when the link is
        ledger = RedisLedger(link, settings.prefix, observer, operation_seconds=settings.operation_seconds)
        ledger.export_to(runtime.exports.sinks)
        yield ledger
        with suppress(LedgerUnavailable):
            await ledger.note_exports()
