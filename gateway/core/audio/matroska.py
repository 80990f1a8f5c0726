"""Matroska and WebM.

Owns: the elements that say how long it is; where a writer that streams left that out, the times of its blocks.
Does not know: what is in blocks.
"""

import struct
from collections.abc import Generator
from fractions import Fraction
from math import isfinite
from typing import Final

from gateway.core.audio.seen import PIECES_MAX, Seen, Steps, big

#: Elements that hold others, which are walked through as if they stood behind them.
_SEGMENT, _INFO, _TRACKS, _TRACK, _AUDIO, _CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE1, 0x1F43B675
_HOLDERS: Final = frozenset({_SEGMENT, _INFO, _TRACKS, _TRACK, _AUDIO, _CLUSTER})
_SCALE, _DURATION, _CHANNELS, _TIME, _BLOCK = 0x2AD7B1, 0x4489, 0x9F, 0xE7, 0xA3
_READ: Final = frozenset({_SCALE, _DURATION, _CHANNELS, _TIME, _BLOCK})


def matroska(seen: Seen) -> Steps:
    """Element after element: up to the blocks where the head says how long they are, else along them."""
    scale, cluster, told = 1_000_000, 0, False  # nanoseconds of one tick
    skip = (yield from _number(0))[0]
    for _ in range(PIECES_MAX):
        name, length = yield from _number(skip)
        name |= 1 << 7 * length
        size, length = yield from _number(0)
        skip = size
        if name == _CLUSTER and told:
            return
        if name in _HOLDERS:
            skip = 0
        elif size == (1 << 7 * length) - 1:  # not known, which only holders may say
            return
        elif name in _READ:
            content = yield 0, min(size, 8)
            skip -= len(content)
            if name == _SCALE:
                scale = big(content)
            elif name == _DURATION:
                seen.seconds = _float(content) * Fraction(scale, 10**9)
                told = seen.seconds > 0
            elif name == _CHANNELS:
                seen.channels = max(seen.channels, big(content) & 0xFF)
            else:
                # A block says its track in one byte (of tracks that are few), then its time within the cluster.
                cluster = big(content) if name == _TIME else cluster
                ticks = cluster + (big(content[1:3]) if name == _BLOCK else 0)
                seen.seconds = max(seen.seconds or Fraction(0), Fraction(ticks * scale, 10**9))
    if not told:
        seen.followed = seen.at


def _number(skip: int) -> Generator[tuple[int, int], bytes, tuple[int, int]]:
    """A number whose first bits say how many bytes it has; and that."""
    first = yield skip, 1
    length = 9 - first[0].bit_length()
    rest = yield 0, length - 1
    return big(first + rest) & (1 << 7 * length) - 1, length


def _float(content: bytes) -> Fraction:
    form = {4: ">f", 8: ">d"}.get(len(content))
    value = struct.unpack(form, content)[0] if form else 0.0
    return Fraction(value) if isfinite(value) else Fraction(0)
