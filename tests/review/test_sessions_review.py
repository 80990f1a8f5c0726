"""What hostile clients, and upstreams with a dialect of their own, make of a session: never free, never paid twice."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import Nanos, parse_usd
from gateway.ports import Resource, ResourceRef
from tests.harness import Running, running
from tests.pipeline.helpers import charges, in_order, until
from tests.pipeline.sockets import AGENT, AGENT_SECOND, PRO, PRO_SECOND, begun, connected, to_the_end
from tests.review.scripted import BEGIN, Service, Socket, ending, service
from tests.sockets.relaying import until as holds

TERMINATE = {"type": "Terminate"}
PROMPTING_SECOND = 13_889  # 0.05 an hour


@pytest.fixture
async def upstream() -> AsyncIterator[Service]:
    """An upstream that says what it is told to."""
    async with service() as made:
        yield made


@pytest.fixture
async def small(tmp_path: Path, empty_redis: str, upstream: Service) -> AsyncIterator[Running]:
    """A gateway before it, with slices of one second."""
    async with running(tmp_path, empty_redis, changes=upstream.changes()) as gateway:
        yield gateway


async def free(gw: Running, account: str) -> None:
    """Nothing of the account is held any more, and its books agree."""

    async def none() -> bool:
        return not (await gw.ledger.account(account)).held and gw.gateway.pipeline.calls_open == 0

    assert await until(none)
    assert not await gw.ledger.verify(account)
    assert len(gw.gateway.leases) == 0


async def spent(gw: Running, account: str, credit: str = "1") -> int:
    """What the account has paid when everything is over."""
    await free(gw, account)
    return parse_usd(credit) - await gw.balance(account)


# ---- what the upstream says


async def test_reports_that_mean_nothing_are_charged_by_the_clock(small: Running, upstream: Service) -> None:
    """Negative, not a number, text, a time that no session can last: what our clock says is charged, and no more."""
    odd = [-1, "x", None, [], True, {}, 1e300, 10**14, 10**9, -0.5]
    for number, value in enumerate([*odd, '{"type": "Termination", "session_duration_seconds": NaN}']):
        said = value if number == len(odd) else {"type": "Termination", "session_duration_seconds": value}
        upstream.script = ending(said)
        key = await small.open_account(f"a{number}", credit="1")
        socket = await begun(small, key)
        await asyncio.sleep(0.3)
        await socket.send_json(TERMINATE)
        while not socket.closed:
            await socket.receive(timeout=5)
        assert 0.2 * PRO_SECOND < await spent(small, f"a{number}") < 0.9 * PRO_SECOND, value


async def test_what_was_reported_is_charged_before_its_close_is_waited_for(small: Running, upstream: Service) -> None:
    """A process that is killed while the upstream takes its time would lose a report that it has."""
    key = await small.open_account("a", credit="1")
    before = parse_usd("1")

    async def charged() -> bool:
        return await small.balance("a") < before

    async def script(socket: Socket) -> None:
        await socket.say(BEGIN)
        await socket.hear()
        await socket.say({"type": "Termination", "session_duration_seconds": 7})
        await until(charged)
        await socket.close(4321)

    upstream.script = script
    codes: list[int] = []
    while 4321 not in codes and len(codes) < 5:  # it waits for a second, which a busy machine may not have
        before = await small.balance("a")
        socket = await begun(small, key)
        await socket.send_json(TERMINATE)
        codes.append((await to_the_end(socket))[1])
        await free(small, "a")
    assert codes[-1] == 4321
    assert await small.balance("a") == parse_usd("1") - len(codes) * 7 * PRO_SECOND


async def test_a_report_without_a_beginning_is_charged(small: Running, upstream: Service) -> None:
    """An upstream that calls its beginning something else does not make its sessions free."""

    async def script(socket: Socket) -> None:
        await socket.say({"type": "Start", "id": "s"})
        await socket.hear()
        await socket.say({"type": "Termination", "session_duration_seconds": 2})
        await socket.close()

    upstream.script = script
    key = await small.open_account("a", credit="1")
    async with connected(small, key) as socket:
        await socket.receive_json(timeout=30)
        await socket.send_json(TERMINATE)
        await to_the_end(socket)
    assert await spent(small, "a") == 2 * PRO_SECOND


async def test_a_session_that_begins_twice_is_one(small: Running, upstream: Service) -> None:
    """The second beginning starts no second clock, and the report counts once."""

    async def script(socket: Socket) -> None:
        await socket.say(BEGIN)
        await socket.say(BEGIN)
        await ending({"type": "Termination", "session_duration_seconds": 3})(socket)

    upstream.script = script
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    await socket.send_json(TERMINATE)
    await to_the_end(socket)
    assert await spent(small, "a") == 3 * PRO_SECOND


async def test_a_session_is_over_with_its_report(small: Running, upstream: Service) -> None:
    """An upstream that stays after its report, with the clock stopped by it, would serve for nothing."""

    async def script(socket: Socket) -> None:
        await socket.say(BEGIN)
        await socket.hear()
        await socket.say({"type": "Termination", "session_duration_seconds": 1})
        for number in range(300):
            await socket.say({"type": "Turn", "transcript": str(number)})
            await asyncio.sleep(0.1)

    upstream.script = script
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    await socket.send_json(TERMINATE)
    started = time.monotonic()
    said, code = await to_the_end(socket)
    assert time.monotonic() - started < 15
    assert (said[0]["type"], code) == ("Termination", 1000)
    assert await spent(small, "a") == PRO_SECOND


async def test_a_line_that_breaks_behind_the_report_was_complete(small: Running, upstream: Service) -> None:
    """The client is not told of an error that concerns nothing any more."""

    async def script(socket: Socket) -> None:
        await socket.say(BEGIN)
        await socket.hear()
        await socket.say({"type": "Termination", "session_duration_seconds": 1})
        await asyncio.sleep(0.1)
        socket.cut()

    upstream.script = script
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    await socket.send_json(TERMINATE)
    said, code = await to_the_end(socket)
    assert ([message["type"] for message in said], code) == (["Termination"], 1000)


async def test_waiting_for_an_upstream_that_says_nothing_costs_nothing(small: Running, upstream: Service) -> None:
    """A client that has left pays until then, not for the seconds in which its session is brought to an end."""

    async def script(socket: Socket) -> None:
        await socket.say(BEGIN)
        await asyncio.sleep(4)

    upstream.script = script
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    await asyncio.sleep(0.3)
    await socket.close()
    assert 0.2 * PRO_SECOND < await spent(small, "a") < 1.8 * PRO_SECOND


# ---- what the client does


async def test_whoever_leaves_before_the_beginning_leaves_no_session_behind(small: Running, upstream: Service) -> None:
    """The upstream was about to begin: it is told to end, or it would be paid for hours that nobody pays us."""

    async def script(socket: Socket) -> None:
        await socket.hear_all()

    upstream.script = script
    key = await small.open_account("a", credit="1")
    for abrupt in (False, True):
        socket = await small.http.ws_connect(small.url + PRO, headers={"Authorization": key})
        await holds(lambda: bool(upstream.sockets))
        if abrupt:
            assert socket._writer.transport is not None
            socket._writer.transport.abort()
        await socket.close()
        await holds(lambda: len(upstream.sockets[-1].heard) == 2)
        assert upstream.sockets.pop().heard[0] == TERMINATE
    assert await spent(small, "a") == 0


@pytest.mark.parametrize(
    ("protocols", "closes"),
    [((), False), ((), True), (("b",), False)],
    ids=["accepted at once, lost", "accepted at once, closed", "accepted after the upstream"],
)
async def test_whoever_leaves_during_the_handshake_leaves_no_session_behind(
    small: Running, upstream: Service, protocols: tuple[str, ...], *, closes: bool
) -> None:
    """The upstream's session begins with its handshake: it is ended in words before its line is cut."""

    async def script(socket: Socket) -> None:
        await socket.say(BEGIN)
        await socket.hear_all()

    upstream.script, upstream.handshake_seconds, upstream.protocols = script, 0.5, protocols
    key = await small.open_account("a", credit="1")
    headers = {"Authorization": key}
    opening = asyncio.create_task(small.http.ws_connect(small.url + PRO, headers=headers, protocols=protocols))
    await holds(lambda: upstream.asked == 1)
    if protocols:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
    else:
        socket = await opening
        assert socket._writer.transport is not None
        if not closes:
            socket._writer.transport.abort()
        await socket.close()
    await holds(lambda: bool(upstream.sockets) and len(upstream.sockets[0].heard) == 2)
    assert upstream.sockets[0].heard == [TERMINATE, 1000 if closes else 1001]
    assert await spent(small, "a") == 0


