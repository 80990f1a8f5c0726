"""The admin API: accounts, keys, credit, holds, jobs and entries over HTTP, on the ops listener.

Owns: the routes under `/admin/`, who may use them, how a request's parts are taken and its answer written.
Does not know: what the operations do (operations, job_operations), what may be in a body (admin_bodies), how problems
look (admin_problems).
"""

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.core.errors import UnknownAccount
from gateway.edge.admin_bodies import (
    PAGE_ITEMS_DEFAULT,
    AddKey,
    Body,
    ChangeAccount,
    ChangeKey,
    Correct,
    GiveGrant,
    OpenAccount,
    Setting,
    SettleJob,
    is_id,
    read_body,
    read_idempotency_key,
    read_page,
)
from gateway.edge.admin_problems import ProblemReply, problem_of, problem_of_http
from gateway.edge.admin_views import Data
from gateway.edge.alert_bodies import PutAlert
from gateway.edge.alert_operations import AlertOperations, UnknownAlert
from gateway.edge.autopay_bodies import AddFunds, ChangeAutopay, FailPayment, TellPayment
from gateway.edge.autopay_operations import AutopayOperations
from gateway.edge.job_operations import JobOperations
from gateway.edge.operations import Operation, Operations, UnknownKey, operation
from gateway.edge.outbox_operations import OutboxOperations
from gateway.edge.paying import Paying
from gateway.ports import Clock, Ledger, ResourceRef
from gateway.settings.runtime import Runtime
from gateway.upstream.client import UpstreamClient

BODY_BYTES_MAX: Final = 65_536
Model = TypeVar("Model", bound=Body)
Deed: TypeAlias = Callable[["AdminApi", web.Request], Awaitable[Data]]
_log = logging.getLogger(__name__)


def add_admin_routes(
    app: web.Application, *, ledger: Ledger, runtime: Runtime, upstreams: UpstreamClient, paying: Paying, clock: Clock
) -> None:
    """Put the admin API under `/admin/` of the ops listener's application."""
    api = AdminApi(ledger=ledger, runtime=runtime, upstreams=upstreams, paying=paying, clock=clock)
    admin = web.Application(middlewares=[_telling_problems, _admitting(runtime.admin_token)])
    for method, path, status, deed in ROUTES:
        admin.router.add_route(method, path.removeprefix("/admin"), _handler(api, deed, status))
    app.add_subapp("/admin/", admin)


