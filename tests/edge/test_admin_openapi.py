"""The admin API is what its OpenAPI document says: tried by schemathesis, on a real server with a real ledger."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.api.admin_routes import ROUTES
from tests.edge.documented import try_every_route
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pipeline.helpers import submitted


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

        def steer(case: Any, number: int) -> None:
            if "account" in case.path_parameters and number % 4:  # most requests are about what is there
                case.path_parameters["account"] = accounts[number % len(accounts)]
                if "job" in case.path_parameters and number % 2:
                    case.path_parameters.update(kind="transcript", job=jobs[number % len(jobs)])

        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        tried = await asyncio.to_thread(try_every_route, f"{gw.ops_url}/admin/v1", headers, steer)
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
