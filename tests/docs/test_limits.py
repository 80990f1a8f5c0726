"""What is said of limits is what the settings have, and is shown by tests that are there."""

import re

from tests.docs.test_reference import ROOT, rows

CODE = re.compile(r"`([^`]+)`")
#: Where the reference has the settings that a name begins with.
SECTIONS = {"product": "config/products/*.yaml"}


def told() -> list[list[str]]:
    """The rows of the page's tables."""
    lines = (ROOT / "docs/operating/limits.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] != "limit"]


def default_of(name: str) -> str | None:
    """What the reference says that a setting is, where nothing is set; None where it does not know it."""
    section, _, key = name.rpartition(".")
    text = (ROOT / "docs/reference/configuration.md").read_text()
    heading = re.escape(SECTIONS.get(section, section))
    found = re.search(rf"^##+ `{heading}`.*?(?=^##+ )", text + "\n## ", re.MULTILINE | re.DOTALL)
    row = re.search(rf"^\| `{key}` \|.*\| ([^|]*) \|$", found[0], re.MULTILINE) if found else None
    return None if row is None else row[1]


def test_every_limit_is_a_setting_with_its_default() -> None:
    """A limit is set by a key of the reference, which has the default that is told, or is said to be fixed."""
    for limit, _, default, key, *_ in told():
        if key == "fixed" or key.startswith("the key's"):
            continue
        (name,) = CODE.findall(key)
        found = default_of(name)
        assert found is not None, f"{limit}: the reference has no {name}"
        numbers = CODE.findall(default)
        assert found == f"`{numbers[0]}`" if numbers else found == "no limit", (limit, found)


def test_every_code_event_and_metric_is_one() -> None:
    """What clients and operators see of a limit is in the reference."""
    known = set(rows("errors.md", 4)) | set(rows("metrics.md", 2)) | set(rows("metrics.md", 3))
    for row in told():
        for word in CODE.findall(" ".join(row[4:6])):
            assert word in known or word in ("Retry-After", "RateLimit"), (row[0], word)


def test_every_limit_is_shown() -> None:
    """Each row names tests that are there."""
    assert len(told()) > 30
    for row in told():
        named = CODE.findall(row[6])
        assert named, row[0]
        for path, _, test in (each.partition("::") for each in named):
            assert not test or f"def {test}(" in (ROOT / path).read_text(), (row[0], test)
            assert (ROOT / path).exists(), row[0]
