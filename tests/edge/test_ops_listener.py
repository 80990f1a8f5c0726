"""The operators' listener: who is let in, over TLS too, and that its connections are guarded like the customers'."""

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.certificates import Certificates, made_in
from tests.fakes.upstream import RawClient, message
from tests.harness import ADMIN_TOKEN, Running, running

TOKEN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
#: What no client of a TLS listener gets through with.
SHUT_OUT = (ssl.SSLError, ConnectionError, aiohttp.ClientError)


def short_heads(data: dict[str, Any]) -> None:
    """A head has half a second."""
    data.setdefault("limits", {})["head_seconds_max"] = 0.5


@pytest.fixture
async def gw(tmp_path: Path, empty_redis: str) -> AsyncIterator[Running]:
    """A gateway with short patience."""
    async with running(tmp_path, empty_redis, changes={"gateway.yaml": short_heads}) as gateway:
        yield gateway


async def opened(gw: Running) -> RawClient:
    """An operator's connection."""
    assert gw.operators is not None
    return await RawClient.open(gw.operators.port)


async def asked(gw: Running, **options: Any) -> int:
    """An account is asked for on a connection of its own: the status."""
    url = f"{gw.ops_url}/admin/v1/accounts/a"
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http, http.get(url, headers=TOKEN, **options) as response:
        return response.status


async def test_a_trailer_is_no_field_of_the_next_request(gw: Running) -> None:
    """One connection behind a balancer may carry requests of many: no word of one is in another's."""
    await gw.open_account("a")
    reads = message("GET /admin/v1/accounts/a HTTP/1.1", "Host: a", length=False)
    for trailer in (f"Authorization: Bearer {ADMIN_TOKEN}", "X-Evil: 1"):
        sends = message(
            "POST /admin/v1/accounts HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in TOKEN.items()),
            "Transfer-Encoding: chunked", length=False, body=f"2\r\n{{}}\r\n0\r\n{trailer}\r\n\r\n".encode(),
        )  # fmt: skip
        async with await opened(gw) as client:
            answer = await client.ask(sends + reads)
            assert answer.one("Connection") == b"close"
            assert await client.ended()


async def test_what_could_be_read_in_two_ways_is_refused(gw: Running) -> None:
    """400, nothing of it is said again, and the connection ends."""
    for head in (
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /healthz\nsecret-word: x\n\n",
        b"GET /healthz#secret-word HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        async with await opened(gw) as client:
            answer = await client.ask(head)
            assert answer.status == 400
            assert b"secret-word" not in answer.body
            assert await client.ended()
    async with await opened(gw) as client:
        assert (await client.ask(b"GET http://other/healthz HTTP/1.1\r\nHost: a\r\n\r\n")).status == 404


async def test_slow_heads_and_large_bodies(gw: Running) -> None:
    """A connection that says nothing is dropped; a body beyond a mebibyte is refused, and one that drips is no more."""
    async with await opened(gw) as silent, await opened(gw) as dripping:
        began = time.monotonic()
        await dripping.send(b"GET /healthz HTTP/1.1\r\nX: ")
        assert await silent.ended() and await dripping.ended()
        assert time.monotonic() - began < 5
    async with gw.http.post(
        f"{gw.ops_url}/admin/v1/accounts", headers=TOKEN, data=io.BytesIO(bytes(1_100_000))
    ) as response:
        assert response.status == 413


async def test_only_known_clients_are_let_in(tmp_path: Path, empty_redis: str, certificates: Certificates) -> None:
    """With `client_ca`, on both listeners: its certificate beside key and token. None, or another's, is shut out."""
    strangers = made_in(tmp_path / "strangers")
    known = certificates.known_client()
    async with running(tmp_path / "gw", empty_redis, changes={"gateway.yaml": certificates.mutual}) as gw:
        key = await gw.open_account("a")
        for context in (certificates.client, certificates.known_client(of=strangers)):
            with pytest.raises(SHUT_OUT):
                await asked(gw, ssl=context)
            with pytest.raises(SHUT_OUT):
                await gw.call("GET", "/v1/models", key, ssl=context)
        assert await asked(gw, ssl=known) == 200
        assert (await gw.call("GET", "/billing/v1/balance", key, ssl=known)).status == 200
        async with gw.http.get(f"{gw.ops_url}/admin/v1/accounts/a", ssl=known) as response:
            assert response.status == 401
        async with gw.http.get(f"{gw.ops_url}/admin/ui/sign-in", ssl=known) as response:
            assert all(cookie["secure"] for cookie in response.cookies.values())


async def test_what_is_shown_changes_under_open_connections(
    tmp_path: Path, empty_redis: str, certificates: Certificates
) -> None:
    """New connections, of both listeners, get the new certificate at once; those that are open are served on."""
    second = made_in(tmp_path / "second")
    async with running(tmp_path / "gw", empty_redis, changes={"gateway.yaml": certificates.mutual}) as gw:
        assert gw.operators is not None
        places = {"gw": gw.gateway.customers_port, "ops": gw.operators.port}
        context = certificates.known_client()
        kept = [await asyncio.open_connection("127.0.0.1", port, ssl=context) for port in places.values()]
        await gw.gateway.show(second.tls)
        await gw.operators.show(second.tls)
        for port in places.values():
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", port, ssl=certificates.client)
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=second.client)  # asked for none any more
            writer.close()
        for reader, writer in kept:
            for _ in range(2):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            writer.close()


async def scraped(gw: Running, accept: str) -> tuple[str, list[str]]:
    async with gw.http.get(f"{gw.ops_url}/metrics", headers={"Accept": accept}) as response:
        return response.content_type, (await response.text()).splitlines()


async def test_metrics_are_told_in_the_form_that_is_asked_for(gw: Running) -> None:
    """OpenMetrics, which ends in its own last line, or the older form; both have what is due and not taken up."""
    for version in ("1.0.0", "0.0.1", "none;q=0.5,text/plain"):
        kind, lines = await scraped(gw, f"application/openmetrics-text; version={version}")
        assert (kind, lines[-1], "gateway_ledger_up 1.0" in lines) == ("application/openmetrics-text", "# EOF", True)
    await gw.open_account("a")
    due = False
    for number in range(20):  # the outbox takes it up within half a second: most are seen before
        await gw.ledger.post(account="a", delivery_id=f"d-{number}", channel="none", payload={})
        kind, lines = await scraped(gw, "*/*")
        assert (kind, lines[-1] == "# EOF", "gateway_ledger_up 1.0" in lines) == ("text/plain", False, True)
        due = due or "gateway_delivery_lag_accounts 1.0" in lines
    assert due
