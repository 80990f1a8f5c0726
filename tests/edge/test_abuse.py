"""Those who would use the gateway up: guessed keys, connections that ask for nothing, bodies that grow in memory.

Each is bounded in memory, time and round trips, and those who mean well are served meanwhile.
"""

import asyncio
import gzip
import io
import resource
import time
import zlib
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import orjson

from gateway.core.money import parse_usd
from gateway.edge.identify import Unknown
from gateway.edge.keys import key_digest
from gateway.edge.server.door import Door
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from gateway.ports import Key
from gateway.settings.runtime import Limits
from tests.fakes.upstream import Line, RawClient, ScriptedUpstream, answering, chunk, message
from tests.harness import Running
from tests.pipeline.sockets import PRO
from tests.upstream.proxying import (
    CHARGED,
    CHAT,
    CHAT_PATH,
    FREE_PATH,
    JSON,
    PRICE,
    before,
    chat_bytes,
    chat_upstream,
    get_bytes,
    metric,
    nothing_held,
    opened,
    until,
)


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def reads(redis_url: str) -> int:
    """How many GETs the server has done."""
    link = SingleLink(LinkSettings(url=redis_url))
    await link.open()
    text = await link.call("INFO", "commandstats")
    await link.close()
    assert isinstance(text, bytes), "INFO is text"
    found = [line for line in text.decode().splitlines() if line.startswith("cmdstat_get:")]
    return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


async def asked(gw: Running, key: str, *fields: str) -> tuple[int, str]:
    """A chat call with this key: its status, and its code if it was refused."""
    headers = dict(field.split(": ", 1) for field in fields)
    got = await gw.call("POST", CHAT_PATH, key, json=CHAT, headers=headers)
    return got.status, got.code


# ---- keys that nobody has


async def test_an_unknown_key_is_not_looked_for_again_and_again(tmp_path: Path, empty_redis: str) -> None:
    """A hundred calls with one key that nobody has are a few reads of the ledger, however they are made."""
    async with before(chat_upstream(), tmp_path, empty_redis) as gw:
        before_them = await reads(empty_redis)
        began = time.monotonic()
        got = [await asked(gw, "nobody") for _ in range(50)]
        got += await asyncio.gather(*(asked(gw, "nobody") for _ in range(50)))
        assert set(got) == {(401, "unauthorized")}
        rounds = 2 + int((time.monotonic() - began) / (Unknown.SECONDS_MAX / 2))
        assert await reads(empty_redis) - before_them <= 2 * rounds


async def test_guesses_are_slowed_down(tmp_path: Path, empty_redis: str) -> None:
    """After some unknown keys an address is told to wait, unseen; a key that was used lately is served all the same."""
    limits = {"unknown_keys_per_minute_max": 5}
    async with before(chat_upstream(), tmp_path, empty_redis, limits=limits) as gw:
        key = await gw.open_account("a")
        assert await asked(gw, key) == (200, "")
        before_them = await reads(empty_redis)
        got = [await asked(gw, f"guess-{n}", f"X-Forwarded-For: 192.0.2.{n}") for n in range(40)]
        assert set(got) == {(401, "unauthorized"), (429, "too_many_unknown_keys")}
        assert got.count((401, "unauthorized")) <= 10 and got[-1][0] == 429  # a minute may begin in between
        assert await reads(empty_redis) - before_them <= 10
        refused = await gw.call("POST", CHAT_PATH, "guess-last", json=CHAT)
        assert refused.status == 401 or 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.json["error"]["message"]
        assert await asked(gw, key) == (200, "")
        assert await gw.balance("a") == parse_usd("100") - 2 * parse_usd(PRICE)


