"""Temporary tokens: what a browser opens a session with, instead of the key that it must not have.

Owns: their form, and that nobody but us can make one.
Does not know: routes, or what a token's key may do: that is judged at every use, like the key itself.

A token carries all that it says, signed; nothing is stored. So it works at every worker at once, and a key that is
disabled or an account that is suspended ends its tokens too.
"""

import base64
import binascii
import hmac
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import orjson

from gateway.ports import Plan, TemporaryToken

_PREFIX: Final = "gwt_"
_MAC_BYTES: Final = 24


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
    ]
    payload = orjson.dumps(data)
    return _PREFIX + _text(payload) + "." + _text(_mac(pepper, payload))


def read_token(pepper: str, text: str, now: float) -> TemporaryToken | None:
    """The token, if we made it and its time is not over; else None."""
    if not text.startswith(_PREFIX):
        return None
    body, _, mac = text[len(_PREFIX) :].partition(".")
    try:
        payload, signature = _raw(body), _raw(mac)
    except (ValueError, binascii.Error):
        return None
    if not hmac.compare_digest(signature, _mac(pepper, payload)):
        return None
    version, token_id, account, key_id, tier, rate_card, product, expires, seconds, once = orjson.loads(payload)
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
    )


def _mac(pepper: str, payload: bytes) -> bytes:
    return blake2b(payload, key=_mac_key(pepper), digest_size=_MAC_BYTES).digest()


@lru_cache(maxsize=16)
def _mac_key(pepper: str) -> bytes:
    return blake2b(b"temporary token\0" + pepper.encode(), digest_size=64).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
