"""MP4, M4A and MOV.

Owns: the boxes that say how long it is.
Does not know: fragments, which have no index of the whole.
"""

from fractions import Fraction
from typing import Final

from gateway.core.audio.seen import PIECES_MAX, Seen, Steps, big

#: Boxes that hold others, which are walked through as if they stood behind them.
_BOXES: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_TIMES: Final = frozenset({b"mvhd", b"mdhd"})
_SOUNDS: Final = frozenset({b"mp4a", b"alac", b"fLaC", b"Opus", b"ac-3", b"ec-3", b"samr", b"sowt", b"twos", b"lpcm"})


def mp4(seen: Seen, head: bytes) -> Steps:
    """Box after box, wherever the index stands: the longest of what it says of the whole and of each track."""
    for _ in range(PIECES_MAX):
        size, name, passed = big(head[:4]), head[4:], 8
        if size == 1:
            size, passed = big((yield 0, 8)), 16
        if name in _BOXES or name == b"stsd":
            head = yield (8 if name == b"stsd" else 0), 8
            continue
        content = yield 0, max(0, min(size - passed, 32)) if name in _TIMES or name in _SOUNDS else 0
        if len(content) == 32 and name in _TIMES:
            _time(seen, content)
        elif len(content) >= 18 and name in _SOUNDS:
            seen.channels = max(seen.channels, big(content[16:18]) & 0xFF)
        if size < passed:  # to the end of the file, or nothing that can be
            return
        head = yield size - passed - len(content), 8


def _time(seen: Seen, content: bytes) -> None:
    long = content[0] == 1
    rate, ticks = (big(content[20:24]), big(content[24:32])) if long else (big(content[12:16]), big(content[16:20]))
    if rate and ticks != (1 << (64 if long else 32)) - 1:
        seen.seconds = max(seen.seconds or Fraction(0), Fraction(ticks, rate))
