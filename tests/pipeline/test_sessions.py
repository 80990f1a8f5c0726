"""Sessions that are paid for while they are open: charged, renewed, warned, cut, corrected."""

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.core.money import Nanos, format_usd, parse_usd
from tests.harness import Running, running
from tests.pipeline.helpers import NO_CREDIT, charges, in_order, until
from tests.pipeline.sockets import (
    AGENT,
    AGENT_SECOND,
    FRAME,
    PRO,
    PRO_SECOND,
    begun,
    connected,
    slices,
    streams,
    to_the_end,
)

SMALL = slices(slice_seconds=1, renew_before_seconds=0.3, warn_seconds=0, grace_seconds=1)


@pytest.fixture
async def small(tmp_path: Path, empty_redis: str) -> AsyncIterator[Running]:
    """A gateway whose sessions have slices of one second."""
    async with running(tmp_path, empty_redis, changes=SMALL) as gateway:
        yield gateway


def seconds(count: float, rate: int = PRO_SECOND) -> str:
    """Credit for so many seconds, in dollars."""
    return format_usd(Nanos(int(count * rate)))


async def test_a_session_costs_what_the_upstream_reports(gw: Running) -> None:
    """Begin, audio, Terminate, Termination: charged its seconds, once, and nothing is left held."""
    key = await gw.open_account("a", credit="1")
    socket = await begun(gw, key)
    for _ in range(10):
        await socket.send_bytes(FRAME)
    await socket.send_json({"type": "Terminate"})
    said, code = await to_the_end(socket)
    assert code == 1000
    reported = said[-1]["session_duration_seconds"]
    assert said[-1]["type"] == "Termination"
    await in_order(gw, "a", balance=Nanos(parse_usd("1") - reported * PRO_SECOND))
    (entry,) = await charges(gw, "a")
    assert entry["items"] == [
        {
            "sku": "streaming.universal-3-pro",
            "quantity": str(reported),
            "unit": "second",
            "unit_price": "0.45 per_hour",
            "amount": reported * PRO_SECOND,
        }
    ]
    assert entry["basis"] == "reported"
    assert entry["upstream_id"] == (await streams(gw))[0]["id"]


async def test_slices_are_charged_while_the_session_goes_on(small: Running) -> None:
    """After some slices most of the session is paid, one slice is held, and the end makes it exact."""
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    await asyncio.sleep(2.5)
    account = await small.ledger.account("a")
    assert account.open_holds == 1
    assert account.held == PRO_SECOND
    paid = parse_usd("1") - account.balance
    assert 1.2 * PRO_SECOND < paid < 6 * PRO_SECOND
    await socket.send_json({"type": "Terminate"})
    said, _ = await to_the_end(socket)
    await in_order(small, "a", balance=Nanos(parse_usd("1") - said[-1]["session_duration_seconds"] * PRO_SECOND))
    assert len(await charges(small, "a")) >= 3

    async def told() -> bool:
        return bool(small.gateway.measured().count("gateway_charges_nanos"))

    assert await until(told)
    assert not small.gateway.measured().count("gateway_charged_above_hold_nanos"), "each slice was held"


async def test_credit_for_three_seconds_is_cut_after_three_seconds(small: Running) -> None:
    """The vendor is told to end, the client gets its last results and then the refusal, and pays just what it had."""
    key = await small.open_account("a", credit=seconds(3))
    started = time.monotonic()
    socket = await begun(small, key)
    await socket.send_bytes(FRAME)
    said, code = await to_the_end(socket)
    assert 2.5 < time.monotonic() - started < 9
    # Clients stop reading at a Termination, and would never see why: the report is for us alone.
    assert [message["type"] for message in said] == ["SpeechStarted", "Turn", "Error"]
    assert (said[-1]["error_code"], code) == (1008, 1008)
    assert said[-1]["error"] == f"Unauthorized Connection: {NO_CREDIT}"
    await in_order(small, "a", balance=Nanos(0))
    (record,) = await streams(small)
    assert record["ended"] == "terminated"