class AdminApi:
    """Takes a request apart and does one operation. Answers data; raises what `problem_of` tells."""

    def __init__(
        self, *, ledger: Ledger, runtime: Runtime, upstreams: UpstreamClient, paying: Paying, clock: Clock
    ) -> None:
        self._operations = Operations(ledger=ledger, runtime=runtime)
        self._jobs = JobOperations(ledger=ledger, runtime=runtime, upstreams=upstreams, clock=clock)
        self._outbox = OutboxOperations(ledger)
        self._autopay = AutopayOperations(ledger=ledger, runtime=runtime, paying=paying, clock=clock)
        self._alerts = AlertOperations(ledger=ledger, runtime=runtime, clock=clock)
        self._runtime = runtime
        self._clock = clock

    async def list_accounts(self, request: web.Request) -> Data:
        after, limit = _page(request)
        return await self._operations.list_accounts(after=after, limit=limit)

    async def open_account(self, request: web.Request) -> Data:
        return await self._operations.open_account(await self._body(request, OpenAccount), _operation(request))

    async def show_account(self, request: web.Request) -> Data:
        return await self._operations.show_account(_account(request))

    async def change_account(self, request: web.Request) -> Data:
        body = await self._body(request, ChangeAccount)
        return await self._operations.change_account(_account(request), body, _operation(request))

    async def list_keys(self, request: web.Request) -> Data:
        return await self._operations.list_keys(_account(request))

    async def add_key(self, request: web.Request) -> Data:
        body = await self._body(request, AddKey)
        return await self._operations.add_key(_account(request), body, _operation(request))

    async def change_key(self, request: web.Request) -> Data:
        body = await self._body(request, ChangeKey)
        account, key = _account(request), request.match_info["key"]
        if not is_id(key):
            raise UnknownKey("no key has an id of this form")
        return await self._operations.change_key(account, key, body, _operation(request))

    async def list_grants(self, request: web.Request) -> Data:
        return await self._operations.list_grants(_account(request))

    async def give_grant(self, request: web.Request) -> Data:
        body = await self._body(request, GiveGrant)
        return await self._operations.give_grant(_account(request), body, _operation(request))

    async def correct(self, request: web.Request) -> Data:
        body = await self._body(request, Correct)
        return await self._operations.correct(_account(request), body, _operation(request))

    async def show_credits(self, request: web.Request) -> Data:
        return await self._operations.show_credits(_account(request))

    async def list_holds(self, request: web.Request) -> Data:
        return await self._operations.list_holds(_account(request))

    async def release_hold(self, request: web.Request) -> Data:
        return await self._operations.release_hold(_account(request), request.match_info["hold"])

    async def list_jobs(self, request: web.Request) -> Data:
        _, limit = _page(request)
        return await self._jobs.list_jobs(_account(request), limit=limit)

    async def show_job(self, request: web.Request) -> Data:
        return await self._jobs.show_job(_account(request), _job(request))

    async def settle_job(self, request: web.Request) -> Data:
        body = await self._body(request, SettleJob)
        return await self._jobs.settle_job(_account(request), _job(request), charge_hold=body.charge_hold)

    async def release_job(self, request: web.Request) -> Data:
        return await self._jobs.release_job(_account(request), _job(request))

    async def list_deliveries(self, request: web.Request) -> Data:
        _, limit = _page(request)
        return await self._outbox.list_deliveries(_account(request), dead=False, limit=limit)

    async def list_dead_letters(self, request: web.Request) -> Data:
        _, limit = _page(request)
        return await self._outbox.list_deliveries(_account(request), dead=True, limit=limit)

    async def show_delivery(self, request: web.Request) -> Data:
        return await self._outbox.show_delivery(_account(request), request.match_info["delivery"])

    async def replay_delivery(self, request: web.Request) -> Data:
        return await self._outbox.replay_delivery(_account(request), request.match_info["delivery"])

    async def list_alerts(self, request: web.Request) -> Data:
        return await self._alerts.list_alerts(_account(request))

    async def put_alert(self, request: web.Request) -> Data:
        body = await self._body(request, PutAlert)
        return await self._alerts.put_alert(_account(request), _alert(request), body)

    async def drop_alert(self, request: web.Request) -> Data:
        return await self._alerts.drop_alert(_account(request), _alert(request))

    async def test_alert(self, request: web.Request) -> Data:
        return await self._alerts.test_alert(_account(request), _alert(request))

    async def list_entries(self, request: web.Request) -> Data:
        after, limit = _page(request)
        return await self._operations.list_entries(_account(request), after=after, limit=limit)

    async def verify(self, request: web.Request) -> Data:
        return await self._operations.verify(_account(request))

    async def show_autopay(self, request: web.Request) -> Data:
        return await self._autopay.show_autopay(_account(request))

    async def change_autopay(self, request: web.Request) -> Data:
        body = await self._body(request, ChangeAutopay)
        return await self._autopay.change_autopay(_account(request), body, _operation(request).id)

    async def fail_payment(self, request: web.Request) -> Data:
        return await self._autopay.fail_payment(_account(request), await self._body(request, FailPayment))

    async def add_funds(self, request: web.Request) -> Data:
        body = await self._body(request, AddFunds)
        return await self._autopay.add_funds(_account(request), body, _operation(request).id)

    async def tell_payment(self, request: web.Request) -> Data:
        return await self._autopay.tell_payment(_account(request), await self._body(request, TellPayment))

    async def _body(self, request: web.Request, model: type[Model]) -> Model:
        setting = Setting(runtime=self._runtime, now_ms=int(self._clock.now() * 1000))
        return read_body(model, await _read(request), setting)


