"""The official clients over HTTPS and secure WebSockets, and a certificate that is renewed under way."""

import asyncio
import shutil
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import assemblyai as aai
import openai
import pytest
from assemblyai.streaming.v3 import (
    SpeechModel,
    StreamingClient,
    StreamingClientOptions,
    StreamingEvents,
    StreamingParameters,
)

from gateway.core.money import Nanos, parse_usd
from tests.certificates import Certificates, made_in
from tests.harness import Running, running
from tests.pipeline.helpers import in_order, sandbox
from tests.pipeline.sockets import PRO_SECOND
from tests.system.processes import World
from tests.system.test_workers import until_told

pytestmark = [
    pytest.mark.system,
    # The official client's own use of `websockets`.
    pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning"),
]


@pytest.fixture
async def gw(
    tmp_path: Path, empty_redis: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    """A gateway that speaks TLS, whose root this process trusts as its clients' documentation says."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.root))
    async with running(tmp_path, empty_redis, changes={"gateway.yaml": certificates.config}) as gateway:
        yield gateway


async def test_a_token_and_a_whole_session_by_the_official_client(gw: Running) -> None:
    """It asks for a temporary token over HTTPS, opens a session with it over wss, and the key's account pays."""
    key = await gw.open_account("a", credit="1")
    place = f"localhost:{gw.gateway.customers_port}"
    seen: list[Any] = []

    def work() -> None:
        asking = StreamingClient(StreamingClientOptions(api_host=place, api_key=key))
        token = asking.create_temporary_token(expires_in_seconds=60)
        client = StreamingClient(StreamingClientOptions(api_host=place, token=token))
        for kind in (StreamingEvents.Begin, StreamingEvents.Turn, StreamingEvents.Termination, StreamingEvents.Error):
            client.on(kind, lambda _client, event: seen.append(event))
        client.connect(
            StreamingParameters(
                sample_rate=16000, speech_model=SpeechModel.u3_rt_pro, speaker_labels_revision_interval_ms=None
            )
        )
        for _ in range(10):
            client.stream(bytes(3200))
        client.disconnect(terminate=True)
        for each in (asking, client):
            each._client._http_client.close()

    await asyncio.to_thread(work)
    assert [type(event).__name__ for event in seen] == ["BeginEvent", "TurnEvent", "TurnEvent", "TerminationEvent"]
    await in_order(gw, "a", balance=Nanos(parse_usd("1") - seen[-1].session_duration_seconds * PRO_SECOND))


async def test_transcripts_and_completions_by_the_official_clients(
    gw: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of the one, whole and streamed answers of the other."""
    key = await gw.open_account("a", credit="10")
    url = f"https://localhost:{gw.gateway.customers_port}"
    monkeypatch.setattr(aai.settings, "base_url", url)
    monkeypatch.setattr(aai.settings, "polling_interval", 0.05)
    monkeypatch.setattr(aai.settings, "api_key", key)
    used = sandbox(input_tokens=1000, output_tokens=100)

    def work() -> tuple[Any, list[str]]:
        transcript = aai.Transcriber().transcribe("https://example.com/a.wav")
        aai.Client.get_default().http_client.close()
        with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            asked: dict[str, Any] = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Hello"}]}
            whole = client.chat.completions.create(**asked, extra_headers=used).choices[0].message.content
            chunks = client.chat.completions.create(**asked, extra_headers=used, stream=True)
            return transcript, [whole, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)]

    before = await gw.balance("a")
    transcript, texts = await asyncio.to_thread(work)
    assert transcript.status == aai.TranscriptStatus.completed
    assert texts[0] and texts[1]
    job = before - await gw.balance("a") - 2 * parse_usd("0.00315")
    assert job > 0


async def shown(port: int, trusted: Certificates) -> str:
    """The certificate that a new connection is shown. SSLCertVerificationError if the root does not vouch for it."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("localhost", port), ca_certs=str(trusted.root))


async def test_a_renewed_certificate_is_taken_up(tmp_path: Path, empty_redis: str) -> None:
    """On both listeners and by every worker, when its files change. A pair that does not fit, as half way through a
    renewal, changes nothing; no worker is replaced, and an open connection is served on."""
    first, second = made_in(tmp_path / "first"), made_in(tmp_path / "second")
    shutil.copytree(tmp_path / "first", tmp_path / "used")
    used = Certificates(tmp_path / "used/root.pem", tmp_path / "used/chain.pem", tmp_path / "used/localhost.key")
    async with World(tmp_path / "world", empty_redis, {"gateway.yaml": used.config}).opened() as world:
        served = await world.serve("one", workers=2)
        workers, ports = served.workers, (served.customers_port, served.ops_port)
        old = await shown(served.customers_port, first)
        kept = [await asyncio.open_connection("localhost", port, ssl=first.client) for port in ports]

        shutil.copy(second.chain, used.chain)  # half way: the key is still the old one
        served.process.send_signal(signal.SIGHUP)
        await until_told(served, "reload_failed", 1)
        assert {await shown(port, first) for port in ports} == {old}

        shutil.copy(second.key, used.key)
        await until_told(served, "reloaded", 1)
        for port in ports:
            for _ in range(8):
                assert await shown(port, second) != old
        for reader, writer in kept:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 ")
            writer.close()
        assert served.workers == workers
        assert await served.end() == 0
        assert served.errors == ""
