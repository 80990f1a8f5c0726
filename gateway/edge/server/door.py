"""Who may be connected: how many, how many from one address, and for how long without asking for anything.

Owns: the count of connections, and one look now and then at all heads that are waited for: a timer for each request
would cost every call. Does not know: what is said on a connection.
"""

import asyncio
from collections import Counter
from typing import Protocol

from gateway.edge.attempts import neighbourhood
from gateway.ports import Observer
from gateway.settings.runtime import Limits


class Guest(Protocol):
    """A connection, as the door sees it."""

    head_began: float
    """Since when a request's head is waited for, by the loop's clock; 0 for none that has begun."""

    def force_close(self) -> None:
        """Drop it."""


class Door:
    """Counts connections in and out. `of_address_max` 0: an address may have any number."""

    def __init__(self, limits: Limits, *, of_address_max: int = 0, observer: Observer | None = None) -> None:
        self._limits = limits
        self._observer = observer
        self._of_address_max = of_address_max
        self._inside: dict[Guest, str] = {}
        self._of_address: Counter[str] = Counter()
        self._watch: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Door inside={len(self._inside)} addresses={len(self._of_address)}>"

    def __len__(self) -> int:
        """Connections."""
        return len(self._inside)

    def enter(self, guest: Guest, address: str) -> bool:
        """Whether a new connection is none too many, of all or of its address. It is counted until it leaves."""
        guest.head_began = asyncio.get_running_loop().time()
        self._inside[guest] = who = neighbourhood(address)
        self._of_address[who] += 1
        if self._watch is None:
            self._look_again()
        room = len(self._inside) <= self._limits.connections_max and (
            not self._of_address_max or self._of_address[who] <= self._of_address_max
        )
        if not room and self._observer is not None:
            self._observer.event("connection_refused")
        return room

    def leave(self, guest: Guest) -> None:
        """A connection is gone."""
        who = self._inside.pop(guest, None)
        if who is not None:
            self._of_address[who] -= 1
            if not self._of_address[who]:
                del self._of_address[who]

    def close(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look_again(self) -> None:
        every = self._limits.head_seconds_max / 4
        self._watch = asyncio.get_running_loop().call_later(every, self._drop_slow_heads)

    def _drop_slow_heads(self) -> None:
        self._watch = None
        latest = asyncio.get_running_loop().time() - self._limits.head_seconds_max
        for guest in list(self._inside):
            if 0.0 < guest.head_began < latest:
                if self._observer is not None:
                    self._observer.event("head_too_slow")
                guest.force_close()
        if self._inside:
            self._look_again()
