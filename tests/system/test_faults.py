"""The faults of `make test-faults`, each with few sessions, several at once."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults import scenarios
from tests.faults.jobs import jobs_followed
from tests.faults.scenarios import Scenario
from tests.faults.stage import Stage

pytestmark = pytest.mark.system
PROCESSES = (
    scenarios.worker_killed,
    scenarios.worker_killed_without_redis,
    scenarios.calls_killed,
    scenarios.redeployed,
    jobs_followed,
)
LEDGER = (
    scenarios.redis_restarted,
    scenarios.redis_silent,
    scenarios.redis_away,
    scenarios.redis_away_and_gateway_killed,
    scenarios.redis_away_and_gateway_stopped,
)


@pytest.mark.parametrize("faults", [PROCESSES, LEDGER], ids=["processes", "ledger"])
async def test_faults_cost_no_more_than_is_promised(tmp_path: Path, faults: Sequence[Scenario]) -> None:
    """Each fault asserts what must hold then: who is cut and how, what is charged, that nothing stays held."""
    turn = asyncio.Semaphore(2)  # all at once would take each a long time
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            stage = Stage(directory=tmp_path / fault.__name__, sessions=14, workers=1, turn=turn)
            group.create_task(fault(stage), name=fault.__name__)
