"""What one process may serve while the ledger is away, per account: bounded in money (RFC 8506's CONTINUE, bounded).

Owns: the exposure of each account since the ledger went away.
Does not know: the ledger. An account that reached its bound is refused until the ledger is back.
"""

from collections import Counter, OrderedDict
from typing import Final

from gateway.core.money import Nanos

_ACCOUNTS_MAX: Final = 10_000


class Allowance:
    """Local holds, in nano-dollars. The most an account costs is `bound` plus what one call exceeds its hold by."""

    def __init__(self) -> None:
        self._exposure: OrderedDict[str, int] = OrderedDict()
        self._running: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Allowance accounts={len(self._exposure)} exposure={self.exposure}>"

    @property
    def exposure(self) -> int:
        """Nano-dollars admitted without the ledger since it went away."""
        return sum(self._exposure.values())

    def take(self, account: str, estimate: Nanos, bound: Nanos) -> Nanos | None:
        """A hold of min(estimate, what is left of the bound); None if nothing is left."""
        used = self._exposure.get(account, 0)
        if used >= bound or (account not in self._exposure and len(self._exposure) >= _ACCOUNTS_MAX):
            return None
        hold = min(estimate, bound - used)
        self._exposure[account] = used + max(hold, 1)
        self._running[account] += 1
        return Nanos(hold)

    def end(self, account: str, held: Nanos, charged: Nanos) -> None:
        """A call that was taken has ended, and cost this much instead of its hold."""
        self._exposure[account] += charged - held
        self._running[account] -= 1
        if not self._running[account]:
            del self._running[account]

    def reset(self) -> None:
        """Nothing waits in the spool: whoever has no call running starts afresh. Running calls are still to be paid."""
        for account in self._exposure.keys() - self._running.keys():
            del self._exposure[account]
