"""Ogg, with Opus, Vorbis, FLAC or Speex in it.

Owns: pages and the first packets of streams.
Does not know: what else is in packets.
"""

from fractions import Fraction
from typing import Final

from gateway.core.audio.seen import PIECES_MAX, Seen, Steps, big, little

#: Streams of one file, one after the other or side by side.
_STREAMS_MAX: Final = 16


def ogg(seen: Seen) -> Steps:
    """Page after page: each says at which sample of its stream it ends. Streams in a row add up."""
    streams: dict[bytes, tuple[int, int]] = {}  # serial number: samples a second, samples that are not played
    ends: dict[bytes, Fraction] = {}
    page = b"OggS" + (yield 0, 23)
    for _ in range(PIECES_MAX):
        lacing = yield 0, page[26]
        size, serial, granule = sum(lacing), page[14:18], little(page[6:14])
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
        rate, channels, unheard = 48_000, head[9], little(head[10:12])
    elif head.startswith(b"\x01vorbis"):
        rate, channels = little(head[12:16]), head[11]
    elif head.startswith(b"\x7fFLAC"):
        rate, channels = big(head[27:30]) >> 4, (head[29] >> 1 & 7) + 1
    elif head.startswith(b"Speex   "):
        rate, channels = little(head[36:40]), little(head[48:52])
    else:
        return None
    seen.channels = max(seen.channels, channels & 0xFF)
    return (rate, unheard) if rate else None
