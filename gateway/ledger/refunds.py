"""The ledger on Redis: charges that are given back.

Owns: the arguments and answers of that verb. Does not know: why something is given back.
"""

from collections.abc import Mapping
from typing import Any

from gateway.core.errors import LedgerRefused, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ledger import records, rules
from gateway.ledger.administration import Administration
from gateway.ledger.connection import Part
from gateway.ports import Entry, Receipt


class Refunds(Administration):
    """See ports.Ledger."""

    async def refund(
        self, *, operation: str, account: str, entry_id: str, amount: Nanos | None, data: Mapping[str, Any]
    ) -> Receipt:
        """See ports.Ledger. The charge is read before: an entry never changes."""
        rules.check_refund(amount)
        charge = await self._charge(account, entry_id)
        key_id = charge.data["key_id"]
        explained = records.json(rules.refund_data(charge, data))
        keys = [self._names.key(account, key_id), self._names.refunds(account)]
        given = "" if amount is None else str(amount)
        priority, most = str(rules.CORRECTION_PRIORITY), str(BALANCE_MAX)
        args: list[Part] = [operation, entry_id, str(-charge.amount), given, priority, explained, most]
        content = [entry_id, amount, {**data}]
        tag, answer = await self._operate("refund", operation, account, content, keys, args)
        if tag == b"left":
            raise LedgerRefused(rules.refunded_already(int(answer[0])))
        if tag == b"too_much":
            raise LedgerRefused(rules.TOO_MUCH)
        entry, balance, back = answer
        return Receipt(entry_id=entry.decode(), charged=Nanos(-int(back)), balance=Nanos(int(balance)))

    async def _charge(self, account: str, entry_id: str) -> Entry:
        rules.check_entry_id(entry_id)
        found = entry_id and await self._call("XRANGE", self._names.ledger(account), entry_id, entry_id)
        if not found and not await self._call("EXISTS", self._names.account(account)):
            raise UnknownAccount(f"no account {account!r}")
        return rules.charge_of([records.entry(*line) for line in found or []], entry_id)
