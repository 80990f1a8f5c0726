"""Forward-auth, `/authz` on the customers' listener: a proxy of somebody else's asks whether a call may pass.

Owns: who may ask, how proxies say what the original request was, how they are answered.
Does not know: guards, holds, prices (operations/credit and what is behind it).

What the proxy says is believed, for it is ours: so only one that is trusted by its address, or that has a token, is
answered, and of what its client may have written nothing counts but its key. A call that costs is held, and whoever
serves it settles: see plug-in modes in docs/operating.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from gateway.core.addresses import Allowed
from gateway.core.errors import Code, LedgerUnavailable, Refused
from gateway.edge.api.admin_problems import ProblemReply, telling_problems, too_many_guesses
from gateway.edge.api.admin_tokens import AdminTokens
from gateway.edge.api.credit_api import Guessed, ending, has_scope, note, telling_refusals
from gateway.edge.api.credit_routes import ENDINGS
from gateway.edge.attempts import asked_by
from gateway.edge.holds import PREFIX
from gateway.edge.operations.bodies import Setting
from gateway.edge.operations.credit import CreditOperations, NotHeld
from gateway.pipeline.bookable import Bookable
from gateway.pipeline.call import Answer
from gateway.pipeline.refusals import render
from gateway.pipeline.told import ToldClient
from gateway.settings.products import ErrorStyle
from gateway.settings.routing import Match, Router
from gateway.settings.runtime import PlugIn, Runtime

BASE: Final = "/authz"
#: Proxies that keep the original path put this before it.
PATH: Final = f"{BASE}/path"
TOKEN_HEADER: Final = "X-Gateway-Token"  # noqa: S105 - its name
BODY_BYTES_MAX: Final = 1024 * 1024
_TARGET_MAX: Final = 16_384
#: What a service is told of the call, where there is something to tell.
_TOLD: Final = ("X-Gateway-Hold", "X-Gateway-Hold-Seconds", "X-Gateway-Account", "X-Gateway-Key")
#: What nginx's auth_request passes on of an answer's statuses, beside those that let a call pass.
_AUTH_REQUEST: Final = (401, 403)
_BODY_HEADER_MAX: Final = 2048
#: Of the original request's head these are the proxy's, or are about a body that mostly is not here.
_NOT_THE_CALLS: Final = ("idempotency-key", "content-encoding", "content-length", "transfer-encoding")


class Original(NamedTuple):
    """The request that a proxy asks about. The path is as its client sent it, without the query."""

    method: str
    host: str
    raw_path: str
    query_string: str


class ForwardAuth:
    """Answers proxies."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        desk: CreditOperations,
        book: Mapping[str, Bookable],
        tokens: AdminTokens,
        call_ids: Callable[[], str],
    ) -> None:
        self._settings: PlugIn = runtime.plug_in
        self._style: ErrorStyle = runtime.default_errors
        self._desk = desk
        self._book = book
        self._tokens = tokens
        self._call_ids = call_ids
        self._trusted = Allowed.of(runtime.plug_in.trusted)
        self._router = Router([route for route in runtime.routes if route.methods])

    def actor(self, request: web.Request) -> str | None:
        """Who asks: a token's name, or the address that needs none; None if nobody who may."""
        if (token := request.headers.get(TOKEN_HEADER)) is not None:
            actor = has_scope(self._tokens, token)
            return None if actor is None else actor.name
        address = request.remote or ""
        try:
            found = ip_address(address)
        except ValueError:
            return None
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return f"peer {address}" if self._trusted.has(found) else None

    async def judge(self, request: web.Request) -> web.Response:
        """Whether the original call may pass; with a hold, if it costs."""
        call_id = self._call_ids()
        style = self._style
        try:
            found = self._match(request)
            if isinstance(found, Refused):
                return _refusal(request, style, found, call_id)
            original, match = found
            style = match.route.product.errors
            if match.route.public:
                return _passed(call_id, {})
            bookable = self._book.get(match.route.name)
            if bookable is None:
                reason = "This is not to be had by way of this proxy."
                return _refusal(request, style, Refused(code=Code.UNSUPPORTED, details={"reason": reason}), call_id)
            body = await _read(request)
            if body is None:
                too_large = Refused(code=Code.BODY_TOO_LARGE, details={"bytes_max": str(BODY_BYTES_MAX)})
                return _refusal(request, style, too_large, call_id)
            client = self._client(request, original, body)
            opened, seconds = await self._desk.held(client, bookable.by_request, match.params, hold_id=call_id)
        except NotHeld as error:
            return _refusal(request, style, error.refused, call_id)
        except LedgerUnavailable as fault:
            away = Refused(code=fault.code, retry_after_seconds=fault.retry_after_seconds)
            return _refusal(request, style, away, call_id)
        told = {"X-Gateway-Account": opened.account, "X-Gateway-Key": opened.key_id}
        if opened.booking is not None:
            told |= {"X-Gateway-Hold": self._desk.written(opened.booking), "X-Gateway-Hold-Seconds": str(seconds)}
        return _passed(call_id, told)

    def _match(self, request: web.Request) -> tuple[Original, Match] | Refused:
        original = self._original(request)
        if isinstance(original, Refused):
            return original
        match = self._router.match(original.method, original.host, original.raw_path)
        if not isinstance(match, Match):
            return Refused(code=Code.METHOD_NOT_ALLOWED if match.allowed_methods else Code.ROUTE_NOT_FOUND)
        return original, match

    def _original(self, request: web.Request) -> Original | Refused:
        """The original request: in the proxy's headers, or this one but for its prefix."""
        hosts = request.headers.getall(self._settings.host_header, ())
        host = hosts[0] if len(hosts) == 1 else ""
        method, target = request.method, request.raw_path.removeprefix(PATH)
        if target == request.raw_path:
            methods = request.headers.getall(self._settings.method_header, ())
            targets = request.headers.getall(self._settings.uri_header, ())
            if len(methods) != 1 or len(targets) != 1:
                reason = (
                    f"the proxy has to say {self._settings.method_header} and {self._settings.uri_header}, once each"
                )
                return Refused(code=Code.INVALID_REQUEST, details={"reason": reason})
            method, target = methods[0], targets[0]
        if not target.startswith("/") or len(target) > _TARGET_MAX:
            return Refused(code=Code.INVALID_REQUEST, details={"reason": "the original path is none"})
        raw_path, _, query_string = target.partition("?")
        return Original(method=method, host=host, raw_path=raw_path, query_string=query_string)

    @staticmethod
    def _client(request: web.Request, original: Original, body: bytes) -> ToldClient:
        headers = CIMultiDict(request.headers)
        address = asked_by(request.headers, request.remote or "", trust=True)
        coding = headers.get("Content-Encoding", "")
        for name in (*_NOT_THE_CALLS, TOKEN_HEADER):
            headers.popall(name, None)
        if body and coding:
            headers["Content-Encoding"] = coding
        return ToldClient(
            method=original.method,
            host=original.host,
            raw_path=original.raw_path,
            query_string=original.query_string,
            headers=headers,
            address=address,
            body=body,
        )