async def test_of_many_sockets_on_credit_for_ten_slices_ten_run(small: Running) -> None:
    """Fifty open at once; ten hold a slice each, the others are refused in band."""
    key = await small.open_account("a", credit=seconds(10))

    async def opened() -> str:
        async with connected(small, key) as socket:
            first = await socket.receive_json(timeout=30)
            await to_the_end(socket)
            return str(first["type"])

    kinds = await asyncio.gather(*(opened() for _ in range(50)))
    assert sorted(kinds) == ["Begin"] * 10 + ["Error"] * 40
    await in_order(small, "a", balance=Nanos(0))


async def test_a_client_that_vanishes_ends_the_vendors_session(small: Running) -> None:
    """No Terminate, no Close: the gateway sends Terminate, and the customer pays what the vendor reports."""
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    await asyncio.sleep(0.3)
    assert socket._response.connection is not None
    transport = socket._response.connection.transport
    assert transport is not None
    transport.abort()

    async def ended() -> bool:
        return (await streams(small))[0]["ended"] == "terminated" and not (await small.ledger.account("a")).held

    assert await until(ended)
    await in_order(small, "a", balance=Nanos(parse_usd("1") - PRO_SECOND))


async def test_a_client_that_closes_without_terminate_is_charged_as_well(small: Running) -> None:
    """Its Close is answered, with the vendor's code."""
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    await socket.close(code=1000, message=b"bye")
    assert socket.close_code == 1000

    async def settled() -> bool:
        return not (await small.ledger.account("a")).held

    assert await until(settled)
    await in_order(small, "a", balance=Nanos(parse_usd("1") - PRO_SECOND))
    assert (await streams(small))[0]["ended"] == "terminated"


async def test_a_session_without_a_report_is_charged_by_the_clock(small: Running) -> None:
    """The upstream drops the line: the seconds of our clock are charged, and counted as unreported."""
    key = await small.open_account("a", credit="1")
    await small.knobs(close_code=1006, close_after_seconds=1.5)
    socket = await begun(small, key)
    said, code = await to_the_end(socket)
    assert (said[-1]["error_code"], code) == (3005, 3005)
    spent = parse_usd("1") - await small.balance("a")
    assert 1.3 * PRO_SECOND < spent < 1.8 * PRO_SECOND
    entries = await charges(small, "a")
    assert {entry["basis"] for entry in entries} == {"clock"}
    assert await _metric(small, 'gateway_sessions_unreported_total{product="streaming-speech-to-text"}') == 1
    assert not await small.ledger.verify("a")


async def _metric(gw: Running, line: str) -> float:
    async with gw.http.get(f"{gw.ops_url}/metrics") as response:
        text = await response.text()
    return next((float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line + " ")), 0.0)


async def test_nothing_is_charged_for_a_session_that_never_began(gw: Running) -> None:
    """The upstream refuses it in band: its words reach the client, and the hold is given back."""
    key = await gw.open_account("a", credit="1")
    async with connected(gw, key, "/v3/ws?speech_model=u3-rt-pro") as socket:
        said, code = await to_the_end(socket)
    assert (said[-1]["error"], code) == ("User Input Validation Error: sample_rate is required", 3006)
    await in_order(gw, "a", balance=parse_usd("1"))


async def test_an_upstream_that_is_not_there_costs_nothing(gw: Running) -> None:
    """The socket was accepted at once; the product's own words say that it failed."""
    key = await gw.open_account("a", credit="1")
    await gw.sandbox.stop()
    async with connected(gw, key) as socket:
        said, code = await to_the_end(socket)
    assert (said[-1]["error_code"], code) == (3005, 3005)
    await in_order(gw, "a", balance=parse_usd("1"))


@pytest.mark.parametrize(
    ("path", "tier", "credit", "code", "text"),
    [
        (PRO, "payg", "0", 1008, f"Unauthorized Connection: {NO_CREDIT}"),
        (PRO + "&llm_gateway=%7B%22model%22%3A%22gpt-5.2%22%7D", "free", "1", 1008, "Unauthorized Connection: "),
        (PRO + "&llm_gateway=%7B%22model%22%3A%22gpt-5.2%22%7D", "payg", "1", 3006, "User Input Validation Error: "),
        (PRO + "&turbo=true", "payg", "1", 3006, "User Input Validation Error: "),
        (
            "/v3/ws?sample_rate=16000&speech_model=nova-9",
            "payg",
            "1",
            3006,
            "User Input Validation Error: Unknown model",
        ),
        (PRO + "&speaker_labels=true&speaker_labels=false", "payg", "1", 3006, "User Input Validation Error: "),
    ],
)
async def test_refusals_are_in_band(gw: Running, path: str, tier: str, credit: str, code: int, text: str) -> None:
    """The handshake succeeds, then the vendor's error frame and close code; the upstream hears nothing of it."""
    key = await gw.open_account("a", tier=tier, credit=credit)
    async with connected(gw, key, path) as socket:
        said, closed = await to_the_end(socket)
    assert (said[-1]["error_code"], closed) == (code, code)
    assert said[-1]["error"].startswith(text)
    assert not await streams(gw)
    await in_order(gw, "a", balance=parse_usd(credit))


