"""Other vendors' clients, unmodified, against the shipped config of their products: served, charged, and refused."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import deepgram
import elevenlabs
import httpx
import openai
import pytest
import yaml
from deepgram.core.api_error import ApiError as DeepgramError
from deepgram.environment import DeepgramClientEnvironment
from elevenlabs.core import ApiError as ElevenLabsError

from gateway.core.money import parse_usd
from gateway.edge.app import Gateway
from gateway.edge.ledger import open_ledger
from gateway.ledger.redis import RedisLedger
from gateway.settings.load import load
from gateway.settings.runtime import Runtime
from tests.dialects.vendors import AUDIO, Vendors, vendors
from tests.harness import ROOT, open_account, serving
from tests.pipeline.helpers import NO_CREDIT

# Deepgram's client still names what its library for sockets has given up.
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")]

ENVIRONMENT = {
    "GATEWAY_ADMIN_TOKEN": "test-admin-token-0123456789",
    "GATEWAY_KEY_PEPPER": "test-pepper",
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "DEEPGRAM_API_KEY": "deepgram",
    "ELEVENLABS_API_KEY": "elevenlabs",
}
ASKED: list[Any] = [{"role": "user", "content": "Hello?"}]
DOLLAR = 1_000_000_000


@dataclass(frozen=True)
class Gate:
    """A gateway with the config of config/dialects in front of the four."""

    gateway: Gateway
    runtime: Runtime
    ledger: RedisLedger
    vendors: Vendors
    http: httpx.Client  # for clients that do not close their own

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.customers_port}"

    async def account(self, account: str = "a", *, credit: str = "1", tier: str = "payg") -> str:
        """An account's key."""
        return await open_account(self.ledger, self.runtime, account, credit=credit, tier=tier)

    async def spent(self, account: str = "a") -> int:
        """What it has paid of its dollar, once nothing is held any more."""
        for _ in range(200):
            found = await self.ledger.account(account)
            if not found.held:
                return DOLLAR - int(found.balance)
            await asyncio.sleep(0.02)
        raise AssertionError("something is still held")


def dialects(directory: Path, upstream_url: str, redis_url: str) -> Path:
    """The shipped files, with the addresses of the four changed, and nothing else."""
    for source in (ROOT / "config" / "dialects").glob("*.yaml"):
        (directory / source.name).write_text(source.read_text())
    path = directory / "gateway.yaml"
    data = yaml.safe_load(path.read_text())
    data |= {"spool_directory": str(directory / "spool"), "redis": {"url": redis_url}}
    data |= {"customers": {"port": 0}, "ops": {"port": 0}}
    for upstream in data["upstreams"].values():
        upstream["base_url"] = upstream_url
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture
async def gate(tmp_path: Path, empty_redis: str) -> AsyncIterator[Gate]:
    """A gateway with the shipped files in front of the four."""
    async with vendors() as (found, url):
        runtime = load(dialects(tmp_path, url, empty_redis), ENVIRONMENT)
        with httpx.Client(follow_redirects=True) as http:
            async with open_ledger(runtime) as ledger, serving(runtime, ledger) as (gateway, _):
                yield Gate(gateway, runtime, ledger, found, http)


