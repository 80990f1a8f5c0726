"""What the bill of materials and the audit are worth: never less than the lock says."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import ROOT
from tests.supply.__main__ import LOCK, Unproven, audited, bill
from tests.supply.lock import Locked, locked

PACKAGES = {"jinja2": Locked("3.1.6", ("a" * 64, "b" * 64)), "yarl": Locked("1.25", ("c" * 64,))}


def installed() -> dict[str, Any]:
    """What the tool writes of them."""
    parts = [("jinja2", "3.1.6"), ("yarl", "1.25")]
    return {
        "metadata": {"component": {"name": "credit-gateway"}},
        "components": [
            {"name": name, "purl": f"pkg:pypi/{name}@{version}", "licenses": [{"license": {"id": "MIT"}}]}
            for name, version in parts
        ],
    }


@pytest.mark.parametrize("name", ["runtime", "dev", "supply"])
def test_every_package_is_pinned_by_hashes(name: str) -> None:
    """Each lock names one version of each package, and the hashes of its files."""
    packages = locked((ROOT / f"requirements/{name}.lock").read_text())
    assert len(packages) > 30
    assert [each for each, package in packages.items() if not package.hashes] == []


def test_what_is_no_lock_is_not_read() -> None:
    """A line that would be left out is a mistake, not nothing."""
    assert locked("a_B.c==1 \\\n    --hash=sha256:" + "0" * 64) == {"a-b-c": Locked("1", ("0" * 64,))}
    for line in ("a>=1", "-r other.txt", "a @ https://example.com/a.whl", "    --hash=sha256:" + "0" * 64):
        with pytest.raises(ValueError, match="no line of a lock"):
            locked(line)


def test_a_bill_has_the_locks_hashes() -> None:
    """Each component has those of its files, and the gateway its version."""
    made = bill(installed(), PACKAGES, "1.2.3")
    assert made["metadata"]["component"]["version"] == "1.2.3"
    hashes = {part["name"]: part["externalReferences"][-1]["hashes"] for part in made["components"]}
    assert [each["content"] for each in hashes["jinja2"]] == ["a" * 64, "b" * 64]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda found: found["components"].pop(), r"not what is locked: yarl@1\.25"),
        (lambda found: found["components"][0].update(purl="pkg:pypi/jinja2@3.1.5"), r"jinja2@3\.1\.5, jinja2@3\.1\.6"),
        (lambda found: found["components"][0].pop("licenses"), r"licence of jinja2@3\.1\.6"),
    ],
)
def test_a_bill_of_something_else_is_none(damage: Callable[[Any], None], told: str) -> None:
    """A package that is missing, of another version, or without a licence: no bill."""
    found = installed()
    damage(found)
    with pytest.raises(Unproven, match=told):
        bill(found, PACKAGES, "1")


def test_an_audit_that_found_nothing_out_is_none() -> None:
    """A package that was skipped, or is not there, is not sound; a weakness is told with what mends it."""
    sound = {"name": "yarl", "version": "1.25", "vulns": []}
    skipped = {"name": "Jinja2", "skip_reason": "not found"}
    for parts in ([sound, skipped], [sound], []):
        with pytest.raises(Unproven, match=r"knows nothing of [12] of 2 packages"):
            audited({"dependencies": parts}, PACKAGES)
    weak = {"name": "Jinja2", "version": "3.1.6", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.7"]}]}
    assert audited({"dependencies": [sound, {**weak, "vulns": []}]}, PACKAGES) == []
    assert audited({"dependencies": [sound, weak]}, PACKAGES) == ["jinja2 3.1.6: PYSEC-1, mended in 3.1.7"]
    assert set(PACKAGES) < set(locked(LOCK.read_text()))