async def test_an_unknown_key_is_refused_in_the_vendors_words(gw: Running) -> None:
    """And so is none at all, or one that is blank."""
    unknown, missing = "Invalid API key", "Missing Authorization header"
    for key, problem in (("nobody", unknown), ("Basic bm9ib2R5", unknown), (None, missing), (" ", missing)):
        async with connected(gw, key) as socket:
            said, code = await to_the_end(socket)
        assert (said[-1]["error"], code) == (f"Unauthorized Connection: {problem}", 1008)


async def test_a_hold_that_has_ended_is_not_renewed(gw: Running) -> None:
    """A client may take its time to answer our Close: meanwhile nobody looks for the hold in vain, and raises alarm."""
    key = await gw.open_account("a", credit="1")
    for served in (True, False):
        if not served:
            await gw.sandbox.stop()
        async with connected(gw, key, autoclose=False) as socket:
            await socket.send_json({"type": "Terminate"})
            while (await socket.receive(timeout=30)).type is not aiohttp.WSMsgType.CLOSE:
                pass
            assert not len(gw.gateway.leases)


async def test_new_sessions_are_limited_by_the_minute(gw: Running) -> None:
    """The free tier opens five a minute; a refused attempt does not count, nor one with a mistake in it."""
    key = await gw.open_account("a", tier="free", credit="1")
    for _ in range(6):
        async with connected(gw, key, PRO + "&turbo=true") as socket:
            assert (await to_the_end(socket))[1] == 3006
    for _ in range(5):
        socket = await begun(gw, key)
        await socket.send_json({"type": "Terminate"})
        assert (await to_the_end(socket))[1] == 1000
    for _ in range(2):
        async with connected(gw, key) as socket:
            said, code = await to_the_end(socket)
        assert (said[-1]["error"], code) == ("Unauthorized Connection: Too many concurrent sessions", 1008)


async def test_a_plain_request_is_told_to_upgrade(gw: Running) -> None:
    """426, with what to upgrade to."""
    key = await gw.open_account("a")
    got = await gw.call("GET", PRO, key)
    assert (got.status, got.code) == (426, "upgrade_required")
    assert got.headers["Upgrade"] == "websocket"


async def test_a_disabled_key_ends_its_sessions_within_a_second(gw: Running) -> None:
    """Long before the slice is over; what was used is charged."""
    key = await gw.open_account("a", credit="1")
    socket = await begun(gw, key)
    await asyncio.sleep(0.7)
    changed = time.monotonic()
    await gw.ledger.change_key(operation="d", account="a", key_id="key-a", changes={"disabled": True})
    said, code = await to_the_end(socket)
    assert time.monotonic() - changed < 10
    assert code == 1008
    assert "disabled" in said[-1]["error"]
    assert [message["type"] for message in said] == ["Error"]
    account = await gw.ledger.account("a")
    assert account.held == 0
    assert 0.5 * PRO_SECOND < parse_usd("1") - account.balance < 8 * PRO_SECOND


async def test_a_suspended_account_ends_its_sessions(gw: Running) -> None:
    """The same for the whole account."""
    key = await gw.open_account("a", credit="1")
    socket = await begun(gw, key)
    await gw.ledger.change_account(operation="s", account="a", status="suspended")
    said, code = await to_the_end(socket)
    assert code == 1008
    assert "suspended" in said[-1]["error"]


