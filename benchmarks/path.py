"""Where the time of a call goes: what each layer of the gateway costs a process, without its sockets.

`python -m benchmarks.path [--rounds 7] [--calls 2000] [--connections 64] [--only LAYER]`

Everything runs in one process: customers and the upstream in memory, the layers one after the other in each round,
CPU time by the process's own clock. Only Redis is another process, so only the layers that ask it use a socket.
The kernel's part of a call, about 12 us for each pair of sockets, is in none of the figures.
"""

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, cast

from aiohttp import web
from multidict import CIMultiDict

from benchmarks.harness import seed, write_config
from benchmarks.memory import UPSTREAM_PATH, UPSTREAM_PORT, Customers, MemoryLoop
from benchmarks.passthrough import proxy
from benchmarks.upstream import BODY
from gateway.core.upstreams import Upstream
from gateway.edge.app import Gateway
from gateway.edge.ledger import open_ledger
from gateway.edge.observing import Observing
from gateway.edge.server.proxy import CustomerServer
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings, Script
from gateway.ledger.single import SingleLink
from gateway.pipeline.call import Answer, Client
from gateway.pipeline.http import HttpPipeline
from gateway.settings.load import load
from gateway.settings.runtime import Limits
from gateway.upstream.client import PooledUpstreamClient
from gateway.upstream.headers import reply_headers, request_headers

BODY_BYTES_MAX: Final = 2**20
#: Makes a connection of what is measured.
Factory = Callable[[], asyncio.Protocol]
Layer = Callable[[MemoryLoop], AbstractAsyncContextManager[Factory]]


class Answering:
    """In place of the pipeline: the request is read, and answered."""

    async def serve(self, client: Client) -> Answer:
        await client.read(BODY_BYTES_MAX)
        headers = CIMultiDict({"Content-Type": "application/json"})
        return Answer(status=200, reason="OK", headers=headers, body=BODY)


class Forwarding:
    """In place of the pipeline: a proxy on our server and our connections, which does nothing else."""

    def __init__(self, upstream_port: int = UPSTREAM_PORT) -> None:
        self.client = PooledUpstreamClient()
        self.upstream = Upstream(name="bench", base_url=f"http://127.0.0.1:{upstream_port}", credential="")
        self.ours = {"Authorization": "Bearer service"}

    async def serve(self, client: Client) -> Answer:
        body = await client.read(BODY_BYTES_MAX)
        headers = request_headers(
            client.headers, ours=self.ours, credential_header="Authorization", decodable_only=True
        )
        async with await self.client.send(self.upstream, client.method, client.raw_path, headers, body) as reply:
            received = reply.at_hand()
            assert received is not None, "the upstream writes it whole"
            passed = reply_headers(reply.headers)
            return Answer(status=reply.status, reason=reply.reason, headers=passed, body=received)


class Holding(Forwarding):
    """The same with two round trips to Redis, which hold and settle one number: the least that credit could cost."""

    HOLD: Final = Script(name="hold", source="redis.call('HINCRBY', KEYS[1], 'held', ARGV[1]) return 1")
    SETTLE: Final = Script(name="settle", source="redis.call('HINCRBY', KEYS[1], 'held', -ARGV[1]) return 1")

    def __init__(self, link: SingleLink, upstream_port: int = UPSTREAM_PORT) -> None:
        super().__init__(upstream_port)
        self.link = link

    async def serve(self, client: Client) -> Answer:
        await self.link.run(self.HOLD, ("account",), ("7",))
        answer = await super().serve(client)
        await self.link.run(self.SETTLE, ("account",), ("7",))
        return answer


@asynccontextmanager
async def pass_through(loop: MemoryLoop) -> AsyncIterator[Factory]:
    """The textbook proxy."""
    async with proxy("http://upstream", unix=UPSTREAM_PATH) as app:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield loop.served[-1]
        await runner.cleanup()


@asynccontextmanager
async def server(_loop: MemoryLoop) -> AsyncIterator[Factory]:
    """Our server alone."""
    yield CustomerServer(cast("HttpPipeline", Answering()), Limits())


@asynccontextmanager
async def forwarding(_loop: MemoryLoop) -> AsyncIterator[Factory]:
    """Our server and connections to upstreams."""
    pipeline = Forwarding()
    yield CustomerServer(cast("HttpPipeline", pipeline), Limits())
    await pipeline.client.close()


@asynccontextmanager
async def holding(_loop: MemoryLoop) -> AsyncIterator[Factory]:
    """These and two bare scripts: nobody is identified, nothing is read, priced, counted or told."""
    with tempfile.TemporaryDirectory(prefix="path-") as name:
        async with EmbeddedRedis(Path(name), appendonly=False) as redis:
            link = SingleLink(LinkSettings(url=redis.url))
            await link.open()
            pipeline = Holding(link)
            yield CustomerServer(cast("HttpPipeline", pipeline), Limits())
            await pipeline.client.close()
            await link.close()


@asynccontextmanager
async def gateway(loop: MemoryLoop) -> AsyncIterator[Factory]:
    """Everything: identified, held, charged, counted, logged."""
    with tempfile.TemporaryDirectory(prefix="path-") as name:
        directory = Path(name)
        async with EmbeddedRedis(directory / "redis", appendonly=False) as redis:
            path = write_config(directory, redis.url, upstream_port=UPSTREAM_PORT, customers_port=0)
            runtime = load(path, dict(os.environ))
            await seed(runtime)
            with (directory / "log").open("wb") as lines:
                observing = Observing(runtime, lines=lines)
                async with open_ledger(runtime) as ledger, Gateway(runtime, ledger=ledger, observing=observing):
                    yield loop.served[-1]


LAYERS: Final[dict[str, Layer]] = {
    "pass-through": pass_through,
    "server": server,
    "server + upstream": forwarding,
    "server + upstream + two bare scripts": holding,
    "gateway": gateway,
}


async def measure(names: list[str], rounds: int, calls: int, connections: int) -> dict[str, list[float]]:
    """Microseconds of CPU of a call in each layer, a figure for each round."""
    loop = cast("MemoryLoop", asyncio.get_running_loop())
    async with AsyncExitStack() as stack:
        customers = {
            name: Customers(await stack.enter_async_context(LAYERS[name](loop)), connections) for name in names
        }
        for each in customers.values():
            await each.call(max(calls // 2, connections))
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        spent: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names if number % 2 else names[::-1]:
                before = time.process_time()
                await customers[name].call(calls)
                spent[name].append((time.process_time() - before) * 1e6 / calls)
        for each in customers.values():
            each.close()
        await asyncio.sleep(0.01)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", choices=list(LAYERS), action="append")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        names = options.only or list(LAYERS)
        spent = runner.run(measure(names, options.rounds, options.calls, options.connections))
    print("| layer | CPU us/call (min-max) | of the first |\n|---|---:|---:|")
    for name, runs in spent.items():
        ratio = statistics.median(mine / first for mine, first in zip(runs, spent[names[0]], strict=True))
        print(f"| {name} | {statistics.median(runs):.1f} ({min(runs):.1f}-{max(runs):.1f}) | {ratio:.2f} |")


if __name__ == "__main__":
    main()
