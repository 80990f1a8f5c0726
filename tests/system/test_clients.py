"""The official clients, unmodified, against the gateway."""

import asyncio
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import assemblyai as aai
import openai
import orjson
import pytest

from gateway.core.money import parse_usd
from tests.harness import Running, running
from tests.pipeline.helpers import NO_CREDIT, charges, in_order
from tests.pipeline.hooks import Hooks, called_back

pytestmark = pytest.mark.system


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two and a half seconds of silence in a WAV file."""
    path = tmp_path / "recording.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(80_000))
    return path


@pytest.fixture
def speech(gw: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], aai.Transcriber]]:
    """Makes a transcriber with a key, as its documentation says: by settings."""
    monkeypatch.setattr(aai.settings, "base_url", gw.url)
    monkeypatch.setattr(aai.settings, "polling_interval", 0.05)
    made: list[aai.Client] = []

    def transcriber(key: str) -> aai.Transcriber:
        aai.settings.api_key = key
        made.append(aai.Client.get_default())
        return aai.Transcriber()

    monkeypatch.setattr(aai.settings, "api_key", None)
    yield transcriber
    for client in made:
        client.http_client.close()


@pytest.fixture
async def llm(gw: Running) -> AsyncIterator[Callable[[str], openai.OpenAI]]:
    """Makes a client with a key."""
    made: list[openai.OpenAI] = []

    def client(key: str) -> openai.OpenAI:
        made.append(openai.OpenAI(base_url=f"{gw.url}/v1", api_key=key))
        return made[-1]

    yield client
    for each in made:
        each.close()


async def _forwarded(gw: Running) -> list[str]:
    return [f"{entry['method']} {entry['path'].partition('?')[0]}" for entry in await gw.seen()]


async def test_assemblyai_transcribes_a_local_file(
    gw: Running, speech: Callable[[str], aai.Transcriber], recording: Path
) -> None:
    """Upload, submission and polls by the client's own loop; three seconds are charged (rounded up by the upstream)."""
    transcriber = speech(await gw.open_account("a", tier="free", credit="50"))
    config = aai.TranscriptionConfig(speaker_labels=True)
    transcript = await asyncio.to_thread(transcriber.transcribe, str(recording), config)
    assert transcript.status == aai.TranscriptStatus.completed, transcript.error
    assert transcript.text
    assert transcript.audio_duration == 3
    # 3 s at 0.21 and 0.02 dollars an hour: 175000 + 16667 nano-dollars, each line rounded once
    (charge,) = await charges(gw, "a")
    assert charge["amount"] == 175_000 + 16_667
    await in_order(gw, "a", balance=parse_usd("49.999808333"))
    assert "project_id" not in str(transcript.json_response)


async def test_assemblyai_submits_and_waits_and_exports(gw: Running, speech: Callable[[str], aai.Transcriber]) -> None:
    """A submission that is waited for later, fetched by its id, and its exports: one charge."""
    transcriber = speech(await gw.open_account("a", tier="free", credit="50"))
    submitted = await asyncio.to_thread(transcriber.submit, "https://example.com/a.wav?duration=3600")
    assert submitted.status in (aai.TranscriptStatus.queued, aai.TranscriptStatus.processing)
    assert submitted.id is not None
    done = await asyncio.to_thread(submitted.wait_for_completion)
    assert done.status == aai.TranscriptStatus.completed
    found = await asyncio.to_thread(aai.Transcript.get_by_id, submitted.id)
    assert found.text == done.text
    assert "-->" in await asyncio.to_thread(found.export_subtitles_srt)
    assert (await asyncio.to_thread(found.export_subtitles_vtt)).startswith("WEBVTT")
    assert await asyncio.to_thread(found.get_sentences)
    assert await asyncio.to_thread(found.get_paragraphs)
    assert await asyncio.to_thread(found.word_search, ["the"])
    await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_assemblyai_is_called_back(tmp_path: Path, empty_redis: str, recording: Path) -> None:
    """A webhook as the client's documentation sets it: told with the client's header after the charge, by whom nobody
    polled; a second one of the redacted audio; and the transcript says what was set.
    """
    async with running(tmp_path, empty_redis, changes=called_back()) as gw, Hooks() as hooks:
        key = await gw.open_account("a", tier="payg", credit="50")
        client = aai.Client(settings=aai.Settings(api_key=key, base_url=gw.url))
        transcriber = aai.Transcriber(client=client)
        url = hooks.url("/hook?customer_id=1")
        config = aai.TranscriptionConfig(speaker_labels=True).set_webhook(url, "X-My-Secret", "s3cret")
        config.set_redact_pii(policies=[aai.PIIRedactionPolicy.person_name], redact_audio=True)
        submitted = await asyncio.to_thread(transcriber.submit, str(recording), config)
        told = await hooks.hears("/hook", 2)
        assert {each.status for each in told} == {"completed", "redacted_audio_ready"}
        assert {(each.target, each.headers["X-My-Secret"]) for each in told} == {("/hook?customer_id=1", "s3cret")}
        assert {orjson.loads(each.body).get("transcript_id", submitted.id) for each in told} == {submitted.id}
        assert len(await charges(gw, "a")) == 1
        found = await asyncio.to_thread(submitted.wait_for_completion)
        assert (found.webhook_auth, found.config.webhook_url) == (True, url)
        assert len(await charges(gw, "a")) == 1
        client.http_client.close()


