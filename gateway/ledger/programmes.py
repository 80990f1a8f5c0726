"""The ledger on Redis: what is done by calendar month.

Owns: the arguments and answers of those verbs. Does not know: plans.
"""

from typing import Final

from gateway.core import commitments, monthly
from gateway.core.commitments import Commitment
from gateway.core.errors import LedgerRefused, LedgerUnavailable, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.ledger import entry_data, records, rules
from gateway.ledger.connection import Part
from gateway.ledger.store import Store
from gateway.ports import Plan

#: How often a commitment may change under one change of it before we call it a fault.
_TRIES_MAX: Final = 4


class Programmes(Store):
    """See ports.Ledger."""

    async def grant_monthly(
        self, *, account: str, plan: Plan, month: str, grant: MonthlyGrant, expires_ms: int
    ) -> bool:
        """See ports.Ledger."""
        rules.check_grant(grant.amount, monthly.PRIORITY, expires_ms)
        data = records.json(entry_data.monthly_data(month, expires_ms))
        args: list[Part] = [plan.tier, plan.rate_card, plan.overrides, month, monthly.operation_of(month)]
        args += [str(grant.amount), str(monthly.PRIORITY), str(expires_ms), data, str(BALANCE_MAX)]
        tag, _ = await self._run("grant_monthly", account, [], args)
        if tag == b"too_much":
            raise LedgerRefused(rules.TOO_MUCH)
        return tag == b"given"

    async def commitment(self, account: str) -> Commitment:
        """See ports.Ledger. One command."""
        status, text = await self._call("HMGET", self._names.account(account), "status", "commitment")
        if status is None:
            raise UnknownAccount(f"no account {account!r}")
        return commitments.read((text or b"").decode())

    async def commit(self, *, operation: str, account: str, month: str, amount: Nanos) -> Commitment:
        """See ports.Ledger. What it becomes is made of what there is; where that changed meanwhile, anew."""
        rules.check_commitment(month, amount)
        digest = records.digest("commit", month, str(amount))
        for _ in range(_TRIES_MAX):
            there = await self.commitment(account)
            becomes = commitments.changed(there, month, amount)
            rules.check_changes_of(becomes)
            args: list[Part] = [digest, month, commitments.written(there), commitments.written(becomes)]
            tag, answer = await self._run("commit", account, [self._names.operation(account, operation)], args)
            if tag == b"over":
                raise LedgerRefused(rules.MONTH_OVER)
            if tag == b"committed":
                return commitments.read(answer[0][0].decode())
        raise LedgerUnavailable("the account's commitment keeps changing")

    async def close_month(self, *, account: str, commitment: Commitment, charged: Nanos) -> bool:
        """See ports.Ledger."""
        month, data = commitment.closing, entry_data.commitment_data(commitment, charged)
        becomes = commitments.written(commitments.closed(commitment))
        args: list[Part] = [commitments.operation_of(month), month, commitments.written(commitment), becomes]
        args += [str(entry_data.missing_of(data)), records.json(data)]
        tag, _ = await self._run("close_month", account, [], args)
        return tag == b"closed"
