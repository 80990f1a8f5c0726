"""Bytes that two servers could take for two different requests, in front of an upstream that records what it gets.

Whatever is sent, each request that the upstream gets was sent as one, is counted once, and is charged to who sent it.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from gateway.core.money import parse_usd
from tests.fakes.upstream import Line, RawClient, Received, ScriptedUpstream, chunk, message
from tests.harness import Running
from tests.upstream.proxying import (
    CHARGED,
    CHAT,
    CHAT_PATH,
    FREE_PATH,
    JSON,
    PRICE,
    before,
    chat_bytes,
    get_bytes,
    metric,
    nothing_held,
    opened,
    until,
)

BODY = orjson.dumps(CHAT)
#: Sent behind everything else: whoever is still listened to is answered, and then the connection ends.
LAST = get_bytes(f"{FREE_PATH}?last", "Connection: close")
HIDDEN = get_bytes(f"{FREE_PATH}?hidden")
#: Its answer begins at once, and ends when it may.
STREAMED = f"{FREE_PATH}?streamed"
CHUNKED = "Transfer-Encoding: chunked"
WHOLE = chunk(BODY) + chunk(b"")
KEY = "secret-of-a"


async def _heard(client: RawClient, heard: bytearray) -> None:
    """Everything until the other side closes, or resets because we wrote on."""
    with suppress(ConnectionError):
        async with asyncio.timeout(20):
            while data := await client.reader.read(2**16):
                heard += data


@dataclass
class Front:
    """A gateway and the upstream behind it."""

    gw: Running
    upstream: ScriptedUpstream
    may_answer: asyncio.Event
    said: bytes = b""

    async def sent(self, *parts: bytes) -> tuple[list[int], list[Received]]:
        """Send these, then LAST: the statuses of all that was answered until the end, and what the upstream got."""
        known, heard = len(self.upstream.requests), bytearray()
        async with await opened(self.gw) as client:
            hearing = asyncio.create_task(_heard(client, heard))
            for index, part in enumerate((*parts, LAST)):
                if index:
                    await asyncio.sleep(0.02)
                with suppress(ConnectionError):
                    await client.send(part)
            await hearing
        self.said = bytes(heard)
        statuses = [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3}) ", self.said)]
        return statuses, self.upstream.requests[known:]

    async def asked(self, count: int) -> None:
        """Wait until the upstream has got so many requests."""
        await until(lambda: len(self.upstream.requests) == count)

    async def refused(self, *parts: bytes, status: int = 400) -> None:
        """Nothing of these goes on; the connection ends with the refusal."""
        answered, passed = await self.sent(*parts)
        assert not passed, (parts, [each.first for each in passed])
        assert answered in ([status], []), (parts, answered)

    async def served(self, *parts: bytes, more: bool = True) -> Received:
        """The first of these goes on, once, and so does LAST if the connection takes `more`."""
        answered, passed = await self.sent(*parts)
        assert answered == [200] * (1 + more), (parts, answered)
        assert len(passed) == 1 + more, (parts, [each.first for each in passed])
        return passed[0]


@pytest.fixture
async def front(tmp_path: Path, empty_redis: str):  # type: ignore[no-untyped-def]
    """A gateway before an upstream that charges, when it may answer; accounts a and b."""
    may_answer = asyncio.Event()
    may_answer.set()

    async def script(line: Line) -> None:
        while True:
            taken = await upstream.taken(line)
            if taken.target == STREAMED.encode():
                await line.send(message("HTTP/1.1 200 OK", CHUNKED, length=False) + chunk(b"x" * 2**18))
            await may_answer.wait()
            await line.send(
                chunk(b"") if taken.target == STREAMED.encode() else message("HTTP/1.1 200 OK", JSON, body=CHARGED)
            )

    upstream = ScriptedUpstream(script)
    async with before(upstream, tmp_path, empty_redis, limits={"body_read_seconds_max": 5.0}) as gw:
        await gw.open_account("a")
        await gw.open_account("b")
        yield Front(gw, upstream, may_answer)
        # However it came: what the upstream was asked is counted, and paid for by whose key it carried.
        for account in ("a", "b"):
            await nothing_held(gw, account)
            paid = [each for each in upstream.requests if each.one("X-Account-Id") == account.encode()]
            assert await gw.balance(account) == parse_usd("100") - len(paid) * parse_usd(PRICE)
        counted = await metric(gw, 'gateway_calls_total{outcome="settled",product="llm-gateway"')
        assert sum(counted.values()) == sum(each.one("X-Account-Id") is not None for each in upstream.requests)


def post(*fields: str, body: bytes = b"", key: str = KEY) -> bytes:
    """A chat call with just these fields of framing."""
    return chat_bytes(key, *fields, body=body, length=False)


# ---- where a body ends


async def test_a_body_has_one_length(front: Front) -> None:
    """Two lengths, one that is none, or a coding that is not chunked alone: 400, and nothing behind it is read."""
    hides = b"0\r\n\r\n" + HIDDEN
    for lines in (
        (f"Content-Length: {len(hides)}", CHUNKED),
        (CHUNKED, f"Content-Length: {len(hides)}"),
        (CHUNKED, "Content-Length: 0"),
        ("Transfer-Encoding: identity", CHUNKED),
        (CHUNKED, "Transfer-Encoding: x"),
        (CHUNKED, "transfer-encoding: chunked"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: ,chunked",),
        ("Transfer-Encoding: chunked,",),
        ("Transfer-Encoding: chunked;q=1",),
        ("Transfer-Encoding: chun\x01ked",),
        ('Transfer-Encoding: "chunked"',),
        ("Transfer-Encoding:\x0bchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding:",),
        ("Transfer-\xc9ncoding: chunked",),
        ("X: y\rTransfer-Encoding: chunked",),
        ("X: y\nTransfer-Encoding: chunked",),
        (" Transfer-Encoding: chunked",),
        ("Content-Length: 0", f"Content-Length: {len(hides)}"),
        ("Content-Length: 5", "Content-Length: 5"),
        *[
            (f"Content-Length: {odd}",)
            for odd in ("5, 5", "5 5", "+5", "-1", "0x5", "5_0", "5.0", "1e1", "", "\xb2", "9" * 30, "5\x00", "five")
        ],
        ("Content-Length : 5",),
        ("Content\x00Length: 5",),
        ("X: y", " Content-Length: 5"),
        ("Content-Length:", " 5"),
    ):
        await front.refused(post(*lines, body=hides))
        await front.refused(post(*lines), hides)  # in a segment of its own


async def test_lengths_as_they_may_be_written(front: Front) -> None:
    """Spaces around them, zeros before them, any case: read once, and passed on as one plain length."""
    for line in (f"Content-Length:{len(BODY)}", f"content-length: \t {len(BODY)} \t", f"CONTENT-LENGTH: 00{len(BODY)}"):
        passed = await front.served(post(line, body=BODY))
        assert (passed.one("Content-Length"), passed.all("Transfer-Encoding")) == (b"%d" % len(BODY), [])
        assert passed.body == BODY
    for underscored in ("Content_Length: 3", "Transfer_Encoding: chunked"):
        passed = await front.served(post(underscored, f"Content-Length: {len(BODY)}", body=BODY))
        assert (passed.body, passed.all(underscored.split(":")[0])) == (BODY, [])


async def test_chunks(front: Front) -> None:
    """Sizes that are none, or lines that end otherwise: 400. Extensions are dropped; nothing is served behind them."""
    size = b"%x" % len(BODY)
    for line in ("Transfer-Encoding: chunked", "transfer-encoding: CHUNKED", "Transfer-Encoding:\t chunked"):
        passed = await front.served(post(line, body=WHOLE), more=False)
        assert (passed.body, passed.one("Content-Length"), passed.all("Transfer-Encoding")) == (
            BODY, b"%d" % len(BODY), [],
        )  # fmt: skip
    for begin in (size + b";a=b", size + b';a="b"', b"000000000000" + size, size.upper()):
        passed = await front.served(post(CHUNKED, body=begin + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN), more=False)
        assert passed.body == BODY
    for broken in (
        size + b"\n" + BODY + b"\r\n0\r\n\r\n",
        size + b"\r\n" + BODY + b"\n0\r\n\r\n",
        size + b"\r\n" + BODY + b"0\r\n\r\n",
        size + b"\r\n" + BODY + b"\r\n0\n\n",
        size + b"\r" + BODY + b"\r\n0\r\n\r\n",
        size + b" \r\n" + BODY + b"\r\n0\r\n\r\n",
        b" " + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"\r\n" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"+" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"-" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"0x" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"1" + b"0" * 16 + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n" + BODY,
        b"g\r\n" + BODY,
        b"\r\n\r\n",
        b";a=b\r\n" + BODY,
        size + b';a="\r\n0\r\n\r\n"\r\n' + BODY + b"\r\n0\r\n\r\n",
        size + b";a\x00b\r\n" + BODY + b"\r\n0\r\n\r\n",
        size + b";a\nb\r\n" + BODY + b"\r\n0\r\n\r\n",
        chunk(BODY) + b"0\r\nX: y\nContent-Length: 3\r\n\r\n",
        chunk(BODY) + b"0\r\n bad: y\r\n\r\n",
        chunk(BODY) + b"0\r\nContent-Length: 3\r\n\r\n",
        chunk(BODY) + b"0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ):
        await front.refused(post(CHUNKED, body=broken + HIDDEN))
        await front.refused(post(CHUNKED), broken + HIDDEN)  # its body is being read when it breaks


async def test_a_trailer_is_no_field_of_the_next_request(front: Front) -> None:
    """Whatever a trailer says, no request has it: neither the one that it ends nor one behind it."""
    for trailer in ("X-Evil: 1", "Authorization: secret-of-b", "X-Account-Id: b"):
        body = chunk(BODY) + f"0\r\nX-First: 1\r\n{trailer}\r\n\r\n".encode()
        for parts in ((post(CHUNKED, body=body), HIDDEN), (post(CHUNKED, body=body) + HIDDEN,)):
            passed = await front.served(*parts, more=False)
            assert passed.one("X-Account-Id") == b"a"
            assert not passed.all("X-Evil") and not passed.all("X-First")


# ---- lines and what stands in them


async def test_lines(front: Front) -> None:
    """A bare LF or CR ends nothing, no line is continued, no name has a space, no value a control character: 400."""
    for head in (
        b"GET /v1/models HTTP/1.1\nHost: a\n\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a\n\r\n",
        b"GET /v1/models HTTP/1.1\rHost: a\r\r",
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\n",
        b"GET\t/v1/models\tHTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models\x0bx HTTP/1.1\r\nHost: a\r\n\r\n",
        b"get /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\x00T /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET /v1/models http/1.1\r\nHost: a\r\n\r\n",
        b" GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x00GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n Host: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        *[
            get_bytes(FREE_PATH, *lines)
            for lines in (
                ("X: a", " b"), ("X: a", "\tHost: b"), ("X : a",), ("X\t: a",), (": a",), ("X",), ("X y: a",),
                ("X: a\rb",), ("X: a\nb: c",), ("X: a\x00",), ("X: a\x0b",), ("X: a\x7f",), ("X\xe9: a",), ("X@y: a",),
                ("\x00: a",), ("(X): a",),
            )
        ],
    ):  # fmt: skip
        await front.refused(head)


async def test_versions(front: Front) -> None:
    """Only HTTP/1.1 and HTTP/1.0 are served, and a refusal of any other is no longer than a head says."""
    for version in ("0.9", "1.2", "2.0", "3.0", "1", "1.10", "11", "9.9", "1,1", "a.b"):
        await front.refused(get_bytes(FREE_PATH, version=version))
    await front.refused(b"GET /v1/models\r\n\r\n")
    await front.served(get_bytes(FREE_PATH, version="1.0"), more=False)
    await front.refused(message(f"POST {CHAT_PATH} HTTP/1.0", f"Authorization: {KEY}", CHUNKED, length=False) + WHOLE)


async def test_no_refusal_repeats_what_it_refuses(front: Front) -> None:
    """What is no request may hold a key: it is neither answered nor logged; it is counted."""
    secret = "secret-that-must-not-be-told"
    for bad in (get_bytes(f"/{secret}", f"X: {secret}\x00"), get_bytes(f"/?{secret}#", f"Authorization: {secret}")):
        async with await opened(front.gw) as client:
            got = await client.ask(bad)
            assert (got.status, got.one("X-Gateway-Error"), got.one("Connection")) == (
                400,
                b"invalid_request",
                b"close",
            )
            assert got.head.startswith(b"HTTP/1.1 ")
            assert secret.encode() not in got.head + got.body + await client.rest()
    assert sum((await metric(front.gw, 'gateway_events_total{event="malformed"')).values()) == 2


# ---- whom it is for


async def test_targets(front: Front) -> None:
    """Only a path is served, as far as it is the path and the query that the upstream will see."""
    for target in (
        "http://evil.example/v1/models", "https://gw.example:80/v1/models", "HTTP://gw.example@evil/v1/models", "*",
        "//evil.example/v1/models", "///v1/models", "evil.example:80", "v1/models", "?x", "/", "%2fv1%2fmodels",
        "http:/v1/models", "file:///v1/models", "javascript:alert(1)", "\\v1\\models", "/v1\\models",
    ):  # fmt: skip
        answered, passed = await front.sent(get_bytes(target))
        assert answered[0] in (400, 404), target
        assert {each.target for each in passed} <= {f"{FREE_PATH}?last".encode()}, target
    for target in (f"{FREE_PATH}#x", f"{FREE_PATH}#?model=x", f"{FREE_PATH}?a#&b", f"{FREE_PATH}?a=#"):
        await front.refused(get_bytes(target))
    for method in ("CONNECT", "OPTIONS", "TRACE", "PRI", "PURGE", "DEBUG", "LOCK", "SOURCE"):
        answered, passed = await front.sent(get_bytes("*" if method == "PRI" else FREE_PATH, method=method))
        assert answered[0] in (400, 404, 405), method
        assert {each.target for each in passed} <= {f"{FREE_PATH}?last".encode()}, method
    for target in ("evil.example:443", "/v1/models", "127.0.0.1:6379", "*", "/billing/x"):
        answered, passed = await front.sent(get_bytes(target, method="CONNECT") + HIDDEN)
        assert not passed, target
        assert len(answered) <= 1 and answered[0] in (400, 404, 405), target


async def test_hosts(front: Front) -> None:
    """One name or address, with a port or not. None at all only where HTTP/1.0 knew none."""
    for host in (
        "a/b", "a b", "a,b", "a@b", "user:pw@a", "a?b", "a#b", "http://a", "[::1", "::1", "a:80:80", "a:x", "a:-1",
        "a\\b", "a%00", "é.example", "a;b", "<a>", "a:80/v1", "127.0.0.1:6379@a",
    ):  # fmt: skip
        await front.refused(message(f"GET {FREE_PATH} HTTP/1.1", f"Host: {host}", length=False))
    await front.refused(get_bytes(FREE_PATH, "Host: other.example"))
    await front.refused(get_bytes(FREE_PATH, "host: gw.example"))
    await front.refused(message(f"GET {FREE_PATH} HTTP/1.1", length=False))
    for host in ("a.example", "A.Example:8080", "127.0.0.1", "[::1]:80", "a_b.internal", "", "localhost:"):
        passed = await front.served(message(f"GET {FREE_PATH} HTTP/1.1", f"Host: {host}", length=False))
        assert passed.one("X-Forwarded-Host") == host.encode()
        assert passed.one("Host") == front.upstream.url.removeprefix("http://").encode()
    passed = await front.served(message(f"GET {FREE_PATH} HTTP/1.0", length=False), more=False)
    assert passed.one("X-Forwarded-Host") == b"127.0.0.1"


# ---- what is for one hop


async def test_connection_takes_nothing_from_what_is_ours(front: Front) -> None:
    """Whatever `Connection` names, the upstream is told whose call it is, with the service's credential."""
    for named in (
        "X-Account-Id", "x-call-id, X-Forwarded-For", "close, X-Account-Id", "Content-Length, Host",
        "keep-alive, transfer-encoding, content-type", ",,, ,X-Account-Id", "*", "X-Account-Id\t",
    ):  # fmt: skip
        answered, passed = await front.sent(chat_bytes(KEY, f"Connection: {named}", "X-Account-Id: b"))
        request = passed[0]
        assert answered[0] == 200 and request.body == BODY, named
        assert request.one("X-Account-Id") == b"a" and request.one("X-Call-Id"), named
        assert request.one("Authorization") == b"sandbox-service-key", named
        assert request.one("Content-Length") == b"%d" % len(BODY) and not request.all("Connection"), named
    # Who says that his key is for one hop, and no further, is taken at his word.
    answered, passed = await front.sent(chat_bytes(KEY, "Connection: close, Authorization"))
    assert (answered, passed) == ([401], [])