async def test_an_update_before_the_beginning_holds_from_the_beginning(small: Running, upstream: Service) -> None:
    """What was switched on before anything was charged is charged for every second."""

    async def script(socket: Socket) -> None:
        await socket.hear()
        await ending({"type": "Termination", "session_duration_seconds": 2})(socket)

    upstream.script = script
    key = await small.open_account("a", credit="1")
    async with connected(small, key) as socket:
        await socket.send_json({"type": "UpdateConfiguration", "prompt": "Names"})
        assert (await socket.receive_json(timeout=30))["type"] == "Begin"
        await socket.send_json(TERMINATE)
        await to_the_end(socket)
    (entry,) = [each for each in await charges(small, "a") if each["amount"]]
    assert {item["sku"]: item["quantity"] for item in entry["items"]} == {
        "streaming.universal-3-pro": "2",
        "streaming.prompting": "2",
    }


@pytest.mark.parametrize(("off", "is_off"), [(False, True), ("", True), ([], True), (None, False)], ids=repr)
async def test_what_switches_an_add_on_off(small: Running, off: Any, is_off: bool) -> None:
    """False and empty do; null says nothing, and what the handshake asked for goes on."""
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key, PRO + "&prompt=Names")
    await socket.send_json({"type": "UpdateConfiguration", "prompt": off})
    await asyncio.sleep(0.4)
    await socket.send_json(TERMINATE)
    await to_the_end(socket)
    await free(small, "a")
    seconds = sum(
        float(item["quantity"])
        for entry in await charges(small, "a")
        for item in entry["items"]
        if item["sku"] == "streaming.prompting"
    )
    assert seconds < 0.9 if is_off else seconds == 1


