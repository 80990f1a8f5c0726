"""Temporary tokens, as a route gives them out.

Owns: what a caller may ask of a token, and the reply.
Does not know: how a token is signed.
"""

import secrets
from collections.abc import Callable, Mapping

import orjson
from multidict import CIMultiDict

from gateway.core.errors import Code, Refused
from gateway.pipeline.call import Answer, Call
from gateway.pipeline.refusals import filled
from gateway.ports import TemporaryToken
from gateway.settings.sessions import TokenMint


def minted(
    call: Call, mint: TokenMint, now: float, write: Callable[[TemporaryToken], str], region: str
) -> Answer | Refused:
    """The reply with a new token of the caller's key, for sessions in this region, or why there is none."""
    assert call.identity is not None, "only identified callers get tokens"
    query = call.client.query
    expires = _seconds(
        query, mint.expires_parameter, mint.expires_seconds_default, mint.expires_seconds_min, mint.expires_seconds_max
    )
    if isinstance(expires, Refused):
        return expires
    session = _seconds(query, mint.session_parameter, 0, mint.session_seconds_min, mint.session_seconds_max)
    if isinstance(session, Refused):
        return session
    token = TemporaryToken(
        id=secrets.token_urlsafe(12),
        account=call.identity.account,
        key_id=call.identity.key_id,
        plan=call.identity.plan,
        product=mint.product,
        expires=int(now) + expires + 1,  # the second that has begun is not taken off
        session_seconds_max=session,
        once=mint.once,
        region=region,
    )
    body = orjson.dumps(filled(mint.reply, {"{token}": write(token), "{expires_in_seconds}": expires}))
    headers = CIMultiDict({"Content-Type": "application/json", "Cache-Control": "no-store"})
    return Answer(status=200, reason="", headers=headers, body=body)


def _seconds(query: Mapping[str, str], name: str, default: int | None, least: int, most: int) -> int | Refused:
    text = query.get(name)
    if text is None and default is not None:
        return default
    value = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else -1
    if least <= value <= most:
        return value
    return Refused(code=Code.INVALID_REQUEST, details={"reason": f"{name} must be a number from {least} to {most}"})
