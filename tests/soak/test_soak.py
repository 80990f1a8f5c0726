"""A minute of `make soak`, and that it sees what must not be."""

from pathlib import Path

import pytest

from gateway.core.money import Nanos
from gateway.ports import Entry
from tests.soak.audit import Audit, count_calls
from tests.soak.faults import FAULTS
from tests.soak.run import Options, soak
from tests.soak.samples import Series
from tests.soak.traffic import CHARGE, Told


@pytest.mark.soak
@pytest.mark.timeout(240)
async def test_a_minute_in_which_everything_breaks(tmp_path: Path) -> None:
    """Each fault comes once under the traffic of all six products: what was served is charged, once, and no more."""
    options = Options(directory=tmp_path, minutes=70 / 60, fault_seconds=7.0, share=0.5, sessions=4)
    found = await soak(options)
    assert not found.wrong, found.page
    assert len(found.injected) == len(FAULTS)


def rising(by: float) -> Series:
    """Memory that rises so much in the run, with a fault's peak in it every now and then."""
    return Series("MiB", [(point * 5.0, 80 + by * point / 90 + (200 if point % 9 == 3 else 0)) for point in range(90)])


def test_a_leak_is_no_peak() -> None:
    """What a fault raises for a moment is flat, as is warming up by a little; what goes on rising is not."""
    assert rising(0).flat
    assert rising(10).flat
    assert not rising(60).flat
    assert rising(60).per_hour == pytest.approx(60 * 3600 / 450, rel=0.2)


def charge(call: str, amount: int = CHARGE) -> Entry:
    """A completion's charge."""
    return Entry(
        id=f"1-{call}", at_ms=1, kind="charge", amount=Nanos(-amount), balance=Nanos(0), operation=call,
        data={"call_id": call},
    )  # fmt: skip


def test_each_wrong_charge_is_counted() -> None:
    """A call without its charge, one with two, one that was refused, one at another price: each is what it is."""
    told = Told(served={"a": "chat", "b": "chat", "c": "chat"}, refused={"r"})
    found = Audit()
    count_calls(told, {"llm-a": [charge("a"), charge("b"), charge("b")], "poor": [charge("r", 7)]}, found)
    assert (found.lost, found.doubled, found.for_refused, found.unasked) == (1, 1, 1, 1)
    assert found.wrong, "of another price"
