"""The laws of payments: one grant for each, less what went back of it; autopay charges once, and only when it should.

Owns: those laws, by what was asked and what stands. Does not know: the scripts, any provider.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.sim.configs import AUTOPAY
from tests.sim.deeds import Broken, Deed, Entry, Law, Seen

CENT = 10_000_000
#: How autopay may move, by what moves it.
MOVES = {
    "begin_payment": {("idle", "charging"), ("failed", "charging")},
    "fail_payment": {("charging", "failed"), ("charging", "disabled")},
    "credit_payment": {("charging", "idle"), ("failed", "idle"), ("disabled", "idle")},
    "set_autopay": {("", "idle"), ("failed", "idle"), ("disabled", "idle")},
}


class Payments(Law):
    """What a payment has brought is what was paid, less what all who took of it said last, and never below nothing."""

    def __init__(self) -> None:
        self._paid: dict[str, int] = {}
        self._said: dict[str, dict[str, tuple[int, bool]]] = defaultdict(dict)
        self._brought: Counter[str] = Counter()
        self._moved: set[str] = set()

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """It was paid, or something went back."""
        command = deed.command
        self._moved.clear()
        if command.verb == "credit_payment" and tag == "credited":
            self._paid.setdefault(command.arg(2), int(command.arg(3)))
            self._moved.add(command.arg(2))
        elif command.verb == "reverse_payment" and tag == "reversed":
            payment, source, amount, final = (command.arg(number) for number in (2, 3, 4, 5))
            before, closed = self._said[payment].get(source, (-1, False))
            if not closed and (final == "1" or int(amount) > before):
                self._said[payment][source] = int(amount), final == "1"
            self._moved.add(payment)

    def entered(self, entry: Entry) -> None:
        """Money came or went by a payment."""
        payment = entry.operation if entry.operation.startswith("payment:") else ""
        if payment:
            self._brought[entry.data.get("payment_operation", payment)] += entry.amount

    def stands(self, seen: Seen) -> None:
        """Of those that something was said of just now."""
        for payment in self._moved:
            paid = self._paid.get(payment, 0)
            wanted = paid - min(paid, sum(amount for amount, _ in self._said[payment].values()))
            if self._brought[payment] != wanted:
                raise Broken("a payment brought something else", f"{payment}: {self._brought[payment]}, not {wanted}")


class Autopay(Law):
    """One attempt at a time, begun once, below the threshold, to the target, within the month's cap."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}
        self._begun: set[str] = set()
        self._paid: Counter[str] = Counter()
        self._credited: set[str] = set()

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """How did it move?"""
        verb, now, before = deed.command.verb, seen.autopay, self._before
        self._before = now
        moved = before.get("state", ""), now.get("state", "")
        if moved[0] != moved[1] and moved not in MOVES.get(verb, ()):
            raise Broken("autopay cannot move so", f"{verb}: {moved}")
        if verb == "begin_payment" and moved[1] == "charging" != moved[0]:
            self._begins(now, int(seen.facts["balance"]))
        elif verb in {"fail_payment", "credit_payment"} and moved[0] == "charging" != moved[1]:
            ended = deed.command.arg(4 if verb == "credit_payment" else 2)
            if ended != before["attempt"]:
                raise Broken("another attempt ended", f"{ended}, not {before['attempt']}")
        if verb == "credit_payment" and tag == "credited" and deed.command.arg(4):
            payment = deed.command.arg(2)
            if payment not in self._credited:
                self._credited.add(payment)
                self._paid[_month(deed.at_ms)] += int(deed.command.arg(3))

    def _begins(self, now: dict[str, str], balance: int) -> None:
        attempt, amount = now["attempt"], int(now["amount"])
        if attempt in self._begun:
            raise Broken("an attempt began twice", attempt)
        self._begun.add(attempt)
        if balance >= int(now["threshold"]) or not 0 < amount < int(now["target"]) - balance + CENT:
            raise Broken("autopay should not charge this", f"{amount} at a balance of {balance}")

    def stands(self, seen: Seen) -> None:
        """What it paid this month."""
        month = _month(seen.now_ms)
        if seen.autopay.get("month") == month and int(seen.autopay["paid"]) != self._paid[month]:
            raise Broken("autopay paid something else", f"{seen.autopay['paid']}, not {self._paid[month]}")
        if self._paid[month] > AUTOPAY["monthly_cap"]:
            raise Broken("autopay paid more than its cap", self._paid[month])


class Refunds(Law):
    """Of a charge no more comes back than it was."""

    def __init__(self) -> None:
        self._charges: dict[str, int] = {}
        self._back: Counter[str] = Counter()

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """What the charge was, by whoever asks for it back: a history that is played again has other ids."""
        if deed.command.verb == "refund":
            self._charges[deed.command.arg(4)] = int(deed.command.arg(5))

    def entered(self, entry: Entry) -> None:
        """Something comes back."""
        if charge := entry.data.get("refunds"):
            self._back[charge] += entry.amount
            if self._back[charge] > self._charges[charge]:
                raise Broken("more came back than was charged", charge)


class Months(Law):
    """A month has one monthly grant at most, and what it is short of its commitment is charged once it is over."""

    def __init__(self) -> None:
        self._commitment = ""
        self._charged: Counter[str] = Counter()  # by month
        self._short: list[tuple[str, int, int]] = []  # a month that was closed, what it was committed to, and charged
        self._given: set[str] = set()

    def saw(self, deed: Deed, tag: str, reply: Sequence[Any], seen: Seen) -> None:
        """What was committed to before the month was closed."""
        if deed.command.verb == "close_month" and self._commitment != seen.facts.get("commitment", ""):
            month = deed.command.arg(3)
            begins = [pair.split("=") for pair in self._commitment.partition(":")[2].split(",")]
            committed = [int(amount) for begin, amount in begins if begin <= month]
            if month >= _month(deed.at_ms):
                raise Broken("a month is closed that is not over", month)
            self._short.append((month, committed[-1] if committed else 0, int(deed.command.arg(6))))
        self._commitment = seen.facts.get("commitment", "")

    def entered(self, entry: Entry) -> None:
        """Count what is charged; a grant of its month."""
        if entry.kind in {"charge", "correction"} and entry.data.get("key_id"):
            self._charged[_month(entry.at_ms)] -= entry.amount
        if entry.kind == "grant" and entry.data["kind"] == "monthly":
            month = _month(entry.at_ms)
            if month in self._given:
                raise Broken("two grants of a month", month)
            self._given.add(month)

    def reckon(self) -> None:
        """What a month was short of is said by whoever closes it, and is right in a whole history alone."""
        for month, committed, short in self._short:
            wanted = max(0, committed - max(0, self._charged[month]))
            if short != wanted:
                raise Broken("a month was short of something else", f"{month}: {short}, not {wanted}")


def _month(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m")
