"""The outbox of one account in memory: the part of the executable specification that keeps deliveries.

Owns: what waits, what was given up, what was delivered. Does not know: money, or that there are other accounts.
"""

from dataclasses import dataclass, field, replace

from gateway.ledger import rules
from gateway.ports import Delivery


@dataclass(slots=True)
class Posts:
    """Every delivery of an account."""

    kept: dict[str, Delivery] = field(default_factory=dict)  # waiting or dead
    claimed: set[str] = field(default_factory=set)  # of those that wait
    sent: set[str] = field(default_factory=set)

    def listed(self, now: int, *, dead: bool) -> list[Delivery]:
        """Those that wait, the first one due first; or the dead ones, the newest first."""
        found = [replace(delivery, now_ms=now) for delivery in self.kept.values() if delivery.dead == dead]
        return sorted(found, key=lambda delivery: (delivery.due_ms, delivery.id), reverse=dead)

    def waiting(self, delivery_id: str) -> Delivery | None:
        """A delivery that waits."""
        found = self.kept.get(delivery_id)
        return None if found is None or found.dead else found

    def post(self, now: int, delivery: Delivery) -> bool:
        """Post a delivery; True if it is new."""
        past = self.kept.get(delivery.id)
        if past is not None:
            untried = not past.dead and not past.attempts and past.id not in self.claimed
            if untried and delivery.due_ms < past.due_ms:
                self.kept[past.id] = replace(past, due_ms=delivery.due_ms, payload=delivery.payload)
            return False
        if delivery.id in self.sent:
            return False
        most = rules.WAITING_MAX + (0 if delivery.channel == rules.WEBHOOK else rules.OWN_MAX)
        full = len(self.listed(now, dead=False)) >= most
        self.kept[delivery.id] = delivery
        if full:
            self.let_die(now, delivery, "too many deliveries wait")
        return True

    def let_die(self, now: int, delivery: Delivery, why: str) -> None:
        """Give a delivery up."""
        self.kept[delivery.id] = replace(delivery, due_ms=now, why=why, dead=True)
        self.claimed.discard(delivery.id)
        self.forget_dead(now)

    def forget_dead(self, now: int) -> None:
        """Forget the dead ones that are too old, or too many."""
        for place, delivery in enumerate(self.listed(now, dead=True)):
            if place >= rules.DEAD_MAX or delivery.due_ms <= now - rules.DEAD_SECONDS * 1000:
                del self.kept[delivery.id]
