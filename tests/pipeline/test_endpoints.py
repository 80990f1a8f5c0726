"""Several endpoints of one service: weights, one that is away, what stays where it was made, regions.

Each endpoint is a sandbox of its own, with its own credential: none of them would know what another has made.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import Nanos, parse_usd
from tests.harness import Running
from tests.pipeline.helpers import CHAT, CHAT_PATH, charges, chat, finished, in_order, submit, submitted, until
from tests.pipeline.places import Place, Places, places
from tests.pipeline.sockets import AGENT, PRO, begun, connected, slices, to_the_end
from tests.pipeline.test_agents import made

CHAT_AT = f"POST {CHAT_PATH}"
CREDIT = parse_usd("100")


@pytest.fixture
async def three(tmp_path: Path, empty_redis: str) -> AsyncIterator[Places]:
    """Two sandboxes in us, one in eu."""
    async with places(tmp_path, empty_redis, "us-1", "us-2", "eu-1") as made:
        yield made
        made.check_credentials()


async def pinned(gw: Running, account: str, region: str) -> str:
    """An account that is bound to a region; its key."""
    key = await gw.open_account(account)
    await gw.ledger.change_account(operation=f"pin-{account}", account=account, overrides={"region": region})
    return key


def metric(gw: Running, name: str) -> dict[tuple[str, ...], float]:
    """The values of a counter, by its labels."""
    counts: list[tuple[list[str], float]] = gw.gateway.measured().figures()["counts"][name]
    return {tuple(labels): value for labels, value in counts}


async def test_calls_are_spread_by_weight_and_pass_over_one_that_is_away(three: Places) -> None:
    """Each call is held and charged once, whatever way it went; one that is let be comes back by itself."""
    endpoints = three.endpoints(us_1={"weight": 6}, us_2={"weight": 1}, eu_1={"weight": 1})
    async with three.gateway(endpoints, sticky="call") as gw:
        key = await gw.open_account("a")
        gots = [await chat(gw, key) for _ in range(40)]
        spread = three.asked(CHAT_AT)
        assert sum(spread.values()) == 40 and spread["us-1"] > 15
        await three.at["us-1"].kill()
        gots += await asyncio.gather(*(chat(gw, key) for _ in range(30)))
        assert {got.status for got in gots} == {200}
        assert sum(three.asked(CHAT_AT).values()) == 70, "nothing was sent to two"
        spent = sum((got.charge or 0) for got in gots)
        assert len(await charges(gw, "a")) == 70
        await in_order(gw, "a", balance=Nanos(CREDIT - spent))
        assert "ejected=['llm-gateway/us-1']" in repr(gw.gateway.services.fleet)
        for _ in range(6):  # nothing has been read of their bodies when no connection is had
            assert (await gw.call("POST", "/v2/upload", key, data=_pieces())).status == 200
        uploads = [file for place in three.at.values() for file in place.sandbox.state.uploads.values()]
        assert len(uploads) == 6 and "us-1" not in three.asked("POST /v2/upload")
        await three.at["us-1"].back()
        before = three.asked(CHAT_AT)["us-1"]

        async def returned() -> bool:
            await chat(gw, key)
            return three.asked(CHAT_AT)["us-1"] > before and "llm-gateway" not in repr(gw.gateway.services.fleet)

        assert await until(returned)


async def test_what_was_sent_is_not_sent_to_another_unless_it_is_safe(three: Places) -> None:
    """A POST whose reply never came ends there, for nothing; a GET goes on; a 429 goes on where the config says so."""
    async with three.gateway(sticky="call", retry_on=[429]) as gw:
        key = await gw.open_account("a")
        named = {"Idempotency-Key": "one", "X-Sandbox-Body": "no_reply"}
        for number in range(2):
            got = await gw.call("POST", CHAT_PATH, key, json=CHAT, headers=named)
            assert (got.status, list(three.asked(CHAT_AT).values())) == (502, [number + 1]), "it comes where it was"
        for number in range(3):
            got = await chat(gw, key, body="no_reply")
            assert (got.status, got.code) == (502, "upstream_unreachable")
            assert sum(three.asked(CHAT_AT).values()) == number + 3
        await in_order(gw, "a", balance=CREDIT)
        got = await gw.call("GET", "/v1/models", key, headers={"X-Sandbox-Body": "no_reply"})
        assert got.status == 502 and sum(three.asked("GET /v1/models").values()) == 3, "each was asked once"
        for place in three.at.values():
            place.sandbox.state.reset()
        for name in ("us-1", "us-2"):
            await _knobs(gw, three.at[name], status=429)
        got = await chat(gw, key)
        assert got.status == 200 and len(await charges(gw, "a")) == 1 and three.asked(CHAT_AT)["eu-1"] == 1
        await _knobs(gw, three.at["eu-1"], status=429)
        assert (await chat(gw, key)).status == 429, "the last one's word is passed on"
        await _knobs(gw, three.at["eu-1"], status=503)
        assert (await chat(gw, key)).status in (429, 503), "503 is not in the list"


async def test_a_job_stays_where_it_was_made(three: Places) -> None:
    """Its upload, polls, results, understanding, delete, the gateway's own looks; through kill and return."""
    async with three.gateway(sticky="call", changes={"config/products/speech-to-text.yaml": _soon}) as gw:
        key = await gw.open_account("a")
        uploaded = await gw.call("POST", "/v2/upload", key, data=b"RIFF" * 100)
        home = three.holding(lambda place: "POST /v2/upload" in place.asked)
        paths = [await submitted(gw, key, audio_url=uploaded.json["upload_url"]) for _ in range(4)]
        assert three.asked("POST /v2/transcript") == {home: 4}, "not by chance"
        path = paths[0]
        await finished(gw, key, path)
        assert (await gw.call("GET", f"{path}/srt", key)).status == 200
        task = {"translation": {"target_languages": ["es"]}}
        asked = {"transcript_id": path.rpartition("/")[2], "speech_understanding": {"request": task}}
        for _ in range(3):
            understood = await gw.call("POST", "/v1/understanding", key, json=asked)
            assert understood.status == 200, understood.body
        assert three.asked("POST /v1/understanding") == {home: 3}, "another service, the same credential"

        open_path = await submitted(gw, key, audio_url=uploaded.json["upload_url"], knobs={"job_seconds": 0.4})
        await three.at[home].kill()
        down = await gw.call("GET", path, key)
        assert (down.status, down.code) == (503, "endpoint_unavailable")
        assert (await submit(gw, key, audio_url=uploaded.json["upload_url"])).code == "endpoint_unavailable"
        fresh = await submitted(gw, key)
        assert (await finished(gw, key, fresh)).status == 200, "what is new goes elsewhere"
        await asyncio.sleep(0.5)
        assert (await gw.ledger.account("a")).held > 0, "the job waits for its endpoint"
        await three.at[home].back()

        async def over() -> bool:
            return not (await gw.ledger.account("a")).held

        assert await until(over), "the gateway looks by itself, where the job is"
        assert (await gw.call("GET", open_path, key)).json["status"] == "completed"
        assert (await gw.call("DELETE", path, key)).status == 200
        assert len(await charges(gw, "a")) == 9
        assert {*three.asked(f"GET {path}"), *three.asked(f"GET {open_path}"), *three.asked(f"DELETE {path}")} == {home}


