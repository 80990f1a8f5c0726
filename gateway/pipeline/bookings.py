"""Bookings: credit held for a call that is served elsewhere, until whoever serves it tells what it came to.

Owns: the life of a hold that no call of ours has: opened by the guards of every call, renewed, and ended once.
Does not know: HTTP, who may book, how a booking is written so that its holder shows it again (edge/holds).

Nothing is kept of a booking but the ledger's hold: all that its charge needs is in what its holder shows, so that any
process can end it, also after its hold has expired.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from gateway.core.errors import LedgerUnavailable, OperationConflict, Refused
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Charge, PriceTable
from gateway.core.usage import Quantity, estimate_usage
from gateway.pipeline import pricing
from gateway.pipeline.admit import PLANS_MAX, Admission
from gateway.pipeline.bookable import EXPECTED, Bookable
from gateway.pipeline.booked import Booking, Opened, Used, charge_of, knows_model, price_table
from gateway.pipeline.books import Books, Settled
from gateway.pipeline.call import BodyRefused, Call
from gateway.pipeline.leases import Leases
from gateway.pipeline.meter import parsed
from gateway.pipeline.refusals import worded
from gateway.pipeline.told import ToldClient
from gateway.pipeline.unsettled import Notes
from gateway.ports import CallFinished, Clock, Identity, Ledger, Observer, Plan, Receipt, Renewal, Renewed, Settlement
from gateway.settings.plans import PriceBook
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime

#: Of a call that was served elsewhere, by the type of what is told.
_NOTHING: Final[Mapping[Any, Any]] = {str: "", bool: False, float: 0.0}


class Bookings:
    """Opens and ends bookings. `admission` asks clients for their identity; `leases` are those that it adds to."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        book: Mapping[str, Bookable],
        admission: Admission,
        leases: Leases,
        ledger: Ledger,
        books: Books,
        observer: Observer,
        clock: Clock,
        call_ids: Callable[[], str],
    ) -> None:
        self._prices: PriceBook = runtime.prices
        self._default_card = runtime.tiers[runtime.default_tier].rate_card
        self.book = book
        self._admission = admission
        self._leases = leases
        self._ledger = ledger
        self._books = books
        self._observer = observer
        self._clock = clock
        self._call_ids = call_ids
        self._notes = Notes(ledger)

    def __repr__(self) -> str:
        return f"<Bookings routes={len(self.book)}>"

    async def open(
        self,
        client: ToldClient,
        route: Route,
        params: Mapping[str, str],
        *,
        hold_id: str = "",
        expected: Mapping[str, Quantity] | None = None,
        seconds: int = 0,
    ) -> Opened | Refused:
        """Admit a call, and hold what it may cost, by what is `expected` of measures, else as the route expects it,
        for `seconds` if that is longer than the leases of all.

        The same id again gets the first answer while its hold is open. Raises LedgerUnavailable; OperationConflict
        where the id was used for something else, or its hold has ended.
        """
        call = Call(hold_id or self._call_ids(), client, route, params, self._clock.monotonic())
        if expected is not None:
            call.sources[EXPECTED] = {**self._expected(call, client), **expected}
        try:
            refused = await self._admit(call)
        except BodyRefused as error:
            assert error.refused is not None, "what was told is whole"
            refused = error.refused
        finally:
            self._leases.discard(call.id)  # it is its holder's to renew
            if call.has_place:
                self._admission.places.leave(call.account)
        if refused is not None:
            call.refuse(refused)
            call.status = worded(route.product.errors, refused).status
            self._tell_opened(call)
            return refused
        assert call.identity is not None, "it was admitted"
        key_id = call.identity.key_id
        if not call.metered:
            call.status = 200
            self._tell_opened(call)
            return Opened(call_id=call.id, account=call.account, key_id=key_id, booking=None)
        booking = self._booking(call)
        await self._keep(booking, call.table, seconds)
        return Opened(
            call_id=call.id, account=call.account, key_id=key_id, booking=booking, estimate=call.estimate,
            available=call.available,
        )  # fmt: skip

    async def _admit(self, call: Call) -> Refused | None:
        try:
            return await self._admission.admit(call)
        except OperationConflict:
            # A repeat is told by its plan as well, of which a caller's identity has a hint only.
            assert call.identity is not None and isinstance(call.client, ToldClient), "it was asked for here"
            plan = (await self._ledger.account(call.account)).plan
            if call.has_place:
                self._admission.places.leave(call.account)
                call.has_place = False
            if plan == call.identity.plan:
                raise
            call.client.identity = replace(call.identity, plan=plan)
            return await self._admission.admit(call)

    def _expected(self, call: Call, client: ToldClient) -> Mapping[str, Quantity]:
        """What the route expects of a call by itself."""
        request = parsed(client.told) if client.told else None
        sources = {**call.sources, "request": request, "job": request}
        return estimate_usage(self.book[call.route.name].measures, sources, len(client.told)).quantities

    def _booking(self, call: Call) -> Booking:
        assert call.identity is not None and call.table is not None, "it was admitted"
        request = call.sources.get("request")
        known: dict[str, Quantity] = {}
        for measure in self.book[call.route.name].measures:
            if measure.known_before and (quantity := measure.read(call.sources)) is not None:
                known[measure.name] = quantity
        return Booking(
            hold_id=call.id,
            account=call.account,
            key_id=call.identity.key_id,
            product=call.route.product.name,
            route=call.route.name,
            price_version=call.table.version,
            rate_card=call.table.rate_card,
            held=call.admitted_hold,
            facts=pricing.read_facts(call.route, request),
            known=known,
        )

    async def renew(self, booking: Booking, seconds: int) -> bool:
        """Have the hold live for so many seconds from now, if that is longer. False: it has ended."""
        lost = await self._ledger.extend(account=booking.account, hold_ids=[booking.hold_id], lease_seconds=seconds)
        if lost:
            return False
        if self._is_charged(booking):
            await self._notes.put_off(booking.account, booking.hold_id, seconds)
        self._observer.event("hold_renewed", product=booking.product)
        return True

    async def next_slice(
        self, booking: Booking, used: Used, route: Route, *, expected: Mapping[str, Quantity] | None, seconds: int
    ) -> tuple[Charge, Receipt, Opened | Refused] | str:
        """Charge what was used since the hold was taken, and hold the next slice, by the ledger's one step of both.

        A refusal: it was charged, and nothing is held any more. Text: why it cannot be charged as it was told. What was
        known of the request beforehand is charged with the first slice. Raises LedgerUnavailable, and OperationConflict
        where the hold was ended otherwise.
        """
        started = self._clock.monotonic()
        charge = self._charge(booking, used)
        if isinstance(charge, str):
            return charge
        settlement = self.settlement(booking, charge)
        if self._books.has_steps(settlement):
            settlement = await self._books.by_steps(settlement)
        plan = (await self._ledger.account(booking.account)).plan
        client = ToldClient(identity=Identity(account=booking.account, key_id=booking.key_id, plan=plan))
        call = Call(_next_id(booking.hold_id), client, route, {}, started)
        call.identity = client.identity
        call.sources |= {"request": booking.facts, "job": booking.facts}
        if expected is not None:
            call.sources[EXPECTED] = {**self._expected(call, client), **expected}
        answer, estimate = await self._renewed(call, settlement, plan)
        self._tell_settled(booking, started, answer.receipt)
        if self._is_charged(booking):
            await self._notes.drop(booking.account, booking.hold_id)
        if answer.refused is not None:
            refused = self._admission.explained(call, answer.refused)
            call.refuse(refused)
            call.status = worded(route.product.errors, refused).status
            self._tell_opened(call)
            return charge, answer.receipt, refused
        assert call.table is not None, "a renewal without prices"
        self._observer.event("hold_renewed", product=booking.product)
        following = replace(
            booking, hold_id=call.id, held=answer.hold, known={}, price_version=call.table.version,
            rate_card=call.table.rate_card,
        )  # fmt: skip
        await self._keep(following, call.table, seconds)
        opened = Opened(
            call_id=call.id, account=booking.account, key_id=booking.key_id, booking=following, estimate=estimate,
            available=answer.available,
        )  # fmt: skip
        return charge, answer.receipt, opened

    async def _renewed(self, call: Call, settlement: Settlement, plan: Plan) -> tuple[Renewed, Nanos]:
        """The ledger's answer, and what it was asked to hold."""
        for _ in range(PLANS_MAX):
            request = self._admission.next_slice(call, plan, call.id)
            answer = await self._ledger.renew(Renewal(settlement=settlement, request=request))
            if isinstance(answer, Renewed):
                return answer, request.estimate
            plan = answer.plan
        raise LedgerUnavailable("the account's plan keeps changing")

    async def _keep(self, booking: Booking, table: PriceTable | None, seconds: int) -> None:
        """What a hold needs that was taken: its time, and a note where it is charged if nobody ends it."""
        if seconds > self._leases.lease_seconds:
            await self._ledger.extend(account=booking.account, hold_ids=[booking.hold_id], lease_seconds=seconds)
        if self._is_charged(booking) and table is not None:
            held = pricing.charge_of_hold(table, booking.held, "nobody ended the hold")
            await self._notes.post(self.settlement(booking, held), max(seconds, self._leases.lease_seconds))

    def _charge(self, booking: Booking, used: Used) -> Charge | str:
        """What it came to. Text: why that cannot be said."""
        table = price_table(self._prices, booking, self._clock.now(), self._default_card)
        found = self.book.get(booking.route)
        charge = charge_of(booking, used, found, table)
        if not isinstance(charge, str) and found is not None and not knows_model(booking, used, found):
            self._observer.event("model_unknown", product=booking.product)
        return charge

    async def settle(self, booking: Booking, used: Used) -> tuple[Charge, Settled] | str:
        """Charge what the call came to, once. Text: why it cannot be charged as it was told.

        Raises OperationConflict where the hold was released, or settled for something else.
        """
        started = self._clock.monotonic()
        charge = self._charge(booking, used)
        if isinstance(charge, str):
            return charge
        settled = await self._books.settle(self.settlement(booking, charge))
        if settled == "conflict":
            raise OperationConflict("the hold was released before, or settled for something else")
        receipt = settled if isinstance(settled, Receipt) else None
        if receipt is not None and self._is_charged(booking):
            await self._notes.drop(booking.account, booking.hold_id)
        if receipt is None:
            self._tell(booking, started, outcome="spooled", charged=charge.amount)
        else:
            self._tell_settled(booking, started, receipt)
        return charge, settled

    async def release(self, booking: Booking) -> bool:
        """Give the hold back: nothing was delivered. False: it had ended before."""
        started = self._clock.monotonic()
        released = await self._ledger.release(account=booking.account, hold_id=booking.hold_id)
        if self._is_charged(booking):  # also of one whose time was over, and that is not charged yet
            await self._notes.drop(booking.account, booking.hold_id)
        if released:
            self._tell(booking, started, outcome="released")
        return released

    def settlement(self, booking: Booking, charge: Charge) -> Settlement:
        """The charge of a booking, as the ledger takes it."""
        return Settlement(
            account=booking.account,
            hold_id=booking.hold_id,
            key_id=booking.key_id,
            product=booking.product,
            route=booking.route,
            call_id=_first(booking.hold_id),
            charge=charge,
        )

    def _is_charged(self, booking: Booking) -> bool:
        """Whether the hold is charged if nobody ends it."""
        found = self.book.get(booking.route)
        return found is not None and found.by_request.product.on_unsettled == "charge_hold" and booking.held > 0

    # ---- what is told

    def _tell_opened(self, call: Call) -> None:
        identity = call.identity
        self._observer.call_finished(
            _finished(
                time=self._clock.now(),
                call_id=call.id,
                account=identity.account if identity is not None else "",
                key_id=identity.key_id if identity is not None else "",
                product=call.route.product.name,
                route=call.route.name,
                method=call.client.method,
                status=call.status,
                outcome=call.outcome,
                code=call.code,
                seconds=self._clock.monotonic() - call.started,
            )
        )

    def _tell_settled(self, booking: Booking, started: float, receipt: Receipt) -> None:
        """A charge counts once, however often it is told."""
        if receipt.repeated:
            self._tell(booking, started, outcome="repeated")
        else:
            self._tell(booking, started, outcome="settled", charged=receipt.charged, late=receipt.late)

    def _tell(
        self, booking: Booking, started: float, *, outcome: str, charged: Nanos = ZERO, late: bool = False
    ) -> None:
        seconds = self._clock.monotonic() - started
        self._observer.call_finished(
            _finished(
                time=self._clock.now(),
                call_id=booking.hold_id,
                account=booking.account,
                key_id=booking.key_id,
                product=booking.product,
                route=booking.route,
                outcome=outcome,
                held=booking.held,
                charged=charged,
                late=late,
                seconds=seconds,
                settle_seconds=seconds if outcome == "settled" else 0.0,
            )
        )


def _first(hold_id: str) -> str:
    """The id of the first of the holds that follow each other: their call's."""
    return hold_id.partition(".")[0]


def _next_id(hold_id: str) -> str:
    """The id of the hold that follows this one: the same each time."""
    _, _, number = hold_id.partition(".")
    return f"{_first(hold_id)}.{int(number or 0) + 1}"


def _finished(**facts: Any) -> CallFinished:
    """A call that was served elsewhere: of all else that is told of calls nothing is known."""
    nothing = {each.name: _NOTHING.get(each.type, ZERO) for each in fields(CallFinished)}
    return CallFinished(**{**nothing, "method": "POST", "status": 200, **facts})
