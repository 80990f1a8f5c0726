"""The sandbox's own routes, under /sandbox/: what was seen, what is stored, and the knobs.

Owns: `/sandbox/requests`, `/sandbox/state`, `/sandbox/sessions`, `/sandbox/knobs`, `/sandbox/health`. They need no
credential and are not recorded.
Does not know: products, beyond asking their records for a view.
"""

import time
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from gateway.sandbox.jobs import most_at_once
from gateway.sandbox.knobs import KnobError, describe, merged
from gateway.sandbox.replies import JSON
from gateway.sandbox.routes import bad_knob
from gateway.sandbox.state import STATE


def add_control(app: web.Application) -> None:
    """Serve the control routes."""
    app.router.add_get("/sandbox/health", _health)
    app.router.add_get("/sandbox/state", _state)
    app.router.add_get("/sandbox/sessions", _sessions)
    app.router.add_get("/sandbox/requests", _requests)
    app.router.add_delete("/sandbox/requests", _forget_requests)
    app.router.add_get("/sandbox/knobs", _knobs)
    app.router.add_put("/sandbox/knobs", _turn_knobs)
    app.router.add_delete("/sandbox/knobs", _reset_knobs)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type=JSON)


async def _health(_: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _state(request: web.Request) -> web.Response:
    """Counters, sizes of the stores, and the sum of what finished jobs reported."""
    state = request.app[STATE]
    now = time.monotonic()
    statuses = [job.status(now) for job in state.jobs.values()]
    counted = ("requests", "foreign_credentials", "missing_credentials", "webhooks_sent", "webhooks_failed")
    return _json(
        {
            **{name: state.counts[name] for name in counted},
            **state.counts,
            "uploads": len(state.uploads),
            "transcripts": {name: statuses.count(name) for name in sorted(set(statuses))},
            "transcripts_most_at_once": most_at_once(state.jobs.values()),
            "streaming_sessions_open": sum(record.ended is None for record in state.streams.values()),
            "agent_sessions_open": sum(record.connected for record in state.agent_sessions.values()),
        }
    )


async def _sessions(request: web.Request) -> web.Response:
    """The sessions of both kinds, newest first."""
    state = request.app[STATE]
    now = time.monotonic()
    return _json(
        {
            "streaming": [record.view() for record in reversed(state.streams.values())],
            "agents": [record.view(now) for record in reversed(state.agent_sessions.values())],
        }
    )


async def _requests(request: web.Request) -> web.Response:
    """The last requests, newest first; `?limit=` for fewer."""
    entries = request.app[STATE].entries
    asked = request.query.get("limit", "")
    limit = int(asked) if asked.isdecimal() else len(entries)
    return _json({"requests": [entry.view() for entry in list(reversed(entries))[:limit]]})


async def _forget_requests(request: web.Request) -> web.Response:
    request.app[STATE].reset()
    return _json({})


async def _knobs(request: web.Request) -> web.Response:
    """The knobs with their values; `?describe=1` adds what each is for."""
    knobs = request.app[STATE].knobs
    return _json(describe(knobs) if request.query.get("describe") else asdict(knobs))


async def _turn_knobs(request: web.Request) -> web.Response:
    """Merge the body into the knobs; all or, when one is wrong, none."""
    state = request.app[STATE]
    try:
        changes = orjson.loads(await request.read())
        if not isinstance(changes, dict):
            raise KnobError("a JSON object of knobs is wanted")
        state.knobs = merged(state.knobs, changes, state.defaults)
    except orjson.JSONDecodeError:
        return _answer(KnobError("a JSON object of knobs is wanted"))
    except KnobError as error:
        return _answer(error)
    return _json(asdict(state.knobs))


async def _reset_knobs(request: web.Request) -> web.Response:
    state = request.app[STATE]
    state.knobs = state.defaults
    return _json(asdict(state.knobs))


def _answer(error: KnobError) -> web.Response:
    reply = bad_knob(error)
    return web.Response(status=reply.status, body=reply.parts[0], content_type=JSON)
