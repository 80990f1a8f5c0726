"""A chart of stacked bars, drawn by the server: which shape stands where, in the units of an SVG's view box.

Owns: the scale and the geometry. Does not know: colours (the style sheet), money, what a bar is about.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from gateway.core.record import record

_LEFT: Final = 58.0
_RIGHT: Final = 6.0
_TOP: Final = 10.0
_BOTTOM: Final = 26.0
_GAP: Final = 0.28  # of a bar's place
_TICKS_MAX: Final = 5


@record
class Box:
    """A rectangle of one series (its number)."""

    series: int
    x: float
    y: float
    width: float
    height: float


@record
class Bar:
    """One place on the axis: its boxes from the bottom up. `label` is "" where there is no room for one."""

    name: str
    label: str
    x: float
    middle: float
    width: float
    boxes: tuple[Box, ...]


@record
class Tick:
    """A line across the chart."""

    value: int
    y: float


@record
class Chart:
    """Everything that is drawn, in a view box of this size."""

    width: int
    height: int
    left: float
    right: float
    bottom: float
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def draw(
    names: Sequence[str], series: Sequence[Sequence[int]], *, width: int, height: int, label_every: int, unit: int
) -> Chart:
    """Bars for the names, each a stack of the series' values there. The scale has round steps of `unit`."""
    floor, right = height - _BOTTOM, width - _RIGHT
    sums = [sum(values[place] for values in series) for place in range(len(names))]
    ticks = scale(max(sums, default=0), unit)
    rise = (floor - _TOP) / ticks[-1]
    pitch = (right - _LEFT) / max(1, len(names))
    bars = []
    for place, name in enumerate(names):
        x = _LEFT + pitch * (place + _GAP / 2)
        heights, boxes = [0], []
        for values in series:
            heights.append(heights[-1] + values[place])
        for number, (below, above) in enumerate(pairwise(heights)):
            if above > below:
                top = round(floor - above * rise, 2)
                boxes.append(
                    Box(series=number, x=round(x, 2), y=top, width=round(pitch * (1 - _GAP), 2),
                        height=round(floor - below * rise - top, 2))
                )  # fmt: skip
        labelled = (len(names) - 1 - place) % label_every == 0
        bars.append(
            Bar(name=name, label=name if labelled else "", x=round(_LEFT + pitch * place, 2),
                middle=round(x + pitch * (1 - _GAP) / 2, 2), width=round(pitch, 2), boxes=tuple(boxes))
        )  # fmt: skip
    return Chart(
        width=width, height=height, left=_LEFT, right=right, bottom=floor, bars=tuple(bars),
        ticks=tuple(Tick(value=value, y=round(floor - value * rise, 2)) for value in ticks),
    )  # fmt: skip


def scale(most: int, unit: int) -> list[int]:
    """Round values from 0 to at least `most`, at most five steps apart, in steps of 1, 2 or 5 times a power of ten."""
    step = unit
    for factor in _factors():
        step = unit * factor
        if step * _TICKS_MAX >= most:
            break
    count = max(1, -(-most // step))
    return [step * number for number in range(count + 1)]


def _factors() -> Sequence[int]:
    return [digit * 10**power for power in range(12) for digit in (1, 2, 5)]
