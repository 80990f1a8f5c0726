"""What is installed has everything that the pages need beside their code."""

import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel

from tests.harness import ROOT


def test_templates_and_assets_are_in_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file of both directories is in the wheel that is built of this tree."""
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        there = set(wheel.namelist())
    pages = ROOT / "gateway" / "edge" / "pages"
    needed = {str(file.relative_to(ROOT)) for name in ("templates", "assets") for file in (pages / name).iterdir()}
    assert len(needed) > 20
    assert needed <= there
