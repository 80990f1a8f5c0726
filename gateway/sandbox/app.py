"""The sandbox as one application, and as a running server.

Owns: which routes there are, the sandbox's start and its end.
Does not know: what the routes do.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from gateway.sandbox import agents, agents_rest, exports, llm, speech, streaming, transcripts, understanding
from gateway.sandbox.control import add_control
from gateway.sandbox.knobs import SandboxSettings
from gateway.sandbox.routes import add, add_catch_all, add_socket
from gateway.sandbox.state import STATE, SandboxState

#: How long a stopping sandbox waits for what is under way.
STOP_SECONDS = 1.0
_PRODUCTS = (llm, transcripts, exports, understanding, streaming, agents_rest, speech)


def build_app(settings: SandboxSettings | None = None) -> web.Application:
    """The application, all of whose memory is in `app[STATE]`."""
    settings = settings or SandboxSettings()
    app = web.Application(client_max_size=settings.body_bytes_max)
    app[STATE] = SandboxState(settings)
    for product in _PRODUCTS:
        for route in product.ROUTES:
            add(app, route)
    add_socket(app, streaming.SOCKET)
    add_socket(app, agents.SOCKET)
    add_control(app)
    add_catch_all(app)
    app.on_shutdown.append(_stop_waiting)
    app.cleanup_ctx.append(_memory)
    return app


async def _stop_waiting(app: web.Application) -> None:
    app[STATE].closing.set()


async def _memory(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[STATE].close()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox that is serving."""

    url: str
    state: SandboxState
    runner: web.AppRunner

    async def stop(self) -> None:
        """Stop serving; open connections are closed."""
        await self.runner.cleanup()


async def start(settings: SandboxSettings | None = None, host: str = "127.0.0.1", port: int = 0) -> Sandbox:
    """Serve in the running loop; port 0 takes a free one."""
    app = build_app(settings)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except OSError:
        await runner.cleanup()
        raise
    bound = runner.addresses[0][1]
    shown = f"[{host}]" if ":" in host else host
    return Sandbox(f"http://{shown}:{bound}", app[STATE], runner)


def run(host: str = "127.0.0.1", port: int = 9100, settings: SandboxSettings | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    web.run_app(
        build_app(settings),
        host=host,
        port=port,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=STOP_SECONDS,
        loop=_loop(),
    )


def _loop() -> asyncio.AbstractEventLoop:
    """The quick loop, where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
