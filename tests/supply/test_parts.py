"""`make test` itself: what a test that fails among others means."""

import textwrap
from pathlib import Path

import pytest

from tests.parts import AGAIN_MAX, PARTS, ROOT, Run


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the plugins of the other tests, which take long to start."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.mark.parametrize(
    ("test", "passed", "said"),
    [
        ("pass", True, ""),
        ("assert not first(number)", True, "FAILED ONCE test_it.py::test_it[0]"),
        ("assert False", False, "FAILED test_it.py::test_it[0]"),
        ("os._exit(3)", False, "failed: only"),
        ("raise KeyboardInterrupt", False, "failed: only"),
        ("assert (", False, "failed: only"),
    ],
    ids=["passes", "fails once", "fails", "breaks off", "is interrupted", "cannot be read"],
)
def test_what_fails_among_others_has_one_more_attempt(
    test: str, passed: bool, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A test that fails once does not fail the run, and is named; one that fails twice, or ends pytest, does."""
    assert _run(tmp_path, test, tests=1).passed() is passed
    assert said in capfd.readouterr().out


def test_more_than_a_few_are_a_fault(tmp_path: Path) -> None:
    """Where more tests failed than a slow machine explains, none is tried again."""
    run = _run(tmp_path, "assert not first(number)", tests=AGAIN_MAX + 1)
    assert not run.passed()
    assert not (run.kept / "again").exists()


def test_no_folder_is_left_out() -> None:
    """What a part names exists, and the last one takes all that the others do not name."""
    named = [asked.removeprefix("--ignore=") for part in PARTS.values() for asked in part]
    assert all((ROOT / folder).is_dir() for folder in named)
    *some, rest = PARTS.values()
    assert sorted(f"--ignore={folder}" for part in some for folder in part) == sorted(rest)


def _run(directory: Path, test: str, *, tests: int) -> Run:
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = soak\n")
    (directory / "test_it.py").write_text(
        textwrap.dedent(
            f"""
            import os, pathlib, pytest

            def first(number):
                seen = pathlib.Path(f"seen{{number}}")
                return not seen.exists() and not seen.touch()

            @pytest.mark.parametrize("number", range({tests}))
            def test_it(number):
                {test}
            """
        )
    )
    return Run(directory, directory / "kept", {"only": ()})
