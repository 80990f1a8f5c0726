"""The leases of the holds that this process is serving, renewed in bulk.

Owns: which holds are in service here. A process that is killed renews nothing, and its holds expire by themselves.
Does not know: calls, amounts.
"""

from collections import Counter, defaultdict

from gateway.core.errors import LedgerUnavailable, UnknownAccount
from gateway.ports import Ledger, Observer


class Leases:
    """Open holds by id, with their accounts and products. `lease_seconds` is what they were given, and are again."""

    def __init__(self, *, ledger: Ledger, observer: Observer, lease_seconds: int) -> None:
        self._ledger = ledger
        self._observer = observer
        self.lease_seconds = lease_seconds
        self._open: dict[str, tuple[str, str]] = {}

    def __repr__(self) -> str:
        return f"<Leases open={len(self._open)} lease_seconds={self.lease_seconds}>"

    def __len__(self) -> int:
        return len(self._open)

    def add(self, hold_id: str, account: str, product: str) -> None:
        """From now on the hold is renewed."""
        self._open[hold_id] = (account, product)

    def by_product(self) -> Counter[str]:
        """How many are open of each product."""
        return Counter(product for _, product in self._open.values())

    def discard(self, hold_id: str) -> None:
        """The hold has ended, or now belongs to the store."""
        self._open.pop(hold_id, None)

    async def renew(self) -> None:
        """Extend every lease; a hold that is gone is not asked for again (its settlement will be late).

        Where an account's server, of a cluster, does not answer, those of the others may.
        """
        failed = False
        by_account: dict[str, list[str]] = defaultdict(list)
        for hold_id, (account, _) in self._open.items():
            by_account[account].append(hold_id)
        for account, hold_ids in by_account.items():
            try:
                lost = await self._ledger.extend(account=account, hold_ids=hold_ids, lease_seconds=self.lease_seconds)
            except UnknownAccount:
                lost = hold_ids  # ops accepted a ledger that lacks it: those of the others are renewed all the same
            except LedgerUnavailable:
                failed = True  # the lease outlasts three tries
                continue
            for hold_id in lost:
                if self._open.pop(hold_id, None) is not None:
                    self._observer.event("hold_lost")
        if failed:
            self._observer.event("renewal_failed")
