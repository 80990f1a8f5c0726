"""What an upstream and a customer see of each other's heads, through a whole gateway."""

import gzip
from pathlib import Path

import pytest

from tests.fakes.upstream import RawClient, answering, message
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
    chat_upstream,
    get_bytes,
)


@pytest.mark.parametrize(
    "forms",
    [
        ["Authorization: {key}"],
        ["Authorization: Bearer {key}"],
        ["authorization: bearer {key}", "Authorization: {key}"],
        ["AUTHORIZATION: {key}", "X-Api-Key: {key}", "x-api-key: {key}"],
        ["Authorization: {key}", "X_Api_Key: {key}", "Proxy-Authorization: {key}"],
    ],
)
async def test_the_customers_key_stays_here(tmp_path: Path, empty_redis: str, forms: list[str]) -> None:
    """In whatever form it is sent, the upstream gets the service's credential, once, and nothing of the key."""
    upstream = chat_upstream()
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            fields = [form.format(key=key) for form in forms]
            whole = message(f"POST {CHAT_PATH} HTTP/1.1", "Host: h", *fields, body=chat_bytes("").split(b"\r\n\r\n")[1])
            reply = await client.ask(whole)
        assert reply.status == 200
        (request,) = upstream.requests
        assert request.one("Authorization") == b"sandbox-service-key"
        assert key.encode() not in request.head + request.body


async def test_a_service_may_want_its_credential_in_another_header(tmp_path: Path, empty_redis: str) -> None:
    """Then `Authorization` is not sent at all."""
    upstream = chat_upstream()
    async with before(upstream, tmp_path, empty_redis, service={"credential_header": "xi-api-key"}) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            assert (await client.ask(chat_bytes(key, "XI-API-KEY: forged"))).status == 200
        (request,) = upstream.requests
        assert request.one("xi-api-key") == b"sandbox-service-key"
        assert request.one("Authorization") is None


