"""Every state of a Redis under load, all of them at once: what customers and operators see, and what it costs."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.ledger_states import COMMAND_SECONDS, STATES, Seen, State, pass_through

pytestmark = pytest.mark.system
#: A call that was on its way when the breaker closed for a moment waits for its own answer; and all gateways and their
#: customers share the loop of the test, on however busy a machine.
REFUSED_WITHIN_SECONDS = COMMAND_SECONDS + 4
#: Lines of the log for hundreds of refusals: a few for each change, of each kind.
LINES_MAX = 40


async def test_every_state_of_redis_is_survived_to_the_nano(tmp_path: Path) -> None:
    """Nothing lost, doubled, overspent or left held; refused fast where it must be; one word for ops, few lines."""
    together = asyncio.Barrier(len(STATES))
    async with asyncio.TaskGroup() as group:
        tasks = {
            state: group.create_task(pass_through(state, tmp_path / str(number), each=1, begin=together))
            for number, state in enumerate(STATES)
        }
    for state, task in tasks.items():
        check(state, task.result())


def check(state: State, seen: Seen) -> None:
    """What must hold in and after a state."""
    assert seen.proof.holds, seen.proof
    assert seen.answers, f"{state.name}: nobody called"
    if state.refuses:
        assert set(seen.answers) == {(503, "ledger_unavailable")}, (state.name, seen.answers)
        assert (seen.proof.refusal_seconds or 0) < REFUSED_WITHIN_SECONDS, seen.proof
        assert state.word in seen.words, (state.name, seen.words)
    else:
        assert set(seen.answers) <= {(200, ""), (400, "insufficient_credit")}, (state.name, seen.answers)
    assert seen.lines.total() <= LINES_MAX, (state.name, seen.lines)
