"""What is said of threats is shown by tests that are there, and leads to pages that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("THREAT_MODEL.md", "SECURITY.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link of the page is a file."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_answer_is_shown() -> None:
    """Each threat names tests, and each test that is named is one."""
    text = (ROOT / "THREAT_MODEL.md").read_text()
    rows = re.findall(r"^\| .* \| .* \| (`tests/.*) \|$", text, re.MULTILINE)
    section = text.partition("## What stands in the way")[2].partition("## ")[0]
    assert len(rows) == len([line for line in section.splitlines() if line.startswith("| ")]) - 1
    for named in re.findall(r"`(tests/[^`]+)`", text):
        path, _, test = named.partition("::")
        assert (ROOT / path).exists(), path
        assert not test or re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE), named
