"""Events that are not looked into say what they would say if they were."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.extract import Field
from gateway.pipeline.events import EventMeter
from gateway.settings.metering import Stream

PLAIN = Stream(
    when=Field.parse("request.stream"),
    drops_has=Field.parse("reply.usage"),
    drops_lacks=Field.parse("reply.choices"),
    end=b"[DONE]",
    errors=(Field.parse("reply.error"),),
    reads=frozenset({"usage", "model", "id"}),
    event_bytes_max=512,
)
CONTENT = replace(PLAIN, content=(Field.parse("reply.choices.*.delta.content"),))

HEADS = [b"data: ", b"data:", b"event: error\ndata: ", b"event: word\ndata: ", b"id: 5\ndata: ", b": x\n: "]
BEGINNINGS = [
    b'{"id":"a","model":"m",', b'{"id":"a","model":"n",', b'{"model":"m",', b"{", b' {"id": "a", ', b'{"id":null,',
    b'{"x":{"model":"y",', b'{"x":"{\\"model\\":1,', b'{"usage":{"prompt_tokens":1},', b'{"id":"a","error":null,',
    b"{,", b"[", b"",
]  # fmt: skip
MIDDLES = [
    b'"choices":[{"delta":{"content":"word"}}]', b'"choices":[{"delta":{"content":"w\\u00f6rd \\"id\\""}}]',
    b'"choices":[]', b'"choices":[{"delta":{"content":"w\n', b'"choices":[1]}\ndata: {"id":"z"', b'"y":"usage"',
    b'"choices":[{"delta":{"content":"word","model":"other"}}]', b'"\\u0069d":"escaped"', b'"id":"twice"',
    b'"choices":[{"delta":{"content":"\xff"}}]', b'"error":{"code":1}', b'"error" : null', b'"y":1}}', b'"model":""',
    b'"y":{"usage":5}', b'"y":NaN', b"broken",
]  # fmt: skip
ENDS = [
    b"}", b',"usage":null}', b',"usage": null }', b',"usage":{"prompt_tokens":7}}', b',"usage":0}', b',"id":"last"}',
    b"}}", b"",
]  # fmt: skip
BREAKS = [b"\n\n"] * 12 + [b"\n\n\n", b"\r\n\r\n", b"\r\r", b"\n", b"\n\r\n", b"\nid: 7\n\n", b"\n: x\n\n"]
OTHERS = [b"data: [DONE]\n\n", b": x\n\n", b"\xef\xbb\xbfdata: {}\n\n", b'data: {"id":"a","y":"' + b"x" * 600]
EVENT = st.tuples(*map(st.sampled_from, (HEADS, BEGINNINGS, MIDDLES, ENDS, BREAKS))).map(b"".join) | st.sampled_from(
    OTHERS
)
#: Few kinds of events, each many times, some of them in one piece.
STREAMS = st.lists(EVENT, min_size=1, max_size=4).flatmap(
    lambda kinds: st.lists(st.lists(st.sampled_from(kinds), min_size=1, max_size=3).map(b"".join), max_size=12)
)
GOOD = b'data: {"id":"a","model":"m","choices":[{"delta":{"content":"word"}}],"usage":null}\n\n'


def heard(meter: EventMeter) -> tuple[Any, ...]:
    """All that a meter knows."""
    return meter.reply, meter.delivered, meter.spoke, meter.failed, meter.ended


@pytest.mark.parametrize("stream", [PLAIN, CONTENT], ids=["plain", "content"])
@given(STREAMS, st.booleans())
@example([GOOD, GOOD, GOOD.replace(b'"m"', b'"n"'), GOOD, GOOD * 3], True)
@example([GOOD, GOOD, GOOD.replace(b"null", b'{"prompt_tokens":1}'), GOOD], False)
def test_pieces_of_whole_events_read_as_single_bytes_do(stream: Stream, pieces: list[bytes], hides: bool) -> None:
    """Of single bytes none is a whole event, so each event is looked into; what is heard and passed is the same."""
    quick, slow = EventMeter(stream, "", hides=hides), EventMeter(stream, "", hides=hides)
    passed = [b"", b""]
    for piece in pieces:
        passed[0] += quick.feed(piece)
        passed[1] += b"".join(slow.feed(piece[at : at + 1]) for at in range(len(piece)))
        assert heard(quick) == heard(slow)
    passed[0] += quick.finish()
    passed[1] += slow.finish()
    assert heard(quick) == heard(slow)
    assert passed[0] == passed[1]
    if stream is PLAIN and not any(
        b"x" * 600 in piece for piece in pieces
    ):  # pieces of a large event count differently
        assert quick.content_bytes == slow.content_bytes


@pytest.mark.parametrize("stream", [PLAIN, CONTENT], ids=["plain", "content"])
@pytest.mark.parametrize("head", [b"data: ", b"event: content_block_delta\ndata: "])
@pytest.mark.parametrize(
    "data", [b'{"id":"a","model":"m","choices":[{"delta":{"content":"word %d"}}],"usage":null}', b'{"choices":[%d]}']
)
def test_events_that_are_alike_are_not_looked_into(stream: Stream, head: bytes, data: bytes) -> None:
    """Nor is it looked for a beginning for ever where each event has another."""
    meter = EventMeter(stream, "", hides=True)
    meter.feed(GOOD)
    meter.feed(head + data % 1 + b"\n\n")
    before = meter._alike.begins
    assert before
    for number in range(20):
        assert meter.feed((head + data % number + b"\n\n") * 2)
    assert meter._alike.begins is before
    for number in range(20):
        meter.feed(b'data: {"choices":[],"id":"%d","model":"m"}\n\n' % number)
    meter.feed(GOOD)
    assert not meter._alike.begins
