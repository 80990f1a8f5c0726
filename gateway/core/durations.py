"""How long the audio in a file is, and how many channels it has, read from the file as it streams past.

Owns: what the headers of WAV, FLAC, MP3, Ogg (Opus, Vorbis, FLAC, Speex) and MP4 say.
Does not know: what it is read for. Never raises on hostile bytes, keeps at most a page's head of them, and looks at a
bounded number of pieces however long the file is: of what is longer, the rest is taken to be like its beginning.

Each container is a generator that walks along the file: it yields how many bytes to pass over and how many to be given
after them, so that an index behind gigabytes of audio is found as well. It notes what it learns in `Seen`.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

from gateway.core.mpeg import Frame, frame_of, frames_counted

#: Thirty years: what claims to be longer counts as so long.
SECONDS_MAX: Final = 10**9
#: Frames, pages, chunks or boxes that are looked at.
_PIECES_MAX: Final = 10_000
#: Streams of one Ogg file, one after the other or side by side.
_STREAMS_MAX: Final = 16
#: Frames that must follow one another before they are taken for MPEG audio, and those that are then looked at.
_MPEG_SURE: Final = 3
_MPEG_FRAMES: Final = 2_000
#: No MPEG audio has more: 448 kbit/s.
_MPEG_BYTES_PER_SECOND: Final = 56_000

#: What `Probe.facts` may say.
FACTS: Final = ("bytes", "seconds", "channels")

Steps = Generator[tuple[int, int], bytes, None]


@dataclass(slots=True)
class Seen:
    """What a walk has learned: `seconds` of the whole file, or of the first `followed` bytes behind `start`.

    `at` is the offset behind the bytes that were given last. Audio ends at `end` if the file does not before it;
    `bytes_per_second_max` is the most that such audio can have.
    """

    at: int = 0
    seconds: Fraction | None = None
    channels: int = 0
    start: int = 0
    followed: int = 0
    end: int | None = None
    bytes_per_second_max: int = 0

    def duration(self, size: int) -> int | None:
        """Whole seconds, rounded up, of a file of this size; None where it does not say."""
        if not self.seconds or self.seconds < 0:
            return None
        there = max(0, size - self.start)
        found = self.seconds
        if self.followed:
            found *= Fraction(there if self.end is None else min(there, self.end - self.start), self.followed)
        if self.bytes_per_second_max:
            found = max(found, Fraction(there, self.bytes_per_second_max))
        return min(ceil(found), SECONDS_MAX)


class Probe:
    """Reads a file that is fed to it piece by piece."""

    __slots__ = ("_kept", "_seen", "_skip", "_walk", "_want", "size")

    def __init__(self) -> None:
        self.size = 0
        self._seen = Seen()
        self._kept = bytearray()
        self._walk: Steps | None = _walk(self._seen)
        self._skip, self._want = next(self._walk)

    def __repr__(self) -> str:
        return f"<Probe size={self.size} {self._seen}>"

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the file. Costs nothing where the walk passes over them."""
        self.size += len(chunk)
        at = 0
        while self._walk is not None:
            passed = min(self._skip, len(chunk) - at)
            at += passed
            self._skip -= passed
            wanted = chunk[at : at + self._want - len(self._kept)] if not self._skip else b""
            at += len(wanted)
            self._kept += wanted
            if self._skip or len(self._kept) < self._want:
                return
            given = bytes(self._kept)
            self._kept.clear()
            self._seen.at = self.size - len(chunk) + at
            try:
                self._skip, self._want = self._walk.send(given)
            except StopIteration:
                self._walk = None

    def facts(self, size: int | None = None) -> Mapping[str, int]:
        """What is known of a file of this size (None: of what was fed): `bytes`, and `seconds` and `channels` if it
        says them.
        """
        size = self.size if size is None else size
        said = {"bytes": size, "seconds": self._seen.duration(size), "channels": self._seen.channels}
        return {name: value for name, value in said.items() if value}


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _walk(seen: Seen) -> Steps:
    """Whatever container it is."""
    magic = yield 0, 4
    if magic.startswith(b"ID3"):
        head = yield 0, 6
        length = sum((byte & 0x7F) << shift for byte, shift in zip(head[2:], (21, 14, 7, 0), strict=True))
        magic = yield length + (10 if head[1] & 0x10 else 0), 4
        seen.start = seen.at - 4
    if magic in (b"RIFF", b"RF64", b"BW64"):
        yield from _wav(seen)
    elif magic == b"fLaC":
        yield from _flac(seen)
    elif magic == b"OggS":
        yield from _ogg(seen)
    elif frame_of(magic) is not None:
        yield from _mpeg(seen, magic)
    else:
        name = yield 0, 4
        if name in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            yield from _mp4(seen, magic + name)
        else:
            yield from _mpeg(seen, name)