def add_forward_auth(
    app: web.Application,
    auth: ForwardAuth,
    *,
    desk: CreditOperations,
    setting: Callable[[], Setting],
    guessed: Guessed,
) -> None:
    """Put forward-auth at `/authz` of the customers' own routes, and what ends its holds below it."""

    def actor_of(request: web.Request) -> str:
        actor = auth.actor(request)
        assert actor is not None, "it was let in"
        return actor

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if auth.actor(request) is None:
            token = request.headers.get(TOKEN_HEADER)
            if token and (wait := guessed(request.headers, request.remote or "", token)):
                return too_many_guesses(wait).response()
            detail = f"Only proxies at trusted addresses, or with a token in {TOKEN_HEADER}, are answered."
            return ProblemReply(code="insufficient_scope", detail=detail).response()
        return await handler(request)

    endings: list[tuple[str, Callable[[web.Request], Awaitable[web.Response]]]] = [
        (each.path.replace("/holds/{hold}", f"/{{hold:{PREFIX}[^/]+}}"), ending(desk, each, setting, actor_of))
        for each in ENDINGS
    ]
    below = web.Application(middlewares=[telling_problems(note), admit, telling_refusals])
    for path, handler in endings:
        below.router.add_post(path, handler)
    for path in ("", "/", "/path", "/path/{original:.*}"):
        below.router.add_route("*", path, auth.judge)
    app.add_subapp(BASE, below)


def _passed(call_id: str, told: Mapping[str, str]) -> web.Response:
    """The call may pass. What the service is not told it must not hear of the client either: Envoy can be asked to see
    to that, the other proxies' settings do.
    """
    headers = {"X-Gateway-Call-Id": call_id, "Cache-Control": "no-store", **told}
    if untold := [name for name in _TOLD if name not in told]:
        headers["X-Envoy-Auth-Headers-To-Remove"] = ", ".join(untold)
    return web.Response(headers=headers)


def _refusal(request: web.Request, style: ErrorStyle, refused: Refused, call_id: str) -> web.Response:
    """The refusal in the product's words. Where a proxy passes on 401 and 403 alone, what it says is in headers."""
    answer: Answer = render(style, refused, call_id)
    status, headers = answer.status, answer.headers
    headers["Cache-Control"] = "no-store"
    if request.path in (BASE, f"{BASE}/") and request.query.get("for") == "auth_request":
        headers["X-Gateway-Status"] = str(status)
        told = json.dumps(json.loads(answer.body))  # in ASCII, on one line
        if len(told) <= _BODY_HEADER_MAX:
            headers["X-Gateway-Body"] = told
        status = status if status in _AUTH_REQUEST else 403
    if status < 400:  # a dialect may tell clients to come again by 202: to a proxy that would be leave to pass
        status = 403
    return web.Response(status=status, headers=headers, body=answer.body)


async def _read(request: web.Request) -> bytes | None:
    """What came of the original body; None if it is too large. A part of one is as good as none."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(65_536):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    return b"" if request.headers.get("x-envoy-auth-partial-body") == "true" else bytes(body)
