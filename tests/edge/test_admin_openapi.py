"""The admin API is what its OpenAPI document says: tried by schemathesis, on a real server with a real ledger."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.edge.admin_routes import ROUTES
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pipeline.helpers import submitted

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    ignored_auth,
]
EXAMPLES = 6


def try_every_route(url: str, accounts: list[str], jobs: list[str]) -> int:
    """Send generated requests to every operation of the document that is served there; how many operations."""
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    schema = schemathesis.openapi.from_url(f"{url}/admin/v1/openapi.json", headers=headers)
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        turn = iter(range(1_000_000))

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def attempt(case: Any) -> None:
            number = next(turn)  # noqa: B023 - used in this round alone
            if "account" in case.path_parameters and number % 4:  # most requests are about what is there
                case.path_parameters["account"] = accounts[number % len(accounts)]
                if "job" in case.path_parameters and number % 2:
                    case.path_parameters.update(kind="transcript", job=jobs[number % len(jobs)])
            case.call_and_validate(base_url=f"{url}/admin/v1", headers=headers, checks=CHECKS)

        attempt()
        tried += 1
    return tried


# schemathesis draws numbers of its own inside a strategy
@pytest.mark.filterwarnings("default::hypothesis.errors.HypothesisDeprecationWarning")
async def test_the_api_is_what_its_document_says(tmp_path: Path, empty_redis: str) -> None:
    """No generated request gets a 5xx, a status, a type or a body that the document has not; bad ones are refused."""
    async with running(tmp_path, empty_redis) as gw:
        accounts, jobs = [], []
        for name in ("one", "two"):
            key = await gw.open_account(name, tier="free", credit="50")
            jobs.append((await submitted(gw, key, knobs={"job_seconds": 60.0})).rpartition("/")[2])
            accounts.append(name)
        tried = await asyncio.to_thread(try_every_route, gw.ops_url, accounts, jobs)
        assert tried == len(ROUTES) - 1  # the document itself was read already
        for account in accounts:
            assert await gw.ledger.verify(account) == []


async def test_every_answer_is_documented_exactly(gw: Running) -> None:
    """The document names the answer of each route, and leaves no field of it open but what explains an entry."""
    async with gw.http.get(
        f"{gw.ops_url}/admin/v1/openapi.json", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
    ) as response:
        document = await response.json()
    assert document["openapi"] == "3.1.0"
    schemas = document["components"]["schemas"]
    for route in ROUTES:
        described = document["paths"][route.path][route.method.lower()]
        content = described["responses"][str(route.status)]["content"]["application/json"]
        schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
        assert route.answer == "Document" or schema["additionalProperties"] is False
        assert ("Idempotency-Key" in str(described["parameters"])) == route.changes
        assert {"401", "403", "503"} <= described["responses"].keys()
