"""The laws of jobs and calls beyond their money: places and queues, volume steps, names that are used once.

Owns: those laws, by what was answered and what stands. Does not know: the scripts.
"""

from collections.abc import Sequence
from typing import Any

from tests.sim.configs import CARD, CONFIGS, SKU, STEP_UNITS, UNIT_PRICES
from tests.sim.deeds import Broken, Deed, Entry, Law, Seen

PLACES_MAX = max(config.places for config in CONFIGS)
_NONE: dict[str, int] = {}


class Queue(Law):
    """Jobs wait in the order in which they came, no more run than there are places, and each is one submitter's."""

    def __init__(self) -> None:
        self._leases: dict[str, int] = {}
        self._waited = _NONE

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """Whose turn is it?"""
        command = deed.command
        match command.verb, tag:
            case "claim_queued", "claimed":
                for claimed in reply[1]:
                    job = claimed[0].decode()
                    if self._leases.get(job, 0) > deed.at_ms:
                        raise Broken("claimed within another's lease", job)
                    self._leases[job] = deed.at_ms + int(command.arg(3))
                    came = self._waited.get(job)
                    holds = claimed[4] == b"1"  # else its time was over
                    if holds and came is not None and (earlier := [one for one, at in seen.queue.items() if at < came]):
                        raise Broken("not in its turn", f"{job} before {earlier}")
            case "submit_later", "later" if command.arg(2) in self._leases:
                self._leases[command.arg(2)] = deed.at_ms + int(command.arg(3))
        self._waited = seen.queue

    def stands(self, seen: Seen) -> None:
        """Those that wait have a hold that waits, and the other way round."""
        waiting = {hold.job for hold in seen.holds.values() if hold.place == "jobs.queued" and hold.job}
        if waiting != seen.queue.keys():
            raise Broken("the queue is not the holds that wait", sorted(waiting ^ seen.queue.keys()))
        running = sum(hold.place == "jobs" for hold in seen.holds.values())
        if running > PLACES_MAX:
            raise Broken("more jobs than places", running)


class Steps(Law):
    """No two charges have the same part of a volume step, and each costs what its part costs."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[int, int]] = {}  # hold -> what the month had before, and how much it took
        self._month = ""
        self._volume = 0

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """A part is taken."""
        command = deed.command
        if command.verb != "take_volume" or tag != "taken":
            return
        hold, taken, before = command.key(8).rpartition(":")[2], int(command.arg(4)), int(reply[0])
        if hold in self._taken:
            return
        if int(seen.volume[SKU]) == taken:
            self._volume = 0  # the first of its month
        if before != self._volume:
            raise Broken("not the next part of the month's volume", f"{hold}: {before}, not {self._volume}")
        self._taken[hold] = before, taken
        self._volume += taken

    def entered(self, entry: Entry) -> None:
        """A part is charged."""
        if entry.kind != "charge" or entry.data["rate_card"] != CARD:
            return
        if entry.operation not in self._taken:
            return  # of nothing, nothing is taken
        before, taken = self._taken[entry.operation]
        price = UNIT_PRICES[entry.data["price_version"]]
        cost = _cost(before + taken, price) - _cost(before, price)
        if -entry.amount != cost:
            raise Broken("charged by other steps", f"{entry.operation}: {-entry.amount}, not {cost}")

    def stands(self, seen: Seen) -> None:
        """The month has what was taken."""
        if seen.volume and int(seen.volume[SKU]) != self._volume:
            raise Broken("the month's volume is not what was taken", f"{seen.volume}, not {self._volume}")


def _cost(millionths: int, price: int) -> int:
    """Of a whole volume from nothing on: the first part at its price, the next for the half, the rest for a quarter."""
    first, second = (units * 1_000_000 for units in STEP_UNITS)
    quarters = 4 * min(millionths, first) + 2 * max(0, min(millionths, second) - first) + max(0, millionths - second)
    return quarters * price // 4_000_000


class Names(Law):
    """A name is used by one; of the calls that had a name, one is charged, unless the others had given it up."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}
        self._callers: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}
        self._charged: dict[str, str] = {}
        self._in_time: dict[str, int] = {}  # hold -> until when its name was its own without one

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """Somebody gets a name."""
        command = deed.command
        if command.verb == "use_once" and tag == "used" and reply[0] == b"1":
            if self._users.setdefault(command.key(7), command.arg(2)) != command.arg(2):
                raise Broken("used twice", command.key(7))
        elif command.verb == "name_call" and tag == "taken" and command.arg(3) not in self._in_time:
            self._names[command.arg(3)] = command.arg(2)
            self._in_time[command.arg(3)] = deed.at_ms + int(command.arg(5))
        elif command.verb == "admit" and deed.at_ms > self._in_time.get(command.arg(2), deed.at_ms):
            self._names.pop(command.arg(2), None)  # it may be another's by now

    def entered(self, entry: Entry) -> None:
        """A charge of a call that has a name, in time."""
        name = self._names.get(entry.operation)
        if entry.kind == "charge" and name is not None and not entry.late:
            first = self._charged.setdefault(name, entry.operation)
            if first != entry.operation:
                raise Broken("one name and two charges", f"{name}: {first}, {entry.operation}")
