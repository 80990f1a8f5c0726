"""MPEG audio, layers 1 to 3: what a frame's header says.

Owns: the tables of the format, and the two indexes that encoders put in a first frame.
Does not know: files. Any four bytes may be asked about.
"""

from dataclasses import dataclass
from typing import Final

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
class Frame:
    """One frame: its bytes, its samples, their rate, their channels, and whether it is MPEG 1."""

    size: int
    samples: int
    rate: int
    channels: int
    full: bool


def frame_of(head: bytes) -> Frame | None:
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
    return Frame(size, samples, rate, 1 if head[3] >> 6 == 3 else 2, full)


def frames_counted(frame: Frame, body: bytes) -> int | None:
    """The number of frames, where the first frame's content is an index of them."""
    at = (17 if frame.full else 9) if frame.channels == 1 else (32 if frame.full else 17)
    if body[at : at + 4] in (b"Xing", b"Info") and len(body) >= at + 12 and body[at + 7] & 1:
        return int.from_bytes(body[at + 8 : at + 12], "big")
    return int.from_bytes(body[46:50], "big") if body[32:36] == b"VBRI" else None
