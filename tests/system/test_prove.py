"""What `make prove` says of its runs: a figure that was not promised, or a run that breaks, is never in order."""

import pytest

from tests.faults.proof import Proof, table
from tests.prove import DoesNotHold, everything, prove


def proof(**figures: int) -> Proof:
    """A line of a fault."""
    return Proof(fault="any", times=1, in_flight=10, **figures)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["lost", "doubled", "overspent_nanos", "leaked"])
async def test_one_figure_above_its_bound_is_told(wrong: str) -> None:
    """One charge lost or doubled, one nano-dollar, one hold: the run is named among those that did not hold."""

    async def fine() -> list[Proof]:
        return [proof(), proof(lost=3, lost_max=3)]

    async def bad() -> list[Proof]:
        return [proof(**{wrong: 1})]

    rows, failed = await prove([("fine", fine), ("bad", bad)])
    assert len(rows) == 3
    assert len(failed) == 1
    assert failed[0].startswith("bad: ")
    assert len(table(rows).splitlines()) == 5


async def test_a_run_that_breaks_does_not_end_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """It is told with its reason, and those after it are run."""

    async def breaks() -> list[Proof]:
        raise DoesNotHold("the books differ")

    async def fine() -> list[Proof]:
        return [proof()]

    rows, failed = await prove([("breaks", breaks), ("fine", fine)])
    assert (len(rows), failed) == (1, ["breaks"])
    assert "the books differ" in capsys.readouterr().err


def test_every_run_has_its_own_name() -> None:
    """So that each can be asked for alone."""
    names = [name for name, _ in everything(1)]
    assert len(names) == len(set(names)) > 30
