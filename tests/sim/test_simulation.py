"""The simulator: histories without a fault in them, and faults that it must find."""

import secrets
from collections.abc import Callable

import pytest

from tests.sim.shrink import Stage
from tests.sim.simulation import Failed, a_server, simulate

OPERATIONS = 10_000
STEPS_MAX = 15
HAPPENED = ("doubled", "kill", "reply-lost", "request-lost", "server-killed", "writes-lost", "owed", "free")


def without(line: str, instead: str = "") -> Callable[[str], str]:
    """The scripts with one line of theirs changed."""
    return lambda source: source.replace(line, instead)


@pytest.mark.parametrize("seed", [1, None], ids=["fixed seed", "fresh seed"])
async def test_a_history_of_faults_loses_and_doubles_nothing(seed: int | None) -> None:
    """Lines that lose and double, processes and servers that are killed: every invariant holds after every step."""
    told = await simulate(secrets.randbits(32) if seed is None else seed, OPERATIONS)
    assert not [what for what in HAPPENED if not told[what]], told


async def test_a_seed_is_a_history() -> None:
    """The same seed does the same, to the last operation; another does something else."""
    first, again, other = [await simulate(seed, 800) for seed in (7, 7, 8)]
    assert first == again != other


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (without("call('SET', ending, table", "call('HMGET', ACCOUNT, table"), "charged twice"),
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
    """Each mistake ends the history with its seed and a short history that shows it, on this script and no other."""
    with pytest.raises(Failed, match=found) as caught:
        await simulate(3, 4 * OPERATIONS, source=source)
    assert "--seed 3" in str(caught.value)
    shortest = caught.value.shortest
    assert 0 < len(shortest) < STEPS_MAX, str(caught.value)
    async with a_server() as (_, link):
        again = await Stage(link, source).play(shortest)
        assert again is not None and again[0] == len(shortest) - 1
        assert again[1].rule in str(caught.value)
        assert await Stage(link).play(shortest) is None
