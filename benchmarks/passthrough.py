"""The textbook pass-through: aiohttp's Application and ClientSession under uvloop, and no credit at all.

`python -m benchmarks.passthrough PORT UPSTREAM_URL`
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop
from aiohttp import ClientSession, TCPConnector, UnixConnector, web
from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "host")
)  # fmt: skip


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


@asynccontextmanager
async def proxy(upstream: str, *, unix: str = "") -> AsyncIterator[web.Application]:
    """The application; `unix` is the path of the upstream's socket where it has one."""
    connector = UnixConnector(unix, limit=0) if unix else TCPConnector(limit=0)
    session = ClientSession(connector=connector)

    async def handler(request: web.Request) -> web.StreamResponse:
        headers = end_to_end(request.headers)
        headers["Authorization"] = "Bearer service"
        async with session.request(
            request.method,
            upstream + request.path_qs,
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as reply:
            response = web.StreamResponse(status=reply.status, headers=end_to_end(reply.headers))
            await response.prepare(request)
            async for chunk in reply.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", handler)
    async with session:
        yield app


async def main(port: int, upstream: str) -> None:
    async with proxy(upstream) as app:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
