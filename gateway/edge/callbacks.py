"""`POST /callbacks/{token}` on the customers' listener: where services call back when jobs are over.

Owns: the token in the URL, the bound of the body, what is answered.
Does not know: what a callback does (pipeline/called_back).

A URL that we did not make, or whose time is over, is unknown at no cost: nothing is read, and the store is not asked.
Anything else that cannot be done is a 503, on which services repeat; a 4xx would end their attempts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from aiohttp import web

from gateway.edge.signed import read_signed, write_signed
from gateway.pipeline.callbacks import CallbackToken
from gateway.pipeline.called_back import Outcome
from gateway.ports import Clock, Observer

#: What is told of it, with the client's URL and header, has to go into the outbox: as JSON it may be twice as long.
BODY_BYTES_MAX: Final = 28 * 1024
_PURPOSE: Final = "callback"
_RETRY_SECONDS: Final = 2
#: Services wait ten seconds for an answer.
SECONDS_MAX: Final = 9.0
_STATUSES: Final[dict[Outcome, int]] = {"taken": 200, "later": 503, "unknown": 404, "unreadable": 400}


def write_callback_token(pepper: str, token: CallbackToken) -> str:
    """The token's text."""
    data = [1, token.account, token.kind, token.call_id, token.expires]
    return write_signed(pepper, _PURPOSE, orjson.dumps(data))


def read_callback_token(pepper: str | tuple[str, ...], text: str, now: float) -> CallbackToken | None:
    """The token, if we made it and its time is not over; else None."""
    payload = read_signed(pepper, _PURPOSE, text)
    if payload is None:
        return None
    version, account, kind, call_id, expires = orjson.loads(payload)
    if version != 1 or expires <= now:
        return None
    return CallbackToken(account=account, kind=kind, call_id=call_id, expires=expires)


def add_callback_routes(
    app: web.Application,
    *,
    take: Callable[[CallbackToken, bytes, str], Awaitable[Outcome]],
    pepper: str | tuple[str, ...],
    clock: Clock,
    observer: Observer,
    seconds_max: float = SECONDS_MAX,
) -> None:
    """Take callbacks: see `CalledBack.take`."""

    async def called(request: web.Request) -> web.Response:
        token = read_callback_token(pepper, request.match_info["token"], clock.now())
        if token is None:
            observer.event("callback_unknown")
            return web.Response(status=404, text="Not found\n")
        body = await _read(request)
        if body is None:
            return web.Response(status=413, text="Too large\n")
        try:
            async with asyncio.timeout(seconds_max):
                outcome = await take(token, body, request.headers.get("Content-Type", ""))
        except TimeoutError:
            outcome = "later"
        response = web.Response(status=_STATUSES[outcome], text=f"{outcome}\n")
        if outcome == "later":
            response.headers["Retry-After"] = str(_RETRY_SECONDS)
        return response

    app.router.add_post("/callbacks/{token}", called)


async def _read(request: web.Request) -> bytes | None:
    """The body; None if it is too large."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)
