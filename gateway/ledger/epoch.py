"""The ledger's epoch: how a gateway notices that Redis is not the one that it knew.

Owns: the marker in Redis, what this machine remembers of it, and what is said to a server that does not have it.
Does not know: connections, or what ops do about it (cli).

A Redis that comes back empty, or another one under the same name, would answer that no key is known and no credit is
left, as if it were so. The first gateway that meets a Redis writes a random word there, and every machine remembers
it on its own disk. A server without that word is refused like one that is away, until ops say that it is right: they
begin a new epoch, written in front of the old ones, so that every machine that remembers one of them goes on.
"""

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.ledger.cluster import is_cluster

#: Old epochs that are still known: machines that were switched off longer must be told by hand.
EPOCHS_MAX: Final = 20
#: With this ends what is said of a server that is refused.
REFUSED: Final = "see `gateway ledger condition`"


def key_of(prefix: str) -> str:
    """STRING: the epochs of the ledger, newest first, with blanks between them."""
    return f"{prefix}:epoch"


def new_epoch() -> str:
    """A word that no other ledger has."""
    return secrets.token_hex(8)


class Memory:
    """What this machine remembers of the Redis at one URL: a file of its own for each, beside the spool."""

    def __init__(self, directory: Path, url: str, prefix: str) -> None:
        place = f"{url.rpartition('@')[2]} {prefix}"  # without the password
        kind = "marks" if is_cluster(url) else "epoch"  # what a cluster was known by before it had marks is no guide
        self._file = directory / f"{kind}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"

    def read(self) -> str:
        """The epoch that was last met; nothing if none was."""
        try:
            return self._file.read_text().strip()
        except FileNotFoundError:
            return ""

    def write(self, epoch: str) -> None:
        """Remember an epoch."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        written = self._file.with_suffix(f".{os.getpid()}")
        written.write_text(epoch + "\n")
        written.replace(self._file)


def following(*known: str) -> str:
    """What stands in Redis when a new epoch begins after those known, each a text as it stood in Redis or on a disk."""
    old = list(dict.fromkeys(word for text in known for word in text.split()))
    return " ".join((new_epoch(), *old[:EPOCHS_MAX]))


def judge(mine: str, theirs: Sequence[str]) -> str:
    """Why a server is not the ledger's; empty if it is. `mine` is what this machine remembers, maybe nothing."""
    if not mine or mine in theirs:
        return ""
    if not theirs:
        return f"it has lost the ledger's data, or never had it: {REFUSED}"
    return f"it is not the Redis that this machine knew: {REFUSED}"


class Epoch:
    """What a connection asks a server first, and what is made of the answer. A machine's first meeting writes it."""

    def __init__(self, prefix: str, memory: Memory) -> None:
        self._key = key_of(prefix)
        self._memory = memory
        self._mine = memory.read()
        self._new = new_epoch()

    def questions(self) -> Sequence[tuple[str, ...]]:
        """The command: reads the epochs; where this machine knows none, it also begins the first."""
        return [("GET", self._key) if self._mine else ("SET", self._key, self._new, "NX", "GET")]

    def refusal(self, answers: Sequence[object]) -> str:
        """Why the server that gave this answer is refused; empty: it is the ledger's, and is remembered."""
        (answer,) = answers
        if isinstance(answer, Exception):
            return f"the ledger's epoch cannot be read: {answer}"
        theirs = answer.decode().split() if isinstance(answer, bytes) else []
        if not theirs and not self._mine:
            theirs = [self._new]
        why = judge(self._mine, theirs)
        if not why and theirs[0] != self._mine:
            self._mine = theirs[0]
            self._memory.write(self._mine)
        return why