async def test_openai(gate: Gate) -> None:
    """Chat, whole and streamed, responses, whole and streamed, and embeddings, to the nano-dollar.

    The organization and the project of a client's own account there, which it takes from its environment, are not ours.
    """
    key = await gate.account()
    async with openai.AsyncOpenAI(
        base_url=f"{gate.url}/v1", api_key=key, max_retries=0, organization="org-1", project="proj_1"
    ) as client:
        said = await client.chat.completions.create(model="gpt-5.2", messages=ASKED)
        assert said.choices[0].message.content == "Hello."
        chat = 800 * 1750 + 200 * 175 + 50 * 14000
        assert await gate.spent() == chat
        texts = [
            chunk.choices[0].delta.content
            async for chunk in await client.chat.completions.create(model="gpt-5.2", messages=ASKED, stream=True)
        ]
        assert texts == ["Hello."]
        assert await gate.spent() == 2 * chat

        response = await client.responses.create(model="gpt-5-mini", input="Hello?", store=False)
        assert response.output_text == "Hello."
        one = 1500 * 250 + 500 * 25 + 100 * 2000
        assert await gate.spent() == 2 * chat + one
        stream = await client.responses.create(model="gpt-5-mini", input="Hello?", store=False, stream=True)
        assert [event.type async for event in stream][-1] == "response.completed"
        assert await gate.spent() == 2 * chat + 2 * one

        found = await client.embeddings.create(model="text-embedding-3-small", input="Hello?", encoding_format="float")
        assert found.data[0].embedding == [0.5, -0.5]
        assert await gate.spent() == 2 * chat + 2 * one + 8 * 20

        assert (await client.models.retrieve("gpt-5.2")).owned_by == "system"
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="nobody's").models.list()
        with pytest.raises(openai.BadRequestError, match="send the whole input"):
            await client.responses.create(model="gpt-5-mini", input="Hello?", previous_response_id="resp_foreign")
        tools: list[Any] = [{"type": "function", "name": "f", "description": "d", "parameters": {}, "strict": False}]
        await client.responses.create(model="gpt-5-mini", input=ASKED, store=False, tools=tools, tool_choice="auto")
        assert gate.vendors.sent[-1]["tools"] == tools
        with pytest.raises(openai.BadRequestError, match="tools"):
            await client.responses.create(model="gpt-5-mini", input="x", tools=[*tools, {"type": "web_search"}])
        inside: list[Any] = [{"type": "additional_tools", "role": "developer", "tools": [{"type": "image_generation"}]}]
        with pytest.raises(openai.BadRequestError, match="tools"):
            await client.responses.create(model="gpt-5-mini", input=[*ASKED, *inside])
        foreign: list[Any] = [
            {"type": "item_reference", "id": "msg_foreign"},
            {"role": "user", "content": [{"type": "input_file", "file_id": "file_foreign"}]},
        ]
        for item in foreign:
            with pytest.raises(openai.BadRequestError, match="not stored"):
                await client.responses.create(model="gpt-5-mini", input=[*ASKED, item])
        with pytest.raises(openai.BadRequestError, match="not stored"):
            await client.chat.completions.create(
                model="gpt-5.2",
                messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "file_foreign"}}]}],
            )
        with pytest.raises(openai.BadRequestError, match="function"):
            searching = {"tools": [{"type": "web_search"}]}
            await client.chat.completions.create(model="gpt-5.2", messages=ASKED, extra_body=searching)


async def test_openai_without_credit(gate: Gate) -> None:
    """The client raises its own error, with the one message."""
    key = await gate.account(credit="0")
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=key) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.chat.completions.create(model="gpt-5.2", messages=ASKED)
    assert raised.value.code == "insufficient_quota"
    assert NO_CREDIT in raised.value.message
    assert gate.vendors.requests == []


async def test_anthropic(gate: Gate) -> None:
    """The cache on top of the input, searches on their own; of a stream, what its last report says."""
    key = await gate.account()
    async with anthropic.AsyncAnthropic(base_url=gate.url, api_key=key, max_retries=0) as client:
        said = await client.messages.create(model="claude-sonnet-4-6", max_tokens=200, messages=ASKED)
        assert said.content[0].type == "text"
        assert said.content[0].text == "Hello."
        whole = 1000 * 3000 + 2000 * 300 + 300 * 3750 + 100 * 6000 + 100 * 15000 + 2 * 10_000_000
        assert await gate.spent() == whole
        async with client.messages.stream(model="claude-sonnet-4-6", max_tokens=200, messages=ASKED) as stream:
            assert await stream.get_final_text() == "Hello."
        assert await gate.spent() == whole + 25 * 3000 + 15 * 15000
        assert (await client.messages.count_tokens(model="claude-sonnet-4-6", messages=ASKED)).input_tokens == 14
        assert await gate.spent() == whole + 25 * 3000 + 15 * 15000


