"""The marks of a cluster: how it is noticed that one of its primaries is not the one that was known.

Owns: which keys they are, what a primary is asked for them, and the order in which they are written.
Does not know: connections, or what an epoch is good for (epoch).

A cluster's epoch stands on one of its primaries. Copies of it, the marks, stand in slots all over the cluster and move
with them, so that every primary has some. Where all are written, one that a primary lacks was lost with its data.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Final

from gateway.ledger.epoch import Memory, judge, key_of, new_epoch
from gateway.ledger.link import RedisLink
from gateway.ledger.slots import SLOTS, hash_slot

#: One mark for each so many slots: a primary with twice as many in a row has one for sure.
_SLOTS_EACH: Final = 128
_ELSEWHERE: Final = frozenset({"MOVED", "ASK"})
_WRITTEN: Final = b"1"
LOST: Final = "a primary has lost the ledger's data"


@cache
def _tags() -> Sequence[str]:
    """For each part of the slots a tag that is in it."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SLOTS // _SLOTS_EACH:
        found.setdefault(hash_slot(str(number)) // _SLOTS_EACH, str(number))
        number += 1
    return tuple(found.values())


def marks(prefix: str) -> Sequence[str]:
    """STRING each: the epochs, as they stood in the ledger's own key when they were marked."""
    return [f"{key_of(prefix)}:{{{tag}}}" for tag in _tags()]


def _all_written(prefix: str) -> str:
    """STRING, beside the epoch: all marks are written."""
    return f"{{{key_of(prefix)}}}:marked"


async def marked(link: RedisLink, prefix: str) -> bool:
    """Whether all marks were written once. Raises LinkError."""
    return await link.call("GET", _all_written(prefix)) is not None


async def mark(link: RedisLink, prefix: str, memory: Memory) -> None:
    """Begin the first epoch, if there is none, and mark every primary. Two may do so at once. Raises LinkError."""
    begun = new_epoch()
    there = await link.call("SET", key_of(prefix), begun, "NX", "GET")
    text = there.decode() if isinstance(there, bytes) else begun
    await write(link, prefix, text, "NX")
    memory.write(text.split()[0])


async def write(link: RedisLink, prefix: str, text: str, *how: str) -> None:
    """Mark every primary with these epochs. Raises LinkError."""
    await asyncio.gather(*(link.call("SET", name, text, *how) for name in marks(prefix)))
    await link.call("SET", _all_written(prefix), _WRITTEN)


async def lost(link: RedisLink, prefix: str, epochs: Sequence[str]) -> bool:
    """Whether marks are missing, or are of another ledger than `epochs`, the cluster's own. Raises LinkError."""
    found = await asyncio.gather(*(link.call("GET", name) for name in marks(prefix)))
    if not epochs:
        return any(text is not None for text in found)
    if not await marked(link, prefix):
        return False
    return any(not isinstance(text, bytes) or epochs[0] not in text.decode().split() for text in found)


class Marks:
    """What a connection to one server of a cluster asks first: for all marks, of which it has those in its slots."""

    def __init__(self, prefix: str, memory: Memory) -> None:
        self._names = (*marks(prefix), _all_written(prefix))
        self._memory = memory
        self._mine = memory.read()

    def questions(self) -> Sequence[tuple[str, ...]]:
        """See Gate."""
        return [("GET", name) for name in self._names]

    def refusal(self, answers: Sequence[object]) -> str:
        """See Gate. A cluster is remembered once all its marks are written: before, a primary may lack some."""
        here: list[list[str]] = []
        for answer in answers:
            if not isinstance(answer, Exception):
                if answer != _WRITTEN:
                    here.append(answer.decode().split() if isinstance(answer, bytes) else [])
            elif str(answer).split(" ", 1)[0] not in _ELSEWHERE:
                return f"the ledger's epoch cannot be read: {answer}"
        if any(self._mine not in theirs for theirs in here):
            self._mine = self._memory.read()  # another process of this machine may know more by now
        if why := next(filter(None, (judge(self._mine, theirs) for theirs in here)), ""):
            return why
        newest = {theirs[0] for theirs in here if theirs}
        # Not while another epoch is being written.
        if len(newest) == 1 and self._mine not in newest and (self._mine or _WRITTEN in answers):
            self._mine = newest.pop()
            self._memory.write(self._mine)
        return ""
