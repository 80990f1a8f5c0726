"""Several sandboxes, each an endpoint of every service, with a credential of its own, and a gateway in front of them.

Owns: killing one and bringing it back with all that it knows. Does not know: what is tested.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway.edge.ledger import open_ledger
from gateway.ledger.redis import RedisLedger
from gateway.sandbox import Sandbox, SandboxSettings, start
from gateway.settings.load import load
from tests.harness import Change, Running, serving, write_config
from tests.pipeline.helpers import without_rates

Endpoints = dict[str, dict[str, Any]]
#: What is beside `endpoints` in each service, unless a test says otherwise.
QUICK: Mapping[str, Any] = {
    "sticky": "account",
    "connect_seconds_max": 1.0,
    "ejection": {"failures": 2, "seconds": 0.3, "seconds_max": 0.6},
}


@dataclass
class Place:
    """A sandbox that can be away."""

    name: str
    sandbox: Sandbox

    async def kill(self) -> None:
        """It refuses connections, and has closed those that were open; what it knows stays."""
        for site in list(self.sandbox.runner.sites):
            await site.stop()
        server = self.sandbox.runner.server
        assert server is not None, "it serves"
        for handler in list(server.connections):
            handler.close()
            handler.force_close()
        await asyncio.sleep(0.05)  # whoever was connected has noticed

    async def back(self) -> None:
        """It listens again where it did."""
        url = self.sandbox.url.removeprefix("http://")
        host, _, port = url.rpartition(":")
        await web.TCPSite(self.sandbox.runner, host, int(port)).start()

    @property
    def asked(self) -> list[str]:
        """Methods and paths that it was asked for, oldest first."""
        return [f"{entry.method} {entry.path}" for entry in self.sandbox.state.entries]

    @property
    def foreign(self) -> int:
        """Requests with a credential that is not its own."""
        counts = self.sandbox.state.counts
        return counts["foreign_credentials"] + counts["missing_credentials"]


class Places:
    """The sandboxes by name, and the gateways that were started in front of them."""

    def __init__(self, directory: Path, redis_url: str, stack: AsyncExitStack) -> None:
        self.at: dict[str, Place] = {}
        self._directory = directory
        self._redis_url = redis_url
        self._stack = stack

    async def start(self, *names: str) -> None:
        """A sandbox for each name."""
        for name in names:
            sandbox = await start(SandboxSettings(job_seconds=0.05, credential=f"credential-of-{name}"))
            self._stack.push_async_callback(sandbox.stop)
            self.at[name] = Place(name, sandbox)

    def endpoints(self, **changes: Mapping[str, Any]) -> Endpoints:
        """All of them as the config has them, `region-number` each in its region."""
        return {
            name: {
                "base_url": place.sandbox.url,
                "credential": f"credential-of-{name}",
                "region": name.partition("-")[0],
                **changes.get(name.replace("-", "_"), {}),
            }
            for name, place in self.at.items()
        }

    def config(self, endpoints: Endpoints, changes: Mapping[str, Change] | None = None, **beside: Any) -> Path:
        """The project's config with these endpoints of every service."""
        changes = dict(changes or {})
        more = changes.pop("gateway.yaml", None)

        def change(data: dict[str, Any]) -> None:
            for name, upstream in data["upstreams"].items():
                for key in ("base_url", "credential"):
                    del upstream[key]
                data["upstreams"][name] = {**upstream, **QUICK, **beside, "endpoints": endpoints}
            if more is not None:
                more(data)

        every = {"config/tiers.yaml": without_rates, **changes, "gateway.yaml": change}
        url = next(iter(self.at.values())).sandbox.url
        return write_config(self._directory, upstream_url=url, redis_url=self._redis_url, changes=every)

    @asynccontextmanager
    async def gateway(
        self, endpoints: Endpoints | None = None, changes: Mapping[str, Change] | None = None, **beside: Any
    ) -> AsyncIterator[Running]:
        """A gateway with these endpoints of every service; its sandbox is the first."""
        path = self.config(self.endpoints() if endpoints is None else endpoints, changes, **beside)
        async with AsyncExitStack() as stack:
            runtime = load(path, {})
            ledger: RedisLedger = await stack.enter_async_context(open_ledger(runtime))
            gateway, operators = await stack.enter_async_context(serving(runtime, ledger))
            http = await stack.enter_async_context(
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), auto_decompress=False)
            )
            yield Running(gateway, runtime, ledger, next(iter(self.at.values())).sandbox, http, operators)

    def asked(self, wanted: str) -> dict[str, int]:
        """How often each was asked for something; only those that were."""
        counts = {name: place.asked.count(wanted) for name, place in self.at.items()}
        return {name: count for name, count in counts.items() if count}

    def holding(self, found: Callable[[Place], bool]) -> str:
        """The name of the only one of which this is true."""
        (name,) = [name for name, place in self.at.items() if found(place)]
        return name

    def check_credentials(self) -> None:
        """None was ever shown the credential of another, or a customer's."""
        assert {name: place.foreign for name, place in self.at.items()} == dict.fromkeys(self.at, 0)


@asynccontextmanager
async def places(directory: Path, redis_url: str, *names: str) -> AsyncIterator[Places]:
    """So many sandboxes, until the block ends."""
    async with AsyncExitStack() as stack:
        made = Places(directory, redis_url, stack)
        await made.start(*names)
        yield made
