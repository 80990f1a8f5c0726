"""The documentation site: every page is in its table of contents, and every link leads somewhere, on the site too."""

import fnmatch
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest

from docs.site.hooks import BESIDE, CHAPTERS, ROOT, lay_out, nav

_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_FOLDERS = ("gateway", "tests", "docs", "config", "deploy", "benchmarks", "examples")
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as the site has them."""
    directory = tmp_path_factory.mktemp("pages")
    lay_out(directory / "pages")
    return directory / "pages"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = (unicodedata.normalize("NFKD", each).encode("ascii", "ignore").decode() for each in headings)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", each).strip().lower()) for each in plain}


def astray(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for path, anchor in _LINK.findall(_FENCED.sub("", page.read_text())):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(f"{page.name}: {path}#{anchor}")
    return found


def test_every_page_is_in_the_table_of_contents_once(pages: Path) -> None:
    """Whatever is in docs/, and the pages beside it, in one chapter each; no chapter is empty."""
    chapters = nav(pages)
    assert [name for each in chapters for name in each] == list(CHAPTERS)
    listed = [page for each in chapters for found in each.values() for page in found]
    assert sorted(listed) == sorted(str(each.relative_to(pages)) for each in pages.rglob("*.md"))
    assert all(found for each in chapters for found in each.values())
    assert listed[:2] == ["index.md", "start.md"]


def test_every_link_leads_somewhere(pages: Path) -> None:
    """Each relative link, and its anchor, of each page: in the repository, and as the site has it."""
    here = [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in BESIDE)]
    assert [link for page in (*here, *pages.rglob("*.md")) for link in astray(page)] == []
    assert "](threat-model.md" in (pages / "index.md").read_text() or "](operating/" in (pages / "index.md").read_text()


def test_what_is_a_list_is_one_on_the_site() -> None:
    """Lists and tables follow a blank line or a heading: else the site's Markdown takes them for text."""
    for page in (*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in BESIDE)):
        lines = _FENCED.sub("", page.read_text()).splitlines()
        for before, line in pairwise(lines):
            if re.match(r"- |\d+\. |\|", line):
                assert not before.strip() or re.match(r"#|- |\d+\. |\||  ", before), f"{page.name}: {line}"


def test_every_file_that_a_page_names_is_there() -> None:
    """By the end of its path, which may have a `*`: in all pages but the records, which tell of what was."""
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "gateway/ledger/README.md", *(ROOT / name for name in BESIDE)]
    named = {
        (page.name, name)
        for page in pages
        if "adr" not in page.parts and page.name != "CHANGELOG.md"
        for span in re.findall(r"`([^`\n]+)`", _FENCED.sub("", page.read_text()))
        for name in re.findall(r"(?<![\w./*-])[\w*-][\w./*-]*\.(?:py|lua|yaml|sh|sql|conf)\b", span)
    }
    there = [f"/{each.relative_to(ROOT)}" for name in _FOLDERS for each in (ROOT / name).rglob("*") if each.is_file()]
    there += [f"/{each.name}" for each in ROOT.iterdir()]
    assert len(named) > 100
    assert {each for each in named if not fnmatch.filter(there, f"*/{each[1]}")} == set()


def test_settings_read_what_is_laid_out() -> None:
    """The builder's settings fetch nothing from elsewhere, and are strict about links."""
    settings = (ROOT / "docs/site/mkdocs.yaml").read_text()
    assert "font: false" in settings
    assert re.search(r"docs_dir: \.\./\.\./build/pages", settings)
    assert settings.count(": warn") == 4
