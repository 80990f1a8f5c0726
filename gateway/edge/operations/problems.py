"""What an operation that was not done is called: a code for every fault that is told in its own words.

Owns: which fault has which code. Does not know: how problems are answered (api/admin_problems).
"""

from typing import Final

from gateway.core.errors import LedgerRefused, LedgerUnavailable, OperationConflict, UnknownAccount
from gateway.edge.operations.accounts import UnknownKey
from gateway.edge.operations.alerts import TooManyTests, UnknownAlert
from gateway.edge.operations.bodies import Invalid
from gateway.edge.operations.jobs import UnknownJob
from gateway.edge.operations.outbox import UnknownDelivery
from gateway.ports import PaymentRefused, PaymentUnknown

#: The first that fits.
_TOLD: Final[tuple[tuple[type[Exception], str], ...]] = (
    (OperationConflict, "operation_conflict"),
    (UnknownAccount, "unknown_account"),
    (UnknownKey, "unknown_key"),
    (UnknownJob, "unknown_job"),
    (UnknownDelivery, "unknown_delivery"),
    (UnknownAlert, "unknown_alert"),
    (TooManyTests, "too_many_tests"),
    (PaymentRefused, "payment_refused"),
    (LedgerRefused, "ledger_refused"),
)
#: Of these it is known that nothing was done. A payment that was refused was tried.
NOT_DONE: Final[tuple[type[Exception], ...]] = (Invalid, *(fault for fault, _ in _TOLD if fault is not PaymentRefused))


def code_of(error: Exception) -> str:
    """The code of a fault; `internal` for what is not expected."""
    match error:
        case Invalid():
            if any(problem.pointer == "Idempotency-Key" for problem in error.problems):
                return "invalid_idempotency_key"
            return "invalid_json" if error.malformed else "invalid_request"
        case LedgerUnavailable():
            return "ledger_unavailable"
        case PaymentUnknown():
            return "provider_unavailable"
    return next((code for fault, code in _TOLD if isinstance(error, fault)), "internal")
