"""The least that a gateway on our server and connections could be, on a real port: a bound of what ours can reach.

`python -m benchmarks.bare PORT UPSTREAM_PORT [REDIS_URL]`: a proxy that does nothing else; with Redis, two bare scripts
for each call, which add to one number and take from it.
"""

import asyncio
import gc
import sys
from typing import cast

import uvloop

from benchmarks.path import Forwarding, Holding
from gateway.edge.server.proxy import CustomerServer
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from gateway.pipeline.http import HttpPipeline
from gateway.settings.runtime import Limits


async def main(port: int, upstream_port: int, redis_url: str = "") -> None:
    pipeline = Forwarding(upstream_port)
    if redis_url:
        link = SingleLink(LinkSettings(url=redis_url))
        await link.open()
        pipeline = Holding(link, upstream_port)
    server = CustomerServer(cast("HttpPipeline", pipeline), Limits())
    await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, backlog=4096)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