async def test_a_flood_of_updates_costs_neither_memory_nor_time(small: Running) -> None:
    """Prices that change more often than anybody means are refused; what was sent is not kept."""
    key = await small.open_account("a", credit="1")
    socket = await begun(small, key)
    (session,) = small.gateway.pipeline.sessions._open["a"]
    for number in range(40):
        junk = {f"field{number}.{index}": False for index in range(5000)}
        await socket.send_json({"type": "UpdateConfiguration", "agent_context": "x" * 200_000, **junk})
    await socket.send_json({"type": "UpdateConfiguration", "prompt": "x" * 200_000})
    kept = session._call.sources

    async def taken() -> bool:
        return "prompt" in (kept.get("request") or {})

    assert await until(taken)
    assert len(repr(kept["request"])) < 1000
    started = time.process_time()
    for number in range(2000):
        if socket.closed:
            break
        await socket.send_json({"type": "UpdateConfiguration", "prompt": "x" if number % 2 else ""})
    said, code = await to_the_end(socket)
    assert time.process_time() - started < 3
    assert (said[-1]["error_code"], code) == (3006, 3006)
    await free(small, "a")


async def test_a_resumed_session_pays_for_its_own_socket(tmp_path: Path, empty_redis: str) -> None:
    """The upstream reports all of the session; what was before was paid by the socket that it was served on."""
    async with running(tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="1")
        async with gw.http.ws_connect(
            gw.sandbox.url + AGENT, headers={"Authorization": "sandbox-service-key"}
        ) as earlier:
            await earlier.send_json({"type": "session.update", "session": {"system_prompt": "Hi"}})
            name = (await earlier.receive_json(timeout=30))["session_id"]
            await asyncio.sleep(1.2)
        await gw.gateway.books.accept("a", _agent_session(name), deadline_seconds=0, keep_seconds=0)
        async with connected(gw, key, AGENT) as socket:
            await socket.send_json({"type": "session.resume", "session_id": name})
            assert (await socket.receive_json(timeout=30))["session_id"] == name
            await asyncio.sleep(0.3)
            await socket.send_json({"type": "session.end"})
            said, code = await to_the_end(socket)
        assert (said[-1]["type"], code) == ("session.ended", 1000)
        assert said[-1]["session_duration_seconds"] > 1.4
        assert 0.2 * AGENT_SECOND < await spent(gw, "a") < 0.8 * AGENT_SECOND


