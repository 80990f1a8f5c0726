"""The voice agent's REST API: temporary tokens, stored agents, and the history of sessions.

Owns: /v1/token, /v1/agents and /v1/sessions.
Does not know: the socket (`agents`).
"""

import time
from typing import Any, Final
from uuid import uuid4

from gateway.sandbox.agent_config import Problem, check
from gateway.sandbox.errors import Product, refusal, validation_error
from gateway.sandbox.replies import Reply, json_reply
from gateway.sandbox.routes import Call, Route

LIST_MAX: Final = 100


def token(call: Call) -> Reply:
    """Mint a temporary token."""
    query = call.request.query
    seconds = _whole(query.get("expires_in_seconds"))
    cap = _whole(query.get("max_session_duration_seconds"))
    if "expires_in_seconds" not in query:
        return validation_error("query", "expires_in_seconds", "Field required", kind="missing")
    if seconds is None or not 1 <= seconds <= 600:
        return validation_error("query", "expires_in_seconds", "Input should be from 1 to 600")
    if "max_session_duration_seconds" in query and (cap is None or not 60 <= cap <= 10_800):
        return validation_error("query", "max_session_duration_seconds", "Input should be from 60 to 10800")
    value = call.state.mint(call.state.agent_tokens, seconds, cap)
    return json_reply({"token": value, "expires_in_seconds": seconds})


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 10 else None


def _not_found(what: str) -> Reply:
    return refusal(Product.AGENTS, 404, f"{what} not found")


def _agent_body(call: Call) -> dict[str, Any] | Reply:
    body = call.json_object()
    if body is None:
        return validation_error("body", "", "Input should be a valid object")
    if not isinstance(body.get("name"), str) or not body["name"]:
        return validation_error("body", "name", "Field required", kind="missing")
    try:
        check(body)
    except Problem as problem:
        return validation_error("body", problem.param or "", str(problem))
    return {name: value for name, value in body.items() if name not in ("id", "created_at")}


def create_agent(call: Call) -> Reply:
    """Store an agent."""
    body = _agent_body(call)
    if isinstance(body, Reply):
        return body
    agent = {"id": f"agent_{uuid4().hex}", **body, "created_at": time.time()}
    return json_reply(call.state.agents.keep(agent["id"], agent), 201)


def list_agents(call: Call) -> Reply:
    """The stored agents, newest first."""
    return json_reply({"agents": list(reversed(call.state.agents.values()))[:LIST_MAX]})


def get_agent(call: Call) -> Reply:
    """One agent."""
    agent = call.state.agents.get(call.request.match_info["id"])
    return _not_found("Agent") if agent is None else json_reply(agent)


def replace_agent(call: Call) -> Reply:
    """Store an agent anew under its id."""
    agent = call.state.agents.get(call.request.match_info["id"])
    body = _agent_body(call)
    if agent is None:
        return _not_found("Agent")
    if isinstance(body, Reply):
        return body
    changed = {"id": agent["id"], **body, "created_at": agent["created_at"]}
    return json_reply(call.state.agents.keep(agent["id"], changed))


def delete_agent(call: Call) -> Reply:
    """Forget an agent."""
    if call.state.agents.pop(call.request.match_info["id"], None) is None:
        return _not_found("Agent")
    return Reply(204, (b"",))


def list_sessions(call: Call) -> Reply:
    """The account's sessions, newest first."""
    now = time.monotonic()
    sessions = list(reversed(call.state.agent_sessions.values()))[:LIST_MAX]
    return json_reply({"sessions": [record.view(now) for record in sessions]})


def get_session(call: Call) -> Reply:
    """One session, with its duration once it is over."""
    record = call.state.agent_sessions.get(call.request.match_info["id"])
    return _not_found("Session") if record is None else json_reply(record.view(time.monotonic()))


def delete_session(call: Call) -> Reply:
    """Forget a session that is over."""
    record = call.state.agent_sessions.get(call.request.match_info["id"])
    if record is None:
        return _not_found("Session")
    if record.status(time.monotonic()) != "completed":
        return refusal(Product.AGENTS, 409, "Session is active")
    del call.state.agent_sessions[record.id]
    return Reply(204, (b"",))


ROUTES: Final = (
    Route("GET", "/v1/token", Product.AGENTS, token),
    Route("POST", "/v1/agents", Product.AGENTS, create_agent),
    Route("GET", "/v1/agents", Product.AGENTS, list_agents),
    Route("GET", "/v1/agents/{id}", Product.AGENTS, get_agent),
    Route("PUT", "/v1/agents/{id}", Product.AGENTS, replace_agent),
    Route("DELETE", "/v1/agents/{id}", Product.AGENTS, delete_agent),
    Route("GET", "/v1/sessions", Product.AGENTS, list_sessions),
    Route("GET", "/v1/sessions/{id}", Product.AGENTS, get_session),
    Route("DELETE", "/v1/sessions/{id}", Product.AGENTS, delete_session),
)