async def test_a_top_up_keeps_a_session_alive(small: Running) -> None:
    """Credit for three seconds, topped up within the first: it goes on past its end."""
    key = await small.open_account("a", credit=seconds(3))
    socket = await begun(small, key)
    await asyncio.sleep(1.0)
    await small.ledger.grant(operation="t", account="a", kind="purchase", amount=Nanos(10 * PRO_SECOND))
    await asyncio.sleep(3.5)
    assert not socket.closed
    await socket.send_json({"type": "Terminate"})
    said, code = await to_the_end(socket)
    assert (said[-1]["type"], code) == ("Termination", 1000)
    await in_order(small, "a", balance=Nanos(13 * PRO_SECOND - said[-1]["session_duration_seconds"] * PRO_SECOND))


async def test_a_client_is_warned_before_its_credit_is_gone(tmp_path: Path, empty_redis: str) -> None:
    """Where the dialect has a frame for it: once, while the session goes on."""
    changes = slices(slice_seconds=1, renew_before_seconds=0.3, warn_seconds=2, grace_seconds=1)
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit=seconds(3.5))
        socket = await begun(gw, key)
        said, _ = await to_the_end(socket)
    kinds = [message["type"] for message in said]
    assert kinds == ["Warning", "Error"]
    assert re.search(r"\b[12] more seconds", said[0]["warning"])


async def test_an_add_on_that_is_switched_on_costs_from_then_on(small: Running) -> None:
    """UpdateConfiguration passes to the vendor and changes the price of what follows."""
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    await asyncio.sleep(1.0)
    await socket.send_json({"type": "UpdateConfiguration", "prompt": "Names of ledgers"})
    await asyncio.sleep(1.0)
    await socket.send_json({"type": "Terminate"})
    await to_the_end(socket)
    totals: dict[str, float] = {}
    for entry in await charges(small, "a"):
        for item in entry["items"]:
            totals[item["sku"]] = totals.get(item["sku"], 0) + float(item["quantity"])
    assert totals["streaming.universal-3-pro"] in (2, 3, 4, 5)
    assert 0.8 < totals["streaming.prompting"] < totals["streaming.universal-3-pro"] - 0.8


async def test_the_longest_session_ends_in_the_vendors_words(tmp_path: Path, empty_redis: str) -> None:
    """At seconds_max: terminated, charged, closed with 3008."""
    async with running(
        tmp_path, empty_redis, changes=slices(seconds_max=1, slice_seconds=1, renew_before_seconds=0.3)
    ) as gw:
        key = await gw.open_account("a", credit="1")
        socket = await begun(gw, key)
        said, code = await to_the_end(socket)
        assert (said[-1]["error"], code) == ("Session Expired: Maximum session duration exceeded", 3008)
        entries = await charges(gw, "a")
        assert entries[-1]["basis"] == "reported"
        seconds = sum(float(item["quantity"]) for entry in entries for item in entry["items"])
        await in_order(gw, "a", balance=Nanos(parse_usd("1") - round(seconds) * PRO_SECOND))


async def test_a_silent_session_ends_where_config_says_so(tmp_path: Path, empty_redis: str) -> None:
    """Idle for longer than idle_seconds_max."""
    async with running(tmp_path, empty_redis, changes=slices(idle_seconds_max=0.5)) as gw:
        key = await gw.open_account("a", credit="1")
        socket = await begun(gw, key)
        said, code = await to_the_end(socket)
        assert (said[-1]["error_code"], code) == (4031, 4031)


# ---- temporary tokens


async def _token(gw: Running, key: str, path: str = "/v3/token?expires_in_seconds=60") -> str:
    got = await gw.call("GET", path, key)
    assert got.status == 200, got.body
    assert got.json["expires_in_seconds"] == 60
    return str(got.json["token"])


async def test_a_temporary_token_opens_sessions_of_its_account(gw: Running) -> None:
    """In the query or in the header; the account of its key pays, and the upstream never sees it."""
    key = await gw.open_account("a", credit="1")
    token = await _token(gw, key)
    for headers, path in (({}, f"{PRO}&token={token}"), ({"Authorization": token}, PRO)):
        async with connected(gw, None, path, headers=headers) as socket:
            assert (await socket.receive_json(timeout=30))["type"] == "Begin"
            await socket.send_json({"type": "Terminate"})
            assert (await to_the_end(socket))[1] == 1000
    await in_order(gw, "a", balance=Nanos(parse_usd("1") - 2 * PRO_SECOND))
    for record in await streams(gw):
        assert "token" not in record["parameters"]


