"""A link to the run's server, with an empty database, and the primary behind sentinels."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.ledger.sentinels import pair


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[SingleLink]:
    """An open link to the shared server, whose data and scripts were flushed."""
    link = SingleLink(LinkSettings(url=redis_url, connect_seconds_max=10.0, command_seconds_max=10.0))
    await link.open()
    await link.call("FLUSHALL")
    await link.call("SCRIPT", "FLUSH")
    yield link
    await link.close()


@pytest.fixture(scope="session")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A primary with a replica, behind three sentinels."""
    servers = pair(tmp_path_factory.mktemp("pair"))
    with ThreadPoolExecutor(1) as beside:  # tests run a loop here; servers end with their thread
        runner = asyncio.Runner()
        found = beside.submit(runner.run, servers.__aenter__()).result()
        yield found.url
        beside.submit(runner.run, servers.__aexit__(None, None, None)).result()
        beside.submit(runner.close).result()
