"""A served OpenAPI document, tried by schemathesis: is the API what it says?"""

from collections.abc import Callable, Mapping
from typing import Any

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

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    ignored_auth,
]
EXAMPLES = 6


def try_every_route(base: str, headers: Mapping[str, str], steer: Callable[[Any, int], None]) -> int:
    """Send generated requests to every operation of the document that is served below `base`; how many operations.

    `steer` may change the n-th case of an operation, so that it is about something that is there.
    """
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json", headers=dict(headers))
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
            steer(case, next(turn))  # noqa: B023 - used in this round alone
            case.call_and_validate(base_url=base, headers=dict(headers), checks=CHECKS)

        attempt()
        tried += 1
    return tried