async def test_assemblyai_lists_by_pages_and_deletes(gw: Running, speech: Callable[[str], aai.Transcriber]) -> None:
    """The client's own paging loop sees every own transcript once, and none of another account's."""
    theirs = speech(await gw.open_account("b", tier="payg", credit="50"))
    foreign = [(await asyncio.to_thread(theirs.submit, "https://example.com/b.wav?duration=1")).id for _ in range(5)]
    transcriber = speech(await gw.open_account("a", tier="payg", credit="50"))
    own = [
        (await asyncio.to_thread(transcriber.transcribe, "https://example.com/a.wav?duration=1")).id for _ in range(7)
    ]

    def listed() -> list[str]:
        params = aai.ListTranscriptParameters(limit=3)
        page = transcriber.list_transcripts(params)
        found = [item.id for item in page.transcripts]
        while page.page_details.before_id_of_prev_url is not None:
            params.before_id = page.page_details.before_id_of_prev_url
            page = transcriber.list_transcripts(params)
            found += [item.id for item in page.transcripts]
        return found

    assert await asyncio.to_thread(listed) == own[::-1]
    assert own[3] is not None
    await asyncio.to_thread(aai.Transcript.delete_by_id, own[3])
    assert await asyncio.to_thread(listed) == [each for each in own[::-1] if each != own[3]]
    for gone in (own[3], foreign[0]):
        assert gone is not None
        with pytest.raises(aai.TranscriptError, match="transcript id not found"):
            await asyncio.to_thread(aai.Transcript.get_by_id, gone)


async def test_assemblyai_shows_the_exact_sentence_to_a_spent_account(
    gw: Running, speech: Callable[[str], aai.Transcriber], recording: Path
) -> None:
    """The refusal is an exception with the vendor's words and status 400, at once, after the upload that is free."""
    transcriber = speech(await gw.open_account("a", tier="free", credit="0"))
    for source in ("https://example.com/a.wav", str(recording)):
        with pytest.raises(aai.TranscriptError) as raised:
            await asyncio.to_thread(transcriber.submit, source)
        assert str(raised.value).endswith(f": {NO_CREDIT}")
        assert raised.value.status_code == 400
    assert "POST /v2/transcript" not in await _forwarded(gw)


async def test_assemblyai_shows_a_bad_key_and_a_failed_job(
    gw: Running, speech: Callable[[str], aai.Transcriber]
) -> None:
    """401 with the vendor's words; a job that fails is a transcript with an error, and costs nothing."""
    with pytest.raises(aai.TranscriptError, match="Authentication error, API token missing/invalid"):
        await asyncio.to_thread(speech("nobody").submit, "https://example.com/a.wav")
    transcriber = speech(await gw.open_account("a", tier="free", credit="50"))
    transcript = await asyncio.to_thread(transcriber.transcribe, "https://example.com/fail.wav")
    assert transcript.status == aai.TranscriptStatus.error
    assert "Download error" in (transcript.error or "")
    await in_order(gw, "a", balance=parse_usd("50"))


def _ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(model="gpt-5.2", messages=[{"role": "user", "content": "Hello"}], **options)


