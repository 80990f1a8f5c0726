"""How long audio is, read as it streams past: files of real encoders, long ones, liars, and any bytes at all."""

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.audio.probe import FACTS, Probe
from gateway.core.audio.seen import SECONDS_MAX
from tests.audio import MAKERS, flac, live, mp3, mp4, opus, pieces, wav

FILES = Path(__file__).parent / "audio"
#: Made by real encoders: seconds, channels. What is made of fragments has no index of the whole.
REAL = {
    "adpcm.wav": (4, 1),
    "fragments.mp4": (None, 1),
    "frames.aac": (13, 2),
    "index-first.mp4": (13, 1),
    "index-last.m4a": (13, 2),
    "index.mp3": (4, 1),
    "layer2.mp2": (4, 1),
    "live.webm": (13, 1),
    "matroska.webm": (13, 2),
    "no-index.mp3": (4, 2),
    "opus.ogg": (13, 2),
    "quicktime.mov": (4, 1),
    "silence.aiff": (2, 1),
    "silence.flac": (13, 2),
    "vorbis.ogg": (13, 1),
}


def facts(data: bytes, size: int = 0) -> tuple[int | None, int | None]:
    """Seconds and channels of a file that comes in pieces of a size (0: in one)."""
    probe = Probe()
    for piece in pieces(data, size or len(data) or 1):
        probe.feed(piece)
    found = probe.facts()
    assert found.get("bytes", 0) == len(data)
    return found.get("seconds"), found.get("channels")


def test_every_file_is_expected() -> None:
    """No file lies about that no test looks at."""
    assert {path.name for path in FILES.iterdir()} == REAL.keys()


@pytest.mark.parametrize("size", [0, 1, 7, 1000])
@pytest.mark.parametrize("name", REAL)
def test_files_of_real_encoders(name: str, size: int) -> None:
    """However the file is cut, it says its seconds, rounded up, and its channels."""
    assert facts((FILES / name).read_bytes(), size) == REAL[name]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", MAKERS)
def test_ten_minutes(kind: str, channels: int) -> None:
    """Ten minutes are 600 seconds, not one more or less."""
    assert facts(MAKERS[kind](600, channels=channels), 4096) == (600, channels)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (wav(60, claimed_bytes=0), 60),
        (wav(60, claimed_bytes=0xFFFFFFFF), 60),
        (wav(60, claimed_bytes=0xFFFFFFFF, form=b"RF64"), 60),
        (wav(60, claimed_bytes=2**31), 60),
        (wav(60, claimed_bytes=8000), 1),
        (flac(0), None),
        (mp3(60, indexed=2500), 60),
        (mp3(60, channels=2, indexed=2500), 60),
        (b"ID3\x04\x00\x10" + bytes([0, 0, 0, 5]) + bytes(15) + flac(60), 60),
        (opus(60) + opus(30, serial=8), 90),
        (opus(60, page_seconds=60), 60),
        (mp4(60, index_last=False), 60),
        (mp4(60, long=True), 60),
        (mp4(0), None),
        (live(2400), 60),
        (live(48_000), 1200),
    ],
)
def test_kinds_of_each_container(data: bytes, seconds: int | None) -> None:
    """Lengths that a streaming writer left open, indexes, streams in a row: what players make of them."""
    assert facts(data, 1000)[0] == seconds


def test_what_is_longer_than_is_looked_at() -> None:
    """Of 12 hours in tiny pages, and of 3 hours in tiny frames, only the beginning is looked at: the rest is alike."""
    assert facts(opus(43_200, page_bytes=50), 65_536)[0] == pytest.approx(43_200, abs=30)
    assert facts(mp3(10_800), 65_536)[0] == pytest.approx(10_800, abs=2)


def test_headers_that_say_too_little() -> None:
    """A megabyte cannot be one second of such audio: the most that its format can have is the least that it lasts."""
    assert facts(flac(1, size=960_000)) == (11, 1)
    assert facts(mp3(600, indexed=1))[0] == 11


def test_headers_that_say_too_much() -> None:
    """A billion hours is as long as it gets."""
    assert facts(mp4(10**15, long=True)) == (SECONDS_MAX, 1)
    assert facts(flac(2**36 - 1, rate=1), 100) == (SECONDS_MAX, 1)


def test_a_size_that_is_told_counts() -> None:
    """Where the whole is known to be larger than what has passed, it is the whole that is asked for."""
    probe = Probe()
    probe.feed(wav(60)[:1000])
    assert probe.facts(len(wav(60)))["seconds"] == 60


def test_two_gigabytes_cost_nothing() -> None:
    """Of a large upload only the headers are looked at, and nothing is kept."""
    probe, chunk, started = Probe(), bytes(2**20), time.process_time()
    probe.feed(wav(1, claimed_bytes=2**31))
    for _ in range(2000):
        probe.feed(chunk)
    assert time.process_time() - started < 5  # CPU seconds: quadratic work takes minutes
    assert probe.facts()["seconds"] == -(-(8000 + 2000 * 2**20) // 8000)
    assert len(repr(probe)) < 300


@pytest.mark.parametrize(
    "data",
    [
        b"OggS\0\2" + bytes(20) + b"\0",
        opus(1)[:200] + b"OggS" * 200_000,
        (b"\0\0\0\x08free") * 200_000,
        b"\xff" * 2_000_000,
        wav(1)[:44] * 50_000,
        mp3(1)[266:] + bytes(2_000_000),
        b"\x1aE\xdf\xa3\x80" + b"\xe7\x81\x01" * 700_000,
        b"FORM" + bytes(2_000_000),
    ],
    ids=["page", "pages of nothing", "boxes of nothing", "sync", "headers", "frames, then nothing", "times", "chunks"],
)
def test_hostile_files_cost_little(data: bytes) -> None:
    """Whatever is repeated, it is looked at a bounded number of times."""
    started = time.process_time()
    facts(data, 65_536)
    assert time.process_time() - started < 5  # CPU seconds: quadratic work takes minutes


#: Every container, whose heads are within the first bytes.
WHOLE = [made(2)[:4000] for made in MAKERS.values()] + [(FILES / name).read_bytes()[:4000] for name in REAL]
DAMAGED = st.builds(
    lambda file, at, junk: file[: at % len(file)] + junk + file[at % len(file) + len(junk) :],
    st.sampled_from(WHOLE),
    st.integers(0, 500) | st.integers(0, 4000),
    st.binary(max_size=12),
)


@given(data=DAMAGED | st.binary(max_size=600), sizes=st.lists(st.integers(0, 300), max_size=8))
@example(data=b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff", sizes=[])
@settings(max_examples=500)
def test_any_bytes_in_any_pieces(data: bytes, sizes: list[int]) -> None:
    """Nothing raises, how a file is cut changes nothing, and what is said is a number of what may be said."""
    probe, at = Probe(), 0
    for size in [*sizes, len(data)]:
        probe.feed(data[at : at + size])
        at += size
    whole = Probe()
    whole.feed(data)
    assert probe.facts() == whole.facts()
    assert probe.facts().keys() <= {*FACTS}
    assert all(0 < value <= SECONDS_MAX for value in probe.facts().values())