async def test_a_list_is_of_all_endpoints(three: Places) -> None:
    """Page by page, everything that the account has is there once, wherever it was made."""
    async with three.gateway(sticky="call") as gw:
        key, other = await gw.open_account("a"), await gw.open_account("b")
        made = {(await submit(gw, key)).json["id"] for _ in range(9)}
        assert len(three.asked("POST /v2/transcript")) > 1
        await submit(gw, other)
        seen: list[str] = []
        query = "?limit=2"
        while query:
            page = (await gw.call("GET", f"/v2/transcript{query}", key)).json
            seen += [item["id"] for item in page["transcripts"]]
            older = page["page_details"]["prev_url"]
            query = older and "?" + older.partition("?")[2]
            assert len(seen) < 20
        assert len(seen) == 9 and set(seen) == made


async def test_what_is_bound_to_a_region_is_never_sent_elsewhere(three: Places) -> None:
    """By its account, by the host that was called, or by its route; not when all of the region is away."""

    def hosts(data: dict[str, Any]) -> None:
        data["customers"]["regions"] = {"api.eu.example.com": "eu"}

    def route(data: dict[str, Any]) -> None:
        data["routes"][0]["region"] = "us"

    changes = {"gateway.yaml": hosts, "config/products/llm-gateway.yaml": route}
    async with three.gateway(sticky="call", changes=changes) as gw:
        key, eu = await gw.open_account("a"), await pinned(gw, "b", "eu")
        for _ in range(6):
            assert (await submit(gw, eu)).status == 200
        assert three.asked("POST /v2/transcript") == {"eu-1": 6}
        body = {"audio_url": "https://example.com/a.wav?duration=60"}
        for _ in range(6):
            got = await gw.call("POST", "/v2/transcript", key, json=body, headers={"Host": "API.eu.example.com:443"})
            assert got.status == 200
        assert three.asked("POST /v2/transcript") == {"eu-1": 12}
        for _ in range(6):
            assert (await chat(gw, key)).status == 200
        assert "eu-1" not in three.asked(CHAT_AT)
        token = await gw.call("GET", "/v3/token?expires_in_seconds=60", key, headers={"Host": "api.eu.example.com"})
        for _ in range(4):
            await (await begun(gw, None, f"{PRO}&token={token.json['token']}")).close()
        assert three.asked("GET /v3/ws") == {"eu-1": 4}
        refused = await chat(gw, eu)
        assert (refused.status, refused.code) == (503, "endpoint_unavailable"), "bound to two regions, it has no place"
        await three.at["eu-1"].kill()
        before = three.asked("POST /v2/transcript")
        for _ in range(4):
            got = await submit(gw, eu)
            assert (got.status, got.code, got.headers["Retry-After"]) == (503, "endpoint_unavailable", "1")
        assert three.asked("POST /v2/transcript") == before
        assert (await gw.ledger.account("b")).held == 6 * parse_usd("0.21"), "the refused hold nothing"