async def test_nothing_that_is_for_one_hop_is_read(front: Front) -> None:
    """A field that the upstream will not see decides nothing here: a body is read as the upstream will read it."""
    import gzip

    packed = gzip.compress(BODY)
    lines = ("Content-Encoding: gzip", f"Content-Length: {len(packed)}")
    assert (await front.served(post(*lines, body=packed))).one("Content-Encoding") == b"gzip"
    answered, passed = await front.sent(post("Connection: Content-Encoding", *lines, body=packed))
    assert answered[0] == 400 and len(passed) == 1  # LAST


# ---- one request behind another


async def test_what_comes_behind_an_error(front: Front) -> None:
    """A good request before a bad one is served once or not at all, one behind it never; whoever breaks off says so."""
    good = get_bytes(f"{FREE_PATH}?good")
    for bad in (
        get_bytes(FREE_PATH, "X : y"),
        b"\x00",
        post(CHUNKED, body=b"zz\r\n"),
        get_bytes(FREE_PATH, version="2.0"),
    ):
        answered, passed = await front.sent(good + bad + HIDDEN)
        assert answered in ([200, 400], [400]), bad
        assert [each.target.decode() for each in passed] == [f"{FREE_PATH}?good"] * (len(answered) - 1), bad
        for asked in (good, chat_bytes(KEY)):
            known = len(front.upstream.requests)
            async with await opened(front.gw) as client:  # behind an answer: refused
                assert (await client.ask(asked)).one("Connection") is None, bad
                refused = await client.ask(bad + HIDDEN)
                assert (refused.status, refused.one("Connection"), await client.rest()) == (400, b"close", b""), bad
            async with await opened(front.gw) as client:  # behind a call that is under way: that was the last one
                front.may_answer.clear()
                await client.send(asked)
                await front.asked(known + 2)
                await client.send(bad + HIDDEN)
                front.may_answer.set()
                last = await client.reply()
                rest = await client.rest()
                assert last.status == 200, bad
                assert rest == b"" if last.one("Connection") == b"close" else rest.startswith(b"HTTP/1.1 400 "), bad
                assert rest.count(b"HTTP/1.1 ") < 2, bad
            assert len(front.upstream.requests) == known + 2, bad


