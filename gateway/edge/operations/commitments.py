"""What an account commits to, once, for the admin API, the command line and the customers' API.

Owns: how a commitment and its progress are told, what a change of it names.
Does not know: HTTP, the command line, how a month is closed (workers/commitments).
"""

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.core.commitments import amount_in, short_of
from gateway.core.money import Nanos, format_usd
from gateway.core.months import following, is_month, month_of
from gateway.edge.operations.bodies import Body
from gateway.edge.operations.fields import Usd
from gateway.edge.operations.views import CURRENCY, Data
from gateway.ports import Clock, Ledger


def _month(value: str) -> str:
    if not is_month(value):
        raise ValueError('a month is written like "2026-12"')
    return value


Month = Annotated[
    str,
    Field(max_length=7),
    AfterValidator(_month),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"}),
]


class Commit(Body):
    """What an account pays at least in each calendar month, from this one on (null: the one that it is now)."""

    amount: Usd
    month: Month | None = None


class CommitmentOperations:
    """Answers plain data. Raises what the ledger raises."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def show(self, account: str) -> Data:
        """What is committed to this month and later, and how far this month is."""
        month = self._now()
        commitment = await self._ledger.commitment(account)
        days = await self._ledger.usage(account, since=f"{month}-01", until=f"{following(month)}-01")
        committed, charged = amount_in(commitment, month), Nanos(sum(day.charged for day in days))
        return {
            "account": account,
            "month": month,
            "committed": format_usd(committed),
            "charged": format_usd(charged),
            "missing": format_usd(short_of(committed, charged)),
            **CURRENCY,
            "schedule": [{"from": begin, "amount": format_usd(amount)} for begin, amount in commitment.amounts],
            "closing": commitment.closing or None,
        }

    async def commit(self, account: str, body: Commit, operation: str) -> Data:
        """Have it commit to another amount from a month on."""
        month = body.month or self._now()
        await self._ledger.commit(operation=operation, account=account, month=month, amount=body.amount)
        return await self.show(account)

    def _now(self) -> str:
        return month_of(int(self._clock.now() * 1000))