def _agent_session(name: str) -> Resource:
    return Resource(ref=ResourceRef(kind="agent_session", id=name), state="kept", product="voice-agent")


# ---- while it is opened


async def test_a_key_that_is_disabled_during_the_handshake_opens_nothing(
    tmp_path: Path, empty_redis: str, upstream: Service
) -> None:
    """Between admission and the upstream's answer is time enough: it counts like a change in an open session."""
    upstream.handshake_seconds = 0.6
    async with running(tmp_path, empty_redis, changes=upstream.changes(slice_seconds=30)) as gw:
        key = await gw.open_account("a", credit="1")
        async with connected(gw, key) as socket:
            await holds(lambda: upstream.asked == 1)
            await asyncio.sleep(0.1)
            await gw.ledger.change_key(operation="d", account="a", key_id="key-a", changes={"disabled": True})
            said, code = await to_the_end(socket, seconds=4)
        assert code == 1008
        assert "disabled" in said[-1]["error"]
        assert await spent(gw, "a") <= 1.2 * PRO_SECOND


async def test_a_call_that_is_cut_down_while_it_dials_leaves_nothing(small: Running, upstream: Service) -> None:
    """Neither a hold nor the client's socket stays open."""
    upstream.handshake_seconds = 1.5
    key = await small.open_account("a", credit="1")
    tasks = asyncio.all_tasks()
    async with connected(small, key) as socket:
        await socket.send_json({"type": "UpdateConfiguration", "prompt": "Names"})
        await holds(lambda: upstream.asked == 1)
        (client,) = small.gateway._customers.calls
        client.cut()
        _, code = await to_the_end(socket, seconds=3)
        assert code in (1001, 1006)
    await asyncio.sleep(0.1)
    assert not [task for task in asyncio.all_tasks() - tasks if "_ask" in repr(task)]
    assert await spent(small, "a") == 0


async def test_a_gateway_that_stops_while_it_dials_says_so(tmp_path: Path, empty_redis: str, upstream: Service) -> None:
    """The client is told to come again, and pays nothing."""
    upstream.handshake_seconds = 0.8
    async with running(tmp_path, empty_redis, changes=upstream.changes()) as gw:
        key = await gw.open_account("a", credit="1")
        socket = await gw.http.ws_connect(gw.url + PRO, headers={"Authorization": key})
        await holds(lambda: upstream.asked == 1)
        end = asyncio.create_task(to_the_end(socket))
        await gw.gateway.pipeline.sessions.end_all()
        said, code = await end
        assert (said[-1]["type"], code) == ("Error", 1012)
        await in_order(gw, "a", balance=Nanos(parse_usd("1")))
