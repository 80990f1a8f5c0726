"""An upstream of sockets that says what a test tells it to, in the dialect of streaming speech-to-text."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from tests.harness import Change
from tests.pipeline.sockets import slices

Script = Callable[["Socket"], Awaitable[None]]
BEGIN: Mapping[str, Any] = {"type": "Begin", "id": "s", "configuration": {"model": "u3-rt-pro"}}


class Socket:
    """One session as the upstream sees it."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self._socket = socket
        self.heard: list[Any] = []  # JSON of its text messages, and the code of its Close at last

    async def say(self, message: Any) -> None:
        """Send a text message, of JSON data or of a text as it stands."""
        await self._socket.send_str(message if isinstance(message, str) else orjson.dumps(message).decode())

    async def hear(self) -> Any:
        """The next text message, or the Close's code."""
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                self.heard.append(message.json())
                return self.heard[-1]
        self.heard.append(self._socket.close_code)
        return self.heard[-1]

    async def hear_all(self) -> None:
        """Until the client's Close."""
        while type(await self.hear()) is dict:
            pass

    async def close(self, code: int = 1000) -> None:
        """Close in good order."""
        await self._socket.close(code=code, message=b"Session Ended")

    def cut(self) -> None:
        """Break off."""
        if self.request.transport is not None:
            self.request.transport.abort()


class Service:
    """The upstream. Sessions follow `script`; a handshake takes `handshake_seconds`, and is answered with `status`."""

    def __init__(self) -> None:
        self.url = ""
        self.sockets: list[Socket] = []
        self.handshake_seconds = 0.0
        self.status = 101
        self.protocols: tuple[str, ...] = ()
        self.asked = 0
        self.script: Script = one_second

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One session."""
        self.asked += 1
        await asyncio.sleep(self.handshake_seconds)
        if self.status != 101:
            return web.Response(status=self.status)
        response = web.WebSocketResponse(protocols=self.protocols)
        await response.prepare(request)
        socket = Socket(request, response)
        self.sockets.append(socket)
        await self.script(socket)
        return response

    def changes(self, **session: Any) -> Mapping[str, Change]:
        """The config of a gateway before it, with small slices."""

        def upstreams(data: dict[str, Any]) -> None:
            data["upstreams"]["streaming"]["base_url"] = self.url
            data["limits"]["shutdown_seconds_max"] = 0.5

        small = {"slice_seconds": 1, "renew_before_seconds": 0.3, "warn_seconds": 0, "grace_seconds": 1}
        return {**slices(**{**small, **session}), "gateway.yaml": upstreams}


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    """The upstream, listening."""
    made = Service()
    app = web.Application()
    app.router.add_get("/v3/ws", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def ending(*messages: Any) -> Script:
    """A session that begins, says these messages when it is told to end, and closes."""

    async def script(socket: Socket) -> None:
        await socket.say(BEGIN)
        while (heard := await socket.hear()) != {"type": "Terminate"}:
            if type(heard) is not dict:
                return
        for message in messages:
            await socket.say(message)
        await socket.close()

    return script


one_second = ending({"type": "Termination", "session_duration_seconds": 1})