async def test_what_the_gateway_says_of_a_call_is_never_the_clients_word(tmp_path: Path, empty_redis: str) -> None:
    """Account, call and forwarding fields are ours, once each, whatever spelling was tried."""
    upstream = chat_upstream()
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        forged = ["X-Account-Id", "X-Call-Id", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"]
        fields = [f"{spelled}: forged" for name in forged for spelled in (name, name.lower(), name.swapcase())]
        fields += ["X_Account_Id: forged", "Forwarded: for=forged", "X-Real-IP: forged", "X-Forwarded-Port: forged"]
        fields += ["X-Gateway-Charge: forged", "x-gateway-error: forged"]
        async with await RawClient.open(gw.gateway.customers_port) as client:
            reply = await client.ask(chat_bytes(key, *fields))
        (request,) = upstream.requests
        assert b"forged" not in request.head
        assert request.one("X-Account-Id") == b"a"
        assert request.one("X-Call-Id") == reply.one("X-Gateway-Call-Id")
        assert request.one("X-Forwarded-For") == b"127.0.0.1"
        assert request.one("X-Forwarded-Proto") == b"http"
        assert request.one("X-Forwarded-Host") == b"gw.example"
        assert request.one("Host") == upstream.url.removeprefix("http://").encode()


async def test_a_public_call_has_no_account(tmp_path: Path, empty_redis: str) -> None:
    """And none can be claimed."""
    upstream = chat_upstream()
    async with before(upstream, tmp_path, empty_redis) as gw:
        async with await RawClient.open(gw.gateway.customers_port) as client:
            assert (await client.ask(get_bytes(FREE_PATH, "X-Account-Id: b"))).status == 200
        (request,) = upstream.requests
        assert request.one("X-Account-Id") is None
        assert request.one("X-Call-Id")


async def test_a_balancers_word_on_the_client_can_be_trusted(tmp_path: Path, empty_redis: str) -> None:
    """Then its `X-Forwarded-For`, all of it, stays before the address that we see; the rest is ours as ever."""
    upstream = chat_upstream()
    async with before(upstream, tmp_path, empty_redis, trust_forwarded_for=True) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            await client.ask(chat_bytes(key, "x-forwarded-for: 203.0.113.7, 10.0.0.1", "X-Forwarded-For: 10.0.0.2"))
            await client.ask(chat_bytes(key, "X-Forwarded-Host: forged"))
            await client.ask(chat_bytes(key, "X-Forwarded-For: "))
        first, second, third = upstream.requests
        assert first.one("X-Forwarded-For") == b"203.0.113.7, 10.0.0.1, 10.0.0.2, 127.0.0.1"
        assert second.one("X-Forwarded-For") == b"127.0.0.1"
        assert second.one("X-Forwarded-Host") == b"gw.example"
        assert third.one("X-Forwarded-For") == b"127.0.0.1"


async def test_hop_by_hop_fields_end_here_in_both_directions(tmp_path: Path, empty_redis: str) -> None:
    """And those that `Connection` names; everything else passes in its order, to the byte."""
    reply = message(
        "HTTP/1.1 200 Perfectly Fine",
        JSON,
        "Connection: keep-alive, X-Hop",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "X-Hop: 1",
        "x-hop: 2",
        "Upgrade: h2c",
        "X-Kept: 1",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "X-Gateway-Charge: 0",
        "x-gateway-call-id: forged",
        "RateLimit: forged",
        "X-RateLimit-Remaining: forged",
        "Server: secret/1.0",
        body=CHARGED,
    )
    upstream = answering(reply)
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            fields = ("Connection: keep-alive, X-Hop", "X-Hop: 1", "x-hop: 2", "TE: trailers", "Keep-Alive: 1")
            got = await client.ask(chat_bytes(key, *fields, "Upgrade: h2c", "X-Kept: 1", "Trailer: x"))
        (request,) = upstream.requests
        names = [name for name, _ in request.fields]
        assert {b"connection", b"x-hop", b"te", b"keep-alive", b"upgrade", b"trailer"}.isdisjoint(names)
        assert request.one("X-Kept") == b"1"
        assert got.first == b"HTTP/1.1 200 Perfectly Fine"
        names = [name for name, _ in got.fields]
        assert {b"connection", b"x-hop", b"keep-alive", b"upgrade", b"proxy-authenticate"}.isdisjoint(names)
        assert got.one("X-Kept") == b"1"
        assert got.all("Set-Cookie") == [b"a=1", b"b=2"]
        assert got.one("X-Gateway-Charge") == PRICE.encode()
        assert got.one("Server") == b"gateway"
        assert b"forged" not in got.head


@pytest.mark.parametrize("size", [0, 300_000], ids=["whole", "streamed"])
async def test_header_bytes_beyond_ascii_pass(tmp_path: Path, empty_redis: str, size: int) -> None:
    """UTF-8 and bytes that are no UTF-8 alike, in both directions, in replies that are whole and streamed."""
    odd = b"X-Odd: caf\xc3\xa9 \xe9\xff\r\n"
    upstream = answering(message("HTTP/1.1 200 OK", body=b"x" * size).replace(b"\r\n", b"\r\n" + odd, 1))
    async with before(upstream, tmp_path, empty_redis) as gw:
        async with await RawClient.open(gw.gateway.customers_port) as client:
            got = await client.ask(get_bytes(FREE_PATH).replace(b"\r\n", b"\r\n" + odd, 1))
        assert upstream.requests[0].one("X-Odd") == b"caf\xc3\xa9 \xe9\xff"
        assert got.one("X-Odd") == b"caf\xc3\xa9 \xe9\xff"


async def test_a_streamed_reply_says_no_more_than_its_upstream(tmp_path: Path, empty_redis: str) -> None:
    """No content type is made up."""
    async with before(answering(message("HTTP/1.1 200 OK", body=b"x" * 300_000)), tmp_path, empty_redis) as gw:
        async with await RawClient.open(gw.gateway.customers_port) as client:
            got = await client.ask(get_bytes(FREE_PATH))
        assert got.one("Content-Type") is None


async def test_a_target_may_name_its_host(tmp_path: Path, empty_redis: str) -> None:
    """As a client sends it that takes us for its proxy: served like any other, if the two say the same."""
    upstream = chat_upstream()
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        asked = chat_bytes(key)
        async with await RawClient.open(gw.gateway.customers_port) as client:
            for authority in ("HTTP://gw.example", "https://GW.example"):
                reply = await client.ask(asked.replace(b" /", f" {authority}/".encode(), 1))
                assert (reply.status, reply.one("X-Gateway-Charge")) == (200, PRICE.encode())
                assert upstream.requests[-1].target == CHAT_PATH.encode()
                assert upstream.requests[-1].one("X-Forwarded-Host") == b"gw.example"
            for target in (f"http://other.example{CHAT_PATH}", "http://gw.example", f"ftp://gw.example{CHAT_PATH}"):
                reply = await client.ask(asked.replace(CHAT_PATH.encode(), target.encode(), 1))
                assert reply.status == 404, target
        assert len(upstream.requests) == 2


async def test_redirects_are_the_clients_business(gw: Running) -> None:
    """Passed on, not followed, uncharged."""
    key = await gw.open_account("a", credit="10")
    elsewhere = "https://elsewhere.example/x?y=1"
    got = await gw.call("POST", CHAT_PATH, key, json=CHAT, headers={"X-Sandbox-Redirect": elsewhere})
    assert (got.status, got.headers["Location"], got.charge) == (307, elsewhere, None)
    assert len(await gw.seen()) == 1
    account = await gw.ledger.account("a")
    assert (account.balance, account.held) == (10 * 10**9, 0)


async def test_cookies_are_passed_and_never_kept(gw: Running) -> None:
    """What an upstream sets for one call goes to that client, and into no other call."""
    one, other = await gw.open_account("a"), await gw.open_account("b")
    got = await gw.call("GET", "/v2/transcript", one, headers={"X-Sandbox-Set-Cookie": "session=of-a"})
    got = await gw.call("POST", CHAT_PATH, one, json=CHAT, headers={"X-Sandbox-Set-Cookie": "session=of-a"})
    assert got.headers["Set-Cookie"] == "session=of-a"
    gw.http.cookie_jar.clear()
    for key in (one, other):
        await gw.call("POST", CHAT_PATH, key, json=CHAT)
    assert not any("cookie" in request["headers"] for request in await gw.seen())


async def test_compressed_bytes_pass_as_they_are_and_are_charged(tmp_path: Path, empty_redis: str) -> None:
    """Metering decodes a copy of its own."""
    packed = gzip.compress(CHARGED, mtime=0)
    upstream = answering(message("HTTP/1.1 200 OK", JSON, "Content-Encoding: gzip", 'ETag: "e"', body=packed))
    async with before(upstream, tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        async with await RawClient.open(gw.gateway.customers_port) as client:
            got = await client.ask(chat_bytes(key, "Accept-Encoding: br, gzip;q=0.5, zstd"))
        assert upstream.requests[0].one("Accept-Encoding") == b"gzip;q=0.5"
        assert (got.body, got.one("Content-Encoding"), got.one("ETag")) == (packed, b"gzip", b'"e"')
        assert got.one("X-Gateway-Charge") == PRICE.encode()


async def test_free_calls_may_use_any_encoding(tmp_path: Path, empty_redis: str) -> None:
    """Where nothing is read, nothing is taken from the offer."""
    upstream = answering(message("HTTP/1.1 200 OK", "Content-Encoding: br", body=b"\x01\x02"))
    async with before(upstream, tmp_path, empty_redis) as gw:
        async with await RawClient.open(gw.gateway.customers_port) as client:
            got = await client.ask(get_bytes(FREE_PATH, "Accept-Encoding: br, zstd"))
        assert upstream.requests[0].one("Accept-Encoding") == b"br, zstd"
        assert (got.body, got.one("Content-Encoding")) == (b"\x01\x02", b"br")


async def test_the_query_passes_to_the_byte(tmp_path: Path, empty_redis: str) -> None:
    """Odd, repeated, encoded and empty fields, and more of them than anybody would send."""
    upstream = answering(message("HTTP/1.1 200 OK"))
    queries = ["a=%20b+c&a=&=x&%zz", "?", "a?b", "x=%2F..%2f&y[]=1", "&".join(f"f{i}=" for i in range(3000))]
    async with before(upstream, tmp_path, empty_redis) as gw:
        async with await RawClient.open(gw.gateway.customers_port) as client:
            for query in queries:
                assert (await client.ask(get_bytes(f"{FREE_PATH}?{query}"))).status == 200
        assert [request.target.decode() for request in upstream.requests] == [f"{FREE_PATH}?{q}" for q in queries]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/transcript/..%2f..",
        "/v2/transcript/%2e%2e",
        "/v2/transcript/..",
        "/v2/transcript/.",
        "/v2/transcript/a%2fb",
        "/v2/transcript/a%5cb",
        "/v2/transcript/a\\b",
        "/v2/transcript/%00",
        "/v2/transcript//sentences",
        "/v2//transcript",
        "//v2/transcript",
        "/v2/transcript/",
        "/v2/%74ranscript",
        "/V2/transcript",
        "/v2/transcript;x=1",
        "http://other.example/v2/transcript",
    ],
)
async def test_paths_that_two_could_read_differently_are_no_routes(gw: Running, path: str) -> None:
    """They answer like any unknown path, and nothing is forwarded."""
    key = await gw.open_account("a")
    async with await RawClient.open(gw.gateway.customers_port) as client:
        got = await client.ask(get_bytes(path, f"Authorization: {key}"))
    assert got.status == 404
    assert got.one("X-Gateway-Error") in (b"route_not_found", b"not_found")
    assert not await gw.seen()


