"""The customers' billing API over HTTP, on their own listener: `/billing/v1`, with their own keys.

Owns: who may use it (every key that opens something, whatever credit is left), and how often.
Does not know: which routes there are (billing_routes), what they do (operations), how problems look (admin_problems).
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.core.errors import Code, Refused, place_of
from gateway.edge.api.admin_problems import ProblemReply, later, telling_problems
from gateway.edge.api.billing_routes import BASE, ROUTES, BillingDesk
from gateway.edge.api.endpoints import Endpoint, answer_of, ask_of
from gateway.edge.api.naming import Naming
from gateway.edge.attempts import requests_of_keys
from gateway.edge.identify import Identifier
from gateway.edge.operations.alerts import AlertOperations
from gateway.edge.operations.autopay import AutopayOperations
from gateway.edge.operations.billing import BillingOperations
from gateway.edge.operations.bodies import Setting
from gateway.edge.operations.commitments import CommitmentOperations
from gateway.edge.operations.jobs import JobReading
from gateway.edge.operations.plans import PlanOperations
from gateway.edge.operations.usage import UsageOperations
from gateway.edge.pages.billing_view import key_state
from gateway.edge.paying import Paying
from gateway.ports import Clock, Identity, Ledger
from gateway.settings.runtime import Runtime

#: The names that customers give to changes are never those of ops.
_READS: Final = frozenset({"GET", "HEAD"})
_NAMESPACE: Final = "billing:"
_WHO: Final = web.RequestKey("who", Identity)
_NOBODY: Final = ProblemReply(
    code="unauthorized",
    detail="Send the header Authorization with an API key of the account.",
    headers={"WWW-Authenticate": 'Bearer realm="gateway billing"'},
)
_log = logging.getLogger(__name__)


def add_billing_api(
    app: web.Application, *, identifier: Identifier, ledger: Ledger, runtime: Runtime, paying: Paying, clock: Clock
) -> None:
    """Put the billing API at `/billing/v1` of the customers' own routes."""
    desk = BillingDesk(
        billing=BillingOperations(ledger=ledger, runtime=runtime, clock=clock),
        usage=UsageOperations(ledger=ledger, clock=clock),
        plan=PlanOperations(ledger=ledger, runtime=runtime),
        jobs=JobReading(ledger),
        autopay=AutopayOperations(ledger=ledger, runtime=runtime, paying=paying, clock=clock),
        alerts=AlertOperations(ledger=ledger, runtime=runtime, clock=clock),
        commitments=CommitmentOperations(ledger=ledger, clock=clock),
    )
    guard = BillingGuard(
        identifier, ledger=ledger, clock=clock, requests_max=runtime.limits.billing_requests_per_minute_max
    )
    api = web.Application(middlewares=[telling_problems(_note), guard.middleware])
    naming = Naming(ledger, seconds=runtime.redis.operation_seconds)
    for endpoint in ROUTES:
        handler = _handler(desk, naming, endpoint, lambda: Setting(runtime=runtime, now_ms=int(clock.now() * 1000)))
        for method in endpoint.methods:
            api.router.add_route(method, endpoint.path, handler)
    app.add_subapp(BASE, api)


class BillingGuard:
    """Lets whoever has a key of an account pass, so many times in a minute."""

    def __init__(self, identifier: Identifier, *, ledger: Ledger, clock: Clock, requests_max: int) -> None:
        self._identifier = identifier
        self._ledger = ledger
        self._clock = clock
        self._requests = requests_of_keys(clock, requests_max)

    @property
    def middleware(self) -> Any:
        """Before routing's own answers, 404 included."""

        @web.middleware
        async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
            found = await self._who(request)
            if isinstance(found, ProblemReply):
                return found.response()
            request[_WHO] = found
            return await handler(request)

        return admit

    async def _who(self, request: web.Request) -> Identity | ProblemReply:
        found = await self._identifier.of_key(request.headers, request.remote or "")
        if isinstance(found, Refused):
            if found.code != Code.TOO_MANY_UNKNOWN_KEYS:
                return _NOBODY
            return later(
                str(found.code), "Keys that nobody has came from your address.", found.retry_after_seconds or 1
            )
        if wait := self._requests.begin(f"{found.account} {found.key_id}"):
            return later("rate_limited", "This key asked often enough in this minute.", wait)
        now_ms = int(self._clock.now() * 1000)
        keys = {key.id: key for key in await self._ledger.keys(found.account)}
        if found.key_id not in keys or key_state(keys[found.key_id], now_ms) != "active":
            return ProblemReply(code="key_disabled", detail="Use another key of the account.")
        may = keys[found.key_id].billing
        if may == "none" or (may == "read" and request.method not in _READS):
            return ProblemReply(code="not_with_this_key", detail=f"Of billing this key may: {may}. Use another one.")
        return found


def _handler(
    desk: BillingDesk, naming: Naming, endpoint: Endpoint[BillingDesk], setting: Callable[[], Setting]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        who = request[_WHO]
        ask = await ask_of(
            request, endpoint, actor=who.key_id, account=who.account, setting=setting, namespace=_NAMESPACE
        )
        async with naming.kept(endpoint, ask):
            return answer_of(await endpoint.deed(desk, ask), endpoint.status)

    return handle


def _note(error: Exception) -> None:
    """Its type and where: its text could hold what a customer sent."""
    _log.error("a request failed: %s", place_of(error))
