"""Attempts with keys that nobody may have, and requests with those that somebody has: too many are slowed down.

Owns: how many attempts an address (or whoever else is counted as one), and all together, may make in a minute. Its
memory is bounded.
Does not know: what is guessed, or what an address is good for.
"""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from math import inf
from sys import maxsize
from typing import Final

from multidict import CIMultiDictProxy

from gateway.ports import Clock

WINDOW_SECONDS: Final = 60
#: For people, who sign in.
OF_ADDRESS_MAX: Final = 10
OF_ALL_MAX: Final = 600
_ADDRESSES_MAX: Final = 10_000


class Attempts:
    """Counts attempts in windows of a minute. One that succeeds is taken back: it costs nothing."""

    def __init__(
        self,
        clock: Clock,
        *,
        of_address_max: int = OF_ADDRESS_MAX,
        of_all_max: float = OF_ALL_MAX,
        counted_as: Callable[[str], str] | None = None,
    ) -> None:
        self._clock = clock
        self._counted_as = counted_as or neighbourhood
        self._of_address_max = of_address_max
        self._of_all_max = of_all_max
        self._window = 0
        self._all = 0
        self._counts: OrderedDict[str, int] = OrderedDict()

    def wait(self, address: str) -> int:
        """0: an attempt may be made from there; else in so many seconds."""
        now = int(self._clock.now())
        if now // WINDOW_SECONDS != self._window:
            self._window, self._all = now // WINDOW_SECONDS, 0
            self._counts.clear()
        if self._counts.get(self._counted_as(address), 0) >= self._of_address_max or self._all >= self._of_all_max:
            return WINDOW_SECONDS - now % WINDOW_SECONDS
        return 0

    def begin(self, address: str) -> int:
        """Count an attempt. 0: it may be made; else it may not, and another one in so many seconds."""
        if wait := self.wait(address):
            return wait
        who = self._counted_as(address)
        self._counts[who] = self._counts.get(who, 0) + 1
        self._counts.move_to_end(who)
        if len(self._counts) > _ADDRESSES_MAX:
            self._counts.popitem(last=False)
        self._all += 1
        return 0

    def take_back(self, address: str) -> None:
        """The attempt that was begun from there succeeded."""
        who = self._counted_as(address)
        if self._counts.get(who, 0):
            self._counts[who] -= 1
            self._all -= 1


def requests_of_keys(clock: Clock, requests_max: int) -> Attempts:
    """Requests that keys make, each its own: so many in a minute at the most; 0: no limit."""
    return Attempts(clock, of_address_max=requests_max or maxsize, of_all_max=inf, counted_as=str)


def guesses(clock: Clock, of_address_max: int) -> Attempts:
    """Keys and tokens that nobody has: so many of an address in a minute; 0: no limit."""
    return Attempts(clock, of_address_max=of_address_max or maxsize, of_all_max=inf)


def asked_by(headers: CIMultiDictProxy[str], peer: str, *, trust: bool) -> str:
    """Who asks: the peer, or, with `trust`, whom the balancer before us says that it asks for."""
    said = headers.getall("X-Forwarded-For", ()) if trust else ()
    return said[-1].rpartition(",")[2].strip() if said else peer


def neighbourhood(address: str) -> str:
    """What is counted as one address: an IPv4 address, or the /64 that one holder of IPv6 addresses has."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return found.exploded[:19]
    return str(found)
