"""The calls of each account that are under way in this process: one account cannot have all the places.

Owns: their count. Does not know: plans, whose limits the ledger keeps for all processes together.
"""

from collections import defaultdict

from gateway.core.errors import Code, Refused


class Places:
    """`of_account_max`: so many calls of one account at once, sessions included; 0: any number."""

    def __init__(self, of_account_max: int) -> None:
        self._max = of_account_max
        self._taken: defaultdict[str, int] = defaultdict(int)

    def __repr__(self) -> str:
        return f"<Places accounts={len(self._taken)} calls={sum(self._taken.values())}>"

    def take(self, account: str) -> Refused | None:
        """None: the call has a place, which it has to `leave`."""
        taken = self._taken[account]
        if taken >= self._max > 0:
            return Refused(code=Code.TOO_MANY_CONCURRENT, details={"limit": str(self._max)}, retry_after_seconds=1)
        self._taken[account] = taken + 1
        return None

    def leave(self, account: str) -> None:
        """The call is over."""
        left = self._taken[account] - 1
        if left:
            self._taken[account] = left
        else:
            del self._taken[account]
