"""The simulator: histories without a fault in them, and faults that it must find."""

import secrets
from collections.abc import Callable

import pytest

from tests.sim.simulation import Failed, simulate

OPERATIONS = 10_000


def without(line: str, instead: str = "") -> Callable[[str], str]:
    """The scripts with one line of theirs changed."""
    return lambda source: source.replace(line, instead)


@pytest.mark.parametrize("seed", [1, None], ids=["fixed seed", "fresh seed"])
async def test_a_history_of_faults_loses_and_doubles_nothing(seed: int | None) -> None:
    """Lines that lose and double, processes and servers that are killed: every invariant holds after every step."""
    told = await simulate(secrets.randbits(32) if seed is None else seed, OPERATIONS)
    for happened in ("doubled", "kill", "reply-lost", "request-lost", "server-killed", "owed", "free"):
        assert happened in told


async def test_a_seed_is_a_history() -> None:
    """The same seed does the same, to the last operation; another does something else."""
    first, again, other = [await simulate(seed, 800) for seed in (7, 7, 8)]
    assert first == again != other


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (without("call('SET', ending, table.concat({'1 s", "call('GET', ending, table.concat({'1 s"), "charged twice"),
        (without("tonumber(balance) - tonumber(held)", "tonumber(balance)"), "overspent"),
        (without("return nil, estimate <= most and ARGV[4] or amount(most)", "return nil, ARGV[4]"), "overspent"),
        (without("call('HINCRBY', ACCOUNT, 'held', '-' .. held)"), "held"),
        (without("call('HINCRBY', ACCOUNT, 'open.' .. class, -1)"), "counted"),
        (without("owed = add(ACCOUNT, 'debt', '-' .. paid)", "owed = '0'"), "debt"),
    ],
    ids=[
        "charges are forgotten",
        "holds are not counted",
        "holds beyond credit",
        "held grows",
        "places leak",
        "debt stays",
    ],
)
async def test_a_mistake_in_a_script_is_found(source: Callable[[str], str], found: str) -> None:
    """Each mistake ends the history with its seed and its last events."""
    with pytest.raises(Failed, match=found) as caught:
        await simulate(3, 4 * OPERATIONS, source=source)
    assert "--seed 3" in str(caught.value)
