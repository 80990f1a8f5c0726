"""Holds for calls that are served elsewhere, as their holders know them: once, for the credit API and forward-auth.

Owns: whose call it is, which route it is, the id of a hold that was named by its caller, how a hold is shown.
Does not know: HTTP, how a hold is taken or ended (pipeline/bookings).
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson

from gateway.core.errors import Code, LedgerRefused, OperationConflict, Refused
from gateway.core.money import format_usd
from gateway.core.pricing import Charge
from gateway.core.usage import Quantity
from gateway.edge.holds import TEXT_MAX, read_hold, write_hold
from gateway.edge.operations.accounts import Operation
from gateway.edge.operations.billing import view_item
from gateway.edge.operations.bodies import Invalid, Problem
from gateway.edge.operations.credit_bodies import NextHold, OpenHold, RenewHold, SettleHold
from gateway.edge.operations.views import CURRENCY, Data
from gateway.pipeline.bookable import Bookable, only_paid
from gateway.pipeline.booked import Booking, Opened, Used
from gateway.pipeline.bookings import Bookings
from gateway.pipeline.told import ToldClient
from gateway.ports import Identity, Ledger, Receipt
from gateway.settings.products import ErrorStyle
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime


class UnknownHold(LedgerRefused):
    """We gave nobody a hold of this name."""


class HoldEnded(LedgerRefused):
    """The hold has ended before."""


@dataclass(frozen=True, slots=True)
class NotHeld(Exception):
    """The call is refused, in the product's words."""

    refused: Refused
    style: ErrorStyle


_HOLD_ID_BYTES: Final = 14