async def test_a_body_that_breaks_behind_an_answer_under_way(front: Front) -> None:
    """Whose body breaks off while the answer before it is still being sent is refused for that, not left waiting."""
    front.may_answer.clear()
    async with await opened(front.gw) as client:
        await client.send(get_bytes(STREAMED) + post(CHUNKED))
        assert b"Connection" not in (await client.head() or b"")
        await client.send(b"zz\r\n")
        front.may_answer.set()
        rest = await client.rest()
    assert re.findall(rb"HTTP/1\.[01] (\d{3}) ", rest) == [b"400"] and b"its body breaks off" in rest


async def test_each_pays_for_his_own(front: Front) -> None:
    """Calls of two accounts, pipelined on one connection and passed on over one: each is whose key it carries."""
    other = "secret-of-b"
    answered, passed = await front.sent(
        chat_bytes(KEY)
        + chat_bytes(other)
        + get_bytes(FREE_PATH, "X-Account-Id: b")
        + chat_bytes(KEY, "X-Account-Id: b")
    )
    assert answered == [200] * 5
    assert [each.one("X-Account-Id") for each in passed] == [b"a", b"b", None, b"a", None]


async def test_a_body_where_none_is_meant(front: Front) -> None:
    """A service that does not read the body of a GET would take it for the next request: it gets no next one."""
    hidden = HIDDEN
    passed = await front.served(get_bytes(f"{FREE_PATH}?with", f"Content-Length: {len(hidden)}") + hidden)
    assert passed.body == hidden
    lines = {each.target: each.line for each in front.upstream.requests}
    assert lines[f"{FREE_PATH}?with".encode()] != lines[f"{FREE_PATH}?last".encode()]


