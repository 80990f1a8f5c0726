"""Server-sent events: what is read does not depend on how the bytes were cut, and no byte is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sse import Event, EventParser

EVENT_BYTES_MAX = 64

#: What streams are made of: fields, comments, text of more than one byte a letter, and every kind of line end.
PIECES = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"event: error",
        b"id: 7",
        b": comment",
        b"{}",
        "é€🎧".encode(),
        b"x" * 40,
        b"[DONE]",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"])
STREAMS = st.lists(PIECES | ENDS, max_size=40).map(b"".join) | st.binary(max_size=200)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream, cut at these places."""
    at = sorted({place % (len(stream) + 1) for place in places})
    return [stream[start:end] for start, end in zip([0, *at], [*at, len(stream)], strict=True)]


def read(parser: EventParser, chunks: list[bytes]) -> list[Event]:
    """Every event of the chunks, the unfinished one at the end too."""
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    last = parser.finish()
    return events if last is None else [*events, last]


def told(events: list[Event]) -> list[tuple[bytes | None, bytes, bool]]:
    """What the events say, however they came: the pieces of a large one as one."""
    found: list[tuple[bytes | None, bytes, bool]] = []
    pieces = b""
    for event in events:
        if event.belated:
            continue
        if event.too_large and not event.raw.endswith((b"\n", b"\r")):
            pieces += event.raw
            continue
        found.append((event.data, event.type, event.too_large))
        pieces = b""
    return [*found, (None, b"", True)] if pieces else found


def slowly(stream: bytes) -> list[bytes | None]:
    """What the standard's own steps make of a whole stream: the data of each event that is dispatched."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found: list[bytes | None] = []
    data: list[bytes] = []
    for line in text.split(b"\n"):
        if not line:
            if data:
                found.append(b"\n".join(data))
            data = []
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value[1:] if value.startswith(b" ") else value)
    return [*found, b"\n".join(data)] if data else found


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_cut_of_any_stream_reads_the_same(stream: bytes, places: list[int]) -> None:
    """The same events, and the same bytes when they are put together again."""
    whole = read(EventParser(EVENT_BYTES_MAX), [stream])
    pieces = read(EventParser(EVENT_BYTES_MAX), cut(stream, places))
    assert b"".join(event.raw for event in whole) == stream
    assert b"".join(event.raw for event in pieces) == stream
    assert told(pieces) == told(whole)


@given(STREAMS)
def test_byte_by_byte_reads_the_same(stream: bytes) -> None:
    """The smallest pieces there are."""
    whole = read(EventParser(EVENT_BYTES_MAX), [stream])
    pieces = read(EventParser(EVENT_BYTES_MAX), [stream[at : at + 1] for at in range(len(stream))])
    assert told(pieces) == told(whole)


@given(STREAMS)
def test_events_are_those_of_the_standard(stream: bytes) -> None:
    """Against the standard's steps, taken line by line over the whole stream."""
    events = read(EventParser(10_000), [stream])
    assert [event.data for event in events if event.data is not None] == slowly(stream)


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\r\ndata:b\r\n\r\n", [b"a\nb"]),
        (b": hello\n\n", [None]),
        (b": hello\ndata: a\n\n", [b"a"]),
        (b"data\n\n", [b""]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a", None]),
        ("data: é\n\n".encode(), ["é".encode()]),
        (b"data: a", [b"a"]),
        (b"datum: a\n\n", [None]),
    ],
)
def test_what_events_say(stream: bytes, data: list[bytes | None]) -> None:
    """Each form that the standard has."""
    assert [event.data for event in read(EventParser(EVENT_BYTES_MAX), [stream])] == data


def test_the_kind_of_an_event_is_known() -> None:
    """`event: error` is not told by its data alone."""
    (event,) = EventParser(EVENT_BYTES_MAX).feed(b"event: error\ndata: {}\n\n")
    assert (event.type, event.data) == (b"error", b"{}")


def test_an_event_is_given_when_its_empty_line_has_come() -> None:
    """A CR ends it at once; its LF is passed on when it comes, and starts no event."""
    parser = EventParser(EVENT_BYTES_MAX)
    assert parser.feed(b"data: a\r\n") == []
    (event,) = parser.feed(b"\r")
    assert (event.raw, event.data) == (b"data: a\r\n\r", b"a")
    (belated, following) = parser.feed(b"\ndata: b\n\n")
    assert (belated.raw, belated.belated, following.data) == (b"\n", True, b"b")


def test_an_event_that_is_too_large_passes_unread_and_is_not_kept() -> None:
    """Its bytes go on as they come, however many; the next event is read again."""
    parser = EventParser(EVENT_BYTES_MAX)
    passed = b""
    for _ in range(1000):
        events = parser.feed(b"x" * 100)
        assert all(event.too_large and event.data is None for event in events)
        assert len(parser.rest) <= EVENT_BYTES_MAX
        passed += b"".join(event.raw for event in events)
    end, following = parser.feed(b"\n\ndata: a\n\n")
    assert (passed + end.raw, end.data) == (b"x" * 100_000 + b"\n\n", None)
    assert following.data == b"a"


def test_a_chunk_that_is_one_event_is_not_copied() -> None:
    """What a service that writes event by event sends passes as it is."""
    chunk = b'data: {"choices": []}\n\n'
    (event,) = EventParser(10_000).feed(chunk)
    assert event.raw is chunk