async def test_one_that_drains_ends_what_it_has_and_an_endpoint_that_is_gone_is_said(three: Places) -> None:
    """A new config, as a reload takes it up: nothing new there, polls go on; what is gone is asked for nowhere."""
    async with three.gateway(sticky="call") as gw:
        key = await gw.open_account("a")
        paths = [await submitted(gw, key, 60) for _ in range(8)]
        homes = {path: _home(three, path) for path in paths}
    gone = homes[paths[0]]
    drained = next(name for name in three.at if name != gone)
    endpoints = three.endpoints(**{drained.replace("-", "_"): {"drain": True}})
    del endpoints[gone]
    async with three.gateway(endpoints, sticky="call") as gw:
        before = three.asked("POST /v2/transcript").get(drained, 0)
        for _ in range(8):
            assert (await submit(gw, key, 60)).status == 200
        assert three.asked("POST /v2/transcript").get(drained, 0) == before
        for path, home in homes.items():
            got = await gw.call("GET", path, key)
            if home == gone:
                assert (got.status, got.code) == (503, "endpoint_unavailable")
            else:
                assert got.json["status"] == "completed"
        assert three.asked(f"GET {paths[0]}") == {}
        assert metric(gw, "gateway_events")["endpoint_gone", "speech-to-text"] >= 1


async def test_one_that_is_not_well_gets_nothing_new(three: Places) -> None:
    """By its health checks, before any customer meets it; and when all are unwell they are asked all the same."""
    health = {"path": "/v1/models", "every_seconds": 0.05, "seconds_max": 1.0, "failures": 2, "successes": 2}
    async with three.gateway(sticky="call", health=health) as gw:
        key = await gw.open_account("a")
        await _knobs(gw, three.at["us-1"], status=503)

        async def are(count: int) -> bool:
            return repr(gw.gateway.services.health).endswith(f"unwell={count}>")

        # Each endpoint is one of four services, each of which asks for itself.
        assert await until(lambda: are(4))
        before = three.asked(CHAT_AT)
        assert {(await chat(gw, key)).status for _ in range(12)} == {200}
        assert three.asked(CHAT_AT).get("us-1", 0) == before.get("us-1", 0)
        assert metric(gw, "gateway_events")["endpoint_unwell", ""] == 4
        await _knobs(gw, three.at["us-1"], status=None)
        assert await until(lambda: are(0))
        assert metric(gw, "gateway_events")["endpoint_well", ""] == 4
        for place in three.at.values():
            await _knobs(gw, place, status=503)
        assert await until(lambda: are(12))
        assert (await chat(gw, key)).status == 503, "the service's own word"


async def test_a_session_has_one_endpoint_and_names_only_what_is_there(three: Places) -> None:
    """One that is away is passed over; an agent is served where it is, and is unknown elsewhere."""
    endpoints = three.endpoints()
    async with three.gateway(endpoints, changes=slices(slice_seconds=5, renew_before_seconds=1)) as gw:
        key = await gw.open_account("a")
        agent = await made(gw, key)
        home = three.holding(lambda place: "POST /v1/agents" in place.asked)
        for _ in range(2):
            async with connected(gw, key, AGENT) as socket:
                await socket.send_json({"type": "session.update", "session": {"agent_id": agent}})
                assert (await socket.receive_json(timeout=30))["type"] == "session.ready"
        assert three.asked("GET /v1/ws") == {home: 2}
        await (await begun(gw, key)).close()
        assert three.asked("GET /v3/ws") == {home: 1}, "sticky by account: over all services the same name"
        await three.at[home].kill()
        async with connected(gw, key, AGENT) as socket:
            await socket.send_json({"type": "session.update", "session": {"agent_id": agent}})
            said, code = await to_the_end(socket)
        assert said[-1]["code"] == "agent_not_found" and code == 1008
        await (await begun(gw, key)).close()
        assert sum(three.asked("GET /v3/ws").values()) == 2
    async with three.gateway({home: endpoints[home]}) as gw:
        async with connected(gw, key) as socket:
            said, code = await to_the_end(socket)
        assert (said[-1]["error_code"], code) == (3005, 3005), "it is told so, and pays nothing"
        await in_order(gw, "a", balance=(await gw.ledger.account("a")).balance)


async def _knobs(gw: Running, place: Place, **knobs: Any) -> None:
    """Turn the knobs of one of them, for every call from now on."""
    async with gw.http.put(f"{place.sandbox.url}/sandbox/knobs", json=knobs) as response:
        assert response.status == 200


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"RIFF" * 1000


def _soon(data: dict[str, Any]) -> None:
    """The gateway looks at jobs soon."""
    data["jobs"]["transcript"].update(look_first_seconds=0.2, look_seconds_max=0.5)


def _home(three: Places, path: str) -> str:
    return three.holding(lambda place: path.rpartition("/")[2] in place.sandbox.state.jobs)
