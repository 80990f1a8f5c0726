"""What every fault is measured by: one line of the table that `make prove` prints.

Owns: the columns, and what of them must be zero. Does not know: faults.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.core.money import format_usd

_HEADS: Final = (
    "fault", "times", "calls in flight", "charges lost", "charges doubled", "overspend ($)", "holds leaked",
    "slowest refusal (s)", "recovery (s)", "bound",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What one kind of fault did. Lost: delivered, or acknowledged, and nobody pays. `lost_max` is what is promised."""

    fault: str
    times: int
    in_flight: int
    lost: int = 0
    doubled: int = 0
    overspent_nanos: int = 0
    leaked: int = 0
    refusal_seconds: float | None = None
    """The longest that a call waited for its refusal, once the fault had had the time to be noticed."""
    recovery_seconds: float | None = None
    """From the end of the fault to the first answer."""
    lost_max: int = 0
    bound: str = "0"
    """What `lost` is bounded by, in words."""

    @property
    def holds(self) -> bool:
        """Whether everything is as it was promised."""
        return self.lost <= self.lost_max and not (self.doubled or self.overspent_nanos or self.leaked)


def table(rows: Iterable[Proof]) -> str:
    """All lines, in Markdown."""
    lines = [list(_HEADS), ["---", *["---:"] * (len(_HEADS) - 2), "---"]]
    lines += [_cells(row) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Proof) -> list[str]:
    overspent = format_usd(row.overspent_nanos) if row.overspent_nanos else "0"
    counts = [str(count) for count in (row.times, row.in_flight, row.lost, row.doubled)]
    waits = [_seconds(row.refusal_seconds, 2), _seconds(row.recovery_seconds, 1)]
    return [row.fault, *counts, overspent, str(row.leaked), *waits, row.bound]


def _seconds(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
