"""What an account may have in place of its plan's: how it is read, kept, laid over and shown."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.overrides import OF_ACCOUNT, OF_PRODUCT, merged, read, shown, written

GIVEN: list[tuple[str, Any, str, Any]] = [
    ("overdraft", "500", "500000000000", "500.000000000"),
    ("overdraft", "0", "0", "0.000000000"),
    ("requests", "20000/300", "20000/300", "20000/300"),
    ("requests", "none", "none", "none"),
    ("requests_per_key", "60/1", "60/1", "60/1"),
    ("region", "eu-1", "eu-1", "eu-1"),
    ("monthly_grant", "50/month", "50000000000/month", "50.000000000/month"),
    ("monthly_grant", "0.5/30", "500000000/30", "0.500000000/30"),
    ("monthly_grant", "none", "none", "none"),
    ("speech.included", True, "yes", True),
    ("speech.included", "no", "no", False),
    ("speech.models", ["a", "b-1.5"], "a,b-1.5", ["a", "b-1.5"]),
    ("speech.models", "a,b", "a,b", ["a", "b"]),
    ("speech.models", "all", "all", "all"),
    ("speech.concurrency", 400, "400", 400),
    ("speech.concurrency", "none", "none", "none"),
    ("speech.queued_max", "0", "0", 0),
    ("speech.when_negative", 1, "1", 1),
    ("speech.requests", "5/60", "5/60", "5/60"),
]
WRONG: dict[str, list[Any]] = {
    "overdraft": ["-1", "a lot", "1e3", "9000001", 5, True, [], ""],
    "requests": ["0/60", "5", "5/0", "-5/60", "5/86401", "5/60 ", 5, True, "\u0665/60"],
    "monthly_grant": ["50", "0/month", "-1/month", "5/0", "5/years", 5, "/month", ""],
    "region": ["", "EU", "e u", 1, ["eu"], "e\x1fu"],
    "speech.included": ["perhaps", 1, 0, [], ""],
    "speech.models": [[], "", ["a b"], ["a,b"], ["a\x1f"], 7, True],
    "speech.concurrency": [0, -1, "-1", 1.5, True, "many", 10**10, "", [1]],
    "speech.queued_max": [-1, "none", False],
}
NAMES = st.sampled_from(["overdraft", "requests", "speech.concurrency", "speech.included", "voice.requests"])


@pytest.mark.parametrize(("name", "value", "kept", "told"), GIVEN)
def test_what_is_given_is_kept_and_shown(name: str, value: Any, kept: str, told: Any) -> None:
    """Each value has one form in which it is kept, and is shown so that it may be given again."""
    assert written(name, value) == kept
    text = merged("", {name: kept})
    assert shown(text) == {name: told}
    assert written(name, told) == kept


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_told(name: str) -> None:
    """Negatives, other types and other words are refused with what it may be."""
    for value in WRONG[name]:
        with pytest.raises(ValueError, match=r"it is|it lasts|written|not an amount"):
            written(name, value)


def test_every_name_is_tried_here() -> None:
    """The table above has every name that there is."""
    tried = {name.rpartition(".")[2] for name, *_ in GIVEN}
    assert tried == OF_ACCOUNT.keys() | OF_PRODUCT.keys()


@given(st.lists(st.dictionaries(NAMES, st.none() | st.sampled_from(["1", "none", "2/3"]), max_size=4), max_size=6))
def test_changes_are_laid_over_one_another(changes: list[dict[str, str | None]]) -> None:
    """What was said last of a name counts; the text is the same whatever the order in which names came."""
    text = ""
    wanted: dict[str, str | None] = {}
    for change in changes:
        text = merged(text, change)
        wanted |= change
    left = {name: value for name, value in wanted.items() if value is not None}
    assert read(text) == left
    assert text == merged("", dict(reversed(left.items())))
