"""One field of a JSON text is set, and nothing else is touched."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.splice import with_field, without_field

PATH = ("stream_options", "include_usage")
NAMES = st.text(max_size=4) | st.sampled_from(["stream_options", "include_usage", '"', "\\", "{", "a,b"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6) | st.sampled_from(['"}', "\\", "]:,"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=12,
)


@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.none() | st.dictionaries(NAMES, VALUES, max_size=3),
    st.sampled_from([(",", ":"), (" , ", "\t:\n"), (",\r\n", ": ")]),
    st.booleans(),
)
def test_only_the_field_is_another(data: dict[str, Any], options: Any, separators: Any, escaped: bool) -> None:
    """Read again, the text says what it said, and the field; what stands before it is the old text."""
    data["stream_options"] = options
    text = json.dumps(data, separators=separators, ensure_ascii=escaped).encode(errors="surrogatepass")
    changed = with_field(text, data, PATH, True)
    assert changed is not None
    assert orjson.loads(changed) == {**data, "stream_options": {**(options or {}), "include_usage": True}}
    if text.count(b'"stream_options"') == 1:
        assert changed.startswith(text[: text.index(b'"stream_options"')])


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (b"{}", b'{"stream_options":{"include_usage":true}}'),
        (b'{"a": 1.0e+2}\n', b'{"a": 1.0e+2,"stream_options":{"include_usage":true}}\n'),
        (b'{"seed":123456789012345678901234567890}', None),
        (b'{"stream_options":null ,"b":1}', b'{"stream_options":{"include_usage":true} ,"b":1}'),
        (b'{"stream_options": {"x": 1}}', b'{"stream_options": {"x": 1,"include_usage":true}}'),
        (b'{"stream_options": { "include_usage" : false }}', b'{"stream_options": { "include_usage" : true }}'),
        (b'{"stream\\u005foptions": {}}', b'{"stream\\u005foptions": {"include_usage":true}}'),
        (
            b'{"a":{"stream_options":{}},"stream_options":{}}',
            b'{"a":{"stream_options":{}},"stream_options":{"include_usage":true}}',
        ),
    ],
)  # fmt: skip
def test_texts(text: bytes, changed: bytes | None) -> None:
    """Forms that clients send, to the byte."""
    found = with_field(text, orjson.loads(text), PATH, True)
    assert found == (changed or text[:-1] + b',"stream_options":{"include_usage":true}}')


@pytest.mark.parametrize("options", [b'"x"', b"true", b"[]", b"5"])
def test_what_is_no_object_is_left_alone(options: bytes) -> None:
    """The service will say what is wrong with it."""
    text = b'{"stream_options": %b}' % options
    assert with_field(text, orjson.loads(text), PATH, True) is None


def test_deep_texts_are_no_trouble() -> None:
    """However deep the messages are, the field is found beside them."""
    deep = b"[" * 900 + b"]" * 900
    text = b'{"messages": %b, "stream_options": {}}' % deep
    changed = with_field(text, orjson.loads(text), PATH, True)
    assert changed == text.replace(b"{}", b'{"include_usage":true}')


@given(
    st.dictionaries(NAMES, VALUES, max_size=5),
    st.sampled_from([(",", ":"), (" , ", "\t:\n"), (",\r\n", ": ")]),
    st.booleans(),
    st.integers(0, 5),
)
def test_only_one_member_is_gone(data: dict[str, Any], separators: Any, escaped: bool, number: int) -> None:
    """Read again, the text says what it said but for one member; one that it does not have changes nothing."""
    text = json.dumps(data, separators=separators, ensure_ascii=escaped).encode(errors="surrogatepass")
    name = [*data, "absent"][number % (len(data) + 1)]
    changed = without_field(text, data, name)
    assert orjson.loads(changed) == {other: value for other, value in data.items() if other != name}
    assert name in data or changed == text


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (b'{"x":1}', b"{}"),
        (b'{ "x" : "a,\\"b" , "y" : 2 }', b'{ "y" : 2 }'),
        (b'{"y": {"x": 1},\n "x": [1, {"x": 2}] }\n', b'{"y": {"x": 1} }\n'),
        (b'{"a":"x","x":"x","b":"x"}', b'{"a":"x","b":"x"}'),
        (b'{"a":1}', b'{"a":1}'),
    ],
)
def test_texts_without_a_member(text: bytes, changed: bytes) -> None:
    """Every other byte stays where it was."""
    assert without_field(text, orjson.loads(text), "x") == changed
