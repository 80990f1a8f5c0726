"""Parts of a prompt are found wherever they stand, however they are written, and nowhere else."""

import json
from typing import Any

import pytest

from gateway.core.extract import Field
from gateway.core.parts import Parts

PARTS = Parts(["picture", "search_20*", "ttl=1h", "ephemeral"])


def counted(request: Any, *, escaped: bool = False) -> dict[str, int]:
    """What is found of a request as a client sends it."""
    body = json.dumps(request)
    if escaped:
        body = body.replace("type", "t\\u0079pe").replace("picture", "\\u0070icture")
        assert json.loads(body) == request
    return dict(PARTS.counted(request)) if PARTS.in_text(body.encode()) else {}


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ({"messages": [{"role": "user", "content": "a picture"}]}, {}),
        ({"messages": [{"content": [{"type": "text", "text": '"type": "picture"'}]}]}, {}),
        ({"messages": [{"content": [{"type": "picture", "url": "https://x"}] * 3}]}, {"picture": 3}),
        ({"a": [[[{"b": {"type": "picture", "c": {"type": "picture"}}}]]]}, {"picture": 2}),
        ({"tools": [{"type": "search_20250305"}, {"type": "search_20"}, {"type": "search_result"}]}, {"search_20*": 2}),
        ({"system": [{"cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, {"ephemeral": 1, "ttl=1h": 1}),
        ({"system": [{"cache_control": {"type": "ephemeral", "ttl": "5m"}}]}, {"ephemeral": 1}),
        ({"tools": [{"parameters": {"properties": {"type": {"type": "string"}, "picture": {}}}}]}, {}),
        ({"type": ["picture"], "x": {"type": None}, "ttl": 1}, {}),
        ({"type": "picture"}, {"picture": 1}),
    ],
)
def test_parts_are_objects_of_a_type(request_: Any, found: dict[str, int]) -> None:
    """Objects are told by what a field of theirs says, at any depth; texts and the names of fields are no parts."""
    assert counted(request_) == found


DATA = "data:image/png;base64," + "QUJD" * 100
PICTURE = {"type": "picture", "source": {"data": DATA, "words": "some words " * 100, "name": "short"}}


@pytest.mark.parametrize(
    ("content", "size"),
    [
        ([PICTURE], len(DATA)),
        ([PICTURE, {"type": "picture", "url": DATA}], 2 * len(DATA)),
        ([{"type": "text", "text": DATA}, {"type": "picture", "url": "https://x"}], 0),
        ([{"type": "picture", "url": "\u00e9" * 1000}], 0),
        ([{"type": "call", "input": PICTURE}], 0),
        ([{"type": "call", "input": {"content": [PICTURE]}}], 0),
        ([[PICTURE]], len(DATA)),
        (PICTURE, len(DATA)),
        ("picture", 0),
        (None, 0),
    ],
)
def test_data_counts_where_parts_stand(content: Any, size: int) -> None:
    """Long texts without a space are data in the parts of a message: what looks like one elsewhere is read as text."""
    parts = Parts(["picture"], [Field.parse("request.messages.*.content.*")])
    sources = {"request": {"messages": [{"role": "user", "content": content}], "tools": [PICTURE]}}
    parts.count(sources)
    assert sources["part"].get("data_bytes", 0) == size


def test_escapes_hide_nothing() -> None:
    """JSON may write a letter of a name as its code."""
    assert counted({"messages": [{"type": "picture"}]}, escaped=True) == {"picture": 1}


def test_depth_does_no_harm() -> None:
    """A request as deep as a parser takes it is looked through."""
    deep: Any = {"type": "picture"}
    for _ in range(100_000):
        deep = [deep]
    assert PARTS.counted(deep) == {"picture": 1}
