"""One real server for the tests of the ledger, and a link to it with an empty database."""

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings, SingleLink


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server that keeps nothing, for the whole run."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), appendonly=False)
    server.start_sync()
    yield server
    server.stop_sync()


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of the shared server."""
    return redis_server.url


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[SingleLink]:
    """An open link to the shared server, whose data and scripts were flushed."""
    link = SingleLink(LinkSettings(url=redis_url))
    await link.open()
    await link.call("FLUSHALL")
    await link.call("SCRIPT", "FLUSH")
    yield link
    await link.close()
