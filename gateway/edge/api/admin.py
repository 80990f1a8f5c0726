"""The admin API over HTTP, on the ops listener: accounts, keys, credit, holds, jobs, entries.

Owns: where the routes are (`/admin/v1/`, and `/admin/` alike), who may use them.
Does not know: which routes there are (admin_routes), what they do (operations), how problems look (admin_problems).
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.edge.api.admin_problems import ProblemReply, telling_problems, too_many_guesses
from gateway.edge.api.admin_routes import ROUTES, AdminDesk, account_of
from gateway.edge.api.admin_tokens import Actor, AdminTokens
from gateway.edge.api.endpoints import Endpoint, Text, answer_of, ask_of
from gateway.edge.api.naming import Naming
from gateway.edge.attempts import Attempts, guesses
from gateway.edge.operations.accounts import Operations
from gateway.edge.operations.alerts import AlertOperations
from gateway.edge.operations.auditing import Auditor
from gateway.edge.operations.autopay import AutopayOperations
from gateway.edge.operations.bodies import Setting
from gateway.edge.operations.commitments import CommitmentOperations
from gateway.edge.operations.jobs import JobOperations
from gateway.edge.operations.outbox import OutboxOperations
from gateway.edge.operations.prices import PriceOperations
from gateway.edge.operations.usage import UsageOperations
from gateway.edge.operations.views import Data
from gateway.edge.paying import Paying
from gateway.ports import Clock, Ledger
from gateway.settings.runtime import Runtime

_ACTOR: Final = web.RequestKey("actor", Actor)
_REALM: Final = 'Bearer realm="gateway admin"'
_log = logging.getLogger(__name__)


def add_admin_routes(
    app: web.Application, *, ledger: Ledger, runtime: Runtime, jobs: JobOperations, paying: Paying, clock: Clock
) -> None:
    """Put the admin API under `/admin/` of the ops listener's application."""
    desk = AdminDesk(
        operations=Operations(ledger=ledger, runtime=runtime),
        jobs=jobs,
        outbox=OutboxOperations(ledger),
        autopay=AutopayOperations(ledger=ledger, runtime=runtime, paying=paying, clock=clock),
        usage=UsageOperations(ledger=ledger, clock=clock),
        prices=PriceOperations(ledger=ledger, runtime=runtime, clock=clock),
        audit=Auditor(ledger),
        alerts=AlertOperations(ledger=ledger, runtime=runtime, clock=clock),
        commitments=CommitmentOperations(ledger=ledger, clock=clock),
    )
    naming = Naming(ledger, seconds=runtime.redis.operation_seconds)
    api = AdminApi(desk, naming, lambda: Setting(runtime=runtime, now_ms=int(clock.now() * 1000)))
    tried = guesses(clock, runtime.limits.unknown_keys_per_minute_max)
    admin = web.Application(middlewares=[telling_problems(_note), _admitting(AdminTokens(runtime), tried)])
    for endpoint in ROUTES:
        for base in ("/v1", ""):  # the paths without a version are older
            for method in endpoint.methods:
                admin.router.add_route(method, base + endpoint.path, api.handler(endpoint))
    app.add_subapp("/admin/", admin)


class AdminApi:
    """Answers the routes of the table."""

    def __init__(self, desk: AdminDesk, naming: Naming, setting: Callable[[], Setting]) -> None:
        self._desk = desk
        self._naming = naming
        self._setting = setting

    def handler(self, endpoint: Endpoint[AdminDesk]) -> Callable[[web.Request], Awaitable[web.Response]]:
        """What answers one route."""

        async def handle(request: web.Request) -> web.Response:
            actor = request[_ACTOR]
            if endpoint.scope not in actor.scopes:
                return _out_of_scope(endpoint.scope)
            ask = await ask_of(
                request,
                endpoint,
                actor=actor.name,
                account=account_of(request.match_info),
                setting=self._setting,
            )
            if not endpoint.changes:
                return answer_of(await endpoint.deed(self._desk, ask), endpoint.status)

            async def deed() -> Data | Text:
                async with self._naming.kept(endpoint, ask):
                    return await endpoint.deed(self._desk, ask)

            found = await self._desk.audit.noted(
                deed,
                actor=actor.name,
                action=f"{endpoint.method} {endpoint.path}",
                account=ask.account,
                operation=ask.operation.id,
                about={name: part for name, part in ask.parts.items() if name != "account"},
            )
            return answer_of(found, endpoint.status)

        return handle


def _note(error: Exception) -> None:
    _log.error("an admin request failed", exc_info=error)


def _admitting(tokens: AdminTokens, tried: Attempts) -> Any:
    """The middleware that lets only who has a token pass. Before routing's own answers, 404 included."""

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not tokens.any:
            detail = "Set admin_token, or admin_tokens, in the config to use it."
            return ProblemReply(code="admin_disabled", detail=detail).response()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        actor = tokens.actor(token.strip()) if scheme.lower() == "bearer" else None
        if actor is None:
            if token and (wait := tried.begin(request.remote or "")):
                return too_many_guesses(wait).response()
            detail = "Send the header Authorization: Bearer, followed by an admin token."
            return ProblemReply(code="unauthorized", detail=detail, headers={"WWW-Authenticate": _REALM}).response()
        request[_ACTOR] = actor
        return await handler(request)

    return admit


def _out_of_scope(scope: str) -> web.Response:
    """The token is good, but not for this (RFC 6750)."""
    challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
    detail = f"This takes a token with the scope {scope}."
    return ProblemReply(code="insufficient_scope", detail=detail, headers={"WWW-Authenticate": challenge}).response()
