"""Query parameters as data: what a text means, what stands twice, what is passed on."""

from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.parameters import meaning, parameters_of, repeated, unknown_on, without


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("False", False), ("null", None),
        ("0", 0), ("16000", 16000), ("0.5", 0.5), ("-1", -1), ("[]", []), ('["a", "b"]', ["a", "b"]),
        ('{"model": "x"}', {"model": "x"}), ('"quoted"', "quoted"),
        ("", ""), ("universal-2", "universal-2"), ("yes", "yes"), ("None", "None"), ("NaN", "NaN"), ("[", "["),
        ("1e999", "1e999"), ("007", "007"), ("Infinity", "Infinity"), ("[" * 5000, "[" * 5000),
    ],
)  # fmt: skip
def test_what_a_text_means(text: str, value: Any) -> None:
    """JSON counts as what it says, booleans however they are spelled, and everything else as the text that it is."""
    found = meaning(text)
    assert found == value
    assert type(found) is type(value)


def test_a_query() -> None:
    """Names and values are decoded as forms are; the last of a name counts, unless it is off and another is on."""
    assert parameters_of("a=v2&a=false&b=false&b=x&c=&c=false") == {"a": "v2", "b": "x", "c": ""}
    assert parameters_of("a=1&b=x+y%21&c&a=2&d=%7B%22m%22%3A1%7D&%65=true") == {
        "a": 2, "b": "x y!", "c": "", "d": {"m": 1}, "e": True,
    }  # fmt: skip
    assert parameters_of("") == {}


def test_what_stands_twice() -> None:
    """A name of interest that stands twice is found however it is written; others may."""
    assert repeated("model=a&x=1&x=2", ["model"]) is None
    assert repeated("model=a&x=1&model=b", ["model"]) == "model"
    assert repeated("model=a&mod%65l=b", ["model"]) == "model"
    assert repeated("model&model", ["model"]) == "model"
    assert repeated("term=a&term=b&x=false&x=False", ["term", "x"], ["term", "x"]) is None
    assert repeated("term=a&term=b&x=false&x=true", ["term", "x"], ["term", "x"]) == "x"
    assert repeated("term=a&model=a&model=b", ["term", "model"], ["term"]) == "model"


def test_what_is_passed_on() -> None:
    """Only the named parameters go, however they are written; the rest stays byte by byte."""
    assert without("token=t&a=%7B+%7d&b&&tok%65n=u&c=", ["token"]) == "a=%7B+%7d&b&&c="
    assert without("token=t", ["token"]) == ""
    assert without("a=1", []) == "a=1"


@pytest.mark.parametrize(
    ("query", "name"),
    [("known=1&other=false", None), ("other=False", None), ("other=", None), ("other=[]", None), ("other=null", None),
     ("other=0", "other"), ("other=x", "other"), ("known=1&other=true", "other"), ("Known=1", "Known"),
     ("other={}", "other"), ("other=v2&other=false", "other"), ("other=false&other=v2", "other")],
)  # fmt: skip
def test_what_is_on_and_not_known(query: str, name: str | None) -> None:
    """An unknown parameter is found where it says more than off."""
    assert unknown_on(parameters_of(query), {"known"}) == name


@given(st.dictionaries(st.text(min_size=1), st.recursive(st.booleans() | st.integers(-9, 9), st.lists)))
def test_json_comes_back(values: dict[str, Any]) -> None:
    """What a client writes as JSON is read as what it wrote, and nothing of it is left when all of it is dropped."""
    query = urlencode({name: orjson.dumps(value).decode() for name, value in values.items()})
    assert parameters_of(query) == values
    assert repeated(query, values) is None
    assert without(query, values) == ""


@given(st.text(alphabet='ab=&%+;1[{"', max_size=40))
def test_nothing_raises(query: str) -> None:
    """Whatever a client sends is parameters; what is passed on of it means the same without the dropped."""
    found = parameters_of(query)
    found.pop("a", None)
    assert parameters_of(without(query, ["a"])) == found
