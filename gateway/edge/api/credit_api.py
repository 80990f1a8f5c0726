"""The credit API over HTTP, `/credit/v1` on the customers' listener: for services of ours that serve calls themselves.

Owns: who may use it (a token with its scope), how a refused call is told there.
Does not know: which routes there are (credit_routes), what they do (operations/credit), how problems look
(admin_problems).
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDictProxy

from gateway.core.errors import place_of
from gateway.edge.api.admin_problems import Kind, ProblemReply, telling_problems, too_many_guesses
from gateway.edge.api.admin_tokens import ROOT_NAME, Actor, AdminTokens
from gateway.edge.api.credit_routes import BASE, ROUTES, SCOPE
from gateway.edge.api.endpoints import Endpoint, answer_of, ask_of
from gateway.edge.operations.bodies import Setting
from gateway.edge.operations.credit import CreditOperations, HoldEnded, NotHeld, UnknownHold
from gateway.pipeline.refusals import worded

_ACTOR: Final = web.RequestKey("actor", Actor)
_REALM: Final = 'Bearer realm="gateway credit"'
#: Counts a token that nobody has, sent with these headers by this peer; after how many seconds another one may come.
Guessed = Callable[[CIMultiDictProxy[str], str, str], int]
_log = logging.getLogger(__name__)


def add_credit_api(
    app: web.Application,
    *,
    desk: CreditOperations,
    tokens: AdminTokens,
    setting: Callable[[], Setting],
    guessed: Guessed,
) -> None:
    """Put the credit API at `/credit/v1` of the customers' own routes."""
    api = web.Application(middlewares=[telling_problems(note), _admitting(tokens, guessed), telling_refusals])
    for endpoint in ROUTES:
        handler = ending(desk, endpoint, setting, lambda request: request[_ACTOR].name)
        for method in endpoint.methods:
            api.router.add_route(method, endpoint.path, handler)
    app.add_subapp(BASE, api)


def ending(
    desk: CreditOperations,
    endpoint: Endpoint[CreditOperations],
    setting: Callable[[], Setting],
    actor_of: Callable[[web.Request], str],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """What answers one route. Two callers' names for their holds never meet."""

    async def handle(request: web.Request) -> web.Response:
        actor = actor_of(request)
        ask = await ask_of(request, endpoint, actor=actor, account="", setting=setting, namespace=f"credit:{actor}:")
        return answer_of(await endpoint.deed(desk, ask), endpoint.status)

    return handle


def has_scope(tokens: AdminTokens, token: str) -> Actor | None:
    """Whose token this is, if it is good for credit."""
    actor = tokens.actor(token.strip())
    return actor if actor is not None and SCOPE in actor.scopes else None


def _admitting(tokens: AdminTokens, guessed: Guessed) -> Any:
    """The middleware that lets only who has a token of the scope pass. Before routing's own answers, 404 included.

    The config's `admin_token` is answered as one that nobody has: people choose it, and customers could try words here.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        actor = tokens.actor(token.strip()) if scheme.lower() == "bearer" else None
        if actor is None or actor.name == ROOT_NAME:
            if token and (wait := guessed(request.headers, request.remote or "", token)):
                return too_many_guesses(wait).response()
            detail = "Send the header Authorization: Bearer, followed by a token with the scope credit."
            return ProblemReply(code="unauthorized", detail=detail, headers={"WWW-Authenticate": _REALM}).response()
        if SCOPE not in actor.scopes:
            challenge = f'{_REALM}, error="insufficient_scope", scope="{SCOPE}"'
            return ProblemReply(
                code="insufficient_scope",
                detail=f"This takes a token with the scope {SCOPE}.",
                headers={"WWW-Authenticate": challenge},
            ).response()
        request[_ACTOR] = actor
        return await handler(request)

    return admit


@web.middleware
async def telling_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells a refused call with its own code, status and words, and what is wrong with a hold."""
    try:
        return await handler(request)
    except NotHeld as error:
        told = worded(error.style, error.refused)
        headers = {}
        if (seconds := error.refused.retry_after_seconds) is not None:
            headers["Retry-After"] = str(seconds)
        kind = Kind(told.status, "The call is refused")
        problem = ProblemReply(code=str(error.refused.code), detail=told.message, headers=headers, refusal=kind)
    except UnknownHold as error:
        problem = ProblemReply(code="unknown_hold", detail=str(error))
    except HoldEnded as error:
        problem = ProblemReply(code="hold_ended", detail=str(error))
    return problem.response()


def note(error: Exception) -> None:
    """Its type and where: its text could hold what a customer sent."""
    _log.error("a request failed: %s", place_of(error))
