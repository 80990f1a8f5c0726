"""The part of the ledger that does what is done by calendar month, and what crosses it.

Owns: the promises of those verbs, which the contract's tests check, and their records.
Does not know: plans, or what time it is; the store says what month it is.
"""

from typing import Protocol

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
