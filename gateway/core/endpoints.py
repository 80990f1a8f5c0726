"""Which of several endpoints of one service is asked, and when one is let be.

Owns: the order in which they are tried, and what successes and failures do to one's fitness.
Does not know: addresses, connections, clocks: a number, a name or the time is handed in.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from gateway.core.record import record

#: Of a digest so many bits are taken: with another half they are a number that a float has exactly.
_BITS: Final = 52
#: After its time an endpoint is tried by one call in so many seconds, until one succeeds.
TRIAL_SECONDS: Final = 1.0


def ranked(weights: Mapping[str, int], key: str) -> list[str]:
    """The names in the order in which they are tried for `key`: for one key always the same.

    Over many keys each comes first as often as its weight says; without one of them the others keep their order, so
    that only the keys of that one go elsewhere (rendezvous hashing).
    """
    return sorted(weights, key=lambda name: (_score(name, weights[name], key), name), reverse=True)


def _score(name: str, weight: int, key: str) -> float:
    digest = blake2b(f"{key}\0{name}".encode(), digest_size=8).digest()
    number = ((int.from_bytes(digest) >> (64 - _BITS)) + 0.5) / 2**_BITS  # above 0 and below 1
    return -weight / math.log(number)


@record
class Ejection:
    """When an endpoint is let be: after so many failures in a row, for so many seconds, twice as long each time."""

    failures: int = 5
    seconds: float = 5.0
    seconds_max: float = 300.0


@record
class Fitness:
    """How an endpoint has done. `failures` in a row; `until` is when it may be tried again, by the caller's clock."""

    failures: int = 0
    ejections: int = 0
    until: float = 0.0

    @property
    def ejected(self) -> bool:
        """Whether it was let be, and no call has succeeded since."""
        return self.ejections > 0


def fit(fitness: Fitness, now: float) -> bool:
    """Whether an endpoint may be tried now."""
    return now >= fitness.until


def failed(fitness: Fitness, now: float, rules: Ejection) -> Fitness:
    """It did not answer, or said that it cannot. Calls that were under way when it was let be change nothing."""
    failures = fitness.failures + 1
    if not fitness.ejected:
        if failures < rules.failures:
            return replace(fitness, failures=failures)
    elif now < fitness.until - TRIAL_SECONDS:
        return fitness
    pause = min(rules.seconds_max, rules.seconds * 2 ** min(fitness.ejections, 30))
    return Fitness(failures=failures, ejections=fitness.ejections + 1, until=now + pause)


def tried(fitness: Fitness, now: float) -> Fitness:
    """A call goes to an endpoint whose time is over: for a moment it is the only one."""
    return replace(fitness, until=now + TRIAL_SECONDS) if fitness.ejected else fitness
