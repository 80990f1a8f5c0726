"""WAV, AIFF and FLAC, whose first chunks say how many samples there are.

Owns: those chunks.
Does not know: samples.
"""

from fractions import Fraction

from gateway.core.audio.seen import PIECES_MAX, Seen, Steps, big, little


def wav(seen: Seen) -> Steps:
    """WAV: chunks up to the samples, whose length a writer that streams does not know: then it is what follows."""
    form = yield 0, 8
    if form[4:] != b"WAVE":
        return
    skip, rate = 0, 0
    for _ in range(PIECES_MAX):
        head = yield skip, 8
        name, size = head[:4], little(head[4:])
        skip = size + size % 2
        if name == b"fmt " and size >= 16:
            form = yield 0, 16
            skip -= 16
            seen.channels = little(form[2:4])
            rate = little(form[8:12])
            sample_bits = little(form[14:16]) * seen.channels
            if little(form[:2]) in (1, 3, 0xFFFE) and sample_bits:  # samples as they are: nobody reads the rate
                rate = little(form[4:8]) * sample_bits // 8
        elif name == b"data":
            if rate:
                seen.seconds, seen.followed, seen.start = Fraction(1), rate, seen.at
                seen.end = None if size in (0, 0xFFFFFFFF) else seen.at + size
            return


def aiff(seen: Seen) -> Steps:
    """AIFF, up to the chunk that says what samples there are."""
    skip = 8
    for _ in range(PIECES_MAX):
        head = yield skip, 8
        size = big(head[4:])
        skip = size + size % 2
        if head[:4] == b"COMM" and size >= 18:
            common = yield 0, 18
            seen.channels = big(common[:2])
            exponent, mantissa = big(common[8:10]), big(common[10:18])
            rate = mantissa >> min(max(16_383 + 63 - exponent, 0), 64)
            if rate:
                seen.seconds = Fraction(big(common[2:6]), rate)
                seen.bytes_per_second_max = rate * seen.channels * (big(common[6:8]) + 7) // 8
            return


def flac(seen: Seen) -> Steps:
    """FLAC: the block that comes first, by definition."""
    block = yield 0, 4 + 34
    if block[0] & 0x7F == 0:
        streaminfo(seen, block[4:])


def streaminfo(seen: Seen, info: bytes) -> None:
    """What that block says."""
    packed = big(info[10:18])
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    seen.channels = (packed >> 41 & 7) + 1
    if rate:
        seen.seconds = Fraction(samples, rate)
        # A frame that does not shrink is stored as it is.
        seen.bytes_per_second_max = rate * seen.channels * ((packed >> 36 & 31) + 1) // 8
