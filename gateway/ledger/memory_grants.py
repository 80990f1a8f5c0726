"""The grants of one account in memory: in which order they burn, and what is kept of one whose time is over.

Owns: the burn order. Of a grant that is over what open holds rest on is kept: it burns last, and each hold that was
made before its end takes its part along when it ends.
Does not know: entries, debt, the time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gateway.core.money import Nanos
from gateway.ledger.rules import LAPSED_PRIORITY
from gateway.ports import Grant, Hold


@dataclass(slots=True)
class Grants:
    """In burn order, none spent."""

    ordered: list[Grant] = field(default_factory=list)
    lapsed: set[str] = field(default_factory=set)  # those that are over and of which something is kept

    def __iter__(self) -> Iterator[Grant]:
        return iter(self.ordered)

    @property
    def remaining(self) -> int:
        """What is left of all."""
        return sum(grant.remaining for grant in self.ordered)

    def put(self, grant: Grant) -> None:
        """Add a grant, or change it; one of which nothing remains is gone."""
        others = [other for other in self.ordered if other.id != grant.id]
        self.lapsed -= set() if grant.remaining else {grant.id}
        self.ordered = sorted([*others, *([grant] if grant.remaining else [])], key=self._place)

    def _place(self, grant: Grant) -> tuple[int, float, str]:
        priority = LAPSED_PRIORITY if grant.id in self.lapsed else grant.priority
        return priority, grant.expires_ms or float("inf"), grant.id

    def take(self, grant_id: str, amount: int) -> int:
        """Take an amount from a grant; what is left of it."""
        grant = next(grant for grant in self.ordered if grant.id == grant_id)
        self.put(replace(grant, remaining=Nanos(grant.remaining - amount)))
        return grant.remaining - amount

    def burn(self, amount: int) -> dict[str, int]:
        """Take an amount in burn order, as far as there is something; what each gave."""
        burnt: dict[str, int] = {}
        for grant in list(self.ordered):
            taken = min(amount - sum(burnt.values()), grant.remaining)
            if taken:
                burnt[grant.id] = taken
                self.take(grant.id, taken)
        return burnt

    def lapse(self, grant: Grant, held: int) -> int:
        """A grant is over while so much is held: what nothing rests on, to be taken off. The rest is kept."""
        rests = held - sum(other.remaining for other in self.ordered if other.id in self.lapsed - {grant.id})
        self.lapsed.add(grant.id)
        self.put(grant)
        return max(0, grant.remaining - max(0, rests))

    def let_go(self, hold: Hold, charge: int) -> tuple[dict[str, int], dict[str, int]]:
        """What a hold that ends takes along of what is kept for it: what pays its charge, and what expires."""
        paid: dict[str, int] = {}
        expired: dict[str, int] = {}
        held: int = hold.amount
        kept = [grant for grant in self.ordered if grant.id in self.lapsed]
        for grant in sorted(kept, key=lambda grant: (grant.expires_ms or 0, grant.id)):
            if hold.created_ms <= (grant.expires_ms or 0):
                pays = min(grant.remaining, charge - sum(paid.values()))
                held = max(0, held - pays)
                goes = min(held, grant.remaining - pays)
                held -= goes
                paid |= {grant.id: pays} if pays else {}
                expired |= {grant.id: goes} if goes else {}
        return paid, expired

    def pay(self, paid: Mapping[str, int]) -> dict[str, int]:
        """Take from each grant what it pays."""
        for grant_id, amount in paid.items():
            self.take(grant_id, amount)
        return {**paid}
