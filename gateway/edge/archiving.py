"""The ledger beside what PostgreSQL has of it.

Owns: what must be equal. Does not know: tables (exports/archive), scripts.
"""

from collections.abc import Iterable

from gateway.core.errors import LedgerRefused
from gateway.core.money import Nanos
from gateway.exports.archive import Archive
from gateway.exports.postgres import PostgresSink
from gateway.ports import Drift, Ledger

#: Entries that may wait for the export while an account is compared; with more, the export is not running.
_WAITING_MAX = 10_000


async def differences(ledger: Ledger, archive: Archive, account: str) -> list[Drift]:
    """Where an account's balance is not the sum of its rows and of what waits to become one. Exact under traffic: the
    balance and what waits are read in one step, and rows before that never change.
    """
    page = await ledger.exportable(sink=PostgresSink.name, account=account, limit=_WAITING_MAX, standing=True)
    if page.more:
        raise LedgerRefused(f"more than {_WAITING_MAX} entries of {account!r} wait for the export")
    assert page.standing is not None, "it was asked for"
    balance = int(page.standing["account"]["balance"])
    sums = await archive.sums(account, before=page.entries[0].id if page.entries else "")
    waiting = sum(entry.amount for entry in page.entries)
    found = []
    if balance != sums.total + waiting:
        found.append(_drift(account, "archive.balance", balance, Nanos(sums.total + waiting)))
    if sums.wrong:
        found.append(_drift(account, f"archive.entry.{sums.wrong}", 0, 1))
    return found


async def unknown_here(archive: Archive, known: Iterable[str]) -> list[Drift]:
    """The accounts that only the archive knows."""
    return [_drift(account, "archive.account", 0, 1) for account in sorted(set(await archive.accounts()) - set(known))]


def _drift(account: str, what: str, stored: int, recomputed: int) -> Drift:
    return Drift(account=account, what=what, stored=stored, recomputed=recomputed)
