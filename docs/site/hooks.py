"""What the documentation site is made of.

Owns: which pages there are, in which order; where a link of the repository leads on the site.
Does not know: how a page is drawn (MkDocs does).

`python hooks.py DIRECTORY` lays the pages out; MkDocs calls the functions that begin with `on_`.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: Pages beside `docs/`, and where they are on the site.
BESIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "THREAT_MODEL.md": "threat-model.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
#: The chapters: pages by name, in this order, and then all others of these directories.
CHAPTERS: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "start.md"),
    "Concepts": ("concepts/*.md",),
    "Operating": ("operating/deploy.md", "operating/upgrade.md", "operating/*.md"),
    "Runbooks": ("operating/*/*.md",),
    "Reference": ("reference/configuration.md", "reference/cli.md", "reference/*.md"),
    "Inside": ("architecture.md", "threat-model.md", "security.md", "contributing.md", "changelog.md"),
    "Records": ("adr/*.md",),
}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def lay_out(pages: Path) -> None:
    """Copy what the site is made of, with each link as the site needs it."""
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("site", "__pycache__"))
    for source, target in BESIDE.items():
        shutil.copy(ROOT / source, pages / target)
    for page in pages.rglob("*.md"):
        page.write_text(relinked(page.read_text(), str(page.relative_to(pages))))


def relinked(text: str, page: str) -> str:
    """A page's text with the links that the site needs: to pages where they are, to other files as plain words."""
    beside = page in BESIDE.values()
    folder = ROOT if beside else (ROOT / "docs" / page).parent

    def link(found: re.Match[str]) -> str:
        words, path, anchor = found[1], found[2], found[3] or ""
        target = (folder / path).resolve()
        if target.parent == ROOT and target.name in BESIDE:
            return f"[{words}]({_way(page)}{BESIDE[target.name]}{anchor})"
        if target.is_relative_to(ROOT / "docs"):
            return f"[{words}]({_way(page)}{target.relative_to(ROOT / 'docs')}{anchor})"
        return words

    return _LINK.sub(link, text)


def _way(page: str) -> str:
    return "../" * page.count("/")


def nav(pages: Path) -> list[dict[str, list[str]]]:
    """Every page, once, in its chapter."""
    seen: set[str] = set()
    chapters = []
    for chapter, patterns in CHAPTERS.items():
        found = [str(each.relative_to(pages)) for pattern in patterns for each in sorted(pages.glob(pattern))]
        chapters.append({chapter: [each for each in dict.fromkeys(found) if each not in seen]})
        seen.update(found)
    return chapters


def on_config(config: Any) -> Any:
    """The table of contents is made, not written."""
    config.nav = nav(Path(config.docs_dir))
    return config


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