# ---- WAV


def _wav(seen: Seen) -> Steps:
    """Chunks up to the samples. Their length is often unknown to a writer that streams: then it is what follows."""
    form = yield 0, 8
    if form[4:] != b"WAVE":
        return
    skip, rate = 0, 0
    for _ in range(_PIECES_MAX):
        head = yield skip, 8
        name, size = head[:4], _little(head[4:])
        skip = size + size % 2
        if name == b"fmt " and size >= 16:
            form = yield 0, 16
            skip -= 16
            seen.channels = _little(form[2:4])
            rate = _little(form[8:12])
            sample_bits = _little(form[14:16]) * seen.channels
            if _little(form[:2]) in (1, 3, 0xFFFE) and sample_bits:  # samples as they are: nobody reads the rate
                rate = _little(form[4:8]) * sample_bits // 8
        elif name == b"data":
            if rate:
                seen.seconds, seen.followed, seen.start = Fraction(1), rate, seen.at
                seen.end = None if size in (0, 0xFFFFFFFF) else seen.at + size
            return


# ---- FLAC


def _flac(seen: Seen) -> Steps:
    """The block that comes first, by definition."""
    block = yield 0, 4 + 34
    if block[0] & 0x7F == 0:
        _streaminfo(seen, block[4:])


def _streaminfo(seen: Seen, info: bytes) -> None:
    packed = _big(info[10:18])
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    seen.channels = (packed >> 41 & 7) + 1
    if rate:
        seen.seconds = Fraction(samples, rate)
        # A frame that does not shrink is stored as it is.
        seen.bytes_per_second_max = rate * seen.channels * ((packed >> 36 & 31) + 1) // 8


# ---- Ogg


def _ogg(seen: Seen) -> Steps:
    """Page after page: each says at which sample of its stream it ends. Streams in a row add up."""
    streams: dict[bytes, tuple[int, int]] = {}  # serial number: samples a second, samples that are not played
    ends: dict[bytes, Fraction] = {}
    page = b"OggS" + (yield 0, 23)
    for _ in range(_PIECES_MAX):
        lacing = yield 0, page[26]
        size, serial, granule = sum(lacing), page[14:18], _little(page[6:14])
        if page[5] & 2:
            if len(streams) == _STREAMS_MAX:
                break
            head = yield 0, min(size, 64)
            size -= len(head)
            if (told := _ogg_stream(seen, head.ljust(64, b"\0"))) is not None:
                streams[serial] = told
        elif serial in streams and granule < 1 << 63:
            rate, unheard = streams[serial]
            before = ends.get(serial, Fraction(0))
            ends[serial] = max(before, Fraction(granule - unheard, rate))
            seen.seconds = (seen.seconds or 0) + ends[serial] - before
        page = yield size, 27
        if not page.startswith(b"OggS"):
            break
    seen.followed = seen.at - len(page)