async def test_openai_completes_a_chat(gw: Running, llm: Callable[[str], openai.OpenAI]) -> None:
    """The answer, its usage, the charge in a header, and the list of models."""
    client = llm(await gw.open_account("a", credit="10"))
    answer = await asyncio.to_thread(_ask, client, max_tokens=50)
    assert answer.choices[0].message.content.startswith("This is a reply")
    assert answer.usage.prompt_tokens > 0
    (charge,) = await charges(gw, "a")
    assert charge["amount"] == answer.usage.prompt_tokens * 1750 + answer.usage.completion_tokens * 14_000
    raw = await asyncio.to_thread(_raw, client)
    assert parse_usd(raw.headers["X-Gateway-Charge"]) == (await charges(gw, "a"))[-1]["amount"]
    models = await asyncio.to_thread(lambda: [model.id for model in client.models.list()])
    assert "gpt-5.2" in models


async def test_openai_that_times_out_and_retries_with_a_key_pays_once(
    gw: Running, llm: Callable[[str], openai.OpenAI]
) -> None:
    """It gives up after half a second and tries again by itself: one call upstream, one charge, an answer."""
    client = llm(await gw.open_account("a", credit="10")).with_options(timeout=0.5, max_retries=8)
    headers = {"Idempotency-Key": "k", "X-Sandbox-Latency-Seconds": "1.2"}
    got = await asyncio.to_thread(lambda: _ask(client, extra_headers=headers))
    assert got.choices[0].message.content
    assert await _forwarded(gw) == ["POST /v1/chat/completions"]
    assert len(await charges(gw, "a")) == 1


def _raw(client: openai.OpenAI) -> Any:
    return client.chat.completions.with_raw_response.create(
        model="gpt-5.2", messages=[{"role": "user", "content": "Hello"}]
    )


async def test_openai_understands_each_refusal_and_does_not_retry(
    gw: Running, llm: Callable[[str], openai.OpenAI]
) -> None:
    """Free tier, spent account, bad key, unknown model: an exception class each, one request each, none forwarded."""
    free = llm(await gw.open_account("free", tier="free", credit="50"))
    spent = llm(await gw.open_account("spent", credit="0"))
    paying = llm(await gw.open_account("paying", credit="1"))
    with pytest.raises(openai.PermissionDeniedError, match="Pay as you go") as denied:
        await asyncio.to_thread(_ask, free)
    with pytest.raises(openai.BadRequestError) as refused:
        await asyncio.to_thread(_ask, spent)
    with pytest.raises(openai.AuthenticationError):
        await asyncio.to_thread(_ask, llm("nobody"))
    with pytest.raises(openai.BadRequestError, match="Web search is not available"):
        await asyncio.to_thread(_ask, paying, web_search_options={"search_context_size": "low"})
    assert denied.value.response.headers["X-Gateway-Error"] == "not_entitled"
    assert refused.value.response.headers["X-Gateway-Error"] == "insufficient_credit"
    assert refused.value.body == {
        "message": NO_CREDIT, "type": "insufficient_credit", "param": None, "code": "insufficient_credit",
    }  # fmt: skip
    assert NO_CREDIT in refused.value.message
    assert not await gw.seen()
    async with gw.http.get(gw.ops_url + "/metrics") as response:
        text = await response.text()
    for code in ("not_entitled", "insufficient_credit", "unauthorized", "unsupported"):
        assert f'gateway_refusals_total{{code="{code}",product="llm-gateway"}} 1.0' in text, "asked once, not retried"


async def test_assemblyai_waits_for_redacted_audio(gw: Running, speech: Callable[[str], aai.Transcriber]) -> None:
    """Asked for while its job runs, or waits for a place, the audio is not ready, and not expired."""
    key = await gw.open_account("a", tier="free", credit="50")
    config = aai.TranscriptionConfig(
        redact_pii=True, redact_pii_audio=True, redact_pii_policies=[aai.PIIRedactionPolicy.person_name]
    )

    def redacted() -> list[str]:
        transcriber = speech(key)
        waiting = [transcriber.submit("https://example.com/a.wav?duration=60", config) for _ in range(6)]
        return [transcript.get_redacted_audio_url() for transcript in waiting]

    await gw.knobs(job_seconds=0.5)
    urls = await asyncio.to_thread(redacted)
    assert len(set(urls)) == 6
    assert (await gw.ledger.account("a")).held == 0
