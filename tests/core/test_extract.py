"""Fields: their syntax, what is reported, and which request fields are on."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.extract import SOURCES, Field, fields_on, first_reported, known_tree

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
)


@pytest.mark.parametrize(
    ("text", "source", "steps"),
    [
        ("reply.a.b", "reply", ("a", "b")),
        ("reply.a.0", "reply", ("a", 0)),
        ("request.a.*.b", "request", ("a", "*", "b")),
        ("reply_header.X-Billed.Units", "reply_header", ("x-billed.units",)),
        ("query.a.b", "query", ("a.b",)),
        ("reply.²", "reply", ("²",)),
    ],
)
def test_parse(text: str, source: str, steps: tuple[str | int, ...]) -> None:
    """Steps are keys and indexes; headers and query fields are one step, whatever is in their name."""
    assert Field.parse(text) == Field(source, steps)


@pytest.mark.parametrize("text", ["", "a", "reply", "reply.", "replies.a", "reply..a", "reply.a.", ".a"])
def test_parse_refuses(text: str) -> None:
    """What names no field of a source is refused."""
    with pytest.raises(ValueError, match=r"\w"):
        Field.parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("reply.a.b", 1), ("reply.a.c", None), ("reply.a.b.c", None), ("reply.l.1", "y"), ("reply.l.2", None),
        ("reply.l.x", None), ("reply.zero", 0), ("reply.no", False), ("reply.null", None), ("job.a", None),
    ],
)  # fmt: skip
def test_read(text: str, value: object) -> None:
    """Zero and false are reports; null, absent and misplaced are not."""
    data = {"a": {"b": 1}, "l": ["x", "y"], "zero": 0, "no": False, "null": None}
    assert Field.parse(text).read({"reply": data}) == value


def test_read_all() -> None:
    """A star is every element of a list, and a list at the end counts as its elements."""
    data = {"model": "m", "models": ["a", "b"], "fallbacks": [{"model": "x"}, {"model": ["y", None]}, "odd", {}]}
    sources = {"request": data}
    assert Field.parse("request.model").read_all(sources) == ["m"]
    assert Field.parse("request.models").read_all(sources) == ["a", "b"]
    assert Field.parse("request.models.0").read_all(sources) == ["a"]
    assert Field.parse("request.fallbacks.*.model").read_all(sources) == ["x", "y"]
    assert Field.parse("request.none").read_all(sources) == []


@given(JSON, st.lists(st.sampled_from(["a", "b", "c", "0", "1", "*"]), min_size=1, max_size=4))
def test_reading_never_raises(data: object, steps: list[str]) -> None:
    """Whatever was sent, a path leads to a value or to nothing."""
    field = Field.parse(".".join(["request", *steps]))
    field.read({"request": data})
    assert None not in field.read_all({"request": data})
    assert field.read({}) is None


def test_first_reported() -> None:
    """The first field that is reported decides, also when it reports zero."""
    fields = (Field.parse("reply.a"), Field.parse("reply.b"))
    assert first_reported(fields, {"reply": {"b": 1}}) == 1
    assert first_reported(fields, {"reply": {"a": 0, "b": 1}}) == 0
    assert first_reported((), {}) is None


@given(st.sampled_from(SOURCES), st.lists(st.sampled_from(["a", "b", "7"]), min_size=1))
def test_a_field_is_printed_as_it_is_written(source: str, steps: list[str]) -> None:
    """Messages name fields as the config does."""
    text = ".".join([source, *steps])
    assert str(Field.parse(text)) == text


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"a": 1}, None), ({"b": {"c": {"any": 1}}}, None), ({"b": {"d": 1}}, "b.d"), ({"x": 1}, "x"), ({"x": 0}, "x"),
        ({"x": None, "y": False, "z": "", "w": []}, None), ({"x": {}}, "x"), ({"b": {}}, None), ({"b": 5}, "b"),
        ({"b": {"d": False}}, None), ([], None), (None, None), ({"a": {"deep": {"er": 1}}}, None),
        ({"l": [{"e": 1}, None, "x"]}, "l.2"), ({"b": "", "l": [None, False]}, None),
        ({"l": [{"e": 1}, {"f": 1}]}, "l.1.f"), ({"l": {"e": 1}}, "l.e"),
        ({"l": [{"e": 1}, [{"e": 1}]]}, "l.1"), ({"b": [{"c": 1}, {"d": 1}]}, "b.1.d"), ({"a": [[{"x": 1}]]}, None),
    ],
)  # fmt: skip
def test_fields_on(body: Any, found: str | None) -> None:
    """A field that is on and not known is named by its path; off is null, false, "" and an empty list."""
    assert fields_on(body, known_tree(["a", "b.c", "l.*.e"])) == found


@pytest.mark.parametrize("paths", [["b", "b.c"], ["b.c", "b"]])
def test_deeper_paths_narrow(paths: list[str]) -> None:
    """Where a path is known and so is one below it, only what is named below it is known: never more by accident."""
    assert known_tree(paths) == {"b": {"c": {}}}


@given(JSON, st.lists(st.sampled_from(["a", "b", "a.b", "b.c.a"])))
def test_what_is_found_is_on(data: object, known: list[str]) -> None:
    """The path that is named leads to something in the body."""
    found = fields_on(data, known_tree(known))
    if found is not None:
        value = Field.parse(f"request.{found}").read({"request": data})
        assert value is not None and value is not False
