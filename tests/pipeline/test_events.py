"""What a stream says of usage, and what its client gets, do not depend on how its bytes were cut."""

import zlib
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import UpstreamUnreachable
from gateway.core.extract import Field
from gateway.pipeline.events import EventMeter
from gateway.settings.metering import Stream

STREAM = Stream(
    when=Field.parse("request.stream"),
    drops_has=Field.parse("reply.usage"),
    drops_lacks=Field.parse("reply.choices"),
    end=b"[DONE]",
    errors=(Field.parse("reply.error"),),
    content=(Field.parse("reply.choices.*.delta.content"),),
    reads=frozenset({"usage", "model", "id"}),
    event_bytes_max=1024,
)
WORD = b'data: {"choices": [{"delta": {"content": "word"}}]}\n\n'

TEXTS = st.text(max_size=8)
COUNTS = st.integers(0, 10**6)
USAGES = st.none() | st.fixed_dictionaries({"prompt_tokens": COUNTS, "completion_tokens": COUNTS})
WORDS = st.builds(
    lambda text, usage: {"model": "m", "choices": [{"delta": {"content": text}}], "usage": usage}, TEXTS, USAGES
)
REPORTS = st.builds(lambda usage: {"choices": [], "usage": usage}, USAGES)
EVENTS = st.lists(WORDS | REPORTS, max_size=8)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def written(events: Sequence[Any], end: bytes, comments: bool) -> list[bytes]:
    """Each event's bytes, with a comment before it if there shall be."""
    comment = b": still here" + end if comments else b""
    found = [comment + b"data: " + orjson.dumps(event) + end * 2 for event in events]
    return [*found, comment + b"data: [DONE]" + end * 2]


def fed(meter: EventMeter, stream: bytes, places: Sequence[int]) -> bytes:
    """What a client gets of a stream that is cut at these places."""
    at = sorted({place % (len(stream) + 1) for place in places})
    pieces = [stream[start:stop] for start, stop in zip([0, *at], [*at, len(stream)], strict=True)]
    return b"".join(meter.feed(piece) for piece in pieces) + meter.finish()


@given(EVENTS, LINE_ENDS, st.booleans(), st.booleans(), st.lists(st.integers(0, 10_000), max_size=10))
def test_any_cut_reads_and_passes_the_same(
    events: list[Any], end: bytes, comments: bool, hides: bool, places: list[int]
) -> None:
    """The last usage that is told counts; exactly the events that only report are taken out, to the byte."""
    pieces = written(events, end, comments)
    meter = EventMeter(STREAM, "", hides=hides)
    passed = fed(meter, b"".join(pieces), places)
    hidden = [hides and event["usage"] is not None and not event["choices"] for event in events]
    assert passed == b"".join(piece for piece, out in zip(pieces, [*hidden, False], strict=True) if not out)
    told = [event["usage"] for event in events if event["usage"] is not None]
    assert meter.reply.get("usage") == (told[-1] if told else None)
    words = [event["choices"][0]["delta"]["content"] for event in events if event["choices"]]
    assert meter.content_bytes == sum(len(word.encode()) for word in words)
    assert meter.ended and not meter.failed


@given(EVENTS, st.lists(st.integers(0, 10_000), max_size=10))
def test_a_compressed_stream_reads_the_same(events: list[Any], places: list[int]) -> None:
    """Decoded as it comes, in gzip or with zlib's wrapper."""
    stream = b"".join(written(events, b"\n", comments=False))
    plain = EventMeter(STREAM, "identity", hides=True)
    expected = fed(plain, stream, [])
    for encoding, bits in (("gzip", 31), ("deflate", 15)):
        packer = zlib.compressobj(wbits=bits)
        packed = packer.compress(stream) + packer.flush()
        meter = EventMeter(STREAM, encoding, hides=True)
        assert fed(meter, packed, places) == expected
        assert meter.reply == plain.reply


def test_a_compressed_stream_that_is_cut_is_broken() -> None:
    """It cannot be taken for a whole one, nor can bytes that are no such stream."""
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"data: {}\n\n" * 100) + packer.flush()
    meter = EventMeter(STREAM, "gzip", hides=False)
    meter.feed(packed[:-9])
    with pytest.raises(UpstreamUnreachable):
        meter.finish()
    with pytest.raises(UpstreamUnreachable):
        EventMeter(STREAM, "gzip", hides=False).feed(b"data: {}\n\n")


def test_a_compressed_stream_does_not_grow_without_bound() -> None:
    """A small piece that inflates to gigabytes is refused before it is in memory."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    with pytest.raises(UpstreamUnreachable):
        EventMeter(STREAM, "gzip", hides=False).feed(bomb)


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        ([{"usage": {"prompt_tokens": 5}}, {"usage": None}, {"usage": {}}, {}], {"prompt_tokens": 5}),
        ([{"usage": {"prompt_tokens": 5}}, {"usage": {"prompt_tokens": 0}}], {"prompt_tokens": 0}),
        ([{"usage": {"prompt_tokens": 5}}, {"usage": "much"}], "much"),
        ([5, "text", None, [{"usage": 1}]], None),
    ],
)
def test_what_is_a_report(data: list[Any], usage: Any) -> None:
    """Null and empty are none, zero is one, and nonsense is for whoever judges quantities."""
    meter = EventMeter(STREAM, "", hides=False)
    fed(meter, b"".join(written(data, b"\n", comments=False)), [])
    assert meter.reply.get("usage") == usage


@pytest.mark.parametrize(
    ("stream", "delivered", "failed"),
    [
        (b": comment\n\ndata: [DONE]\n\n", False, False),
        (b'data: {"usage": {"prompt_tokens": 1}, "choices": []}\n\n', False, False),
        (b'data: {"error": {"code": 1}}\n\n', False, True),
        (b"event: error\ndata: it is over\n\n", True, False),
        (b'event: error\ndata: {"message": "no"}\n\n', False, True),
        (b'data: {"choices": [{}]}\n\n', False, False),
        (b'data: {"choices": [{}]}\n\ndata: {"error": {"code": 1}}\n\n', False, True),
        (WORD + b'data: {"error": {"code": 1}}\n\n', True, False),
        (b'data: {"error": {"code": 1}}\n\n' + WORD, True, False),
        (b"data: words\n\n", True, False),
        (b"data: " + b"x" * 2000 + b"\n\n", True, False),
    ],
)
def test_what_counts_as_delivered(stream: bytes, delivered: bool, failed: bool) -> None:
    """Content, and what is no JSON object; an error counts if none came before or after."""
    meter = EventMeter(STREAM, "", hides=False)
    meter.feed(stream)
    assert (meter.delivered, meter.failed) == (delivered, failed)
