"""Lines that say the same again and again: the first is written at once, the others as one line now and then.

Owns: which lines are held back, for how long, how many are known. Does not know: what they say, or how it is written.

A ledger that is away, or a client that floods, has one line for each change and one for each while, not one for each
call; the metrics count all of them.
"""

from collections import OrderedDict
from collections.abc import Iterator
from math import inf
from typing import Final

AGAIN_SECONDS: Final = 10.0
_KNOWN_MAX: Final = 1000

Facts = tuple[tuple[str, str], ...]


class _Told:
    __slots__ = ("again_at", "times", "value")

    def __init__(self, again_at: float) -> None:
        self.again_at = again_at
        self.times = self.value = 0


class Repeats:
    """What was said in the last `AGAIN_SECONDS`, each by its name and facts; the oldest first."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, Facts], _Told] = OrderedDict()

    def is_new(self, name: str, facts: Facts, value: int, now: float) -> bool:
        """Whether it is to be written now. If not, it is counted."""
        told = self._told.get((name, facts))
        if told is None:
            self._told[name, facts] = _Told(now + AGAIN_SECONDS)
            return True
        told.times += 1
        told.value += value
        return False

    def due(self, now: float) -> Iterator[tuple[str, Facts, int, int]]:
        """What was held back for long enough, or must make room: name, facts, value in all, times."""
        while self._told:
            (name, facts), told = next(iter(self._told.items()))
            if told.again_at > now and len(self._told) <= _KNOWN_MAX:
                return
            del self._told[name, facts]
            if told.times:
                if told.again_at <= now < inf:  # it goes on: the next line comes after another while
                    self._told[name, facts] = _Told(now + AGAIN_SECONDS)
                yield name, facts, told.value, told.times