async def test_who_guesses_is_whom_the_balancer_names(tmp_path: Path, empty_redis: str) -> None:
    """Where it is trusted, each client has its own number of tries, whatever it wrote into the field itself."""
    limits = {"unknown_keys_per_minute_max": 5}
    async with before(chat_upstream(), tmp_path, empty_redis, limits=limits, trust_forwarded_for=True) as gw:
        for n in range(40):
            await asked(gw, f"guess-{n}", f"X-Forwarded-For: 10.0.0.{n}, 192.0.2.7")
        assert (await asked(gw, "guess", "X-Forwarded-For: 192.0.2.7"))[0] in (429, 401)
        assert await asked(gw, "other", "X-Forwarded-For: 192.0.2.7, 192.0.2.8") == (401, "unauthorized")
        assert await asked(gw, "another", "X-Forwarded-For: 2001:db8::1") == (401, "unauthorized")


async def test_many_good_keys_at_once_are_no_guesses(tmp_path: Path, empty_redis: str) -> None:
    """Keys that a worker sees for the first time, from one address, all at once, and also while the ledger is slow."""
    limits = {"unknown_keys_per_minute_max": 3}
    async with before(chat_upstream(), tmp_path, empty_redis, limits=limits) as gw:
        keys = [await gw.open_account(f"a{n}") for n in range(20)]
        got = await asyncio.gather(*(asked(gw, key) for key in keys))
        assert got == [(200, "")] * 20


async def test_a_key_is_good_a_second_after_it_was_made(tmp_path: Path, empty_redis: str) -> None:
    """Also where it had been tried before."""
    async with before(chat_upstream(), tmp_path, empty_redis) as gw:
        await gw.open_account("a")
        for _ in range(3):
            assert (await asked(gw, "early"))[0] == 401
        digest = key_digest(gw.runtime.key_pepper, "early")
        await gw.ledger.put_key(operation="k", key=Key(id="early", account="a"), digest=digest)
        made = time.monotonic()
        while (await asked(gw, "early"))[0] != 200:
            assert time.monotonic() - made < Unknown.SECONDS_MAX + 5
            await asyncio.sleep(0.02)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def test_unknown_keys_take_a_bounded_memory() -> None:
    """A million of them are forgotten in time, and never are more than a number of them known."""
    clock = Hands()
    unknown = Unknown(clock)
    for number in range(1_000_000):
        unknown.add(str(number))
        clock.time += 0.00001
        if number % 1000 == 0:
            assert str(number) in unknown or len(unknown) >= Unknown.DIGESTS_MAX // 2
    assert len(unknown) <= Unknown.DIGESTS_MAX
    for pause in (0.3, 0.49, 0.5, 0.9, 5.0):
        unknown.add("one")
        began = clock.time
        while "one" in unknown:
            clock.time += 0.01
        assert clock.time - began <= Unknown.SECONDS_MAX + 0.02
        clock.time += pause
    assert len(unknown) == 0


# ---- connections


async def test_an_address_has_so_many_connections(tmp_path: Path, empty_redis: str) -> None:
    """One more is closed unheard, and there is room when one has left."""
    limits = {"connections_per_address_max": 3}
    async with before(chat_upstream(), tmp_path, empty_redis, limits=limits) as gw, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await opened(gw)) for _ in range(3)]
        for client in clients:
            assert (await client.ask(get_bytes(FREE_PATH))).status == 200
        async with await opened(gw) as one_more:
            assert await one_more.ended()
        assert (await clients[0].ask(get_bytes(FREE_PATH))).status == 200
        clients.pop().close()

        async def room() -> bool:
            async with await opened(gw) as client:
                with suppress(ConnectionError, AssertionError):
                    return (await client.ask(get_bytes(FREE_PATH))).status == 200
                return False

        await until(room)
        assert (await metric(gw, 'gateway_events_total{event="connection_refused"')).popitem()[1] >= 1
    door = gw.gateway._customers.door
    assert repr(door) == "<Door inside=0 addresses=0>"


