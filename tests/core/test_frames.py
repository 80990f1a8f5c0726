"""WebSocket frames: any cut of any traffic is the same traffic; what breaks a rule is found; ours keep them."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import frames
from gateway.core.frames import Closing, Frame, Piece, Run, Scanner, Violation, encoded, frames_of, masked

KEY = bytes.fromhex("01a2b3c4")
LIMIT = 70_000


def scanner(*, from_client: bool = False, apart: frozenset[int] = frozenset(), binary: bool = True) -> Scanner:
    return Scanner(from_client=from_client, message_bytes_max=LIMIT, apart=apart, binary=binary)


def fragment(opcode: int, payload: bytes, key: bytes = b"", *, final: bool) -> bytes:
    raw = encoded(opcode, payload, key)
    return raw if final else bytes((raw[0] & 0x7F,)) + raw[1:]


def taken(found: Scanner, *reads: bytes) -> list[Piece]:
    return [piece for read in reads for piece in found.feed(read)]


def flat(pieces: list[Piece]) -> list[Frame | Closing | Violation]:
    """The pieces with their runs taken apart: how frames are gathered into runs depends on the reads."""
    single: list[Frame | Closing | Violation] = []
    for piece in pieces:
        single += frames_of(piece.raw) if isinstance(piece, Run) else [piece]
    return single


@st.composite
def messages(draw: st.DrawFn) -> tuple[bool, list[bytes], int]:
    """Traffic of one side that keeps the rules: who sends it, its frames, how many messages it has."""
    from_client = draw(st.booleans())
    key = draw(st.binary(min_size=4, max_size=4)) if from_client else b""
    sizes = st.one_of(st.integers(0, 130), st.sampled_from([125, 126, 127, 65_535, 65_536]))
    controls = st.builds(
        lambda opcode, size: encoded(opcode, bytes(size), key),
        st.sampled_from([frames.PING, frames.PONG]), st.integers(0, 125),
    )  # fmt: skip
    raws: list[bytes] = []
    count = draw(st.integers(0, 6))
    for _ in range(count):
        opcode = draw(st.sampled_from([frames.TEXT, frames.BINARY]))
        parts = draw(st.lists(sizes.filter(lambda size: size < 1000), max_size=3))
        if not parts:
            raws.append(encoded(opcode, bytes(draw(sizes)), key))
        for number, size in enumerate(parts):
            kind = frames.CONTINUATION if number else opcode
            raws += draw(st.lists(controls, max_size=1))
            raws.append(fragment(kind, bytes(size), key, final=number == len(parts) - 1))
        raws += draw(st.lists(controls, max_size=2))
    return from_client, raws, count


def cuts(data: bytes, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    at = 0
    while at < len(data):
        size = chance.choice([1, 2, 3, 7, 100, 5000, 70_000])
        yield data[at : at + size]
        at += size


@given(traffic=messages(), seed=st.integers(0, 1 << 30), apart=st.sampled_from([(), (1,), (9, 10), (1, 2, 9, 10)]))
def test_any_cut_is_the_same_traffic(traffic: tuple[bool, list[bytes], int], seed: int, apart: tuple[int, ...]) -> None:
    """The frames, their bytes and the count of messages do not depend on how the bytes come in."""
    from_client, raws, count = traffic
    found = scanner(from_client=from_client, apart=frozenset(apart))
    pieces = taken(found, *cuts(b"".join(raws), seed))
    assert [frame.raw for frame in flat(pieces) if isinstance(frame, Frame)] == raws
    whole = sum(piece.messages for piece in pieces if isinstance(piece, Run))
    apart_messages = sum(piece.opcode < frames.CLOSE and piece.final for piece in pieces if isinstance(piece, Frame))
    assert whole + apart_messages == count
    assert found.opened == 0


@given(traffic=messages(), seed=st.integers(0, 1 << 30))
def test_the_short_way_says_what_the_long_one_does(traffic: tuple[bool, list[bytes], int], seed: int) -> None:
    """Bytes that are taken for whole messages at a glance are one run when they are fed."""
    from_client, raws, _ = traffic
    chance = random.Random(seed)
    quick, slow = scanner(from_client=from_client), scanner(from_client=from_client)
    for raw in raws:
        data = raw if chance.random() < 0.8 else raw + raw
        glance = quick.whole(data)
        pieces = list(slow.feed(data))
        if glance:
            assert pieces == [Run(raw=data, messages=glance)]
        else:
            list(quick.feed(data))


@given(data=st.binary(max_size=300), from_client=st.booleans(), seed=st.integers(0, 1 << 30))
def test_nothing_that_is_sent_raises(data: bytes, from_client: bool, seed: int) -> None:
    """Any bytes are frames, or the beginning of one, up to a Close or a violation; the cut does not matter."""
    glance = scanner(from_client=from_client).whole(data)
    at_once = taken(scanner(from_client=from_client), data)
    assert flat(at_once) == flat(taken(scanner(from_client=from_client), *cuts(data, seed)))
    if glance:
        assert at_once == [Run(raw=data, messages=glance)]
    assert all(isinstance(piece, Run | Frame) for piece in at_once[:-1])


@given(traffic=messages(), at=st.integers(0, 1 << 20), flip=st.integers(1, 255), seed=st.integers(0, 1 << 30))
def test_a_broken_byte_never_raises(traffic: tuple[bool, list[bytes], int], at: int, flip: int, seed: int) -> None:
    """Nor do frames of which one byte is another; and both ways of reading agree on them."""
    from_client, raws, _ = traffic
    data = bytearray(b"".join(raws) or b"\x81\x00")
    data[at % len(data)] ^= flip
    hostile = bytes(data)
    glance = scanner(from_client=from_client).whole(hostile)
    pieces = taken(scanner(from_client=from_client), hostile)
    assert flat(pieces) == flat(taken(scanner(from_client=from_client), *cuts(hostile, seed)))
    if glance:
        assert pieces == [Run(raw=hostile, messages=glance)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1\x00", 1002),  # a compressed frame, which nobody agreed to
        (b"\x83\x00", 1002),
        (b"\x8b\x00", 1002),
        (b"\x81\x80" + KEY, 1002),  # masked
        (b"\x09\x00", 1002),  # a ping in fragments
        (b"\x89\x7e\x00\x7e" + bytes(126), 1002),
        (b"\x81\x7e\x00\x7d" + bytes(125), 1002),  # not the shortest form
        (b"\x81\x7f" + (65_535).to_bytes(8, "big"), 1002),
        (b"\x81\x7f" + (1 << 63).to_bytes(8, "big"), 1002),
        (b"\x80\x00", 1002),  # a continuation of nothing
        (b"\x01\x00\x81\x00", 1002),  # a message within a message
        (b"\x01\x00\x02\x00", 1002),
        (b"\x81\x7f" + (70_001).to_bytes(8, "big"), 1009),  # known by its head
        (fragment(1, bytes(40_000), final=False) + fragment(0, bytes(30_001), final=True)[:10], 1009),
        (b"\x88\x01\x03", 1002),
        (b"\x88\x02" + (999).to_bytes(2, "big"), 1002),
        (b"\x88\x02" + (1005).to_bytes(2, "big"), 1002),
        (b"\x88\x02" + (1006).to_bytes(2, "big"), 1002),
        (b"\x88\x02" + (1015).to_bytes(2, "big"), 1002),
        (b"\x88\x02" + (2999).to_bytes(2, "big"), 1002),
        (b"\x88\x02" + (5000).to_bytes(2, "big"), 1002),
        (b"\x88\x04" + (1000).to_bytes(2, "big") + b"\xff\xfe", 1007),
    ],
)
def test_what_breaks_a_rule(data: bytes, code: int) -> None:
    """Is told with its close code after what came before it, and nothing more is taken."""
    found = scanner()
    before = encoded(frames.TEXT, b"before")
    pieces = taken(found, before + data, encoded(frames.TEXT, b"after"))
    assert isinstance(pieces[0], Run)
    assert pieces[0].raw.startswith(before)
    last = pieces[-1]
    assert isinstance(last, Violation), last
    assert last.code == code
    assert found.whole(before) == 0


def test_a_client_must_mask() -> None:
    """Its frames are refused if they are not."""
    assert isinstance(taken(scanner(from_client=True), b"\x81\x00")[-1], Violation)


def test_binary_messages_may_be_unwanted() -> None:
    """Then they are told with 1003, by their first frame."""
    for final in (True, False):
        found = scanner(binary=False)
        data = fragment(frames.BINARY, b"x", final=final)
        assert found.whole(data) == 0
        assert taken(found, data) == [Violation(code=1003, why="a binary message")]


def test_a_message_of_exactly_the_limit_passes() -> None:
    """In one frame and in several."""
    whole = encoded(frames.BINARY, bytes(LIMIT))
    parts = fragment(2, bytes(LIMIT - 10), final=False) + fragment(0, bytes(10), final=True)
    assert flat(taken(scanner(), whole + parts + whole))[-1] == Frame(raw=whole, head_bytes=10)


def test_empty_fragments_come_to_an_end() -> None:
    """A message cannot go on for ever, whatever it is made of."""
    found = scanner()
    pieces = taken(found, fragment(1, b"", final=False) + fragment(0, b"", final=False) * (LIMIT + 1))
    assert pieces[-1] == Violation(code=1009, why="a message that is too long")


def test_tiny_messages_are_not_gathered_without_end() -> None:
    """A run is bounded, so that one read of many messages is not one long task."""
    data = encoded(frames.TEXT, b"") * 5000
    assert scanner().whole(data) == 0
    pieces = taken(scanner(), data)
    assert all(isinstance(piece, Run | Frame) for piece in pieces)
    assert max(piece.messages for piece in pieces if isinstance(piece, Run)) <= 1024
    assert len(flat(pieces)) == 5000


@given(
    code=st.sampled_from([1000, 1001, 1008, 3005, 4999]), reason=st.text(max_size=80), key=st.sampled_from([b"", KEY])
)
def test_our_close_is_read_as_it_was_meant(code: int, reason: str, key: bytes) -> None:
    """Its reason is cut to what a frame holds, and stays UTF-8."""
    raw = encoded(frames.CLOSE, frames.close_payload(code, reason.encode()), key)
    [read] = taken(scanner(from_client=bool(key)), raw)
    assert isinstance(read, Closing)
    assert read.code == code
    assert reason.encode().startswith(read.reason)
    assert len(read.reason) > 119 or read.reason == reason.encode()


def test_a_close_without_a_code() -> None:
    """Is told as 1005, and sent for 1005."""
    assert frames.close_payload(1005) == b""
    assert taken(scanner(), encoded(frames.CLOSE, b"")) == [Closing(code=1005, reason=b"")]


@given(data=st.binary(max_size=1000), key=st.binary(min_size=4, max_size=4))
def test_masking(data: bytes, key: bytes) -> None:
    """Is each byte xor the key's, and undoes itself."""
    there = masked(data, key)
    assert there == bytes(byte ^ key[number % 4] for number, byte in enumerate(data))
    assert masked(there, key) == data
