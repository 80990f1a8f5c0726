"""The ledger on Redis: charges that are corrected, and given back.

Owns: the arguments and answers of these verbs, and what is left of a call's charges. Does not know: why.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.errors import LedgerRefused, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ledger import entry_data, records, rules
from gateway.ledger.administration import Administration
from gateway.ledger.connection import Part
from gateway.ports import Entry, Receipt

#: How many entries are read at once.
_PAGE: Final = 1000


class Refunds(Administration):
    """See ports.Ledger."""

    async def correct(
        self, *, operation: str, account: str, key_id: str, amount: Nanos, data: Mapping[str, Any], of_call: str = ""
    ) -> Receipt:
        """See ports.Ledger."""
        rules.check_correction(amount)
        explained, way = records.json({**data, "key_id": key_id}), "back" if amount > 0 else "more"
        keys = [self._names.key(account, key_id)]
        priority, most = str(rules.CORRECTION_PRIORITY), str(BALANCE_MAX)
        args: list[Part] = [operation, str(abs(amount)), way, priority, explained, most]
        if of_call:
            args += [of_call, *await self._left(account, of_call)]
        content = [key_id, amount, {**data}]
        tag, answer = await self._operate("correct", operation, account, content, keys, args)
        if tag == b"no_call":
            raise LedgerRefused(rules.no_charge_of(of_call))
        if tag == b"left":
            raise LedgerRefused(rules.left_of(of_call, int(answer[0])))
        if tag == b"too_much":
            raise LedgerRefused(rules.TOO_MUCH)
        entry_id, balance = answer
        return Receipt(entry_id=entry_id.decode(), charged=Nanos(-amount), balance=Nanos(int(balance)))

    async def refund(
        self, *, operation: str, account: str, entry_id: str, amount: Nanos | None, data: Mapping[str, Any]
    ) -> Receipt:
        """See ports.Ledger. The charge is read before: an entry never changes."""
        rules.check_refund(amount)
        charge = await self._charge(account, entry_id)
        key_id = charge.data["key_id"]
        explained = records.json(entry_data.refund_data(charge, data))
        keys = [self._names.key(account, key_id), self._names.refunds(account)]
        given = "" if amount is None else str(amount)
        priority, most = str(rules.CORRECTION_PRIORITY), str(BALANCE_MAX)
        call_id = charge.data["call_id"]
        args: list[Part] = [operation, entry_id, str(-charge.amount), given, priority, explained, most]
        args += [call_id, *await self._left(account, call_id)]
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

    async def _left(self, account: str, call_id: str) -> tuple[str, str]:
        """How far entries were read, and what they leave of a call's charges ('': there is none). A script reads on
        from there, so that nothing comes between. All are looked at: there is no index, and this is no call's path.
        """
        last, left, said = "0-0", "", records.json(call_id)
        while lines := await self._call("XRANGE", self._names.ledger(account), f"({last}", "+", "COUNT", _PAGE):
            last = lines[-1][0].decode()
            for line in lines:
                if not any(said in part for part in line[1]):  # most are of other calls, and need not be parsed
                    continue
                entry = records.entry(*line)
                if entry_data.is_of_call(entry, call_id) and (left or entry.kind == "charge"):
                    left = str(int(left or 0) - entry.amount)
        return last, left
