"""The ledger on Redis: money that comes from outside.

Owns: the arguments and answers of those verbs.
Does not know: providers, or when autopay is due (core.autopay).
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from gateway.core.autopay import BACK_OFF_SECONDS_MAX, CENT, Autopay, Verdict
from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.ledger import payment_rules, records, rules
from gateway.ledger.connection import Part
from gateway.ledger.store import Store
from gateway.ports import Grant, PaymentBegun

_MOST: Final = str(BALANCE_MAX)
_KNOWN_SECONDS: Final = str(payment_rules.KNOWN_SECONDS)
_BACK: Final = str(rules.CORRECTION_PRIORITY)


class Payments(Store):
    """See ports.Ledger."""

    async def autopay(self, account: str) -> Autopay:
        """See ports.Ledger."""
        _, (flat,) = await self._run("autopay", account, [self._names.autopay(account)], [])
        return records.autopay(account, flat)

    async def set_autopay(self, *, operation: str, account: str, changes: Mapping[str, Any]) -> Autopay:
        """See ports.Ledger."""
        payment_rules.check_autopay(changes)
        fields = records.autopay_fields(dict(sorted(changes.items())))
        keys = [self._names.operation(account, operation), self._names.autopay(account)]
        tag, answer = await self._run("set_autopay", account, keys, [records.digest("set_autopay", *fields), *fields])
        if tag == b"incoherent":
            raise LedgerRefused(payment_rules.INCOHERENT)
        return records.autopay(account, answer[0])

    async def begin_payment(self, *, account: str, attempt: str, amount_min: Nanos, amount_max: Nanos) -> PaymentBegun:
        """See ports.Ledger."""
        args: list[Part] = [attempt, str(amount_min), str(amount_max), str(CENT)]
        verdict, (now, flat) = await self._run("begin_payment", account, [self._names.autopay(account)], args)
        return PaymentBegun(
            verdict=cast("Verdict", verdict.decode()), autopay=records.autopay(account, flat), now_ms=int(now)
        )

    async def fail_payment(
        self, *, account: str, attempt: str, why: str, retry_seconds: int, failures_max: int
    ) -> Autopay:
        """See ports.Ledger."""
        waits = [str(retry_seconds * 1000), str(BACK_OFF_SECONDS_MAX * 1000)]
        args: list[Part] = [attempt, why, *waits, str(failures_max)]
        _, (flat,) = await self._run("fail_payment", account, [self._names.autopay(account)], args)
        return records.autopay(account, flat)

    async def credit_payment(
        self,
        *,
        account: str,
        provider: str,
        payment: str,
        amount: Nanos,
        attempt: str = "",
        upgrades: Mapping[str, str] = payment_rules.NO_UPGRADES,
    ) -> Grant:
        """See ports.Ledger."""
        payment_rules.check_payment(provider, payment, amount)
        rules.check_grant(amount, payment_rules.PRIORITY, None)
        claim = self._names.paid(provider, payment)
        new = await self._claim(account, claim)
        keys = [self._names.payment(account, provider, payment), self._names.autopay(account)]
        data = records.json(payment_rules.payment_data(provider, payment))
        args: list[Part] = [payment_rules.payment_operation(provider, payment), str(amount), attempt, data]
        args += [str(payment_rules.PRIORITY), _MOST, _KNOWN_SECONDS, _BACK]
        args += [tier for pair in upgrades.items() for tier in pair]
        tag, answer = await self._run("credit_payment", account, keys, args)
        if tag == b"too_much":
            if new:
                await self._call("DEL", claim)
            raise LedgerRefused(rules.TOO_MUCH)
        return records.grant(*answer[0])

    async def _claim(self, account: str, name: str) -> bool:
        """Have a payment be this account's, before it is credited: what is broken off then is done by its repeat.

        Whether it was nobody's.
        """
        if not await self._call("EXISTS", self._names.account(account)):
            await self._confirm("credit_payment")
            raise UnknownAccount(f"no account {account!r}")
        whose = await self._call("SET", name, account, "NX", "GET", "EX", _KNOWN_SECONDS)
        if whose not in (None, account.encode()):
            raise OperationConflict(payment_rules.OF_ANOTHER)
        return whose is None

    async def reverse_payment(
        self,
        *,
        account: str,
        provider: str,
        payment: str,
        source: str,
        amount: Nanos,
        final: bool,
        why: str,
        stop: bool = False,
    ) -> Nanos:
        """See ports.Ledger."""
        payment_rules.check_payment(provider, payment, amount)
        operation = payment_rules.payment_operation(provider, payment)
        data = records.json(payment_rules.reversal_data(operation, why, source, amount, final=final))
        args: list[Part] = [operation, source, str(amount), str(int(final)), data, _MOST, _KNOWN_SECONDS, _BACK]
        args += [str(int(stop)), why]
        keys = [self._names.payment(account, provider, payment), self._names.autopay(account)]
        tag, answer = await self._run("reverse_payment", account, keys, args)
        if tag == b"too_much":
            raise LedgerRefused(rules.TOO_MUCH)
        return Nanos(int(answer[0]))
