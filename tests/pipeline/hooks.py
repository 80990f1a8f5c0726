"""A client that is called back: a small server that notes what it is told, and a gateway that services can reach."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import orjson
from aiohttp import web

from tests.harness import Change
from tests.pipeline.helpers import until
from tests.ports import free_port


@dataclass(frozen=True, kw_only=True)
class Told:
    """One call of a webhook, as it came."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> str:
        """What it says of the job."""
        return str(orjson.loads(self.body)["status"])


class Hooks:
    """Any path is a webhook. `answers` are the statuses that a path gives, one after the other; then 200 for ever."""

    def __init__(self) -> None:
        self.told: defaultdict[str, list[Told]] = defaultdict(list)
        self.answers: dict[str, list[int]] = {}
        self.when_told: Callable[[Told], Awaitable[None]] | None = None
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{name:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._runner is not None, "it was not started"
        await self._runner.cleanup()

    def url(self, path: str) -> str:
        """The URL of a webhook."""
        return f"http://127.0.0.1:{self._port}{path}"

    async def _take(self, request: web.Request) -> web.Response:
        told = Told(target=request.raw_path, headers=dict(request.headers), body=await request.read())
        if self.when_told is not None:
            await self.when_told(told)
        self.told[request.path].append(told)
        answers = self.answers.get(request.path)
        return web.Response(status=answers.pop(0) if answers else 200)

    async def hears(self, path: str, count: int = 1, *, seconds: float = 8.0) -> list[Told]:
        """What a webhook was told, once it was told so often; and not once more than that within a moment."""

        async def heard() -> bool:
            return len(self.told[path]) >= count

        assert await until(heard, seconds), f"{path} heard {self.told[path]}"
        await asyncio.sleep(0.1)
        assert len(self.told[path]) == count, f"{path} heard {self.told[path]}"
        return self.told[path]


def reachable(data: dict[str, Any]) -> None:
    """A gateway that services call back, and that may call this machine: a change of `gateway.yaml`."""
    port = free_port()
    data["customers"] = {"host": "127.0.0.1", "port": port, "public_url": f"http://127.0.0.1:{port}"}
    data["outward"] = {"allow": ["127.0.0.1"]}


def called_back(**callback: Any) -> dict[str, Change]:
    """A config with callbacks, in which nobody else looks at jobs for a long while."""

    def of_jobs(data: dict[str, Any]) -> None:
        job = data["jobs"]["transcript"]
        job |= {"look_first_seconds": 3600, "look_seconds_max": 3600}
        job["callback"] |= callback

    return {"gateway.yaml": reachable, "config/products/speech-to-text.yaml": of_jobs}
