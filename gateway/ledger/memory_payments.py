"""The ledger in memory: money that comes from outside.

Owns: the meaning of those verbs.
Does not know: providers, or when autopay is due (core.autopay).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.core import autopay as states
from gateway.core.autopay import Autopay, AutopayState
from gateway.core.errors import LedgerRefused, OperationConflict
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.core.months import month_of
from gateway.ledger import payment_rules, rules
from gateway.ledger.memory_books import Books, Paid
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import Grant, PaymentBegun


class MemoryPayments(MemoryStore):
    """See ports.Ledger."""

    async def autopay(self, account: str) -> Autopay:
        """See ports.Ledger."""
        books, _ = self._at(account)
        return books.autopay

    async def set_autopay(self, *, operation: str, account: str, changes: Mapping[str, Any]) -> Autopay:
        """See ports.Ledger."""
        payment_rules.check_autopay(changes)
        books, _ = self._at(account)
        content = ("set_autopay", dict(changes))
        first: Autopay | None = books.seen(operation, content)
        if first is not None:
            return first
        changed = states.reset(replace(books.autopay, **changes))
        if not changed.coherent:
            raise LedgerRefused(payment_rules.INCOHERENT)
        books.autopay = changed
        return books.done(operation, content, changed)

    async def begin_payment(self, *, account: str, attempt: str, amount_min: Nanos, amount_max: Nanos) -> PaymentBegun:
        """See ports.Ledger."""
        books, now = self._at(account)
        verdict, amount = states.judge(
            books.autopay,
            attempt,
            active=books.status == "active",
            balance=books.balance,
            now_ms=now,
            month=month_of(now),
            amount_min=amount_min,
            amount_max=amount_max,
        )
        if verdict == "begun" and books.autopay.state != AutopayState.CHARGING:
            books.autopay = states.begun(books.autopay, attempt, amount, now)
        return PaymentBegun(verdict=verdict, autopay=books.autopay, now_ms=now)

    async def fail_payment(
        self, *, account: str, attempt: str, why: str, retry_seconds: int, failures_max: int
    ) -> Autopay:
        """See ports.Ledger."""
        books, now = self._at(account)
        if books.autopay.state == AutopayState.CHARGING and books.autopay.attempt == attempt:
            books.autopay = states.failed(
                books.autopay, why=why, now_ms=now, retry_seconds=retry_seconds, failures_max=failures_max
            )
        return books.autopay

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
        books, now = self._at(account)
        if self._paid.get((provider, payment), account) != account:
            raise OperationConflict(payment_rules.OF_ANOTHER)
        operation = payment_rules.payment_operation(provider, payment)
        first: Grant | None = books.seen(operation, amount)
        if first is not None:
            return first
        if books.balance + amount > BALANCE_MAX:
            raise LedgerRefused(rules.TOO_MUCH)
        self._paid[provider, payment] = account
        given = Grant(id="", kind="purchase", amount=amount, remaining=amount, priority=payment_rules.PRIORITY)
        made, _ = books.give(now, operation, given, payment_rules.payment_data(provider, payment))
        paid = books.payments.setdefault((provider, payment), Paid())
        paid.amount = amount
        _balance(books, now, paid, operation)
        if attempt:
            books.autopay = states.credited(books.autopay, attempt, amount, month_of(now))
        if books.plan.tier in upgrades:
            books.plan = replace(books.plan, tier=upgrades[books.plan.tier])
        return books.done(operation, amount, made)

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
        books, now = self._at(account)
        known = books.payments.get((provider, payment), Paid())
        said, closed = known.sources.get(source, (-1, False))
        if closed or (not final and amount <= said):
            return Nanos(known.taken)
        sources = {**known.sources, source: (amount, final)}
        back = known.taken - _taken(known, sources)
        if back > 0 and books.balance + back > BALANCE_MAX:
            raise LedgerRefused(rules.TOO_MUCH)
        books.payments[provider, payment] = known
        operation = payment_rules.payment_operation(provider, payment)
        known.sources = sources
        known.facts = payment_rules.reversal_data(operation, why, source, amount, final=final)
        _balance(books, now, known, operation)
        if back < 0:
            books.autopay = states.taken_back(books.autopay, balance=books.balance, why=why, stop=stop)
        return books.done(f"{operation} {source} {amount} {final}", None, Nanos(known.taken))


def _taken(paid: Paid, sources: Mapping[str, tuple[int, bool]]) -> int:
    """What the sources take of a payment: never more than it was."""
    return min(paid.amount, sum(amount for amount, _ in sources.values()))


def _balance(books: Books, now: int, paid: Paid, operation: str) -> None:
    """Write the entry that makes what is taken back what the sources say."""
    change = paid.taken - _taken(paid, paid.sources)
    if not change:
        return
    paid.moves, paid.taken = paid.moves + 1, paid.taken - change
    name, facts = f"{operation}:{paid.moves}", dict(paid.facts)
    if change < 0:
        entry = books.write(now, "correction", change, name, facts | books.burn(-change))
        books.look(now, moved=entry.data["grants"])
    else:
        amount = Nanos(change)
        given = Grant(id="", kind="correction", amount=amount, remaining=amount, priority=rules.CORRECTION_PRIORITY)
        books.give(now, name, given, facts, why="correction")
