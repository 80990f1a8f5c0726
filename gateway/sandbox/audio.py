"""Audio, as far as the sandbox understands it.

Owns: reading the length and the channels of a WAV file from its head, and making silence.
Does not know: where audio comes from. Containers other than WAV are taken by their size alone.
"""

import struct
from dataclasses import dataclass
from typing import Final

#: So much of an upload is kept to find the `fmt ` and `data` chunks in.
HEAD_BYTES_MAX: Final = 64 * 1024
#: Compressed audio of unknown kind is taken for 128 kbit/s.
UNKNOWN_BYTES_PER_SECOND: Final = 16_000


@dataclass(frozen=True, slots=True)
class Audio:
    """How long a recording is, in exact seconds, and its number of channels."""

    seconds: float
    channels: int = 1


def measure(head: bytes, size: int) -> Audio:
    """The audio of a file of `size` bytes that starts with `head`."""
    found = _wav(head, size)
    return found if found is not None else Audio(max(1.0, size / UNKNOWN_BYTES_PER_SECOND))


def _wav(head: bytes, size: int) -> Audio | None:
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, channels, byte_rate = 12, 0, 0
    while at + 8 <= len(head):
        name, length = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        at += 8
        if name == b"fmt " and at + 16 <= len(head):
            _, channels, _, byte_rate = struct.unpack_from("<HHII", head, at)
        if name == b"data":
            if not channels or not byte_rate:
                return None
            # Streamed WAV files leave the length unknown (zero or all ones): then it is what follows.
            there = max(0, size - at)
            return Audio((there if length in (0, 0xFFFFFFFF) else min(length, there)) / byte_rate, channels)
        at += length + length % 2
    return None


def wav_header(data_bytes: int, sample_rate: int) -> bytes:
    """The 44 bytes before 16-bit PCM of one channel."""
    form = struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + data_bytes)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", data_bytes)
    )


def silence(seconds: float, sample_rate: int, *, sample_bytes: int = 2) -> bytes:
    """So much of nothing."""
    return bytes(int(seconds * sample_rate) * sample_bytes)
