"""What every fault is measured by: one line of the table that `make prove` prints.

Owns: the columns, and what of them must be zero. Does not know: faults.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_HEADS: Final = (
    "fault", "times", "calls in flight", "charges lost", "charges doubled", "overspend ($)", "holds leaked",
    "recovery (s)", "bound",
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
    recovery_seconds: float | None = None
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
    for row in rows:
        recovery = "-" if row.recovery_seconds is None else f"{row.recovery_seconds:.1f}"
        lines.append(
            [
                row.fault, str(row.times), str(row.in_flight), str(row.lost), str(row.doubled),
                f"{row.overspent_nanos / 10**9:.9f}" if row.overspent_nanos else "0", str(row.leaked), recovery,
                row.bound,
            ]
        )  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