async def test_anthropic_stream_that_breaks_off_is_charged_what_was_reported_and_delivered(gate: Gate) -> None:
    """Not the one token that its first event says of the answer; nor what was held for a file, whose tokens it says."""
    key = await gate.account()
    gate.vendors.cut = True
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x" * 100}
    asked: Any = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    async with anthropic.AsyncAnthropic(base_url=gate.url, api_key=key, max_retries=0) as client:
        with pytest.raises(Exception, match=r"peer closed|incomplete|terminated|Connection"):
            async with client.messages.stream(model="claude-sonnet-4-6", max_tokens=200, messages=asked) as stream:
                await stream.get_final_text()
    assert await gate.spent() == 25 * 3000 + -(-len("Hello.") // 3) * 15000


async def test_anthropic_that_is_overloaded_costs_nothing(gate: Gate) -> None:
    """A stream whose service fails when it has only been begun has delivered nothing, whatever its head counts."""
    key = await gate.account()
    gate.vendors.overloaded = True
    async with anthropic.AsyncAnthropic(base_url=gate.url, api_key=key, max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            async with client.messages.stream(model="claude-sonnet-4-6", max_tokens=200, messages=ASKED) as stream:
                await stream.get_final_text()
    assert await gate.spent() == 0


async def test_anthropic_refusals(gate: Gate) -> None:
    """Every refusal is an error of the client's own kind."""
    empty, free = await gate.account("empty", credit="0"), await gate.account("free", tier="free")

    async def refused(key: str, **more: Any) -> anthropic.APIStatusError:
        async with anthropic.AsyncAnthropic(base_url=gate.url, api_key=key, max_retries=0) as client:
            with pytest.raises(anthropic.APIStatusError) as raised:
                await client.messages.create(model="claude-sonnet-4-6", max_tokens=200, messages=ASKED, **more)
        return raised.value

    error = await refused(empty)
    assert isinstance(error, anthropic.BadRequestError)
    assert error.body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": NO_CREDIT},
        "request_id": error.response.headers["X-Gateway-Call-Id"],
    }
    assert isinstance(await refused("nobody's"), anthropic.AuthenticationError)
    assert isinstance(await refused(free), anthropic.PermissionDeniedError)
    assert "service_tier" in (await refused(empty, service_tier="auto")).message
    assert (
        "tool" in (await refused(empty, tools=[{"type": "code_execution_20250825", "name": "code_execution"}])).message
    )
    betas = {"anthropic-beta": "claude-code-20250219, context-1m-2025-08-07"}
    assert "anthropic-beta" in (await refused(empty, extra_headers=betas)).message

    async def posted(*headers: tuple[str, str], **more: Any) -> httpx.Response:
        body = {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": ASKED, **more}
        sent = [("x-api-key", empty), *headers]
        return await asyncio.to_thread(lambda: gate.http.post(f"{gate.url}/v1/messages", json=body, headers=sent))

    got = await posted(("anthropic-beta", "claude-code-20250219"), ("Anthropic-Beta", "context-1m-2025-08-07"))
    assert got.headers["X-Gateway-Error"] == "unsupported"
    foreign = [{"type": "document", "source": {"type": "file", "file_id": "file_foreign"}}]
    inside = [{"type": "tool_result", "tool_use_id": "t", "content": foreign}]
    for content in (foreign, inside, [{"type": "container_upload", "file_id": "file_foreign"}]):
        got = await posted(messages=[{"role": "user", "content": content}])
        assert "not stored" in got.json()["error"]["message"]
    known = {"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,adaptive-thinking-2026-01-28"}
    search = [
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "own", "input_schema": {"type": "object"}},
    ]
    assert NO_CREDIT in (await refused(empty, extra_headers=known, tools=search)).message
    assert gate.vendors.requests == []


def _deepgram(gate: Gate, key: str) -> deepgram.DeepgramClient:
    sockets = gate.url.replace("http", "ws")
    places = DeepgramClientEnvironment(base=gate.url, production=sockets, agent=sockets, agent_rest=gate.url)
    return deepgram.DeepgramClient(api_key=key, environment=places, httpx_client=gate.http)


async def test_deepgram(gate: Gate) -> None:
    """A recording by its seconds and channels, a socket by the audio that it was sent, speech by its characters."""
    client = _deepgram(gate, await gate.account())

    def transcribed() -> Any:
        return client.listen.v1.media.transcribe_file(request=bytes(32000), model="nova-3", diarize=True)

    found = await asyncio.to_thread(transcribed)
    assert found.results.channels[0].alternatives[0].transcript == "hello"
    recording: int = parse_usd("0.019005")  # 181 seconds at 0.0043 and 0.002 dollars a minute
    assert await gate.spent() == recording

    def several() -> Any:
        return client.listen.v1.media.transcribe_file(request=bytes(32000), model="nova-3", language="multi")

    await asyncio.to_thread(several)
    recording += parse_usd("0.015686667")  # 181 seconds at 0.0043 and 0.0009 dollars a minute, each rounded
    assert await gate.spent() == recording

    def listed() -> Any:  # lists come as a name that stands more than once
        return client.listen.v1.media.transcribe_file(
            request=bytes(32000), model="nova-3", keyterm=["Ada", "Babbage"], redact=["pci", "ssn"]
        )

    await asyncio.to_thread(listed)
    recording += parse_usd("0.012971667") + parse_usd("0.003921667") + parse_usd("0.006033333")
    assert await gate.spent() == recording

    def talk(**more: Any) -> None:
        with client.listen.v1.connect(model="nova-3", encoding="linear16", sample_rate=16000, **more) as socket:
            for _ in range(10):
                socket.send_media(bytes(3200))
            socket.send_close_stream()
            assert socket.recv().type == "Metadata"

    await asyncio.to_thread(talk)
    second = 128_333  # 0.0077 dollars a minute, rounded once
    assert await gate.spent() == recording + second
    await asyncio.to_thread(lambda: talk(channels=2, multichannel=True))  # half a second of two
    second += 128_333
    assert await gate.spent() == recording + second

    def spoken() -> bytes:
        return b"".join(client.speak.v1.audio.generate(text="Grüß dich!", model="aura-2-thalia-en"))

    assert await asyncio.to_thread(spoken) == AUDIO
    assert await gate.spent() == recording + second + 10 * 30_000


async def test_a_recording_that_is_sent_again_under_its_key_is_charged_once(gate: Gate) -> None:
    """The first answer for the same bytes, in whatever pieces they come; another recording is refused, and may have
    another key.
    """
    key, recording = await gate.account(), bytes(range(256)) * 2000

    async def sent(word: str, body: bytes | Iterator[bytes]) -> httpx.Response:
        headers = {"Authorization": f"Token {key}", "Idempotency-Key": word, "Content-Type": "audio/wav"}
        return await asyncio.to_thread(
            lambda: gate.http.post(f"{gate.url}/v1/listen?model=nova-3", headers=headers, content=body)
        )

    first = await sent("k", recording)
    assert first.status_code == 200
    spent = await gate.spent()
    assert spent > 0
    for again in (recording, iter((recording[:7], recording[7:]))):
        repeat = await sent("k", again)
        assert (repeat.status_code, repeat.content) == (200, first.content)
        assert repeat.headers["Idempotent-Replayed"] == "true"
        assert repeat.headers["X-Gateway-Call-Id"] == first.headers["X-Gateway-Call-Id"]
    for other in (recording[:-1], recording + b"x", b""):
        refused = await sent("k", other)
        assert (refused.status_code, refused.headers["X-Gateway-Error"]) == (422, "idempotency_conflict")
    assert (await gate.spent(), len(gate.vendors.requests)) == (spent, 1)
    assert (await sent("other", recording)).status_code == 200
    assert (await gate.spent(), len(gate.vendors.requests)) == (2 * spent, 2)


async def test_our_own_credential_is_refused(gate: Gate) -> None:
    """Customers are told of no key, theirs being good, and pay nothing; somebody is called, for calls and sockets."""
    key = await gate.account()
    gate.vendors.refuses = 401
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=key, max_retries=0) as client:
        with pytest.raises(openai.InternalServerError, match="could not be reached"):
            await client.chat.completions.create(model="gpt-5.2", messages=ASKED, stream=True)
    gate.vendors.refuses = 402

    def talk() -> None:
        with _deepgram(gate, key).listen.v1.connect(model="nova-3") as socket:
            socket.recv()

    with pytest.raises(Exception, match="502"):
        await asyncio.to_thread(talk)
    assert await gate.spent() == 0
    events = gate.gateway.measured().figures()["counts"]["gateway_events"]
    told = {labels[1]: count for labels, count in events if labels[0] == "credential_refused" and count}
    assert told == {"openai": 1, "deepgram": 1}


