"""Stored voice agents and the history of sessions: each account has its own, and they are free."""

from typing import Any
from uuid import uuid4

import pytest

from gateway.core.money import parse_usd
from tests.harness import Got, Running
from tests.pipeline.helpers import in_order
from tests.pipeline.test_tenants import seen_by_customer

AGENTS = "/v1/agents"
AGENT: dict[str, Any] = {"name": "Front desk", "system_prompt": "Be brief.", "output": {"voice": "alba"}}


async def made(gw: Running, key: str, **changes: Any) -> str:
    """The id of a new agent."""
    got = await gw.call("POST", AGENTS, key, json={**AGENT, **changes})
    assert got.status == 201, got.body
    found: str = got.json["id"]
    return found


def named(got: Got) -> list[str]:
    """The names in a list of agents."""
    assert got.status == 200, got.body
    return [agent["name"] for agent in got.json["agents"]]


async def test_an_agent_from_its_making_to_its_end(gw: Running) -> None:
    """Made, read, changed, listed and deleted by its owner, without credit, at no charge."""
    key = await gw.open_account("a", credit="0")
    agent = await made(gw, key)
    assert (await gw.call("GET", f"{AGENTS}/{agent}", key)).json["name"] == "Front desk"
    changed = await gw.call("PUT", f"{AGENTS}/{agent}", key, json={**AGENT, "name": "Back office"})
    assert (changed.status, changed.json["id"]) == (200, agent)
    assert named(await gw.call("GET", AGENTS, key)) == ["Back office"]
    assert (await gw.call("DELETE", f"{AGENTS}/{agent}", key)).status == 204
    gone = await gw.call("GET", f"{AGENTS}/{agent}", key)
    assert (gone.status, gone.code, gone.json) == (404, "not_found", {"detail": "Not found"})
    assert named(await gw.call("GET", AGENTS, key)) == []
    await in_order(gw, "a", balance=parse_usd("0"))


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_a_foreign_agent_answers_like_an_unknown_one(gw: Running, method: str) -> None:
    """To the byte; the upstream is not asked, and the agent stays as it was."""
    owner, other = await gw.open_account("a"), await gw.open_account("b")
    agent = await made(gw, owner)
    asked = len(await gw.seen())
    body = {"json": {**AGENT, "name": "Taken"}} if method in ("PUT", "PATCH") else {}
    foreign = await gw.call(method, f"{AGENTS}/{agent}", other, **body)
    unknown = await gw.call(method, f"{AGENTS}/agent_{uuid4().hex}", other, **body)
    assert (foreign.status, foreign.code) == (404, "not_found")
    assert seen_by_customer(foreign) == seen_by_customer(unknown)
    assert len(await gw.seen()) == asked
    assert (await gw.call("GET", f"{AGENTS}/{agent}", owner)).json["name"] == "Front desk"


async def test_a_list_has_only_ones_own_agents(gw: Running) -> None:
    """The upstream's one page holds everybody's; each account sees its own of them, in the upstream's order."""
    one, two = await gw.open_account("a"), await gw.open_account("b")
    for number in range(3):
        await made(gw, one, name=f"one {number}")
        await made(gw, two, name=f"two {number}")
    assert named(await gw.call("GET", AGENTS, one)) == ["one 2", "one 1", "one 0"]
    assert named(await gw.call("GET", f"{AGENTS}?limit=1", two)) == ["two 2", "two 1", "two 0"]
    assert named(await gw.call("GET", AGENTS, await gw.open_account("c"))) == []


async def test_sessions_of_nobody_are_not_shown(gw: Running) -> None:
    """A session that was not opened through the gateway by this account is in no list, and not found."""
    key = await gw.open_account("a")
    async with gw.http.ws_connect(
        f"{gw.sandbox.url}/v1/ws", headers={"Authorization": "sandbox-service-key"}
    ) as socket:
        await socket.send_json({"type": "session.update", "session": {}})
        session = (await socket.receive_json())["session_id"]
        for query in ("", "?token=%ff&x=1", "?token="):  # no token of a client's is shown to the service
            got = await gw.call("GET", f"/v1/sessions{query}", key)
            assert (got.status, got.json) == (200, {"sessions": []})
            assert (await gw.call("GET", f"/v2/transcript{query}", key)).status == 200  # nor to another one
        for method in ("GET", "DELETE"):
            found = await gw.call(method, f"/v1/sessions/{session}", key)
            assert (found.status, found.code) == (404, "not_found")


@pytest.mark.parametrize("path", ["/v1/phone-numbers", "/v1/webhook-subscriptions", "/v1/agents/agent_1/calls"])
async def test_what_belongs_to_no_customer_has_no_route(gw: Running, path: str) -> None:
    """Phone numbers and subscriptions are the service account's as a whole."""
    got = await gw.call("GET", path, await gw.open_account("a"))
    assert (got.status, got.code) == (404, "route_not_found")


async def test_a_bad_key_is_told_as_the_service_does(gw: Running) -> None:
    """The vendor's REST API answers 404 to a key that it does not know."""
    got = await gw.call("GET", AGENTS, "no-such-key")
    assert (got.status, got.code, got.json) == (404, "unauthorized", {"detail": "Invalid API key"})
