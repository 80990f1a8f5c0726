"""One real Redis-compatible server for the whole run, and whole gateways on it."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.certificates import Certificates, made_in
from tests.harness import Running, running

# A busy machine is no fault of the code; in CI every run draws the same examples, elsewhere others each time.
hypothesis.settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("tests")


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
async def empty_redis(redis_url: str) -> str:
    """The URL of the shared server, with nothing in it."""
    link = SingleLink(LinkSettings(url=redis_url, connect_seconds_max=10.0, command_seconds_max=10.0))
    await link.open()
    await link.call("FLUSHALL")
    await link.close()
    return redis_url


@pytest.fixture
async def gw(tmp_path: Path, empty_redis: str) -> AsyncIterator[Running]:
    """A gateway with the project's own config on an empty ledger, and the sandbox behind it."""
    async with running(tmp_path, empty_redis) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A server's certificate for the whole run."""
    return made_in(tmp_path_factory.mktemp("certificates"))
