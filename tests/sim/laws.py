"""The laws of credit: what must hold of every account, after every deed.

Owns: conservation, holds and places, no overspend, one charge for a hold, first answers, what keys and days have spent.
Does not know: the scripts. Whatever is asked of the server in whatever order, all of this is true.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.sim.deeds import SEP, Broken, Deed, Entry, Hold, Law, Seen
from tests.sim.laws_of_alerts import Alerts, Outbox
from tests.sim.laws_of_jobs import Names, Queue, Steps
from tests.sim.laws_of_payments import Autopay, Months, Payments, Refunds

#: What each verb answers when it is done: that is its answer for ever.
_DONE = {
    "settle": "settled", "renew": "renewed", "grant": "granted", "correct": "corrected", "refund": "refunded",
    "change_account": "account", "change_key": "key", "set_autopay": "autopay", "open_account": "account",
    "put_key": "key", "take_volume": "taken", "credit_payment": "credited",
}  # fmt: skip
#: Where a renewal says whether its charge was made before: told again, it says so.
_RENEWED_BEFORE = 4


class Money(Law):
    """The balance is the sum of the entries, and what grants have left less debt; nobody spends what is not there."""

    def __init__(self) -> None:
        self._total = self._explained = 0
        self._held: dict[str, Hold] = {}  # every hold there was
        self._charged: set[str] = set()
        self._entered: set[str] = set()

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """Note what is held: a charge of the same deed ends a hold that an earlier one took."""
        self._held.update(seen.holds)

    def entered(self, entry: Entry) -> None:
        """Add it up."""
        self._total += entry.amount
        if entry.balance != self._total:
            raise Broken("an entry tells another balance", f"{entry.balance}, not {self._total}")
        if entry.kind != "charge":
            if entry.operation in self._entered:
                raise Broken("entered twice", entry.operation)
            self._entered.add(entry.operation)
            self._explained += max(0, -entry.amount)
            return
        if entry.operation in self._charged:
            raise Broken("charged twice", entry.operation)
        self._charged.add(entry.operation)
        held = self._held.get(entry.operation)
        self._explained += max(0, -entry.amount - (held.amount if held and not entry.late else 0))
        if held and entry.data["price_version"] != held.price_version:
            raise Broken("charged by other prices than it was held by", entry.operation)

    def stands(self, seen: Seen) -> None:
        """Balance, grants, debt, holds and places fit together."""
        balance, held, debt = (int(seen.facts[name]) for name in ("balance", "held", "debt"))
        left = sum(int(value) for name, value in seen.grants.items() if name.endswith(".left"))
        if balance != self._total:
            raise Broken("balance is not the sum of the entries", f"{balance}, not {self._total}")
        if balance != left - debt:
            raise Broken("balance is not grants less debt", f"{balance}, not {left} - {debt}")
        if debt and left:
            raise Broken("debt beside grants", f"{debt}, {left}")
        if held != sum(hold.amount for hold in seen.holds.values()):
            raise Broken("held is not the sum of the open holds", held)
        if balance - held < -self._explained:
            raise Broken("overspent", f"{balance} less held {held} is below what single calls explain")
        places = Counter(hold.place for hold in seen.holds.values() if hold.place)
        stored = {name[5:]: int(value) for name, value in seen.facts.items() if name[:5] == "open." and value != "0"}
        if stored != dict(places):
            raise Broken("places are not counted", f"{stored}, not {dict(places)}")


class FirstAnswers(Law):
    """What was asked and done once has the same answer for ever."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], Sequence[Any]] = {}

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """The same question again?"""
        command = deed.command
        if tag == _DONE.get(command.verb):
            told = [*reply[:_RENEWED_BEFORE], *reply[_RENEWED_BEFORE + 1 :]] if command.verb == "renew" else reply
            first = self._first.setdefault((command.verb, *command.keys, *command.args), told)
            if first != told:
                raise Broken("answered otherwise", f"{command}: {told}, not {first}")


class Counted(Law):
    """What keys and days have spent is what the entries say."""

    def __init__(self) -> None:
        self._usage: dict[str, Counter[str]] = {}  # month -> counters as they are named
        self._spent: dict[str, int] = {}  # month -> what the key spent

    def entered(self, entry: Entry) -> None:
        """Count it, if it is of a key."""
        key_id = entry.data.get("key_id")
        if not key_id or entry.kind not in {"charge", "correction"}:
            return
        day = datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime("%Y-%m-%d")
        line = SEP.join((day[8:], entry.data["product"] if entry.kind == "charge" else "", key_id))
        usage = self._usage.setdefault(day[:7], Counter())
        usage[line] -= entry.amount
        # A session is one call: the one of its first slice.
        usage[f"{line}{SEP}n"] += int(entry.kind == "charge" and entry.operation == entry.data["call_id"])
        self._spent[day[:7]] = max(0, self._spent.get(day[:7], 0) - entry.amount)

    def stands(self, seen: Seen) -> None:
        """Of this month, and of the key's."""
        month = datetime.fromtimestamp(seen.now_ms / 1000, UTC).strftime("%Y-%m")
        usage = {name: int(value) for name, value in seen.usage.items()}
        if usage != self._usage.get(month, {}):
            raise Broken("usage is not what was charged", f"{usage}, not {self._usage.get(month)}")
        if not seen.key:
            return
        if int(seen.key["spent"]) != self._spent.get(seen.key["month"], 0):
            raise Broken("a key has spent something else", f"{seen.key['spent']}, not {self._spent}")
        if seen.facts["held"] != seen.key["held"]:
            raise Broken("a key holds something else", f"{seen.key['held']}, not {seen.facts['held']}")


def laws_of_an_account() -> list[Law]:
    """All of them, as they begin."""
    return [
        Money(), FirstAnswers(), Counted(), Alerts(), Outbox(), Queue(), Steps(), Names(), Payments(), Autopay(),
        Refunds(), Months(),
    ]  # fmt: skip
