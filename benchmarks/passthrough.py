"""The textbook pass-through: aiohttp's Application and ClientSession under uvloop, and no credit at all.

`python -m benchmarks.passthrough PORT UPSTREAM_URL`
"""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, TCPConnector, web
from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "host")
)  # fmt: skip


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


async def main(port: int, upstream: str) -> None:
    session = ClientSession(connector=TCPConnector(limit=0))

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
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