# ---- another protocol


async def test_upgrades_that_are_not_taken(front: Front) -> None:
    """Behind a WebSocket's that was not taken comes the next request, whole; behind any other nothing does."""
    for upgrade in ("h2c", "TLS/1.0", "websocket2", "websocket, h2c", "x" * 1000):
        for parts in (
            (get_bytes(f"{FREE_PATH}?up", "Connection: Upgrade", f"Upgrade: {upgrade}") + HIDDEN,),
            (get_bytes(f"{FREE_PATH}?up", "Connection: Upgrade", f"Upgrade: {upgrade}") + HIDDEN[:9], HIDDEN[9:]),
        ):
            answered, passed = await front.sent(*parts)
            assert answered == [200] and len(passed) == 1, upgrade
            assert not passed[0].all("Upgrade") and not passed[0].all("Connection")
    ws = get_bytes(f"{FREE_PATH}?up", "Connection: Upgrade", "Upgrade: websocket")
    for parts in ((ws + HIDDEN,), (ws + HIDDEN[:9], HIDDEN[9:])):
        answered, passed = await front.sent(*parts)
        assert answered == [200] * 3 and [each.target[-4:] for each in passed] == [b"s?up", b"dden", b"last"]
    answered, passed = await front.sent(chat_bytes(KEY, "Connection: Upgrade", "Upgrade: websocket") + HIDDEN)
    assert answered == [200] * 3 and passed[0].body == BODY