async def test_a_token_is_good_for_its_own_sessions_and_nothing_else(gw: Running) -> None:
    """Not for another product, not for a call over HTTP, not for another token, and not when it was altered."""
    key = await gw.open_account("a", credit="1")
    token = await _token(gw, key)
    got = await gw.call("GET", "/v2/transcript", token)
    assert got.code == "unauthorized"
    assert (await gw.call("GET", "/v3/token?expires_in_seconds=60", token)).code == "unauthorized"
    for path in (f"{AGENT}?token={token}", f"{PRO}&token={token}x", f"{PRO}&token={key}"):
        async with connected(gw, None, path) as socket:
            _, code = await to_the_end(socket)
        assert code == 1008
    await in_order(gw, "a", balance=parse_usd("1"))


async def test_a_tokens_session_is_no_longer_than_it_says(tmp_path: Path, empty_redis: str) -> None:
    """max_session_duration_seconds is ours to enforce: the vendor was seen not to."""

    def short(data: dict[str, Any]) -> None:
        next(route for route in data["routes"] if "mints" in route)["mints"]["session_seconds_min"] = 1

    changes = {**slices(), "config/products/voice-agent.yaml": short}
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="1")
        for query, seconds in (("", 10_800), ("&max_session_duration_seconds=60", 60)):
            token = await _token(gw, key, f"/v3/token?expires_in_seconds=60{query}")
            async with connected(gw, None, f"{PRO}&token={token}") as socket:
                await socket.send_json({"type": "Terminate"})
                said, code = await to_the_end(socket)
            assert ([message["type"] for message in said], code) == (["Begin", "Termination"], 1000)
            assert seconds - 30 < said[0]["expires_at"] - time.time() <= seconds + 1, "what it is told is so"
            assert {"id", "configuration"} <= said[0].keys()
        token = await _token(gw, key, "/v1/token?expires_in_seconds=60&max_session_duration_seconds=2")
        async with connected(gw, None, f"{AGENT}?token={token}") as socket:
            await socket.send_json({"type": "session.update", "session": {"system_prompt": "Be brief."}})
            said, code = await to_the_end(socket)
        assert [message["type"] for message in said] == ["session.ready", "session.error"]
        assert (said[-1]["code"], code) == ("session_expired", 1008)
        assert said[0]["expires_at"] < time.time() + 5


async def test_a_token_may_be_good_for_one_session_only(tmp_path: Path, empty_redis: str) -> None:
    """With once: true the second session is refused, and holds nothing."""

    def once(data: dict[str, Any]) -> None:
        next(route for route in data["routes"] if "mints" in route)["mints"]["once"] = True

    async with running(tmp_path, empty_redis, changes={"config/products/streaming.yaml": once}) as gw:
        key = await gw.open_account("a", credit="1")
        token = await _token(gw, key)
        async with connected(gw, None, f"{PRO}&token={token}") as socket:
            assert (await socket.receive_json(timeout=30))["type"] == "Begin"
            async with connected(gw, None, f"{PRO}&token={token}") as second:
                said, code = await to_the_end(second)
            assert (said[-1]["error"], code) == ("Unauthorized Connection: Invalid API key", 1008)
            await socket.send_json({"type": "Terminate"})
            await to_the_end(socket)
        await in_order(gw, "a", balance=Nanos(parse_usd("1") - PRO_SECOND))


async def test_a_token_of_a_key_that_was_disabled_opens_nothing(gw: Running) -> None:
    """What is judged at every use is the key."""
    key = await gw.open_account("a", credit="1")
    token = await _token(gw, key)
    await gw.ledger.change_key(operation="d", account="a", key_id="key-a", changes={"disabled": True})
    async with connected(gw, None, f"{PRO}&token={token}") as socket:
        said, code = await to_the_end(socket)
    assert code == 1008
    assert "disabled" in said[-1]["error"]


@pytest.mark.parametrize("query", ["", "?expires_in_seconds=0", "?expires_in_seconds=601", "?expires_in_seconds=x"])
async def test_tokens_have_bounds(gw: Running, query: str) -> None:
    """Out of them is refused, with what may be asked."""
    key = await gw.open_account("a", credit="1")
    got = await gw.call("GET", f"/v3/token{query}", key)
    assert (got.status, got.code) == (400, "invalid_request")
    assert "from 1 to 600" in got.json["error"]


# ---- voice agents


