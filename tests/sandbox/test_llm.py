"""The LLM gateway and text-to-speech, through the official clients."""

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import assemblyai as aai
import openai
import pytest
from assemblyai.tts import TextToSpeech

from gateway.sandbox import Sandbox

from .conftest import KEY

MESSAGES: Any = [{"role": "user", "content": "x" * 400}]
CHAT = {"model": "gpt-5.2", "messages": MESSAGES}


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[openai.OpenAI]:
    """OpenAI's client, pointed at the sandbox."""
    with openai.OpenAI(base_url=f"{sandbox.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


async def chat(http: aiohttp.ClientSession, headers: dict[str, str] | None = None, **request: Any) -> Any:
    """A completion's JSON."""
    async with http.post("/v1/chat/completions", json={**CHAT, **request}, headers=headers) as answer:
        return await answer.json()


async def test_the_openai_client_completes(client: openai.OpenAI) -> None:
    """Deterministic usage, in the names that the client reads."""
    answer = await asyncio.to_thread(client.chat.completions.create, model="gpt-5.2", messages=MESSAGES)
    assert answer.choices[0].message.content == "This is a reply from the sandbox model."
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (100, 8, 108)
    assert answer.model == "gpt-5.2"


async def test_the_openai_client_streams(client: openai.OpenAI) -> None:
    """Usage comes in a last chunk of its own, only when it was asked for."""

    def work(**options: Any) -> tuple[str, list[Any]]:
        with client.chat.completions.create(model="gpt-5.2", messages=MESSAGES, stream=True, **options) as stream:
            chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return text, [chunk for chunk in chunks if chunk.usage is not None]

    text, reported = await asyncio.to_thread(work)
    assert (text, reported) == ("This is a reply from the sandbox model.", [])
    _, reported = await asyncio.to_thread(work, stream_options={"include_usage": True})
    assert len(reported) == 1
    assert reported[0].choices == []
    assert reported[0].usage.total_tokens == 108


async def test_the_vendors_client_completes_streams_and_lists_models(sandbox: Sandbox) -> None:
    """Its models parse every field; its errors carry ours."""
    settings = aai.Settings(api_key=KEY, llm_gateway_base_url=sandbox.url)

    def work() -> None:
        inner = aai.Client(settings=settings)
        gateway = aai.LLMGateway(client=inner)
        assert "gpt-5.2" in [model.id for model in gateway.models.list().data]
        answer = gateway.chat.completions.create(model="gpt-5.2", messages=MESSAGES)
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (100, 8)
        chunks = list(gateway.chat.completions.create(model="gpt-5.2", messages=MESSAGES, stream=True))
        assert len(chunks) == 8
        with pytest.raises(aai.LLMGatewayError) as raised:
            gateway.chat.completions.create(model="no-such-model", messages=MESSAGES)
        assert raised.value.errors == ["model no-such-model is not supported"]
        inner.http_client.close()

    await asyncio.to_thread(work)


async def test_a_hosted_model_reports_running_usage_on_every_chunk(http: aiohttp.ClientSession) -> None:
    """Under the provider's own name for itself; the last report counts."""
    async with http.post(
        "/v1/chat/completions", json={**CHAT, "model": "qwen3.5-4b-32k-fast", "stream": True}
    ) as answer:
        assert answer.content_type == "text/event-stream"
        lines = [line for line in (await answer.text()).split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert all('"model":"qwen3.5-4b-32k"' in line and '"usage":{' in line for line in lines[:-1])
    assert '"completion_tokens":8' in lines[-2]


async def test_the_models_name_and_the_knobs_set_the_usage(http: aiohttp.ClientSession) -> None:
    """Both give exact quantities; the name wins."""
    body = await chat(http, model="gpt-5.2:in=1000,out=50,cached=400,reasoning=20", max_tokens=5)
    usage = body["usage"]
    assert body["model"] == "gpt-5.2"
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (1000, 50, 1050)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 400
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 20
    body = await chat(http, {"X-Sandbox-Output-Tokens": "7", "X-Sandbox-Model-Used": "gpt-5.1"})
    assert (body["usage"]["completion_tokens"], body["model"]) == (7, "gpt-5.1")
    assert "usage" not in await chat(http, {"X-Sandbox-Usage": "missing"})
    assert (await chat(http, {"X-Sandbox-Usage": "zero"}))["usage"]["total_tokens"] == 0
    assert (await chat(http, {"X-Sandbox-Usage": '{"prompt_tokens": 3}'}))["usage"] == {"prompt_tokens": 3}
    assert (await chat(http, n=3))["usage"]["completion_tokens"] == 24
    assert (await chat(http, max_tokens=2))["choices"][0]["finish_reason"] == "length"


async def test_a_fallback_answers_in_place_of_a_failing_model(http: aiohttp.ClientSession) -> None:
    """And without one there is a 503."""
    knob = {"X-Sandbox-Primary-Fails": "true"}
    body = await chat(http, knob, fallbacks=[{"model": "claude-sonnet-4-6"}])
    assert body["model"] == "claude-sonnet-4-6"
    assert (await chat(http, knob))["code"] == 503


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "no-such-model"},
        {"model": None},
        {"messages": []},
        {"max_tokens": 0},
        {"n": 99},
        {"model": "gpt-oss-120b", "stream": True},
        {"fallbacks": ["x"]},
    ],
)
async def test_bad_requests_get_the_business_envelope(http: aiohttp.ClientSession, request_: dict[str, Any]) -> None:
    """Before the first byte, streaming or not."""
    body = await chat(http, **request_)
    assert (body["code"], body["message"]) == (400, "invalid request body")
    assert body["metadata"]["errors"]


async def test_a_transcript_is_injected_where_its_tag_stands(http: aiohttp.ClientSession) -> None:
    """Its text counts as input, though the request does not show it."""
    async with http.post("/v2/transcript", json={"audio_url": "https://example.com/a?duration=60"}) as answer:
        made = (await answer.json())["id"]
    messages = [{"role": "user", "content": "{{ transcript }}"}]
    body = await chat(http, messages=messages, transcript_id=made)
    assert body["usage"]["input_tokens"] > 100
    assert await chat(http, transcript_id="x") == {"message": "transcript not found", "code": 404}


async def test_models_are_public(sandbox: Sandbox) -> None:
    """No key, no refusal; chat completions without a key are refused as upstream."""
    async with aiohttp.ClientSession(sandbox.url) as anyone:
        async with anyone.get("/v1/models") as answer:
            assert answer.status == 200
        async with anyone.post("/v1/chat/completions", json=CHAT) as answer:
            body = await answer.json()
        assert answer.status == 401
        assert "does not have access to LLM Gateway" in body["error"]


async def test_the_vendors_client_speaks(sandbox: Sandbox) -> None:
    """Audio with the number of billed characters; refusals in the product's envelope."""
    settings = aai.Settings(api_key=KEY, tts_base_url=sandbox.url)

    def work() -> None:
        inner = aai.Client(settings=settings)
        speaker = TextToSpeech(client=inner)
        spoken = speaker.synthesize("Hello, world")
        assert spoken.billed_characters == 12
        assert spoken.audio_duration_ms == 480
        assert len(spoken.audio) == int(0.48 * 24000) * 2
        with pytest.raises(aai.AssemblyAIError, match="text is required"):
            speaker.synthesize("")
        inner.http_client.close()

    await asyncio.to_thread(work)
