"""The slices of one session: which hold is open, the renewal under way, and what closes the books.

Owns: hold ids, the operations on the ledger and their contents, how long a hold lasts.
Does not know: sockets, frames, why a session ends.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Final
from zlib import crc32

from gateway.core.errors import LedgerUnavailable, Refused
from gateway.core.exchange import Move
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Charge, LineItem
from gateway.core.record import record
from gateway.pipeline.admit import PLANS_MAX, Admission
from gateway.pipeline.books import Books, Settled
from gateway.pipeline.call import Call
from gateway.pipeline.leases import Leases
from gateway.pipeline.session_meter import Basis, SessionMeter, nothing_owed
from gateway.ports import Ledger, PlanChanged, Renewal, Renewed, Settlement
from gateway.settings.sessions import Session

NEVER: Final = float("inf")
#: No slice is shorter: credit that buys less is delivered rather than asked for again and again.
SLICE_SECONDS_MIN: Final = 0.05


@record
class Outlook:
    """Times of the slice at hand (monotonic): until when it is paid, when to ask for the next, when credit is low."""

    covered_until: float = NEVER
    renew_at: float = NEVER
    low_at: float = NEVER


def outlook(
    *, now: float, per_second: Fraction, left: int, available: int, whole: bool, session: Session, early: float = 0.0
) -> Outlook:
    """What time makes of credit. `left` of the hold and `available` beside it are nano-dollars.

    A hold that is not `whole` took all that there was: the next is asked for when it is used up, not before, because
    only what others pay in or leave can be in it. A whole one is renewed `early` by so many seconds more.
    """
    if not per_second:
        return Outlook()
    covered_until = now + float(left / per_second)
    renew_at = covered_until - (session.renew_before_seconds + early if whole else 0)
    low_at = now + float((left + max(0, available)) / per_second) - session.warn_seconds
    return Outlook(
        covered_until=covered_until,
        renew_at=max(renew_at, now + SLICE_SECONDS_MIN),
        low_at=low_at if session.warn_seconds else NEVER,
    )


def first_early(call_id: str, slice_seconds: float) -> float:
    """By how many seconds more the first slice of a session is renewed early: up to half of it, each session its own.

    Sessions opened together, as after a restart, would renew together for good, and hold up the frames of all.
    """
    return slice_seconds / 2 * (crc32(call_id.encode()) / 2**32)


@record
class Closed:
    """How a session's books were closed: what the call's outcome is, and whether its last hold had expired before."""

    outcome: str
    late: bool = False


class Slices:
    """The holds of one session, one after another."""

    __slots__ = (
        "_admission", "_back", "_books", "_call", "_early", "_leases", "_ledger", "_listed", "_meter", "_pending",
        "_plan", "_session", "_whole", "count", "hold", "hold_id", "upstream_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        call: Call,
        session: Session,
        meter: SessionMeter,
        admission: Admission,
        ledger: Ledger,
        books: Books,
        leases: Leases,
    ) -> None:
        assert call.identity is not None, "a session without a caller"
        self._call = call
        self._session = session
        self._meter = meter
        self._admission = admission
        self._ledger = ledger
        self._books = books
        self._leases = leases
        self._plan = call.identity.plan
        self._whole = call.admitted_hold >= call.estimate
        self._early = first_early(call.id, session.slice_seconds)
        self._pending: Renewal | None = None
        self._back = 0
        self._listed = 0  # what the ledger was asked for, at the prices of the first unit
        self.hold_id = call.id  # "" once nothing is held any more
        self.hold = call.admitted_hold
        self.count = 1
        self.upstream_id = ""
        call.charged = ZERO

    def __repr__(self) -> str:
        return f"<Slices {self._call.id} count={self.count} hold={self.hold} pending={self._pending is not None}>"

    @property
    def waiting(self) -> bool:
        """Whether a renewal is under way that the ledger has not answered."""
        return self._pending is not None

    def outlook(self, now: float) -> Outlook:
        """How long the hold lasts."""
        if not self._meter.begun:
            return Outlook()
        return outlook(
            now=now,
            per_second=self._meter.per_second(),
            left=self.hold - self._meter.owed(now),
            available=self._call.available,
            whole=self._whole,
            session=self._session,
            early=self._early,
        )

    def used_up(self, now: float) -> bool:
        """Whether the hold is used up, by what was reported as well as by time."""
        return self._meter.owed(now) >= self.hold > 0

    # ---- renewal

    async def renew(self, now: float) -> Refused | None:
        """Charge what was used, hold the next slice. A refusal: it was charged, and nothing is held any more.

        LedgerUnavailable: nothing is known of it; the next call asks the same again.
        """
        if self._pending is None:
            self._pending = self._renewal(now)
        answer = await self._ask(self._pending)
        call, renewal = self._call, self._pending
        self._pending = None
        call.move(Move.RENEW)
        self._listed += renewal.settlement.charge.amount
        call.charged = Nanos((call.charged or 0) + answer.receipt.charged)
        call.late = call.late or answer.receipt.late
        self._leases.discard(renewal.settlement.hold_id)
        if answer.refused is not None:
            self.hold_id, self.hold = "", ZERO
            return answer.refused
        self.hold_id, self.hold = renewal.request.hold_id, answer.hold
        self._whole = answer.hold >= renewal.request.estimate
        self.count += 1
        self._early = 0.0
        self._leases.add(self.hold_id, call.account, call.route.product.name)
        call.available = answer.available
        assert call.table is not None, "a renewal without prices"
        self._meter.change(now, call.table)
        return None

    async def _ask(self, renewal: Renewal) -> Renewed:
        settlement = renewal.settlement
        if self._books.has_steps(settlement):
            settlement = await self._books.by_steps(settlement)
        for _ in range(PLANS_MAX):
            await self._admission.give_what_is_due(settlement.account, self._plan)
            answer = await self._ledger.renew(replace(renewal, settlement=settlement))
            if not isinstance(answer, PlanChanged):
                return answer
            self._plan = answer.plan
            request = self._admission.next_slice(self._call, answer.plan, renewal.request.hold_id)
            renewal = self._pending = replace(renewal, request=request)
        raise LedgerUnavailable("the account's plan keeps changing")

    def _renewal(self, now: float) -> Renewal:
        charge = nothing_owed(self._meter.table)
        if self._meter.begun:
            # A hold that took all there was is the most that its slice costs; a whole one may be overdrawn a little,
            # when the ledger was away for longer than the slice.
            most = None if self._whole or now > self.outlook(now).covered_until + 1 else self.hold
            charge, back = self._meter.take(now, most=most, basis=self._basis())
            self._back += back
        next_id = f"{self._call.id}.{self.count}"
        return Renewal(
            settlement=self._settlement(self.hold_id, charge),
            request=self._admission.next_slice(self._call, self._plan, next_id),
        )

    def _basis(self) -> Basis:
        return "reported" if self._meter.reported() else "clock"

    def _settlement(self, hold_id: str, charge: Charge) -> Settlement:
        call = self._call
        assert call.identity is not None, "a session without a caller"
        return Settlement(
            account=call.account,
            hold_id=hold_id,
            key_id=call.identity.key_id,
            product=call.route.product.name,
            route=call.route.name,
            call_id=call.id,
            charge=charge,
            upstream_id=self.upstream_id,
        )

    # ---- the end

    def closing(self, now: float) -> Callable[[], Awaitable[Closed]]:
        """What closes the books, as one operation that may be done again: each part has an operation id of its own.

        What was not held is not charged any more: a session whose renewal was refused costs what its holds covered.
        """
        settlements: list[Settlement] = []
        release = ""
        hold_id = self.hold_id
        if self._pending is not None:
            settlements.append(self._pending.settlement)
            hold_id = self._pending.request.hold_id
        charge, back = self._last_charge(now, held=bool(hold_id))
        back = Nanos(back + self._back)
        if charge.amount:
            settlements.append(self._settlement(hold_id, charge))
        elif hold_id:
            release = hold_id
        call = self._call
        paid = call.charged or ZERO
        call.charged = Nanos(paid + sum(each.charge.amount for each in settlements) - back)
        call.estimated = charge.basis == "estimated"
        return partial(self._close, settlements, release, back, paid)

    def _last_charge(self, now: float, *, held: bool) -> tuple[Charge, Nanos]:
        meter, table = self._meter, self._meter.table
        if not meter.begun:
            return nothing_owed(table), ZERO
        metering = self._call.route.metering
        missing = meter.usage(now).missing or ((meter.unpriced,) if meter.unpriced else ())
        if missing and held and metering is not None and metering.unknown_usage != "charge_nothing":
            why = f"not reported: {', '.join(missing)}"
            item = LineItem(sku="estimate", quantity="1", unit="hold", unit_price=why, amount=self.hold)
            return replace(nothing_owed(table), amount=self.hold, items=(item,), basis="estimated"), ZERO
        return meter.take(now, most=None if held else ZERO, basis=self._basis())

    async def _close(self, settlements: list[Settlement], release: str, back: Nanos, paid: Nanos) -> Closed:
        outcome, late = "released", False
        listed, taken = self._listed, int(paid)
        for settlement in settlements:
            settled: Settled = await self._books.settle(settlement)
            outcome = settled if isinstance(settled, str) else "settled"
            late = late or (not isinstance(settled, str) and settled.late)
            listed += settlement.charge.amount
            taken += settlement.charge.amount if isinstance(settled, str) else settled.charged
        if taken < listed:  # volume steps: what goes back is worth what it was charged at, on average
            back = Nanos(back * taken // listed)
        call = self._call
        call.charged = Nanos(taken - back)
        if release:
            await self._books.release(call.account, release)
        if back:
            assert call.identity is not None, "a session without a caller"
            await self._books.correct(
                operation=f"{call.id}.correct",
                account=call.account,
                key_id=call.identity.key_id,
                amount=back,
                data={
                    "call_id": call.id,
                    "product": call.route.product.name,
                    "reason": "reported less than was charged",
                },
            )
        if outcome == "released" and call.charged:
            outcome = "settled"  # by its renewals
        return Closed(outcome=outcome, late=late)