async def test_deepgram_refusals(gate: Gate) -> None:
    """By the client's own error; what costs more than there are prices for does not pass."""
    empty, paying = _deepgram(gate, await gate.account("empty", credit="0")), _deepgram(gate, await gate.account())

    def refused(client: deepgram.DeepgramClient, **more: Any) -> DeepgramError:
        with pytest.raises(DeepgramError) as raised:
            client.listen.v1.media.transcribe_file(request=bytes(32000), model="nova-3", **more)
        return raised.value

    error = await asyncio.to_thread(refused, empty)
    assert (error.status_code, error.body["err_msg"]) == (400, NO_CREDIT)
    error = await asyncio.to_thread(lambda: refused(paying, summarize="v2"))
    assert "summarize" in error.body["err_msg"]
    error = await asyncio.to_thread(lambda: refused(paying, callback="https://example.com/told"))
    assert "Callbacks" in error.body["err_msg"]
    unclear: dict[str, Any] = {"summarize": ["v2", "false"], "diarize": ["true", "false"], "model": ["nova-3", "base"]}
    for name, values in unclear.items():
        hidden: Any = {"additional_query_parameters": {name: values}}
        error = await asyncio.to_thread(refused, paying, request_options=hidden)
        assert name in error.body["err_msg"]
    sent = {"Authorization": f"Token {await gate.account('reader')}"}
    got = await asyncio.to_thread(
        lambda: gate.http.post(f"{gate.url}/v1/speak", headers=sent, json={"url": "https://example.com/a-book.txt"})
    )
    assert (got.status_code, got.headers["X-Gateway-Error"]) == (400, "unpriced_field")
    error = await asyncio.to_thread(refused, _deepgram(gate, "nobody's"))
    assert (error.status_code, error.body["err_code"]) == (401, "INVALID_AUTH")
    assert gate.vendors.requests == []


async def test_elevenlabs(gate: Gate) -> None:
    """Characters of the text, by the model's price, whole and streamed; without credit its own error."""
    key, empty = await gate.account(), await gate.account("empty", credit="0")

    def spoken(key: str, *, stream: bool) -> bytes:
        client = elevenlabs.ElevenLabs(base_url=gate.url, api_key=key, httpx_client=gate.http)
        speak = client.text_to_speech.stream if stream else client.text_to_speech.convert
        return b"".join(speak(voice_id="v1", text="Grüß dich!", model_id="eleven_flash_v2_5"))

    assert await asyncio.to_thread(spoken, key, stream=False) == AUDIO
    assert await gate.spent() == 10 * 50_000
    assert await asyncio.to_thread(spoken, key, stream=True) == AUDIO
    assert await gate.spent() == 20 * 50_000
    with pytest.raises(ElevenLabsError) as raised:
        await asyncio.to_thread(spoken, empty, stream=True)
    assert (raised.value.status_code, raised.value.body["detail"]) == (
        400, {"status": "quota_exceeded", "message": NO_CREDIT},
    )  # fmt: skip
