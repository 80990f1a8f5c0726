"""What one process may serve while the ledger is away, per account: bounded in money (RFC 8506's CONTINUE, bounded).

Owns: the exposure of each account and product since the ledger went away, and who is served nothing meanwhile.
Does not know: the ledger. An account that reached its bound is refused until the ledger is back.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from gateway.core.money import Nanos
from gateway.settings.products import WithoutLedger

_ACCOUNTS_MAX: Final = 10_000


class Allowance:
    """Local holds, in nano-dollars. Only what calls cost above their estimates can pass the bounds.

    `can_owe`: whether a charge would be kept until the ledger is back. Nothing is served on credit that is not.
    """

    def __init__(self, can_owe: Callable[[], bool]) -> None:
        self._can_owe = can_owe
        self._exposure: dict[str, Counter[str]] = {}
        self._by_product: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        #: Accounts that the ledger refused when it was last asked; those refused last come last.
        self._refused: OrderedDict[str, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Allowance accounts={len(self._exposure)} exposure={dict(self._by_product)}>"

    @property
    def exposure(self) -> Mapping[str, int]:
        """Nano-dollars admitted without the ledger since it went away, by product."""
        return self._by_product

    def of_account(self, account: str) -> int:
        """The account's part of the exposure."""
        exposed = self._exposure.get(account)
        return 0 if exposed is None else exposed.total()

    def refused(self, account: str) -> None:
        """The ledger would not serve this account, for want of credit or by an administrator's word."""
        self._refused[account] = None
        self._refused.move_to_end(account)
        if len(self._refused) > _ACCOUNTS_MAX:
            self._refused.popitem(last=False)

    def admitted(self, account: str) -> None:
        """The ledger serves this account."""
        if self._refused:
            self._refused.pop(account, None)

    def take(self, account: str, product: str, estimate: Nanos, bounds: WithoutLedger) -> bool:
        """Hold all of the estimate here; False if the bounds do not leave so much, or it may not be owed."""
        left = min(bounds.account - self.of_account(account), bounds.in_all - self._by_product[product])
        hold = max(estimate, 1)  # what costs nothing is not free of bounds
        if left < hold or account in self._refused or not self._can_owe():
            return False
        if account not in self._exposure:
            if len(self._exposure) >= _ACCOUNTS_MAX:
                return False
            self._exposure[account] = Counter()
        self._expose(account, product, hold)
        self._running[account] += 1
        return True

    def end(self, account: str, product: str, held: Nanos, charged: Nanos) -> None:
        """A call that was taken has ended, and cost this much instead of its hold."""
        self._expose(account, product, charged - max(held, 1))
        self._running[account] -= 1
        if not self._running[account]:
            del self._running[account]

    def reset(self) -> None:
        """Nothing waits in the spool: whoever has no call running starts afresh. Running calls are still to be paid."""
        for account in self._exposure.keys() - self._running.keys():
            for product, amount in self._exposure.pop(account).items():
                self._by_product[product] -= amount

    def _expose(self, account: str, product: str, amount: int) -> None:
        self._exposure[account][product] += amount
        self._by_product[product] += amount