async def test_a_balancer_has_any_number(tmp_path: Path, empty_redis: str) -> None:
    """Behind one that is trusted all connections come from its address."""
    limits = {"connections_per_address_max": 1}
    made = before(chat_upstream(), tmp_path, empty_redis, limits=limits, trust_forwarded_for=True)
    async with made as gw, AsyncExitStack() as stack:
        for _ in range(5):
            client = await stack.enter_async_context(await opened(gw))
            assert (await client.ask(get_bytes(FREE_PATH))).status == 200


async def test_the_door_counts_addresses() -> None:
    """A /64 is one address, and what has left is not remembered."""

    class Someone:
        head_began = 0.0

        def force_close(self) -> None:
            raise AssertionError("nobody waits here")

    door = Door(Limits(connections_max=1000), of_address_max=2)
    some = [Someone() for _ in range(1500)]
    assert [door.enter(each, "2001:db8::" + str(n)) for n, each in enumerate(some[:3])] == [True, True, False]
    assert door.enter(some[3], "192.0.2.1")
    entered = [door.enter(each, f"10.0.{n // 250}.{n % 250}") for n, each in enumerate(some[4:])]
    assert entered == [True] * 996 + [False] * 500
    for each in some:
        door.leave(each)
        door.leave(each)
    assert repr(door) == "<Door inside=0 addresses=0>"
    door.close()


async def test_slow_heads(tmp_path: Path, empty_redis: str) -> None:
    """A hundred connections that say nothing, or a byte now and then, are dropped; one that is only idle is kept."""
    async with before(chat_upstream(), tmp_path, empty_redis, limits={"head_seconds_max": 0.4}) as gw:

        async def drip(first: bytes) -> float:
            began = time.monotonic()
            async with await opened(gw) as client:
                with suppress(ConnectionError):
                    if first:
                        await client.ask(first)
                        await asyncio.sleep(0.5)  # idle for longer than a head may take
                        began = time.monotonic()
                    ended = asyncio.create_task(client.reader.read(1))
                    for byte in b"GET /v1/models HTTP/1.1\r\nHost: gw\r\nX: " + b"y" * 1000:
                        await client.send(bytes([byte]))
                        if (await asyncio.wait([ended], timeout=0.03))[0]:
                            break
            return time.monotonic() - began

        async def silent() -> float:
            began = time.monotonic()
            async with await opened(gw) as client:
                with suppress(ConnectionError):
                    assert await client.reader.read(1) == b""
            return time.monotonic() - began

        async def well() -> float:
            async with await opened(gw) as client:
                for _ in range(3):
                    assert (await client.ask(get_bytes(FREE_PATH))).status == 200
                    await asyncio.sleep(0.7)
            return 1.0

        waits: list[Awaitable[float]] = [silent() for _ in range(40)]
        waits += [drip(b"") for _ in range(40)] + [drip(get_bytes(FREE_PATH)) for _ in range(20)] + [well()]
        assert max(await asyncio.gather(*waits)) < 20  # those that drip would take thirty
        assert (await metric(gw, 'gateway_events_total{event="head_too_slow"')).popitem()[1] >= 60


async def test_slow_bodies(tmp_path: Path, empty_redis: str) -> None:
    """A byte now and then makes no more of a body's time: a JSON body's, or a whole call's that passes one on."""

    async def taking(line: Line) -> None:
        await line.head()
        await line.ended()

    limits, service = {"body_read_seconds_max": 0.5}, {"total_seconds_max": 1.0, "reply_seconds_max": 1.0}
    async with before(ScriptedUpstream(taking), tmp_path, empty_redis, limits=limits, service=service) as gw:
        key = await gw.open_account("a")

        async def drip(head: bytes, piece: bytes) -> int:
            async with await opened(gw) as client:
                await client.send(head)
                reply = asyncio.create_task(client.reply())
                while not (await asyncio.wait([reply], timeout=0.05))[0]:
                    with suppress(ConnectionError):
                        await client.send(piece)
                return (await reply).status

        upload = message("POST /v2/upload HTTP/1.1", "Host: h", f"Authorization: {key}", "%s", length=False).decode()
        began = time.monotonic()
        statuses = await asyncio.gather(
            drip(chat_bytes(key, "Content-Length: 100000", length=False, body=b"{"), b" "),
            drip(chat_bytes(key, "Transfer-Encoding: chunked", length=False, body=chunk(b"{")), chunk(b" ")),
            drip((upload % "Content-Length: 100000").encode(), b"x"),
            drip((upload % "Transfer-Encoding: chunked").encode(), chunk(b"x")),
        )
        assert list(statuses) == [408, 408, 504, 504]
        assert time.monotonic() - began < 20
        await nothing_held(gw)


