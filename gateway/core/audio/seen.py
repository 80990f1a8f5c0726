"""What the walks through containers share: what they note, and how they ask for bytes.

Owns: how a duration follows from what was noted.
Does not know: any container.
"""

from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

#: Thirty years: what claims to be longer counts as so long.
SECONDS_MAX: Final = 10**9
#: Frames, pages, chunks, boxes or elements that are looked at in one file.
PIECES_MAX: Final = 10_000

#: A walk yields how many bytes to pass over, and how many it is then to be given.
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


def big(data: bytes) -> int:
    """The number, its highest byte first."""
    return int.from_bytes(data, "big")


def little(data: bytes) -> int:
    """The number, its lowest byte first."""
    return int.from_bytes(data, "little")
