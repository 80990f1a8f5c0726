"""Temporary tokens: what a browser opens a session with, instead of the key that it must not have.

Owns: their form, and that nobody but us can make one.
Does not know: routes, or what a token's key may do: that is judged at every use, like the key itself.

A token carries all that it says, signed; nothing is stored. So it works at every worker at once, and a key that is
disabled or an account that is suspended ends its tokens too.
"""

from typing import Final

import orjson

from gateway.edge.signed import read_signed, write_signed
from gateway.ports import Plan, TemporaryToken

_PREFIX: Final = "gwt_"
_PURPOSE: Final = "temporary token"


def write_token(pepper: str, token: TemporaryToken) -> str:
    """The token's text."""
    data = [
        1,
        token.id,
        token.account,
        token.key_id,
        token.plan.tier,
        token.plan.rate_card,
        token.product,
        token.expires,
        token.session_seconds_max,
        token.once,
        *((token.region,) if token.region else ()),
    ]
    return _PREFIX + write_signed(pepper, _PURPOSE, orjson.dumps(data))


def read_token(pepper: str | tuple[str, ...], text: str, now: float) -> TemporaryToken | None:
    """The token, if we made it and its time is not over; else None."""
    if not text.startswith(_PREFIX):
        return None
    payload = read_signed(pepper, _PURPOSE, text[len(_PREFIX) :])
    if payload is None:
        return None
    version, token_id, account, key_id, tier, rate_card, product, expires, seconds, once, *rest = orjson.loads(payload)
    if version != 1 or expires <= now:
        return None
    return TemporaryToken(
        id=token_id,
        account=account,
        key_id=key_id,
        plan=Plan(tier=tier, rate_card=rate_card),
        product=product,
        expires=expires,
        session_seconds_max=seconds,
        once=once,
        region=rest[0] if rest else "",
    )
