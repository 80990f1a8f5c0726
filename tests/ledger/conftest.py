"""A link to the run's server, with an empty database."""

from collections.abc import AsyncIterator

import pytest

from gateway.ledger.link import LinkSettings, SingleLink


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[SingleLink]:
    """An open link to the shared server, whose data and scripts were flushed."""
    link = SingleLink(LinkSettings(url=redis_url))
    await link.open()
    await link.call("FLUSHALL")
    await link.call("SCRIPT", "FLUSH")
    yield link
    await link.close()
