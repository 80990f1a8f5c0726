"""The one way of every request through the sandbox: record, disturb, identify, answer, deliver.

Owns: `Route` and `Call`, and the order in which faults, credentials and handlers come. A handler is a plain function
from a `Call` to a `Reply`.
Does not know: what any product does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.sandbox import knobs as knobs_
from gateway.sandbox.errors import Product, refusal, unauthorized
from gateway.sandbox.knobs import KnobError, Knobs
from gateway.sandbox.replies import EVENTS, Reply, deliver, hang_up, json_reply, keep_waiting, send_early_hints
from gateway.sandbox.state import STATE, Carried, Entry, Kept, SandboxState, Token


@dataclass(frozen=True, slots=True)
class Call:
    """One request with everything its handler needs."""

    request: web.Request
    state: SandboxState
    knobs: Knobs
    entry: Entry
    body: bytes

    def json_object(self) -> dict[str, Any] | None:
        """The body, where it is a JSON object."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None
        return value if isinstance(value, dict) else None


Handler = Callable[[Call], Reply | Awaitable[Reply]]
SocketHandler = Callable[[Call, web.WebSocketResponse], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, whose product it is, and what answers."""

    method: str
    path: str
    product: Product
    handler: Handler
    public: bool = False
    reads_body: bool = True


@dataclass(frozen=True, slots=True)
class SocketRoute:
    """A path where sessions are opened; credentials are judged in band, by the handler."""

    path: str
    product: Product
    handler: SocketHandler
    tokens: Callable[[SandboxState], Kept[Token]]


def add(app: web.Application, route: Route) -> None:
    """Serve the route; one for GET answers HEAD, too."""

    async def serve(request: web.Request) -> web.StreamResponse:
        return await _serve(request, route)

    app.router.add_route(route.method, route.path, serve)
    if route.method == "GET":
        app.router.add_route("HEAD", route.path, serve)


def add_socket(app: web.Application, route: SocketRoute) -> None:
    """Serve the socket route."""

    async def serve(request: web.Request) -> web.StreamResponse:
        return await _serve_socket(request, route)

    app.router.add_get(route.path, serve)


def add_catch_all(app: web.Application) -> None:
    """Record and refuse what no product serves."""
    nothing = Route("*", "/{path:.*}", Product.TRANSCRIPTS, _not_found)
    add(app, nothing)


def _not_found(call: Call) -> Reply:  # noqa: ARG001 - a handler
    return refusal(Product.TRANSCRIPTS, 404, "Not found")


async def _serve(request: web.Request, route: Route) -> web.StreamResponse:
    state = request.app[STATE]
    entry = state.record(request)
    body = b""
    if route.reads_body:
        body = await request.read()
        entry.saw(body)
    try:
        knobs = knobs_.of_request(state.knobs, request.raw_headers, state.defaults)
    except KnobError as error:
        return await deliver(request, bad_knob(error), state.defaults, state.closing)
    if knobs.latency_seconds:
        await asyncio.sleep(knobs.latency_seconds)
    if knobs.early_hints:
        await send_early_hints(request, knobs.early_hints)

    reply = forced(state, knobs, route.product)
    if reply is None and not route.public and entry.carried is not Carried.SERVICE:
        reply = unauthorized(route.product, missing=entry.carried is Carried.MISSING)
    if reply is None:
        answer = route.handler(Call(request, state, knobs, entry, body))
        reply = answer if isinstance(answer, Reply) else await answer
        if knobs.status is not None:
            reply = replace(reply, status=knobs.status)
    return await deliver(request, reply, knobs, state.closing)


async def _serve_socket(request: web.Request, route: SocketRoute) -> web.StreamResponse:
    state = request.app[STATE]
    entry = state.record(request, route.tokens(state))
    try:
        knobs = knobs_.of_request(state.knobs, request.raw_headers, state.defaults)
    except KnobError as error:
        return await deliver(request, bad_knob(error), state.defaults, state.closing)
    if knobs.body == "no_reply":
        return hang_up(request)
    if knobs.body == "hang":
        return await keep_waiting(request, state.closing)
    reply = forced(state, knobs, route.product)
    socket = web.WebSocketResponse(timeout=2.0, max_msg_size=state.settings.frame_bytes_max)
    if reply is None and not socket.can_prepare(request).ok:
        reply = refusal(route.product, 426, "WebSocket upgrade required")
    if reply is not None:
        return await deliver(request, reply, knobs, state.closing)

    await socket.prepare(request)
    if knobs.latency_seconds:
        await asyncio.sleep(knobs.latency_seconds)
    await route.handler(Call(request, state, knobs, entry, b""), socket)
    return socket


def forced(state: SandboxState, knobs: Knobs, product: Product) -> Reply | None:
    """The reply that a knob wants instead of the product's own."""
    status = knobs.status
    if knobs.redirect is not None:
        moved = status if status is not None and 300 <= status < 400 else 307
        return Reply(moved, (b"",), headers={"Location": knobs.redirect})
    if status is None and knobs.fail_rate and state.failure_due(knobs.fail_rate):
        status = knobs.fail_status
    if status is None or (status < 400 and status not in (204, 304)):
        return None
    if knobs.status_body is None:
        return refusal(product, status, _FORCED.get(status, "forced by the sandbox"))
    if isinstance(knobs.status_body, str):
        return Reply(status, (knobs.status_body.encode(),))
    return json_reply(knobs.status_body, status)


_FORCED: Final = {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


def bad_knob(error: KnobError) -> Reply:
    """The answer to a knob that is none, with the list of those that are."""
    return json_reply({"error": str(error), "knobs": sorted(knobs_.KNOBS)}, 400)


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def event_stream(events: list[bytes]) -> Reply:
    """A reply of server-sent events."""
    return Reply(200, tuple(events), EVENTS, {"Cache-Control": "no-cache"}, streamed=True)
