"""A service that takes CloudEvents and keeps what it gets, or answers what it is told to."""

from typing import Any, Self

import orjson
from aiohttp import web


class EventService:
    """`async with EventService()`: the bodies of its requests, and what they were sent with. `answers`, in turn."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.requests: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/events", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/events"
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append({name.lower(): value for name, value in request.headers.items()})
        status = self.answers.pop(0) if self.answers else 204
        if status < 300 or status == 599:  # 599: it has them, and the answer does not say so
            await self.take(request, body)
        return web.Response(status=status)

    async def take(self, _request: web.Request, body: bytes) -> None:
        """Keep what came."""
        data = orjson.loads(body)
        self.events += data if isinstance(data, list) else [data]
