"""The verifier: looks, a few accounts at a time, whether the books agree, and tells ops once of those that do not.

Owns: the walk over all accounts, and what it last found. It repairs nothing.
Does not know: what must agree (the ledger). It believes each account's last entry: `gateway ledger verify` reads all.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from gateway.core.errors import GatewayError, LedgerUnavailable, UnknownAccount
from gateway.ports import Drift, Ledger, Observer

#: So many accounts are remembered: with more, something is wrong with the whole ledger.
_REMEMBERED_MAX: Final = 1000
_UNREADABLE: Final = "unreadable"


class Verifier:
    """Verifies `accounts_max` accounts a round, going round and round."""

    def __init__(self, *, ledger: Ledger, observer: Observer, accounts_max: int) -> None:
        self._ledger = ledger
        self._observer = observer
        self._accounts_max = accounts_max
        self._walk: AsyncIterator[str] | None = None
        self._found: dict[str, dict[str, int]] = {}  # by account: what differs, and by how much

    def __repr__(self) -> str:
        return f"<Verifier accounts={len(self._found)}>"

    async def round(self) -> None:
        """Look at the next accounts; the end of the walk ends the round."""
        if not self._accounts_max:
            return
        walk = self._walk = self._walk or self._ledger.accounts()
        looked = 0
        away: LedgerUnavailable | None = None
        try:
            async for account in walk:
                try:
                    with suppress(UnknownAccount):
                        await self._look(account)
                except LedgerUnavailable as unavailable:  # of a cluster, its server alone may be away
                    away = unavailable
                looked += 1
                if looked >= self._accounts_max:
                    break
            else:
                self._walk = None
        except Exception:
            self._walk = None  # an iterator that raised is over
            raise
        if away is not None:
            raise away  # the loop tells of it; the others were looked at

    def gauges(self) -> dict[str, float]:
        """Accounts that do not agree, and by how many nano-dollars their balances differ."""
        nanos = sum(abs(found.get("balance", 0)) for found in self._found.values())
        return {"gateway_ledger_drift_accounts": len(self._found), "gateway_ledger_drift_nanos": nanos}

    async def _look(self, account: str) -> None:
        try:
            drift = await self._ledger.verify(account, entries=False)
        except (LedgerUnavailable, UnknownAccount):
            raise
        except GatewayError:
            drift = [Drift(account=account, what=_UNREADABLE, stored=0, recomputed=1)]
        self._remember(account, drift)

    def _remember(self, account: str, drift: Sequence[Drift]) -> None:
        known = self._found.pop(account, {})
        if not drift:
            return
        if len(self._found) < _REMEMBERED_MAX:
            self._found[account] = {found.what: found.stored - found.recomputed for found in drift}
        if new := sorted({found.what for found in drift} - known.keys()):
            self._observer.event("ledger_drift", account=account, what=", ".join(new))