async def test_a_voice_agents_whole_flow(gw: Running) -> None:
    """Configuration, speech, a tool, the answer, the end: every event passes, and the fraction is charged exactly."""
    key = await gw.open_account("a", credit="1")
    tool = {
        "type": "function",
        "name": "look_up",
        "description": "d",
        "parameters": {"type": "object", "properties": {}},
    }
    async with connected(gw, None, AGENT, headers={"Authorization": f"Bearer {key}"}) as socket:
        await socket.send_json({"type": "session.update", "session": {"system_prompt": "Hi", "tools": [tool]}})
        assert (await socket.receive_json(timeout=30))["type"] == "session.ready"
        for _ in range(25):
            sound = base64.b64encode(bytes(2400)).decode()
            await socket.send_json({"type": "input.audio", "audio": sound})
        kinds = []
        while True:
            event = await socket.receive_json(timeout=30)
            kinds.append(event["type"])
            if event["type"] == "tool.call":
                await socket.send_json({"type": "tool.result", "call_id": event["call_id"], "result": "{}"})
            if event["type"] == "reply.done":
                break
        await socket.send_json({"type": "session.end"})
        said, code = await to_the_end(socket)
    assert kinds[:4] == ["input.speech.started", "transcript.user.delta", "input.speech.stopped", "transcript.user"]
    assert (said[-1]["type"], code) == ("session.ended", 1000)
    (entry,) = await charges(gw, "a")
    exact = round(said[-1]["session_duration_seconds"] * AGENT_SECOND)
    assert entry["amount"] == pytest.approx(exact, abs=1)
    assert float(entry["items"][0]["quantity"]) == said[-1]["session_duration_seconds"]


async def test_another_accounts_agent_is_no_agent(gw: Running) -> None:
    """A foreign id answers as an unknown one, and the upstream never hears of it."""
    mine, other = await gw.open_account("a", credit="1"), await gw.open_account("b", credit="1")
    got = await gw.call("POST", "/v1/agents", other, json={"name": "n", "system_prompt": "p"})
    assert got.status in (200, 201), got.body
    agent = got.json["id"]
    answers = []
    for key, name in ((mine, agent), (mine, "agent_" + "0" * 32), (other, agent)):
        async with connected(gw, key, AGENT) as socket:
            await socket.send_json({"type": "session.update", "session": {"agent_id": name}})
            first = await socket.receive_json(timeout=30)
            if first["type"] == "session.ready":
                await socket.send_json({"type": "session.end"})
            _, code = await to_the_end(socket)
            answers.append((first, code))
    assert answers[0] == answers[1]
    assert (answers[0][0]["code"], answers[0][1]) == ("agent_not_found", 1008)
    assert answers[2][0]["type"] == "session.ready"
    await in_order(gw, "a", balance=parse_usd("1"))


async def test_a_session_belongs_to_its_account(gw: Running) -> None:
    """Its record can be read by whoever paid for it, and by nobody else."""
    mine, other = await gw.open_account("a", credit="1"), await gw.open_account("b", credit="1")
    async with connected(gw, mine, AGENT) as socket:
        await socket.send_json({"type": "session.update", "session": {"system_prompt": "Hi"}})
        ready = await socket.receive_json(timeout=30)
        await socket.send_json({"type": "session.end"})
        await to_the_end(socket)
    path = f"/v1/sessions/{ready['session_id']}"
    assert (await gw.call("GET", path, mine)).status == 200
    foreign, unknown = await gw.call("GET", path, other), await gw.call("GET", "/v1/sessions/sess_0", other)
    assert (foreign.status, foreign.body) == (unknown.status, unknown.body)
    assert [item["id"] for item in (await gw.call("GET", "/v1/sessions", mine)).json["sessions"]] == [
        ready["session_id"]
    ]
    assert (await gw.call("GET", "/v1/sessions", other)).json["sessions"] == []


async def test_a_binary_frame_is_not_the_voice_agents(gw: Running) -> None:
    """1003, as the protocol has it; the session never began."""
    key = await gw.open_account("a", credit="1")
    async with connected(gw, key, AGENT) as socket:
        await socket.send_bytes(FRAME)
        message = await socket.receive(timeout=30)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert socket.close_code == 1003
    await in_order(gw, "a", balance=parse_usd("1"))