async def test_one_account_cannot_have_every_place(tmp_path: Path, empty_redis: str) -> None:
    """Uploads that drip in for ever take an account's own places, whatever its plan; the next customer has others."""

    async def taking(line: Line) -> None:
        await line.head()
        await line.ended()

    upstream = ScriptedUpstream(taking)
    async with before(upstream, tmp_path, empty_redis, limits={"calls_per_account_max": 3}) as gw:
        key, other = await gw.open_account("a"), await gw.open_account("b")
        pipeline = gw.gateway.pipeline
        places = pipeline._admission.places
        head = ("POST /v2/upload HTTP/1.1", "Host: h", "Content-Length: 100000")
        async with AsyncExitStack() as stack:
            for secret, open_calls in ((key, 1), (key, 2), (key, 3), (other, 4)):
                client = await stack.enter_async_context(await opened(gw))
                await client.send(message(*head, f"Authorization: {secret}", length=False) + b"x")
                await until(lambda count=open_calls: f" calls={count}>" in repr(places))  # type: ignore[misc]
            refused = await gw.call("POST", "/v2/upload", key, data=b"x")
            assert (refused.status, refused.code) == (429, "too_many_concurrent")
            assert refused.headers["Retry-After"] == "1"
            assert repr(places) == "<Places accounts=2 calls=4>"
        await until(lambda: pipeline.calls_open == 0)
        assert repr(places) == "<Places accounts=0 calls=0>"


async def test_handshakes_that_wait(tmp_path: Path, empty_redis: str) -> None:
    """So many sessions may wait for an upstream that does not answer; one more is told to come back, over HTTP."""

    hears = asyncio.Event()

    async def deaf(line: Line) -> None:
        await line.head()
        await hears.wait()

    limits = {"handshakes_max": 3}
    made = before(ScriptedUpstream(deaf), tmp_path, empty_redis, limits=limits, service={"reply_seconds_max": 30})
    async with made as gw, AsyncExitStack() as stack:
        key = await gw.open_account("a", credit="1000")
        fields = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Authorization: {key}",
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip

        async def knocked() -> RawClient:
            client = await stack.enter_async_context(await opened(gw))
            await client.send(get_bytes(PRO, *fields))
            return client

        waiting = [await knocked() for _ in range(3)]
        for client in waiting:
            assert b" 101 " in (await client.head() or b"")
        await until(lambda: gw.gateway.pipeline.sessions._opening == 3)
        flood = await asyncio.gather(*(knocked() for _ in range(50)))
        for client in flood:
            got = await client.reply()
            assert (got.status, got.one("X-Gateway-Error"), got.one("Retry-After")) == (503, b"overloaded", b"1")
        hears.set()  # and hangs up
        await until(lambda: gw.gateway.pipeline.sessions._opening == 0)
        assert b" 101 " in (await (await knocked()).head() or b"")


# ---- what grows in memory


BOMBS = {
    "gzip": gzip.compress(b'{"model":"gpt-5.2","messages":"' + b"x" * 9_000_000 + b'"}'),
    "deflate": zlib.compress(b'{"model":"gpt-5.2","messages":"' + b" " * 9_000_000 + b'"}'),
    "members": b"".join([gzip.compress(b" " * 4_000_000)] * 60),
    "empty members": gzip.compress(b"") * 50_000,
    "twice": gzip.compress(gzip.compress(b"x" * 50_000_000)),
}


