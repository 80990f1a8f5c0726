"""A running sandbox, and a client session that carries the service's credential."""

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from gateway.sandbox import Sandbox, SandboxSettings, start

KEY = SandboxSettings().credential


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox whose jobs are quick."""
    running = await start(SandboxSettings(job_seconds=0.05))
    yield running
    await running.stop()


@pytest.fixture
async def http(sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of that sandbox, with the right credential."""
    async with aiohttp.ClientSession(sandbox.url, headers={"Authorization": KEY}) as session:
        yield session


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait a little for what the other side of a connection is about to notice."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - the sandbox under test has no event to wait for
            await asyncio.sleep(0.01)