#: Method, path, status of success, what is done.
ROUTES: Final[tuple[tuple[str, str, int, Deed], ...]] = (
    ("GET", "/admin/accounts", 200, AdminApi.list_accounts),
    ("POST", "/admin/accounts", 201, AdminApi.open_account),
    ("GET", "/admin/accounts/{account}", 200, AdminApi.show_account),
    ("PATCH", "/admin/accounts/{account}", 200, AdminApi.change_account),
    ("GET", "/admin/accounts/{account}/keys", 200, AdminApi.list_keys),
    ("POST", "/admin/accounts/{account}/keys", 201, AdminApi.add_key),
    ("PATCH", "/admin/accounts/{account}/keys/{key}", 200, AdminApi.change_key),
    ("GET", "/admin/accounts/{account}/grants", 200, AdminApi.list_grants),
    ("POST", "/admin/accounts/{account}/grants", 201, AdminApi.give_grant),
    ("POST", "/admin/accounts/{account}/corrections", 201, AdminApi.correct),
    ("GET", "/admin/accounts/{account}/credits", 200, AdminApi.show_credits),
    ("GET", "/admin/accounts/{account}/autopay", 200, AdminApi.show_autopay),
    ("PATCH", "/admin/accounts/{account}/autopay", 200, AdminApi.change_autopay),
    ("POST", "/admin/accounts/{account}/autopay/fail", 200, AdminApi.fail_payment),
    ("POST", "/admin/accounts/{account}/funds", 201, AdminApi.add_funds),
    ("POST", "/admin/accounts/{account}/payments", 201, AdminApi.tell_payment),
    ("GET", "/admin/accounts/{account}/holds", 200, AdminApi.list_holds),
    ("POST", "/admin/accounts/{account}/holds/{hold}/release", 200, AdminApi.release_hold),
    ("GET", "/admin/accounts/{account}/jobs", 200, AdminApi.list_jobs),
    ("GET", "/admin/accounts/{account}/jobs/{kind}/{job}", 200, AdminApi.show_job),
    ("POST", "/admin/accounts/{account}/jobs/{kind}/{job}/settle", 200, AdminApi.settle_job),
    ("POST", "/admin/accounts/{account}/jobs/{kind}/{job}/release", 200, AdminApi.release_job),
    ("GET", "/admin/accounts/{account}/deliveries", 200, AdminApi.list_deliveries),
    ("GET", "/admin/accounts/{account}/dead-letters", 200, AdminApi.list_dead_letters),
    ("GET", "/admin/accounts/{account}/deliveries/{delivery}", 200, AdminApi.show_delivery),
    ("POST", "/admin/accounts/{account}/deliveries/{delivery}/replay", 200, AdminApi.replay_delivery),
    ("GET", "/admin/accounts/{account}/alerts", 200, AdminApi.list_alerts),
    ("PUT", "/admin/accounts/{account}/alerts/{alert}", 200, AdminApi.put_alert),
    ("DELETE", "/admin/accounts/{account}/alerts/{alert}", 200, AdminApi.drop_alert),
    ("POST", "/admin/accounts/{account}/alerts/{alert}/test", 200, AdminApi.test_alert),
    ("GET", "/admin/accounts/{account}/entries", 200, AdminApi.list_entries),
    ("POST", "/admin/accounts/{account}/verify", 200, AdminApi.verify),
)


def _handler(api: AdminApi, deed: Deed, status: int) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(
            status=status,
            body=orjson.dumps(await deed(api, request)),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return handle


@web.middleware
async def _telling_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal and fault of the API is answered as a problem."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        problem = problem_of_http(error)
    except Exception as error:  # noqa: BLE001 - a problem told is better than a page of another format
        problem = problem_of(error)
        if problem.code == "internal":
            _log.exception("an admin request failed")
    return problem.response()


def _admitting(admin_token: str) -> Any:
    """The middleware that lets only the holder of the token pass. Before routing's own answers, 404 included."""
    expected = _digest(admin_token)

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not admin_token:
            detail = "Set admin_token in the config to use it."
            return ProblemReply(code="admin_disabled", detail=detail).response()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        # Digests have one length: the comparison's time says nothing of the token's.
        if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(token.strip()), expected):
            challenge = {"WWW-Authenticate": 'Bearer realm="gateway admin"'}
            detail = "Send the header Authorization: Bearer, followed by the admin token."
            return ProblemReply(code="unauthorized", detail=detail, headers=challenge).response()
        return await handler(request)

    return admit


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _account(request: web.Request) -> str:
    account = request.match_info["account"]
    if not is_id(account):
        raise UnknownAccount("no account has an id of this form")
    return account


def _alert(request: web.Request) -> str:
    alert = request.match_info["alert"]
    if not is_id(alert):
        raise UnknownAlert("no alert has an id of this form")
    return alert


def _job(request: web.Request) -> ResourceRef:
    return ResourceRef(kind=request.match_info["kind"], id=request.match_info["job"])


def _operation(request: web.Request) -> Operation:
    text = request.headers.get("Idempotency-Key")
    return operation(None if text is None else read_idempotency_key(text))


def _page(request: web.Request) -> tuple[str, int]:
    return read_page(request.query.get("after", ""), request.query.get("limit", str(PAGE_ITEMS_DEFAULT)))


async def _read(request: web.Request) -> bytes:
    """The body, within its bound, whatever the listener's own bound is."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(BODY_BYTES_MAX):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise web.HTTPRequestEntityTooLarge(max_size=BODY_BYTES_MAX, actual_size=len(body))
    return bytes(body)