async def test_a_body_that_inflates_beyond_measure(tmp_path: Path, empty_redis: str) -> None:
    """Is refused after a hundred times its size, or at its limit, and costs next to nothing."""
    async with before(chat_upstream(), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        peak = peak_bytes()
        for name, bomb in BOMBS.items():
            cpu, coding = time.process_time(), "deflate" if name == "deflate" else "gzip"
            for _ in range(5):
                got = await gw.call("POST", CHAT_PATH, key, data=bomb, headers={"Content-Encoding": coding})
                assert (got.status, got.code) == (400, "invalid_request"), name
            assert time.process_time() - cpu < 1.0, name
        assert peak_bytes() - peak < 60_000_000
        fair = gzip.compress(orjson.dumps({**CHAT, "user": "x" * 500_000}))
        got = await gw.call("POST", CHAT_PATH, key, data=fair, headers={"Content-Encoding": "gzip"})
        assert got.status == 200


async def test_a_reply_that_inflates_beyond_measure(tmp_path: Path, empty_redis: str) -> None:
    """Is passed on as it is, and read up to its limit: it reports nothing, and costs what such a reply costs."""
    bomb = gzip.compress(b'{"padding":"' + b"x" * 200_000_000 + b'",' + CHARGED[1:], compresslevel=1)
    upstream = answering(message("HTTP/1.1 200 OK", JSON, "Content-Encoding: gzip", body=bomb))
    async with before(upstream, tmp_path, empty_redis, llm={"metered_body_bytes_max": 10_000_000}) as gw:
        key = await gw.open_account("a")
        peak, cpu = peak_bytes(), time.process_time()
        got = await gw.call("POST", CHAT_PATH, key, json=CHAT, headers={"Accept-Encoding": "gzip"})
        assert (got.status, got.body) == (200, bomb)
        assert time.process_time() - cpu < 1.5
        assert peak_bytes() - peak < 80_000_000
        await nothing_held(gw)


async def test_a_reply_in_no_coding_that_is_read(tmp_path: Path, empty_redis: str) -> None:
    """A bomb in two codings, or in one that was not asked for, is never inflated; in deflate it is, up to its limit."""
    bomb = b'{"padding":"' + b"x" * 10_000_000 + b'",' + CHARGED[1:]
    codings = {"br": b"\xff" * 1000, "zstd": b"(\xb5/\xfd" + b"\x00" * 1000, "gzip, br": gzip.compress(bomb, 1),
               "gzip, gzip": gzip.compress(gzip.compress(bomb, 1)), "deflate": zlib.compress(bomb, 1)}  # fmt: skip
    replies = iter(codings.items())

    async def script(line: Line) -> None:
        while True:
            asked = await line.request()
            assert set((asked.one("Accept-Encoding") or b"").split(b", ")) <= {b"gzip", b"deflate"}
            coding, body = next(replies)
            await line.send(message("HTTP/1.1 200 OK", JSON, f"Content-Encoding: {coding}", body=body))

    upstream = ScriptedUpstream(script)
    async with before(upstream, tmp_path, empty_redis, llm={"metered_body_bytes_max": 1_000_000}) as gw:
        key = await gw.open_account("a")
        peak, cpu = peak_bytes(), time.process_time()
        for body in codings.values():
            async with await opened(gw) as client:
                got = await client.ask(chat_bytes(key, "Accept-Encoding: gzip, deflate, br, zstd"))
                assert (got.status, got.body) == (200, body)
        assert time.process_time() - cpu < 1.5
        assert peak_bytes() - peak < 30_000_000
        assert sum((await metric(gw, 'gateway_events_total{event="usage_unknown"')).values()) == len(codings)
        await nothing_held(gw)


async def test_a_stream_that_inflates_beyond_measure(tmp_path: Path, empty_redis: str) -> None:
    """A piece of a compressed stream that grows a thousandfold cuts the stream: nobody gets it, and nothing is held."""
    bomb = gzip.compress(b"data: " + b"x" * 40_000_000, 1)
    head = message("HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Content-Encoding: gzip", body=bomb)
    async with before(answering(head), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        peak, cpu = peak_bytes(), time.process_time()
        async with await opened(gw) as client:
            await client.send(chat_bytes(key, "Accept-Encoding: gzip", body=orjson.dumps({**CHAT, "stream": True})))
            assert len(await client.rest()) < 30_000_000
        assert time.process_time() - cpu < 2
        assert peak_bytes() - peak < 80_000_000
        await until(lambda: gw.gateway.pipeline._open == 0)
        await nothing_held(gw)


def many(text: bytes, size: int) -> bytes:
    """A chat request with so many bytes of this in a list beside its own."""
    return b'{"model":"gpt-5.2","messages":[],"stop":[' + text * (size // len(text)) + b"1]}"


HUGE = {
    "empty objects": many(b"{},", 9_000_000),
    "empty lists": many(b"[],", 9_000_000),
    "numbers": many(b"1,", 9_000_000),
    "names": b"{" + b"".join(b'"k%d":1,' % n for n in range(200_000)) + b'"model":"gpt-5.2"}',
    "some names": b"{" + b"".join(b'"k%d":1,' % n for n in range(20_000)) + b'"model":"gpt-5.2"}',
    "the same name": b'{"model":"gpt-5.2",' + b'"messages":[],' * 15_000 + b'"a":1}',
    "depth": b'{"model":"gpt-5.2","messages":' + b"[" * 4_000_000 + b"]" * 4_000_000 + b"}",
    "depth of objects": b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000,
    "no end": b'{"model":"gpt-5.2","messages":"' + b"\\n" * 4_000_000,
}


async def test_json_that_takes_more_than_it_is(tmp_path: Path, empty_redis: str) -> None:
    """A body within its limit that would fill memory, or time, is refused before it does."""
    async with before(chat_upstream(), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        peak = peak_bytes()
        for name, body in HUGE.items():
            cpu = time.process_time()
            for _ in range(2):
                got = await gw.call("POST", CHAT_PATH, key, data=io.BytesIO(body))
                assert (got.status, got.code) in ((400, "invalid_request"), (400, "unpriced_field")), name
            assert time.process_time() - cpu < 1.5, name
        assert peak_bytes() - peak < 120_000_000
        await nothing_held(gw)


async def test_a_text_of_a_million_escapes(tmp_path: Path, empty_redis: str) -> None:
    """Is a text like any other, also where a field is put into the body around it."""
    async with before(chat_upstream(), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a", credit="1000")
        text = b'\\n\\u00e9\\\\\\"' * 600_000
        peak, cpu = peak_bytes(), time.process_time()
        for stream in (b"false", b"true"):
            body = b'{"messages":[{"role":"user","content":"%b"}],"model":"gpt-5.2","stream":%b}' % (text, stream)
            got = await gw.call("POST", CHAT_PATH, key, data=io.BytesIO(body))
            assert got.status == 200
        assert time.process_time() - cpu < 3
        assert peak_bytes() - peak < 250_000_000


async def test_a_line_without_end(tmp_path: Path, empty_redis: str) -> None:
    """A stream that is one line passes in little memory, and is charged as one that reported nothing."""
    size = 60_000_000

    async def script(line: Line) -> None:
        await line.request()
        head = message("HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", length=False)
        await line.send(head + chunk(b"data: "))
        for _ in range(size // 60_000):
            await line.send(chunk(b"x" * 60_000))
        await line.send(chunk(b""))
        await line.ended()

    async with before(ScriptedUpstream(script), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        peak, received = peak_bytes(), 0
        async with gw.http.post(
            gw.url + CHAT_PATH, json={**CHAT, "stream": True}, headers={"Authorization": key}
        ) as got:
            async for piece in got.content.iter_any():
                received += len(piece)
        assert received >= size
        assert peak_bytes() - peak < 40_000_000
        await nothing_held(gw)
