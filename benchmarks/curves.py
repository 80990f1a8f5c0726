"""Curves as SVG: what grows along a logarithmic axis, figures from zero upwards.

Owns: the picture. Does not know: what is measured.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 48
COLOURS: Final = ("#1f5fa8", "#c4511d", "#2f7d4f", "#7a4fa3")
STYLE: Final = (
    "text{font:12px sans-serif;fill:#333}.t{font-weight:bold;font-size:14px}.g{stroke:#ddd}.e{text-anchor:end}"
)

Points = Sequence[tuple[float, float]]


def drawn(title: str, x_label: str, y_label: str, lines: Mapping[str, Points]) -> str:
    """One picture; each line has a name. What is 0 on the axis stands where 1 does."""
    every = [point for points in lines.values() for point in points]
    low, high = (math.log10(max(1.0, pick(x for x, _ in every))) for pick in (min, max))
    top = _round_up(max(y for _, y in every))

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(max(1.0, x)) - low) / ((high - low) or 1.0)
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><style>{STYLE}</style>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><text class="t" x="{LEFT}" y="18">{title}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{x_label}</text>',
        f'<text class="e" x="{LEFT - 6}" y="{TOP - 8}">{y_label}</text>',
    ]
    for step in range(5):
        x_end, y = place(10**high, top * step / 4)
        parts.append(f'<line class="g" x1="{LEFT}" y1="{y:.1f}" x2="{x_end:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="e" x="{LEFT - 6}" y="{y + 4:.1f}">{top * step / 4:g}</text>')
    ticks, under = sorted({x for x, _ in every}), f'y="{HEIGHT - BOTTOM + 16}" text-anchor="middle"'
    parts += [f'<text x="{place(x, 0)[0]:.1f}" {under}>{_short(x)}</text>' for x in ticks]
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in (place(*each) for each in points)
        ]
        parts.append(f'<text x="{LEFT + 12 + 150 * number}" y="{TOP - 6}" style="fill:{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 8, 10 times a power of ten."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value)


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
