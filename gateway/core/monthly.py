"""Monthly grants: what a plan gives each calendar month.

Owns: how much and until when, and the form in which an account has its own. Does not know: who has been given what.
"""

import re
from typing import Final

from gateway.core.money import Nanos
from gateway.core.months import begins_ms, following, month_of
from gateway.core.record import record

#: It burns before what never expires.
PRIORITY: Final = 40
DAYS_MAX: Final = 366
MONTH: Final = "month"
_DAY_MS: Final = 86_400_000


@record
class MonthlyGrant:
    """So much each month; it lasts for so many days, or (0) until the month is over."""

    amount: Nanos
    days: int = 0


def expires_ms(grant: MonthlyGrant, now_ms: int) -> int:
    """When one that is given now expires."""
    return now_ms + grant.days * _DAY_MS if grant.days else begins_ms(following(month_of(now_ms)))


def days_of(text: str) -> int:
    """How long it lasts, from "month" or "30 days". ValueError says how that is written."""
    if text == MONTH:
        return 0
    match = re.fullmatch(r"([1-9][0-9]{0,2})( days?)?", text, re.ASCII)
    if match is None or int(match[1]) > DAYS_MAX:
        raise ValueError(f'it lasts until the end of the "{MONTH}", or for "30 days", at most {DAYS_MAX}')
    return int(match[1])


def written(grant: MonthlyGrant) -> str:
    """As it is kept of an account that has its own."""
    return f"{grant.amount}/{grant.days or MONTH}"


def read(text: str) -> MonthlyGrant:
    """From that."""
    amount, _, lasting = text.partition("/")
    return MonthlyGrant(amount=Nanos(int(amount)), days=days_of(lasting))


def operation_of(month: str) -> str:
    """The operation that gives it: one for each month."""
    return f"monthly:{month}"
