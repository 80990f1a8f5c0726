"""What the holder of a hold shows to end it: the booking itself, signed.

Owns: its form, and that nobody but us can make one. Does not know: what a booking is good for, who may end one.

Nothing is stored: any process can read it, for as long as the pepper is accepted. It is no secret, and opens nothing by
itself.
"""

from decimal import Decimal
from typing import Any, Final

import orjson

from gateway.core.money import Nanos
from gateway.core.usage import Quantity
from gateway.edge.signed import read_signed, write_signed
from gateway.pipeline.booked import Booking

PREFIX: Final = "gwh_"
#: It goes through headers of proxies; more would be a customer's content.
TEXT_MAX: Final = 2048
_PURPOSE: Final = "hold"


def write_hold(pepper: str, booking: Booking) -> str:
    """The booking's text, safe in a path and in a header."""
    data = [
        1,
        booking.hold_id,
        booking.account,
        booking.key_id,
        booking.product,
        booking.route,
        booking.price_version,
        booking.rate_card,
        booking.held,
        booking.facts,
        {name: value if type(value) is int else str(value) for name, value in booking.known.items()},
    ]
    return PREFIX + write_signed(pepper, _PURPOSE, orjson.dumps(data))


def read_hold(pepper: str | tuple[str, ...], text: str) -> Booking | None:
    """The booking, if we wrote this; else None."""
    if not text.startswith(PREFIX) or len(text) > TEXT_MAX:
        return None
    payload = read_signed(pepper, _PURPOSE, text[len(PREFIX) :])
    if payload is None:
        return None
    version, hold_id, account, key_id, product, route, price_version, rate_card, held, facts, known = orjson.loads(
        payload
    )
    if version != 1:
        return None
    return Booking(
        hold_id=hold_id,
        account=account,
        key_id=key_id,
        product=product,
        route=route,
        price_version=price_version,
        rate_card=rate_card,
        held=Nanos(held),
        facts=facts,
        known={name: _quantity(value) for name, value in known.items()},
    )


def _quantity(value: Any) -> Quantity:
    return value if type(value) is int else Decimal(value)
