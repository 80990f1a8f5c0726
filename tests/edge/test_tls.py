"""Customers over TLS: what they are served, which versions, and those who speak something else."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType

from gateway.core.money import Nanos, parse_usd
from tests.certificates import Certificates
from tests.harness import Running, running
from tests.pipeline.helpers import CHAT, CHAT_PATH, in_order, sandbox
from tests.pipeline.sockets import PRO_SECOND

HOST = "127.0.0.1"


@pytest.fixture
async def tls(tmp_path: Path, empty_redis: str, certificates: Certificates) -> AsyncIterator[Running]:
    """A gateway whose customers speak TLS, and which has nothing to complain of."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    async with running(tmp_path, empty_redis, changes={"gateway.yaml": certificates.config}) as gw:
        yield gw
    assert said == []


async def test_a_call_is_charged_and_the_upstream_told_how_it_came(tls: Running, certificates: Certificates) -> None:
    """Whole, streamed, and large in both directions."""
    key = await tls.open_account("a")
    headers = sandbox(input_tokens=1000, output_tokens=100)
    for request in (CHAT, {**CHAT, "stream": True}):
        got = await tls.call("POST", CHAT_PATH, key, json=request, headers=headers, ssl=certificates.client)
        assert got.status == 200
    await in_order(tls, "a", balance=Nanos(parse_usd("100") - 2 * parse_usd("0.00315")))
    assert {each["headers"]["x-forwarded-proto"] for each in await tls.seen()} == {"https"}
    upload = bytes(3_000_000)
    got = await tls.call("POST", "/v2/upload", key, data=io.BytesIO(upload), ssl=certificates.client)
    assert got.status == 200
    assert tls.sandbox.state.entries[-1].body_bytes == len(upload)


async def test_a_session_is_charged(tls: Running, certificates: Certificates) -> None:
    """A secure WebSocket from its handshake to its close code."""
    key = await tls.open_account("a")
    url = tls.url + "/v3/ws?sample_rate=16000&speech_model=u3-rt-pro"
    async with tls.http.ws_connect(url, headers={"Authorization": key}, ssl=certificates.client) as socket:
        await socket.send_bytes(bytes(3200))
        await socket.send_json({"type": "Terminate"})
        kinds = [message.json()["type"] async for message in socket if message.type is WSMsgType.TEXT]
    assert (kinds[0], kinds[-1]) == ("Begin", "Termination")
    await in_order(tls, "a", balance=Nanos(parse_usd("100") - PRO_SECOND))


async def test_versions_and_protocols(tls: Running, certificates: Certificates) -> None:
    """TLS 1.2 and 1.3, and HTTP/1.1 for who asks; the certificates in between are sent along."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = certificates.client
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        _reader, writer = await asyncio.open_connection(HOST, tls.gateway.customers_port, ssl=context)
        spoken: ssl.SSLObject = writer.get_extra_info("ssl_object")
        assert (spoken.version(), spoken.selected_alpn_protocol()) == (version.name.replace("_", "."), "http/1.1")
        writer.close()
        await writer.wait_closed()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_are_refused(tls: Running, certificates: Certificates) -> None:
    """TLS 1.1 is answered with an alert."""
    context = certificates.client
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(HOST, tls.gateway.customers_port, ssl=context)


@pytest.mark.parametrize(
    "said", [b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(9), b""]
)
async def test_who_speaks_no_tls_gets_nothing(tls: Running, certificates: Certificates, said: bytes) -> None:
    """Plain HTTP, nonsense, nothing: the connection ends, nobody is told more, and the next one is served."""
    reader, writer = await asyncio.open_connection(HOST, tls.gateway.customers_port)
    writer.write(said)
    if not said:
        writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert b"HTTP" not in answer
    writer.close()
    assert (await tls.call("GET", "/v1/models", None, ssl=certificates.client)).status == 200


async def test_many_connections_are_counted(tmp_path: Path, empty_redis: str, certificates: Certificates) -> None:
    """Those whose handshakes ran at the same time, too: no more are kept than `connections_max`."""

    def change(data: dict[str, Any]) -> None:
        certificates.config(data)
        data["limits"]["connections_max"] = 3

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": change}) as gw:
        port = gw.gateway.customers_port
        context = certificates.client
        opened = await asyncio.gather(*(asyncio.open_connection(HOST, port, ssl=context) for _ in range(10)))
        ended = [asyncio.create_task(reader.read()) for reader, _ in opened]
        async with asyncio.timeout(20):
            while sum(each.done() for each in ended) < 7:
                await asyncio.wait([each for each in ended if not each.done()], return_when=asyncio.FIRST_COMPLETED)
        done, waiting = await asyncio.wait(ended, timeout=0.3)
        assert (len(done), len(waiting)) == (7, 3)
        for _, writer in opened:
            writer.transport.abort()
        await asyncio.gather(*ended, return_exceptions=True)
