"""The part of the ledger that does what is done by calendar month, and what crosses it.

Owns: the promises of those verbs, which the contract's tests check, and their records.
Does not know: plans, or what time it is; the store says what month it is.
"""

from typing import Protocol

from gateway.core.commitments import Commitment
from gateway.core.money import Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.ports.records import Plan


class ProgrammeLedger(Protocol):
    """What `Ledger` promises of its methods holds here too."""

    async def grant_monthly(
        self, *, account: str, plan: Plan, month: str, grant: MonthlyGrant, expires_ms: int
    ) -> bool:
        """Give an account its plan's grant of a month, as a grant of kind monthly, once: whether it has been given now.

        False, and nothing is written, if that is not the store's month, or not the account's plan: look again. A month
        that had a grant gets no other, whatever the plan is by then. LedgerRefused if the balance would pass
        BALANCE_MAX.
        """

    async def commitment(self, account: str) -> Commitment:
        """What the account commits to, in months that are not closed."""

    async def commit(self, *, operation: str, account: str, month: str, amount: Nanos) -> Commitment:
        """From this month on ("2026-12", not one that is over) the account pays at least so much a month; 0: nothing.

        What was said of later months is gone, of earlier ones it stays. LedgerRefused for a month that is over, or for
        more changes than there may be.
        """

    async def close_month(self, *, account: str, commitment: Commitment, charged: Nanos) -> bool:
        """Close the first month of a commitment that is not closed, in which so much was charged: whether it is closed.

        What it was short of is charged by an entry of kind commitment, once, like a charge: what grants do not cover
        becomes debt. It counts in no usage and in no spending. False, and nothing is written, if the month is not over
        by the store's clock, or the account's commitment is another one: look again.
        """
