"""The laws of what is told: each crossing once until it has recovered, each delivery until it has arrived.

Owns: when an alert is due, by the entries alone; who may have a delivery, and for how long.
Does not know: the scripts.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.core.money import NANOS_PER_USD
from tests.sim.configs import WATCHED
from tests.sim.deeds import Broken, Deed, Entry, Law, Seen


class Level:
    """Something that is told below a threshold, and again only after it has recovered."""

    def __init__(self, amount: int, *, percent: bool) -> None:
        self._amount, self._percent = amount, percent
        self._purchase: int | None = None
        self._told = False
        self.times = 0

    def entered(self, entry: Entry) -> None:
        """A charge that crosses it is told; a grant lifts it, and what is given back only where it lifts well above."""
        if entry.kind == "grant" and entry.data["kind"] == "purchase":
            self._purchase = entry.amount
        if self._percent and self._purchase is None:
            return
        threshold = (self._purchase or 0) * self._amount // 100 if self._percent else self._amount
        if not self._told:
            self._told = entry.balance < threshold
            self.times += self._told
        elif entry.amount > 0:
            room = max(threshold // 10, NANOS_PER_USD) if entry.kind == "correction" else 0
            self._told = entry.balance < threshold + room


class Alerts(Law):
    """As many alerts as there were crossings."""

    def __init__(self) -> None:
        self._levels = {
            watch.id: Level(watch.amount, percent=watch.kind.endswith("percent"))
            for watch in WATCHED
            if watch.kind.startswith("balance")
        }
        self._watched: set[str] = set()
        self._spent: Counter[str] = Counter()  # by day
        self._days: set[str] = set()  # on which enough was spent to tell
        self._alerts: dict[str, set[str]] = {watch.id: set() for watch in WATCHED}
        self._limit = next(watch.amount for watch in WATCHED if watch.kind == "spent_day")

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """What is watched from now on."""
        if deed.command.verb == "put_watch" and tag == "watch" and (name := deed.command.arg(2)) not in self._watched:
            self._watched.add(name)
            if name in self._levels:
                balance = int(seen.facts["balance"])
                now = Entry(
                    id="", kind="", amount=0, balance=balance, operation="", at_ms=deed.at_ms, late=False, data={}
                )
                self._levels[name].entered(now)

    def entered(self, entry: Entry) -> None:
        """Did it cross something?"""
        for name, level in self._levels.items():
            if name in self._watched:
                level.entered(entry)
        if entry.kind in {"charge", "correction"} and "payment_operation" not in entry.data:  # a payment is no spending
            day = datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime("%Y-%m-%d")
            self._spent[day] -= entry.amount
            if self._spent[day] >= self._limit and "day" in self._watched:
                self._days.add(day)

    def stands(self, seen: Seen) -> None:
        """Count those that are there: each was, when it was posted."""
        for post in seen.posts:
            word, _, rest = post.partition(":")
            name, _, number = rest.rpartition(":")
            if word == "alert" and name in self._alerts:
                self._alerts[name].add(number)
        wanted = {name: level.times for name, level in self._levels.items()} | {"day": len(self._days)}
        found = {name: len(self._alerts[name]) for name in wanted}
        if found != wanted:
            raise Broken("alerts are not the crossings", f"{found}, not {wanted}")


class Outbox(Law):
    """A delivery is somebody's until its lease is over, and is there until it has arrived or is a dead letter."""

    def __init__(self) -> None:
        self._leases: dict[str, int] = {}
        self._new: dict[str, tuple[str, ...]] = {}
        self._delivered: set[str] = set()
        self._waiting: set[str] = set()

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """Who has what."""
        command = deed.command
        match command.verb, tag:
            case "claim_deliveries", "claimed":
                for claimed in reply[1]:
                    name = claimed[0].decode()
                    if self._leases.get(name, 0) > deed.at_ms:
                        raise Broken("claimed within another's lease", name)
                    self._leases[name] = deed.at_ms + int(command.arg(3))
            case "post", "posted" if reply[0] == b"1":
                if self._new.setdefault(command.arg(2), command.args) != command.args:
                    raise Broken("posted twice", command.arg(2))
            case (("put_off" | "bury" | "revive"), _):
                self._leases.pop(command.arg(2), None)
            case "delivered", "delivered" if command.arg(2) in self._waiting:
                self._delivered.add(command.arg(2))

    def stands(self, seen: Seen) -> None:
        """Each is at one place."""
        there = seen.outbox.keys() | seen.dead.keys()
        if seen.posts != there or seen.outbox.keys() & seen.dead.keys():
            raise Broken("deliveries are not at one place", sorted(seen.posts ^ there))
        if again := self._delivered & there:
            raise Broken("delivered and there", sorted(again))
        if lost := self._waiting - there - self._delivered:
            raise Broken("not delivered and gone", sorted(lost))
        self._waiting = there
