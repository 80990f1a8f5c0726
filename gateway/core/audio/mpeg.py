"""MPEG audio without a container: layers 1 to 3 (MP3), and AAC in ADTS.

Owns: headers of frames, and the two indexes that encoders put in a first frame.
Does not know: tags around the frames.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from gateway.core.audio.seen import PIECES_MAX, Seen, Steps, big

#: Frames that must follow one another before they are taken for audio, and those that are then looked at.
_SURE: Final = 3
_FRAMES_MAX: Final = 2_000
#: No layer has more: 448 kbit/s.
_BYTES_PER_SECOND_MAX: Final = 56_000

#: kbit/s by the header's index, for the layers 1, 2, 3 of MPEG 1, and those of its extension to lower sampling rates.
_KBITS: Final = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame: its bytes, its samples, their rate, their channels, and whether it is MPEG 1."""

    size: int
    samples: int
    rate: int
    channels: int
    full: bool


def frame_of(head: bytes) -> _Frame | None:
    """The frame that these four bytes head; None where they do not."""
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)  # version: 3 is MPEG 1, 2 is MPEG 2, 0 is "2.5"
    index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if head[0] != 0xFF or head[1] < 0xE0 or version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
        return None
    full = version == 3
    bits = _KBITS[full, layer][index] * 1000
    rate = (44_100, 48_000, 32_000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 384 if layer == 1 else 576 if layer == 3 and not full else 1152
    padding = head[2] >> 1 & 1
    size = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    return _Frame(size, samples, rate, 1 if head[3] >> 6 == 3 else 2, full)


def _frames_counted(frame: _Frame, body: bytes) -> int | None:
    """The number of frames, where the first frame's content is an index of them."""
    at = (17 if frame.full else 9) if frame.channels == 1 else (32 if frame.full else 17)
    if body[at : at + 4] in (b"Xing", b"Info") and len(body) >= at + 12 and body[at + 7] & 1:
        return big(body[at + 8 : at + 12])
    return big(body[46:50]) if body[32:36] == b"VBRI" else None


def mpeg(seen: Seen, head: bytes) -> Steps:
    """Frame after frame from the first that others follow, unless it holds an index that counts them all."""
    in_a_row, seconds, start = 0, Fraction(0), 0
    for _ in range(PIECES_MAX):
        frame = frame_of(head)
        if frame is None:
            if in_a_row >= _SURE:
                break
            in_a_row = 0
            head = head[1:] + (yield 0, 1)
            continue
        if not in_a_row:
            seconds, start = Fraction(0), seen.at - 4
            body = yield 0, min(60, frame.size - 4)
            if (frames := _frames_counted(frame, body)) is not None:
                _note(seen, frame, Fraction(frames * frame.samples, frame.rate), start)
                return
        else:
            body = b""
        in_a_row += 1
        seconds += Fraction(frame.samples, frame.rate)
        if in_a_row >= _SURE:
            _note(seen, frame, seconds, start)
        if in_a_row >= _FRAMES_MAX:
            seen.followed = seen.at - 4 + frame.size - start
            return
        head = yield frame.size - 4 - len(body), 4
    seen.followed = seen.at - 4 - start


def _note(seen: Seen, frame: _Frame, seconds: Fraction, start: int) -> None:
    seen.seconds, seen.channels, seen.start = seconds, frame.channels, start
    seen.bytes_per_second_max = _BYTES_PER_SECOND_MAX


_AAC_RATES: Final = (
    96_000,
    88_200,
    64_000,
    48_000,
    44_100,
    32_000,
    24_000,
    22_050,
    16_000,
    12_000,
    11_025,
    8_000,
    7_350,
)


def is_adts(head: bytes) -> bool:
    """Whether these bytes head a frame of AAC."""
    return head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < len(_AAC_RATES)


def adts(seen: Seen, head: bytes) -> Steps:
    """AAC, frame after frame."""
    head += yield 0, 3
    seconds, seen.start = Fraction(0), seen.at - 7
    for number in range(1, _FRAMES_MAX + 1):
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if not is_adts(head) or size < 7:
            break
        seconds += Fraction(1024 * ((head[6] & 3) + 1), _AAC_RATES[head[2] >> 2 & 15])
        if number >= _SURE:
            seen.seconds, seen.channels = seconds, (head[2] & 1) << 2 | head[3] >> 6
        head = yield size - 7, 7
    seen.followed = seen.at - 7 - seen.start
