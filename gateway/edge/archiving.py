"""The ledger beside what PostgreSQL has of it: the proof of the balances, and a ledger that was lost made anew.

Owns: what must be equal; which accounts are restored. Does not know: tables (exports/archive), scripts.
"""

import time
from collections.abc import Iterable
from typing import Final

from gateway.core.autopay import AutopayState
from gateway.core.errors import LedgerRefused
from gateway.core.money import Nanos
from gateway.core.record import record
from gateway.exports.archive import Archive
from gateway.exports.postgres import PostgresSink
from gateway.ledger.redis import RedisLedger
from gateway.ledger.restoring import Restored
from gateway.payments.cashier import AUTOPAY_CHANNEL
from gateway.ports import Drift, Ledger
from gateway.settings.exports import Exports

#: Entries that may wait for the export while an account is compared; with more, the export is not running.
_WAITING_MAX: Final = 10_000
#: What waits for longer was noted by nobody, or the export does not run: then the rows prove nothing of it.
_WAITING_SECONDS_MAX: Final = 60
_DAY_SECONDS: Final = 86_400
#: Entries that the rows lack, and should have by now: what the balance is, and what the rows add up to.
BEHIND: Final = "archive.behind"
NOTHING_EXPORTED: Final = "the database has no account: see export.postgres, or take Redis as it is by `ledger accept`"


async def differences(
    ledger: Ledger, archive: Archive, account: str, *, waiting_seconds_max: int = _WAITING_SECONDS_MAX
) -> list[Drift]:
    """Where an account's balance is not the sum of its rows and of what waits to become one, or waits for too long.

    Exact under traffic: the balance and what waits are read in one step, and rows before that never change.
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
    if page.entries and page.read_ms - page.entries[0].at_ms > waiting_seconds_max * 1000:
        found.append(_drift(account, BEHIND, balance, sums.total))
    if sums.wrong:
        found.append(_drift(account, f"archive.entry.{sums.wrong}", 0, 1))
    return found


async def unknown_here(archive: Archive, known: Iterable[str]) -> list[Drift]:
    """The accounts that only the archive knows."""
    return [_drift(account, "archive.account", 0, 1) for account in sorted(set(await archive.accounts()) - set(known))]


def _drift(account: str, what: str, stored: int, recomputed: int) -> Drift:
    return Drift(account=account, what=what, stored=stored, recomputed=recomputed)


@record
class Restoration:
    """What was restored. `there`: accounts that were there already, of a restoration that was broken off; `nameless`:
    those of which the archive has entries alone.
    """

    accounts: tuple[Restored, ...]
    there: int
    nameless: tuple[str, ...]


async def restore(ledger: RedisLedger, archive: Archive, settings: Exports) -> Restoration:
    """Fill an empty ledger from the archive. LedgerRefused if it is not empty, or the archive is."""
    accounts = await archive.accounts()
    if not accounts:
        raise LedgerRefused(NOTHING_EXPORTED)
    await ledger.begin_restore()
    forget_ms = 0 if settings.keep_days is None else int((time.time() - settings.keep_days * _DAY_SECONDS) * 1000)
    restored: list[Restored] = []
    nameless: list[str] = []
    there = 0
    for account in accounts:
        standing = await archive.standing(account)
        if standing is None:
            nameless.append(account)
            continue
        done = await ledger.restore_account(
            account,
            standing,
            archive.entries(account),
            sink=PostgresSink.name,
            sinks=settings.sinks,
            forget_ms=forget_ms,
        )
        await _look_after(ledger, account)
        there += done is None
        restored += [done] if done is not None else []
    await ledger.end_restore()
    return Restoration(accounts=tuple(restored), there=there, nameless=tuple(nameless))


async def _look_after(ledger: Ledger, account: str) -> None:
    """Have autopay look: the delivery that it was told by is lost, and a watch that has told does not tell again."""
    autopay = await ledger.autopay(account)
    if autopay.enabled or autopay.state == AutopayState.CHARGING:
        await ledger.post(account=account, delivery_id="autopay:restored", channel=AUTOPAY_CHANNEL, payload={})
