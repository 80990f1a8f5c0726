"""Which text messages are looked at: none slips by, and hardly one is parsed for nothing."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.frames import TOO_BIG, Violation
from gateway.core.kinds import Kinds, Seen, kinds_of

KINDS = Kinds("type", frozenset({"Begin", "session.update"}))


def seen(text: bytes) -> Seen | Violation | None:
    return KINDS.of_stranger(text) if KINDS.may_be_in(text) else None


@given(
    kind=st.sampled_from(["Begin", "session.update"]),
    rest=st.dictionaries(
        st.text(max_size=5).filter(lambda name: name.casefold() != "type"), st.text(max_size=5), max_size=3
    ),
    escapes=st.sets(st.integers(0, 13)),
    last=st.booleans(),
)
def test_none_slips_by(kind: str, rest: dict[str, str], escapes: set[int], *, last: bool) -> None:
    """Wherever its type stands and however it is spelled, a message is seen as any parser sees it."""
    spelled = "".join(f"\\u{ord(c):04x}" if number in escapes else c for number, c in enumerate(kind))
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in rest.items()]
    fields.insert(len(fields) if last else 0, f'"t\\u0079pe" : "{spelled}"' if 13 in escapes else f'"type":"{spelled}"')
    text = f"{{ {', '.join(fields)} }}".encode()
    found = seen(text)
    assert isinstance(found, Seen)
    assert (found.kind, found.message) == (kind, json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"Turn","transcript":"Begin now"}',
        b'{"type":"input.audio","audio":"QmVnaW4="}',
        b'{"type":"session.updates"}',
        b"",
    ],
)
def test_others_are_not_parsed(text: bytes) -> None:
    """A type that stands in a longer string is no type."""
    assert not KINDS.may_be_in(text)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "Turn", "word": "Begin"},
        {"kind": "Begin"},
        ["Begin"],
        "Begin",
        {"type": ["Begin"]},
        {"type": None, "": "Begin"},
    ],
)
def test_a_word_that_is_no_type_is_nothing(data: Any) -> None:
    """Only the type of an object counts."""
    assert seen(orjson.dumps(data)) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"type":"Begin","type":"Turn"}', 1008),
        (b'{"type":"Turn","type":"Begin"}', 1008),
        (b'{"type":"Begin","session":{"agent":1,"agent":2}}', 1008),
        (b'{"type":"Begin","t\\u0079pe":"Turn"}', 1008),
        (b'{"type":"Begin","seconds":NaN}', 1007),
        (b'{"type":"Begin",}', 1007),
        (b'{"type":"Begin","\xff":1}', 1007),
        (b'\xef\xbb\xbf{"type":"Begin"}', 1007),
    ],
)
def test_what_two_parsers_read_differently_is_refused(text: bytes, code: int) -> None:
    """A stranger's message must say the same to us and to the service."""
    found = seen(text)
    assert isinstance(found, Violation)
    assert found.code == code
    trusted = KINDS.of_trusted(text)
    assert trusted is None or trusted.kind == "Begin"


def test_a_slash_may_be_escaped() -> None:
    """Which a type that has one allows for."""
    kinds = kinds_of("t", frozenset({"a/b"}))
    text = b'{"t":"a\\/b"}'
    assert kinds.may_be_in(text)
    assert kinds.of_trusted(text) == Seen(kind="a/b", message={"t": "a/b"})
    assert not kinds_of("t", frozenset()).may_be_in(text)


def test_small_texts_that_fill_a_large_memory() -> None:
    """They are told before they are parsed, which would take seconds; a long prompt with its commas is none of them."""
    for items in (b"[]," * 60_000, b'{"a":0},' * 30_000, b"0," * 60_000):
        found = seen(b'{"type":"session.update","x":[%b0]}' % items)
        assert isinstance(found, Violation)
        assert found.code == TOO_BIG
    prompt = "Be kind, be brief, and ask. " * 20_000
    assert isinstance(seen(json.dumps({"type": "session.update", "session": {"system_prompt": prompt}}).encode()), Seen)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"type":"Begin","x":NaN}', None),
        (b'{"type":"Begin","x":-Infinity}', None),
        (b'{"type":"Begin","x":"\\ud83d"}', "?"),
        (b'{"type":"Begin","x":"a\tb"}', "a\tb"),
        (b'\xef\xbb\xbf{"type":"Begin","x":1}', 1),
        (b'{"type":"Begin","x":"\xff"}', "\ufffd"),
    ],
)
def test_a_services_message_is_read_as_clients_read_it(text: bytes, value: object) -> None:
    """One that is not quite JSON begins a session, or reports it, all the same; and all of it can be written again."""
    found = KINDS.of_trusted(text)
    assert found is not None
    assert (found.kind, found.message["x"]) == ("Begin", value)
    assert orjson.loads(orjson.dumps(found.message)) == found.message


@pytest.mark.parametrize("text", [b'{"type":"Begin"', b'{"type":"Begin","x":1e999}', b"[" * 100_000 + b'"Begin"'])
def test_what_nobody_can_read_is_no_message(text: bytes) -> None:
    """It passes as it is."""
    assert KINDS.of_trusted(text) is None