async def test_an_encoded_id_is_the_same_id(gw: Running) -> None:
    """Ownership is looked at after decoding, the path goes on as it was sent."""
    key, other = await gw.open_account("a"), await gw.open_account("b")
    made = await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
    name = made.json["id"]
    path = f"/v2/transcript/%{ord(name[0]):02x}{name[1:]}"
    async with await RawClient.open(gw.gateway.customers_port) as client:
        assert (await client.ask(get_bytes(path, f"Authorization: {key}"))).status == 200
        assert (await client.ask(get_bytes(path, f"Authorization: {other}"))).status == 404


async def test_heads_have_a_size(tmp_path: Path, empty_redis: str) -> None:
    """A field below the limit passes, one above is 400, and so are too many fields."""
    upstream = answering(message("HTTP/1.1 200 OK"))
    async with before(upstream, tmp_path, empty_redis, limits={"header_bytes_max": 16384}) as gw:
        for field, status in [("X: " + "x" * 15_000, 200), ("X: " + "x" * 40_000, 400)]:
            async with await RawClient.open(gw.gateway.customers_port) as client:
                assert (await client.ask(get_bytes(FREE_PATH, field))).status == status
        async with await RawClient.open(gw.gateway.customers_port) as client:
            assert (await client.ask(get_bytes(FREE_PATH, *["X: y"] * 500))).status == 400
        async with await RawClient.open(gw.gateway.customers_port) as client:
            assert (await client.ask(get_bytes(f"{FREE_PATH}?{'q' * 40_000}"))).status == 400
        assert len(upstream.requests) == 1


async def test_no_range_of_a_result_leaves_before_it_is_paid(gw: Running) -> None:
    """A poll for a part of a transcript is a poll for the whole of it."""
    key = await gw.open_account("a")
    made = await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
    await gw.call("GET", f"/v2/transcript/{made.json['id']}", key, headers={"Range": "bytes=0-10"})
    assert "range" not in (await gw.seen())[0]["headers"]
