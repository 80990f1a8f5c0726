"""The dashboard's panels as pictures, drawn from what a Prometheus has: for docs, and where there is no Grafana.

`python -m benchmarks.panels --prometheus http://127.0.0.1:9090 --minutes 5 --to dashboard.svg`

Owns: reading the dashboard's file, its variables, the drawing. Does not know: what is measured, whose Prometheus it is.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from json import loads
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

DASHBOARD: Final = Path(__file__).parent.parent / "deploy/grafana/gateway.json"
_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 34, 64
_COLUMNS: Final = 3
_LEGEND_MAX: Final = 6
_POINTS_MAX: Final = 120
_COLOURS: Final = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477", "#66aa00")
_STYLE: Final = (
    "text{font:11px sans-serif;fill:#333}.t{font:bold 13px sans-serif}.g{stroke:#e4e4e4}.a{stroke:#999}"
    ".m{stroke:#888;stroke-dasharray:3 3}"
    "polyline{fill:none;stroke-width:1.6}rect.p{fill:#fff;stroke:#ddd}"
)


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name, and points of a time and a value."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the dashboard: what it asks, and for each line's query how the lines are called."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    row: str = ""


def panels(dashboard: Path = DASHBOARD) -> list[Panel]:
    """The panels, in order, each with the title of its row."""
    found, row = [], ""
    for each in loads(dashboard.read_text())["panels"]:
        if "targets" not in each:
            row = each["title"]
            continue
        queries = [(target["expr"], target["legendFormat"]) for target in each["targets"]]
        found.append(Panel(each["title"], each["fieldConfig"]["defaults"]["unit"], queries, row))
    return found


def expression(query: str, rate_seconds: int) -> str:
    """A query with the dashboard's variables: of all products, over so many seconds."""
    return query.replace("$__rate_interval", f"{rate_seconds}s").replace("$product", ".*")


def asked(url: str, path: str, **parameters: object) -> Any:
    """What Prometheus answers; an error of its own is raised."""
    with urlopen(f"{url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as response:
        return loads(response.read())["data"]


def series(url: str, panel: Panel, *, start: float, end: float, rate_seconds: int) -> list[Series]:
    """The lines of a panel between two times."""
    step = max(1, round((end - start) / _POINTS_MAX))
    found = []
    for query, legend in panel.queries:
        data = asked(
            url, "query_range", query=expression(query, rate_seconds), start=f"{start:.3f}", end=f"{end:.3f}", step=step
        )
        for result in data["result"]:
            points = [(float(at), float(value)) for at, value in result["values"]]
            found.append(Series(_named(legend, result["metric"]), [each for each in points if isfinite(each[1])]))
    return sorted((each for each in found if each.points), key=lambda each: each.name)


def _named(legend: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace("{{" + name + "}}", value)
    return legend


def value_text(value: float, unit: str) -> str:
    """A number as people read it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}{' s' if unit == 's' else ''}"


def _top(most: float) -> float:
    """A round number that is not below."""
    if most <= 0:
        return 1.0
    size: float = 10.0 ** floor(log10(most))
    return size * next(step for step in (1, 2, 2.5, 5, 10) if step * size >= most * 0.999)


def drawing(panel: Panel, lines: Sequence[Series], *, start: float, end: float, moments: Sequence[float] = ()) -> str:
    """A panel as an SVG group of `_WIDTH` by `_HEIGHT`. `moments` are marked."""
    top = _top(max((value for line in lines for _, value in line.points), default=0.0))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = [
        f'<rect class="p" x="2" y="2" width="{_WIDTH - 4}" height="{_HEIGHT - 4}" rx="4"/>',
        f'<text class="t" x="12" y="21">{escape(panel.title)}</text>',
    ]
    for quarter in range(5):
        y = _TOP + high - high * quarter / 4
        parts.append(f'<line class="g" x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = value_text(top * quarter / 4, panel.unit)
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for third in range(4):
        at, x = start + (end - start) * third / 3, _LEFT + wide * third / 3
        anchor = ("start", "middle", "middle", "end")[third]
        clock = time.strftime("%H:%M:%S", time.gmtime(at))
        parts.append(f'<text x="{x:.1f}" y="{_TOP + high + 15}" text-anchor="{anchor}">{clock}</text>')
    for at in moments:
        x = _LEFT + wide * (at - start) / (end - start)
        parts.append(f'<line class="m" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + high}"/>')
    for number, line in enumerate(lines):
        points = " ".join(
            f"{_LEFT + wide * (at - start) / (end - start):.1f},{_TOP + high - high * value / top:.1f}"
            for at, value in line.points
        )
        parts.append(f'<polyline stroke="{_COLOURS[number % len(_COLOURS)]}" points="{points}"/>')
    for number, line in enumerate(lines[:_LEGEND_MAX]):
        x, y = 14 + number % 2 * _WIDTH // 2, _HEIGHT - 36 + number // 2 * 13
        name = f"{line.name}  {value_text(line.points[-1][1], panel.unit)}"
        parts.append(f'<rect x="{x}" y="{y - 8}" width="9" height="9" fill="{_COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 13}" y="{y}">{escape(name)}</text>')
    if not lines:
        parts.append(f'<text x="{_LEFT + wide / 2}" y="{_TOP + high / 2}" text-anchor="middle">nothing happened</text>')
    return "".join(parts)


def picture(drawings: Sequence[str]) -> str:
    """Panels side by side, as one SVG file."""
    rows = ceil(len(drawings) / _COLUMNS)
    groups = (
        f'<g transform="translate({number % _COLUMNS * _WIDTH},{number // _COLUMNS * _HEIGHT})">{drawn}</g>'
        for number, drawn in enumerate(drawings)
    )
    size = f'width="{_COLUMNS * _WIDTH}" height="{rows * _HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_STYLE}</style>'
    return "\n".join((head, *groups, "</svg>\n"))


def draw(url: str, *, start: float, end: float, rate_seconds: int, dashboard: Path = DASHBOARD) -> str:
    """All panels of the dashboard between two times."""
    return picture(
        [
            drawing(panel, series(url, panel, start=start, end=end, rate_seconds=rate_seconds), start=start, end=end)
            for panel in panels(dashboard)
        ]
    )


def main() -> None:
    """Draw what a Prometheus has of the last minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--rate-seconds", type=int, default=20, help="at least four scrapes")
    parser.add_argument("--to", type=Path, default=Path("dashboard.svg"))
    options = parser.parse_args()
    end = time.time()
    start = end - options.minutes * 60
    options.to.write_text(draw(options.prometheus, start=start, end=end, rate_seconds=options.rate_seconds))
    print(f"{options.to}: {len(panels())} panels")


if __name__ == "__main__":
    main()
