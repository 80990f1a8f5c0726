"""What both ledgers agree on of payments before they look at what is stored.

Owns: bounds and ids of payments and of autopay's settings, the words of their entries.
Does not know: how anything is stored.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.core.errors import LedgerRefused
from gateway.core.money import BALANCE_MAX
from gateway.ledger.entry_data import grant_data
from gateway.ledger.rules import SEPARATOR, TOO_MUCH

#: The priority of a payment's grant.
PRIORITY: Final = 50
#: For how long a payment is known: longer than any dispute may come after it.
KNOWN_SECONDS: Final = 2 * 366 * 86_400
NO_UPGRADES: Final[Mapping[str, str]] = {}
INCOHERENT: Final = "autopay needs a provider, a threshold above nothing, and a target above the threshold"

OF_ANOTHER: Final = "that payment is another account's"

_PAYMENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}")


def check_autopay(changes: Mapping[str, Any]) -> None:
    """What autopay may be set to, one by one; whether it fits together is seen with what is stored."""
    for name, value in changes.items():
        match name, value:
            case "enabled", bool():
                pass
            case "threshold" | "target", int() if 0 <= value <= BALANCE_MAX:
                pass
            case "monthly_cap", None:
                pass
            case "monthly_cap", int() if 0 <= value <= BALANCE_MAX:
                pass
            case "provider" | "customer" | "method", str() if len(value) <= 255 and SEPARATOR not in value:
                pass
            case _:
                raise LedgerRefused(f"an autopay's {name} cannot be {value!r}")


def check_payment(provider: str, payment: str, amount: int) -> None:
    """What a provider says of a payment: its id becomes part of a key's name."""
    for what, value in (("a provider", provider), ("a payment", payment)):
        if _PAYMENT_ID.fullmatch(value) is None:
            raise LedgerRefused(f"{value!r} is no id of {what}: use up to 255 of A-Z a-z 0-9 . _ - : /")
    if not 0 <= amount <= BALANCE_MAX:
        raise LedgerRefused(TOO_MUCH if amount > 0 else "a payment is not negative")


def payment_data(provider: str, payment: str) -> dict[str, Any]:
    """What the entry of a payment says for itself."""
    return {**grant_data("purchase", PRIORITY, None, ""), "provider": provider, "payment": payment}


def reversal_data(operation: str, why: str, source: str, amount: int, *, final: bool) -> dict[str, Any]:
    """What the entry says for itself that takes a payment back, or gives it again: also what its source said last."""
    told = {"source": source, "said": amount, "final": final}
    return {"key_id": "", "payment_operation": operation, "reason": why, **told}


def payment_operation(provider: str, payment: str) -> str:
    """The operation that credits a payment."""
    return f"payment:{provider}:{payment}"
