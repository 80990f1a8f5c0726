"""The queries of the dashboard and of the alert rules, and what of the gateway's metrics each of them names."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import yaml

from benchmarks.panels import expression, panels
from gateway.observe.catalogue import COUNTERS, GAUGES, GAUGES_BY_ENDPOINT, GAUGES_BY_PRODUCT, HISTOGRAMS
from tests.harness import ROOT

RULES: Final = ROOT / "deploy/prometheus/rules.yaml"
#: What a scrape adds, and the bucket's bound.
_SCRAPED: Final = {"job", "instance"}


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """The rules by their names."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@cache
def queries() -> dict[str, str]:
    """All queries, by whose they are."""
    drawn = {
        f"{panel.title} {number}": expression(query, 60)
        for panel in panels()
        for number, (query, _) in enumerate(panel.queries)
    }
    return drawn | {name: rule["expr"] for name, rule in alerts().items()}


@cache
def samples() -> dict[str, set[str]]:
    """Every sample that a gateway can tell, with its labels."""
    found = {f"{name}_total": set(labels) for name, (_, labels) in COUNTERS.items()}
    for name, (_, labels, _) in HISTOGRAMS.items():
        found |= {f"{name}_bucket": {*labels, "le"}, f"{name}_count": set(labels), f"{name}_sum": set(labels)}
    found |= {name: set() for name in GAUGES} | {name: {"product"} for name in GAUGES_BY_PRODUCT}
    found |= {name: {"upstream", "endpoint"} for name in GAUGES_BY_ENDPOINT}
    return found | {"gateway_info": {"version", "config"}, "up": set()}


def named(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The metrics of a query, each with the labels that it selects by."""
    for name, selector in re.findall(r"\b(gateway_\w+|up)\b(?:\{([^}]*)\})?", query):
        yield name, dict(re.findall(r"(\w+)=~?\"([^\"]*)\"", selector))


def grouped(query: str) -> set[str]:
    """The labels that a query groups or joins by."""
    return {label.strip() for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in labels.split(",")}


def unknown(query: str) -> list[str]:
    """What a query names that no gateway tells."""
    known = samples()
    wrong: list[str] = []
    labels: set[str] = set(_SCRAPED)
    for name, selected in named(query):
        if name not in known:
            wrong.append(name)
            continue
        labels |= known[name]
        wrong += [f"{name}{{{label}}}" for label in selected.keys() - known[name] - _SCRAPED]
    return wrong + sorted(grouped(query) - labels)