# ---- paths


async def test_paths_that_another_could_read_otherwise(front: Front) -> None:
    """Segments in every disguise lead to no route: neither to their own nor to the one that they look like."""
    for path in (
        "//v1/models", "/v1//models", "/v1/models/", "/v1/./models", "/v1/x/../models", "/v1/%2e%2e/v1/models",
        "/v1/%2E%2e/models", "/v1/..;/models", "/v1/..%3b/models", "/v1/;/models", "/v1/models;x=1", "/v1/models%3bx",
        "/v1/models%20", "/v1/models%00", "/v1/models%0a", "/v1%2fmodels", "/v1%2Fmodels", "/v1%252fmodels",
        "/v1%5cmodels", "/v1/%6dodels", "/v1/%6Dodels", "/V1/models", "/v1/Models", "/v1/models.", "/v1/models%2e",
        "/v1/%c0%ae%c0%ae/models", "/v1%c0%afmodels", "/v1/mode%ef%bd%8cs", "/v1/models%", "/v1/models%2", "/v1/%zz",
        "/%76%31/models", "/v1/models&x", "/v1/models:80", "/v1/models@x", "/v1/mod\xe9ls", "/v1/models%u002f",
    ):  # fmt: skip
        answered, passed = await front.sent(get_bytes(path, f"Authorization: {KEY}"))
        assert answered[0] in (400, 404), path
        assert {each.target for each in passed} <= {f"{FREE_PATH}?last".encode()}, path
    for segment in (
        "..", "%2e%2e", "..;", "..;x", "%2e.;x", "..%3b", "%252e%252e", "%ef%bc%8e%ef%bc%8e", "a%2fb", "a%252fb",
        "a%ef%bc%8fb", "a%5c..", ".;a", ";a", "%3ba", "%00", "%0d%0aX:y", "%e2%80%a5",
    ):  # fmt: skip
        for path in (f"/v2/transcript/{segment}", f"/v2/transcript/{segment}/sentences", f"/v1/agents/{segment}"):
            for method in ("GET", "DELETE"):
                answered, passed = await front.sent(get_bytes(path, f"Authorization: {KEY}", method=method))
                assert answered[0] in (404, 405), path
                assert {each.target for each in passed} <= {f"{FREE_PATH}?last".encode()}, path


async def test_a_query_is_read_as_the_upstream_will_read_it(front: Front) -> None:
    """Where its parameters have a price, no separator is left that only some know."""
    opening = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Authorization: {KEY}",
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
    answered, passed = await front.sent(get_bytes("/v3/ws?sample_rate=16000;speech_model=whisper-rt", *opening))
    assert answered == [101] and not passed
    assert b"write ; as %3B in the query" in front.said
