"""The reference says everything that the code has, and nothing else; the README's blocks are true."""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from gateway.core.errors import NO_CREDIT, REFUSALS, Code
from gateway.core.exchange import diagram
from gateway.observe.catalogue import COUNTERS, GAUGES, GAUGES_BY_ENDPOINT, GAUGES_BY_PRODUCT, HISTOGRAMS
from gateway.ports import CallFinished
from gateway.settings.load import load

ROOT = Path(__file__).parents[2]


def rows(page: str, columns: int) -> dict[str, list[str]]:
    """The rows of a page's tables that start with a code word: word -> the other cells."""
    found = {}
    for line in (ROOT / "docs/reference" / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == columns:
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_every_error_code_is_documented_with_its_status() -> None:
    """errors.md has each code once, in the order of the code, with the default status."""
    documented = rows("errors.md", 4)
    assert list(documented) == [str(code) for code in Code]
    assert {code: int(cells[0]) for code, cells in documented.items()} == {
        str(code): refusal.status for code, refusal in REFUSALS.items()
    }


def test_every_metric_is_documented_with_its_labels() -> None:
    """metrics.md has each metric with its labels."""
    documented = {name: cells[0] for name, cells in rows("metrics.md", 3).items()}
    expected = {f"{name}_total": ", ".join(labels) for name, (_, labels) in COUNTERS.items()}
    expected |= {name: ", ".join(labels) for name, (_, labels, _) in HISTOGRAMS.items()}
    expected |= dict.fromkeys(GAUGES_BY_PRODUCT, "product")
    expected |= dict.fromkeys(GAUGES_BY_ENDPOINT, "upstream, endpoint")
    expected |= dict.fromkeys(GAUGES, "")
    expected["gateway_info"] = "version, config"
    assert documented == expected


def test_every_event_is_documented() -> None:
    """metrics.md has each event that the code tells."""
    told: set[str] = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        told |= set(re.findall(r"\.event\(\s*\"([a-z_]+)\"", path.read_text()))
    assert set(rows("metrics.md", 2)) == told


def test_every_field_of_a_log_line_is_documented() -> None:
    """metrics.md names the fields of a call's line."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    assert [field.name for field in fields(CallFinished) if f"`{field.name}`" not in text] == []


def test_the_diagram_in_architecture_is_the_table() -> None:
    """The states in ARCHITECTURE.md are printed from the code."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    found = re.search(r"<!-- states -->\n```mermaid\n(.*?)\n?```\n<!-- /states -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == diagram()


def test_the_readme_shows_the_exact_refusal() -> None:
    """The JSON block is what a spent account gets."""
    blocks = re.findall(r"```json\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [json.loads(block) for block in blocks] == [{"error": NO_CREDIT}]


def test_the_readme_example_is_a_product(tmp_path: Path) -> None:
    """The YAML block, with an upstream, a price and a plan for it, is a config without problems."""
    (block,) = re.findall(r"```yaml\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config/products/text-to-speech.yaml").write_text(block)
    changed: dict[str, dict[str, Any]] = {
        name: yaml.safe_load((ROOT / name).read_text())
        for name in ("gateway.yaml", "config/tiers.yaml", "config/prices.yaml")
    }
    upstreams = changed["gateway.yaml"]["upstreams"]
    upstreams["text-to-speech"] = dict(next(iter(upstreams.values())))
    changed["config/tiers.yaml"]["tiers"]["free"]["products"]["text-to-speech"] = {}
    changed["config/prices.yaml"]["price_lists"][0]["prices"]["tts.character"] = {"per_1k_characters": "0.03"}
    for name, data in changed.items():
        (tmp_path / name).write_text(yaml.safe_dump(data))
    assert "text-to-speech" in load(tmp_path / "gateway.yaml", {}).products