class CreditOperations:
    """What may be done over the credit API. Every answer is plain data, ready for JSON.

    Raises NotHeld, UnknownHold, HoldEnded, Invalid, and what the ledger raises.
    """

    def __init__(self, *, bookings: Bookings, ledger: Ledger, runtime: Runtime) -> None:
        self._bookings = bookings
        self._ledger = ledger
        self._runtime = runtime
        self._paid = only_paid(bookings.book)
        self._settings = runtime.plug_in

    async def open(self, body: OpenHold, operation: Operation) -> Data:
        """Hold what a call may cost."""
        found = self._route(body)
        self._check_measures(found, body.estimate, "/estimate")
        seconds = self._seconds(body.seconds)
        identity = None if body.account is None else await self._payer(body.account, body.key)
        client = ToldClient(
            headers={} if body.api_key is None else {"Authorization": body.api_key},
            body=b"" if body.request is None else orjson.dumps(body.request),
            identity=identity,
        )
        route = found.by_request if body.estimate is None else found.by_usage
        if body.amount is not None:
            route = replace(route, hold=body.amount)
        hold_id = "" if not operation.named else _hold_id(operation)
        held = await self.held(client, route, hold_id=hold_id, expected=body.estimate, seconds=seconds)
        if hold_id:
            await self._check_content(held[0], body)
        return self.show(held)

    async def held(
        self,
        client: ToldClient,
        route: Route,
        params: Mapping[str, str] | None = None,
        *,
        hold_id: str = "",
        expected: Mapping[str, Quantity] | None = None,
        seconds: int = 0,
    ) -> tuple[Opened, int]:
        """The call, admitted, and for how many seconds what it holds is held. Raises NotHeld."""
        opened = await self._bookings.open(
            client, route, params or {}, hold_id=hold_id, expected=expected, seconds=seconds
        )
        if isinstance(opened, Refused):
            raise NotHeld(opened, route.product.errors)
        booking = opened.booking
        if booking is not None and len(self.written(booking)) > TEXT_MAX:
            await self._bookings.release(booking)
            reason = "the fields that its price depends on are too large"
            raise NotHeld(Refused(code=Code.INVALID_REQUEST, details={"reason": reason}), route.product.errors)
        return opened, max(seconds, self._settings.hold_seconds)

    async def renew(self, hold: str, body: RenewHold) -> Data:
        """Have a hold live on; or charge what was used of it, and hold the next slice."""
        booking = self.booking(hold)
        seconds = self._seconds(body.seconds)
        if body.used is not None:
            return await self._next_slice(booking, body.used, body.next, seconds)
        if not await self._bookings.renew(booking, seconds):
            raise HoldEnded("the hold has ended: it was settled or released, or its time was over")
        return {
            "id": hold, "hold": booking.hold_id, "seconds": seconds, "held": format_usd(booking.held),
            "available": None, "charge": None,
        }  # fmt: skip

    async def _next_slice(self, booking: Booking, told: SettleHold, wanted: NextHold | None, seconds: int) -> Data:
        """The next hold, and the charge of the one before. Raises NotHeld: that was charged all the same."""
        found = self._bookings.book.get(booking.route)
        if found is None or found.metering is None:
            raise Invalid([Problem("/used", f"the config has no paid route {booking.route} any more: settle it")])
        used = self._used(booking, told, "/used/usage")
        expected = None if wanted is None else wanted.estimate
        self._check_measures(found, expected, "/next/estimate")
        amount = booking.held if wanted is None else wanted.amount
        route = found.by_usage if amount is None else replace(found.by_request, hold=amount)
        renewed = await self._bookings.next_slice(booking, used, route, expected=expected, seconds=seconds)
        if isinstance(renewed, str):
            raise Invalid([Problem("/used", renewed)])
        charge, receipt, opened = renewed
        if isinstance(opened, Refused):
            raise NotHeld(opened, route.product.errors)
        shown = self.show((opened, max(seconds, self._settings.hold_seconds)))
        kept = {name: shown[name] for name in ("id", "hold", "seconds", "held", "available")}
        return {**kept, "charge": _receipt(booking, charge, receipt)}

    def _used(self, booking: Booking, told: SettleHold, pointer: str) -> Used:
        """What was told of a hold's use. Raises Invalid."""
        found = self._bookings.book.get(booking.route)
        if found is not None:
            self._check_measures(found, told.usage, pointer)
        return Used(amount=told.amount, usage=told.usage or {}, reply=told.reply)

    async def settle(self, hold: str, body: SettleHold) -> Data:
        """Charge what the call came to. A hold whose time was over is charged all the same, late."""
        booking = self.booking(hold)
        settled = await self._bookings.settle(booking, self._used(booking, body, "/usage"))
        if isinstance(settled, str):
            raise Invalid([Problem("" if body.usage is None else "/usage", settled)])
        charge, receipt = settled
        return _receipt(booking, charge, receipt if isinstance(receipt, Receipt) else None)

    async def release(self, hold: str) -> Data:
        """Give a hold back. `released` false: it had ended before."""
        booking = self.booking(hold)
        return {"id": hold, "hold": booking.hold_id, "released": await self._bookings.release(booking)}

    def written(self, booking: Booking) -> str:
        """What the holder keeps, and shows to end it."""
        return write_hold(self._runtime.key_pepper, booking)

    def booking(self, hold: str) -> Booking:
        """The booking that the holder shows. Raises UnknownHold."""
        found = read_hold(self._runtime.peppers, hold)
        if found is None:
            raise UnknownHold("there is no such hold")
        return found

    def show(self, held: tuple[Opened, int]) -> Data:
        """A hold, as its holder is told of it."""
        opened, seconds = held
        booking = opened.booking
        assert booking is not None, "a paid call was admitted"
        return {
            "id": self.written(booking),
            "hold": booking.hold_id,
            "account": booking.account,
            "key": booking.key_id,
            "product": booking.product,
            "route": booking.route,
            "estimate": format_usd(opened.estimate),
            "held": format_usd(booking.held),
            "available": format_usd(opened.available),
            **CURRENCY,
            "price_version": booking.price_version,
            "rate_card": booking.rate_card,
            "seconds": seconds,
        }

    # ---- what was asked

    def _route(self, body: OpenHold) -> Bookable:
        """The paid route that was named. Raises Invalid."""
        name = body.route if body.product is None else self._paid.get(body.product)
        found = self._bookings.book.get(name or "")
        if found is not None and found.metering is not None:
            return found
        if body.product is not None:
            raise Invalid([Problem("/product", f"one of: {', '.join(sorted(self._paid))}; of others name the route")])
        paid = sorted(name for name, each in self._bookings.book.items() if each.metering is not None)
        raise Invalid([Problem("/route", f"one of: {', '.join(paid)}")])

    async def _check_content(self, opened: Opened, body: OpenHold) -> None:
        """A name is for one request: the ledger tells those apart that hold differently, the rest is told here.

        Raises OperationConflict. The hold is then that of the first request, and stays.
        """
        booking = opened.booking
        assert booking is not None, "a paid call was admitted"
        mine = await self._ledger.use_once(
            account=booking.account,
            name=f"hold:{booking.hold_id}",
            by=hashlib.sha256(body.model_dump_json().encode()).hexdigest(),
            seconds=self._runtime.redis.operation_seconds,
        )
        if not mine:
            raise OperationConflict("the Idempotency-Key was used for another request")

    @staticmethod
    def _check_measures(found: Bookable, told: Mapping[str, Any] | None, pointer: str) -> None:
        """Raise Invalid for quantities of what the route does not measure: they would be free."""
        names = {measure.name for measure in found.measures}
        if told is not None and (unknown := sorted(told.keys() - names)):
            measured = ", ".join(sorted(names)) or "nothing, but that it was called"
            raise Invalid([Problem(f"{pointer}/{name}", f"this route measures {measured}") for name in unknown])

    def _seconds(self, asked: int | None) -> int:
        """For how long. Raises Invalid for more than the config allows."""
        most = self._settings.hold_seconds_max
        if asked is not None and asked > most:
            raise Invalid([Problem("/seconds", f"a hold lives {most} seconds at most; renew it then")])
        return self._settings.hold_seconds if asked is None else asked

    async def _payer(self, account: str, key: str | None) -> Identity:
        """The account's key that pays: the one that was named, or its only one. Raises Invalid, UnknownAccount."""
        found, keys = await asyncio.gather(self._ledger.account(account), self._ledger.keys(account))
        ids = [each.id for each in keys if key in (None, each.id)]
        if len(ids) > 1:
            raise Invalid([Problem("/key", "the account has several keys: name the one that pays")])
        if not ids:
            raise Invalid([Problem("/key", "the account has no such key" if key else "the account has no key")])
        return Identity(account=account, key_id=ids[0], plan=found.plan)


def _hold_id(operation: Operation) -> str:
    """The id of the hold that a caller named: the same for the same name."""
    return "h" + hashlib.sha256(operation.id.encode()).hexdigest()[: 2 * _HOLD_ID_BYTES]


def _receipt(booking: Booking, charge: Charge, receipt: Receipt | None) -> Data:
    """What was charged; `settled` false: it is kept, and is charged as soon as the ledger answers."""
    charged = charge.amount if receipt is None else receipt.charged
    return {
        "hold": booking.hold_id,
        "account": booking.account,
        "settled": receipt is not None,
        "charged": format_usd(charged),
        "balance": None if receipt is None else format_usd(receipt.balance),
        **CURRENCY,
        "late": receipt is not None and receipt.late,
        "entry": None if receipt is None else receipt.entry_id,
        "price_version": charge.price_version,
        "rate_card": charge.rate_card,
        # Where the rate card has steps, the ledger's entry has the lines that were charged.
        "items": [view_item(asdict(item)) for item in charge.items] if charged == charge.amount else [],
    }
