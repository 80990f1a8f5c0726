"""Commitments: the least that an account pays for what it uses of a calendar month.

Owns: from which month on how much is committed to, what a month was short of, what is left to close, and the text that
all this is kept as.
Does not know: what was used, what month it is, who charges what a month was short of (the ledger, in `close_month`).
"""

from dataclasses import replace
from typing import Final

from gateway.core.money import ZERO, Nanos
from gateway.core.months import following
from gateway.core.record import record

#: How often the amount of one account may change in months that are not closed.
CHANGES_MAX: Final = 24


@record
class Commitment:
    """`amounts`: from each of these months on, so much a month (0: nothing), in order. `closing`: the first month that
    is not closed; "" where nothing is committed to.
    """

    amounts: tuple[tuple[str, Nanos], ...] = ()
    closing: str = ""


def amount_in(commitment: Commitment, month: str) -> Nanos:
    """What is committed to in a month."""
    return next((amount for begin, amount in reversed(commitment.amounts) if begin <= month), ZERO)


def short_of(committed: Nanos, charged: Nanos) -> Nanos:
    """What a month was short of. What came back of earlier months makes no month short of more than its commitment."""
    return Nanos(max(0, committed - max(0, charged)))


def changed(commitment: Commitment, month: str, amount: Nanos) -> Commitment:
    """From this month on another amount, whatever was said of later ones."""
    before = tuple(each for each in commitment.amounts if each[0] < month)
    closing = min(commitment.closing or month, month)
    return _tidy(Commitment(amounts=(*before, (month, amount)), closing=closing))


def closed(commitment: Commitment) -> Commitment:
    """After the month that was to be closed."""
    return _tidy(replace(commitment, closing=following(commitment.closing)))


def _tidy(commitment: Commitment) -> Commitment:
    """Without what says nothing any more: months before the one to be closed, changes to the same amount."""
    closing = commitment.closing
    amounts: list[tuple[str, Nanos]] = []
    past = amount_in(commitment, closing)
    later = [each for each in commitment.amounts if each[0] > closing]
    begin = next((begin for begin, _ in reversed(commitment.amounts) if begin <= closing), closing)
    for month, amount in [(begin, past), *later]:
        if amount != (amounts[-1][1] if amounts else ZERO):
            amounts.append((month, amount))
    return Commitment(amounts=tuple(amounts), closing=max(closing, amounts[0][0])) if amounts else Commitment()


def written(commitment: Commitment) -> str:
    """As it is kept: "" where nothing is committed to."""
    amounts = ",".join(f"{month}={amount}" for month, amount in commitment.amounts)
    return f"{commitment.closing}:{amounts}" if amounts else ""


def read(text: str) -> Commitment:
    """From that."""
    closing, _, amounts = text.partition(":")
    pairs = (part.split("=") for part in amounts.split(",") if part)
    return Commitment(amounts=tuple((month, Nanos(int(amount))) for month, amount in pairs), closing=closing)


def operation_of(month: str) -> str:
    """The operation that charges what a month was short of: one for each month."""
    return f"commitment:{month}"
