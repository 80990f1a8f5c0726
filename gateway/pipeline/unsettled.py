"""Holds that nobody ends in time, of products that are not free then: charged, by the outbox.

Owns: the note that is posted with such a hold, and what is done when it comes due.
Does not know: who holds, or how holds are ended otherwise (bookings): whoever was first, the ledger knows.

The hold's end by expiry gives its credit back, as everywhere; the charge comes after it, late. A process that dies
between the hold and its note leaves a hold without one, which is free.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from gateway.core.errors import OperationConflict, UnknownAccount
from gateway.pipeline.books import read_settlement
from gateway.ports import Delivered, Delivery, Ledger, Observer, Retry, Settlement

UNSETTLED: Final = "unsettled"
#: A settlement on its way, or kept in a spool, may still come before.
GRACE_SECONDS: Final = 5.0
#: Of one that is still open: its time was put off, and its note was not.
_OPEN_SECONDS: Final = 5.0
#: A note that is looked at so much later than it was due: the ledger was away, and what was told meanwhile waits in
#: spools, whose turn comes first.
_LATE_MS: Final = 5000
_PAUSES: Final = (30.0,) * 2880


class Notes:
    """Notes of holds that are charged if nobody ends them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def post(self, settlement: Settlement, seconds: int) -> None:
        """Charge this, unless the hold is ended within so many seconds."""
        await self._ledger.post(
            account=settlement.account,
            delivery_id=_id(settlement.hold_id),
            channel=UNSETTLED,
            payload={"settlement": asdict(settlement)},
            seconds=seconds + GRACE_SECONDS,
        )

    async def put_off(self, account: str, hold_id: str, seconds: int) -> None:
        """The hold lives for so many seconds more."""
        due = seconds + GRACE_SECONDS
        await self._ledger.put_off(account=account, delivery_id=_id(hold_id), seconds=due, attempted=False)

    async def drop(self, account: str, hold_id: str) -> None:
        """The hold was ended."""
        await self._ledger.delivered(account=account, delivery_id=_id(hold_id))


class UnsettledCourier:
    """Charges what nobody ended. Once: the charge is that of the hold, whose end the ledger knows."""

    pauses: Sequence[float] = _PAUSES

    def __init__(self, *, ledger: Ledger, observer: Observer) -> None:
        self._ledger = ledger
        self._observer = observer

    async def deliver(self, delivery: Delivery) -> Delivered | Retry:
        """See `Courier`."""
        settlement = read_settlement(delivery.payload["settlement"])
        account, hold_id = settlement.account, settlement.hold_id
        if not delivery.attempts and delivery.now_ms - delivery.due_ms > _LATE_MS:
            return Retry(why="the ledger was away")
        try:
            ended = await self._ledger.extend(account=account, hold_ids=[hold_id], lease_seconds=1)
            if not ended:
                return Retry(why="its hold is open", seconds=_OPEN_SECONDS)
            await self._ledger.settle(settlement)
        except (OperationConflict, UnknownAccount):  # it was ended otherwise
            return Delivered()
        self._observer.event("unsettled_charged", product=settlement.product)
        return Delivered()


def _id(hold_id: str) -> str:
    return f"{UNSETTLED}:{hold_id}"
