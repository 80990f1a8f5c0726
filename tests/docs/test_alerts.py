"""The dashboard and the alert rules: every query names what a gateway tells, every alert has its page, and fires."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import click
import pytest
import yaml
from prometheus_client import generate_latest

from benchmarks.panels import DASHBOARD, Panel, Series, drawing, panels, picture, value_text
from benchmarks.scrape import busy
from gateway.cli import main
from gateway.core.errors import Code
from gateway.observe.catalogue import HISTOGRAMS
from tests.docs.queries import RULES, alerts, named, queries, samples, unknown
from tests.docs.test_reference import rows
from tests.harness import ROOT

RUNBOOKS: Final = ROOT / "docs/operating/runbooks"
PROMTOOL: Final = shutil.which("promtool")


@pytest.mark.parametrize("whose", queries())
def test_a_query_names_what_a_gateway_tells(whose: str) -> None:
    """Its metrics, and the labels that it selects and groups by."""
    query = queries()[whose]
    assert list(named(query))
    assert unknown(query) == []


def test_the_dashboard_asks_for_nothing_else() -> None:
    """Nor do its variables and its marks."""
    assert set(re.findall(r"gateway_\w+", DASHBOARD.read_text())) <= samples().keys()


def test_a_query_that_asks_for_nothing_is_noticed() -> None:
    """A metric, a label of another metric, a group that there is not."""
    assert unknown("gateway_call_total > 0") == ["gateway_call_total"]
    assert unknown('sum(gateway_workers{product="a"})') == ["gateway_workers{product}"]
    assert unknown("sum by (code) (gateway_calls_total)") == ["code"]


def test_a_query_selects_by_words_that_there_are() -> None:
    """Events, codes, outcomes, bases of charges and kinds of processes are those of the reference."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    words = set(rows("metrics.md", 2)) | set(re.findall(r"`([a-z_]+)`", text)) | set(map(str, Code))
    for whose, query in queries().items():
        for _, selected in named(query):
            for label in selected.keys() & {"event", "code", "outcome", "basis", "process"}:
                assert set(selected[label].split("|")) <= words, whose


def test_every_alert_has_a_page_of_its_own() -> None:
    """With what to look at and what to do; the list of alerts has them all, with how urgent they are, and no other."""
    rules = alerts()
    assert sorted(rules) == sorted(page.stem for page in RUNBOOKS.glob("*.md"))
    listed = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \|", _text("docs/operating/alerts.md"), re.M)
    assert listed == [(name, name, rule["labels"]["severity"]) for name, rule in rules.items()]
    for name, rule in rules.items():
        assert rule["annotations"]["runbook"] == f"docs/operating/runbooks/{name}.md"
        page = (RUNBOOKS / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n\n**{rule['labels']['severity']}**: ")
        assert "\n## Look at\n\n- " in page
        assert "\n## Do\n\n1. " in page


def test_the_pages_name_what_there_is() -> None:
    """Commands, metrics, panels and other pages, as they are written today."""
    titles = {panel.title for panel in panels()}
    families = samples().keys() | HISTOGRAMS.keys()
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        assert [words for words in re.findall(r"`gateway ([a-z -]+)", text) if not _is_command(words.split())] == []
        assert [query for query in re.findall(r"`(gateway_\w+)", text) if query not in families] == []
        flat = " ".join(text.split())
        assert set(re.findall(r'"([A-Z][^"]*\?)"', flat)) <= titles, page.name
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def _text(path: str) -> str:
    return (ROOT / path).read_text()


def _is_command(words: list[str]) -> bool:
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group):
            return True  # the rest are its options
        found = command.commands.get(word)
        if found is None:
            return False
        command = found
    return True


def test_the_operator_of_a_cluster_has_the_same_alerts() -> None:
    """And scrapes as the job that they are about."""
    monitoring = ROOT / "deploy/kubernetes/monitoring"
    rules = yaml.safe_load((monitoring / "rules.yaml").read_text())
    assert rules["spec"] == yaml.safe_load(RULES.read_text())
    (endpoint,) = yaml.safe_load((monitoring / "servicemonitor.yaml").read_text())["spec"]["endpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "gateway"}]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_alerts_fire_when_something_is_wrong_and_not_before() -> None:
    """By the unit tests beside the rules."""
    assert PROMTOOL is not None
    tests = RULES.with_name("rules_test.yaml")
    command = [PROMTOOL, "test", "rules", tests.name]
    done = subprocess.run(command, cwd=tests.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    fired = set(re.findall(r'alertname="(\w+)", severity', tests.read_text()))
    assert fired == set(alerts())


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_say_of_the_metrics() -> None:
    """Neither of names and units nor of help, of a gateway that has seen everything."""
    assert PROMTOOL is not None
    told = generate_latest(busy({"llm": ["chat"]}).registry)
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=told, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_panel_is_drawn(tmp_path: Path) -> None:
    """Its lines within its frame, whatever the numbers, with their names and last values; one without data says so."""
    panel = Panel("What < is it?", "s", [])
    lines = [Series("a & b", [(0.0, 0.0), (10.0, 0.042)]), Series("c", [(5.0, 0.002)])]
    drawn = picture([drawing(panel, lines, start=0, end=10), drawing(panel, [], start=0, end=10)])
    assert "What &lt; is it?" in drawn
    assert "a &amp; b  42 ms" in drawn
    assert 'points="56.0,186.0 428.0,58.3"' in drawn
    assert drawn.count("nothing happened") == 1
    assert (value_text(0.5, "percentunit"), value_text(1234.0, "short"), value_text(2.0, "s")) == (
        "50 %",
        "1.23 k",
        "2 s",
    )
