"""One PostgreSQL server for the whole run, with a schema of its own for each test."""

from collections.abc import Iterator
from itertools import count

import pytest

from gateway.settings.exports import PostgresExport
from tests.exports.database import Postgres
from tests.ledger.conftest import link

__all__ = ["link"]  # a fixture

_schemas = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that is up."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def database(postgres: Postgres) -> PostgresExport:
    """A schema in which nothing is yet."""
    return PostgresExport(url=postgres.url, schema=f"books_{next(_schemas)}", seconds_max=10)