def _ogg_stream(seen: Seen, head: bytes) -> tuple[int, int] | None:
    """Of an audio stream, by its first packet: samples a second, and how many at its beginning are not played."""
    unheard = 0
    if head.startswith(b"OpusHead"):
        rate, channels, unheard = 48_000, head[9], _little(head[10:12])
    elif head.startswith(b"\x01vorbis"):
        rate, channels = _little(head[12:16]), head[11]
    elif head.startswith(b"\x7fFLAC"):
        rate, channels = _big(head[27:30]) >> 4, (head[29] >> 1 & 7) + 1
    elif head.startswith(b"Speex   "):
        rate, channels = _little(head[36:40]), _little(head[48:52])
    else:
        return None
    seen.channels = max(seen.channels, channels & 0xFF)
    return (rate, unheard) if rate else None


# ---- MPEG audio


def _mpeg(seen: Seen, head: bytes) -> Steps:
    """Frame after frame from the first that others follow, unless it holds an index that counts them all."""
    in_a_row, seconds, start = 0, Fraction(0), 0
    for _ in range(_PIECES_MAX):
        frame = frame_of(head)
        if frame is None:
            if in_a_row >= _MPEG_SURE:
                break
            in_a_row = 0
            head = head[1:] + (yield 0, 1)
            continue
        if not in_a_row:
            seconds, start = Fraction(0), seen.at - 4
            body = yield 0, min(60, frame.size - 4)
            if (frames := frames_counted(frame, body)) is not None:
                _mpeg_seen(seen, frame, Fraction(frames * frame.samples, frame.rate), start)
                return
        else:
            body = b""
        in_a_row += 1
        seconds += Fraction(frame.samples, frame.rate)
        if in_a_row >= _MPEG_SURE:
            _mpeg_seen(seen, frame, seconds, start)
        if in_a_row >= _MPEG_FRAMES:
            seen.followed = seen.at - 4 + frame.size - start
            return
        head = yield frame.size - 4 - len(body), 4
    seen.followed = seen.at - 4 - start


def _mpeg_seen(seen: Seen, frame: Frame, seconds: Fraction, start: int) -> None:
    seen.seconds, seen.channels, seen.start = seconds, frame.channels, start
    seen.bytes_per_second_max = _MPEG_BYTES_PER_SECOND


# ---- MP4

#: Boxes that hold others, which are walked through as if they stood behind them.
_BOXES: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_TIMES: Final = frozenset({b"mvhd", b"mdhd"})
_SOUNDS: Final = frozenset({b"mp4a", b"alac", b"fLaC", b"Opus", b"ac-3", b"ec-3", b"samr", b"sowt", b"twos", b"lpcm"})


def _mp4(seen: Seen, head: bytes) -> Steps:
    """Box after box, wherever the index stands: the longest of what it says of the whole and of each track."""
    for _ in range(_PIECES_MAX):
        size, name, passed = _big(head[:4]), head[4:], 8
        if size == 1:
            size, passed = _big((yield 0, 8)), 16
        if name in _BOXES or name == b"stsd":
            head = yield (8 if name == b"stsd" else 0), 8
            continue
        content = yield 0, max(0, min(size - passed, 32)) if name in _TIMES or name in _SOUNDS else 0
        if len(content) == 32 and name in _TIMES:
            _mp4_time(seen, content)
        elif len(content) >= 18 and name in _SOUNDS:
            seen.channels = max(seen.channels, _big(content[16:18]) & 0xFF)
        if size < passed:  # to the end of the file, or nothing that can be
            return
        head = yield size - passed - len(content), 8


def _mp4_time(seen: Seen, content: bytes) -> None:
    long = content[0] == 1
    rate, ticks = (_big(content[20:24]), _big(content[24:32])) if long else (_big(content[12:16]), _big(content[16:20]))
    if rate and ticks != (1 << (64 if long else 32)) - 1:
        seen.seconds = max(seen.seconds or Fraction(0), Fraction(ticks, rate))
