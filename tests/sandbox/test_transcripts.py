"""Pre-recorded speech-to-text, mostly through the official client."""

import asyncio
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import assemblyai as aai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from assemblyai.prerecorded.v2.api import delete_transcript

from gateway.sandbox import Sandbox

from .conftest import KEY, eventually

AUDIO = "https://example.com/a.wav?duration=90.5&channels=2"


@pytest.fixture
def official(sandbox: Sandbox) -> Iterator[aai.Client]:
    """The vendor's client, pointed at the sandbox."""
    settings = aai.Settings(api_key=KEY, base_url=sandbox.url, polling_interval=0.02)
    client = aai.Client(settings=settings)
    yield client
    client.http_client.close()


def recording(folder: Path, seconds: float, channels: int = 1) -> Path:
    """A WAV file of silence."""
    path = folder / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(int(seconds * 16000) * 2 * channels))
    return path


async def completed(http: aiohttp.ClientSession, **request: Any) -> dict[str, Any]:
    """The finished transcript of a request."""
    async with http.post("/v2/transcript", json={"audio_url": AUDIO, **request}) as answer:
        assert answer.status == 200, await answer.text()
        body: dict[str, Any] = await answer.json()
    for _ in range(100):
        async with http.get(f"/v2/transcript/{body['id']}") as answer:
            body = await answer.json()
        if body["status"] in ("completed", "error"):
            return body
        await asyncio.sleep(0.01)
    raise AssertionError("the job does not end")


async def test_the_official_client_transcribes_a_local_file(official: aai.Client, tmp_path: Path) -> None:
    """Upload, submit, poll, export and delete, with the file's own duration and channels."""
    path = recording(tmp_path, 3.2, channels=2)
    tasks = {"summarization": {"summary_type": "bullets"}, "speaker_identification": {"speaker_type": "name"}}
    config = aai.TranscriptionConfig(
        multichannel=True, entity_detection=True, auto_highlights=True, speech_understanding={"request": tasks}
    )

    def work() -> aai.Transcript:
        transcript = aai.Transcriber(client=official).transcribe(str(path), config)
        assert transcript.status == aai.TranscriptStatus.completed, transcript.error
        assert transcript.id
        assert "-->" in transcript.export_subtitles_srt()
        assert transcript.export_subtitles_vtt(chars_per_caption=20).startswith("WEBVTT")
        assert len(transcript.get_sentences()) == 1
        assert transcript.get_paragraphs()[0].words
        assert transcript.word_search(["gateway", "nothing"])[0].count == 1
        return transcript

    transcript = await asyncio.to_thread(work)
    assert transcript.audio_duration == 4
    assert transcript.audio_url
    assert transcript.audio_url.startswith("https://cdn.sandbox.invalid/upload/")
    assert transcript.json_response is not None
    assert transcript.json_response["audio_channels"] == 2
    assert transcript.json_response["speech_model_used"] == "universal-3-5-pro"
    assert transcript.entities
    assert transcript.utterances


async def test_the_official_client_pages_through_the_list_and_deletes(official: aai.Client) -> None:
    """`prev_url` leads to older transcripts until it is null; a deleted one stays, blanked."""

    def work() -> None:
        transcriber = aai.Transcriber(client=official)
        made = [transcriber.transcribe(f"{AUDIO}&n={number}").id for number in range(5)]
        seen: list[str] = []
        parameters = aai.ListTranscriptParameters(limit=2)
        while True:
            page = transcriber.list_transcripts(parameters)
            seen += [item.id for item in page.transcripts]
            if page.page_details.before_id_of_prev_url is None:
                break
            parameters.before_id = page.page_details.before_id_of_prev_url
        assert seen == made[::-1]

        newer = transcriber.list_transcripts(aai.ListTranscriptParameters(limit=2, after_id=made[1]))
        assert [item.id for item in newer.transcripts] == [made[3], made[2]]
        none = transcriber.list_transcripts(aai.ListTranscriptParameters(status=aai.TranscriptStatus.error))
        assert none.transcripts == []

        assert made[0] is not None
        deleted = delete_transcript(official.http_client, made[0])
        assert deleted.text == "Deleted by user."
        oldest = transcriber.list_transcripts(aai.ListTranscriptParameters(limit=1, before_id=made[1]))
        assert oldest.transcripts[0].audio_url == "http://deleted_by_user"

    await asyncio.to_thread(work)


async def test_what_can_be_read_answers_head(http: aiohttp.ClientSession) -> None:
    """HEAD has the status and the length that GET has, however the body is sent, and no body."""
    done = await completed(http)
    for knobs in ({}, {"X-Sandbox-Body": "chunked"}):
        for path in (f"/v2/transcript/{done['id']}", f"/v2/transcript/{done['id']}/srt"):
            async with http.get(path) as whole, http.head(path, headers=knobs) as head:
                body = await whole.read()
                assert (head.status, await head.read()) == (whole.status, b"")
                assert head.headers["Content-Length"] == str(len(body))
    async with http.head("/v2/transcript/unknown") as head:
        assert head.status == 400


async def test_the_official_client_shows_errors(official: aai.Client) -> None:
    """A refused submission raises with the error's text; a failed job is an ordinary answer."""

    def work() -> None:
        transcriber = aai.Transcriber(client=official)
        config = aai.TranscriptionConfig(speech_models=["no-such-model"])
        with pytest.raises(aai.TranscriptError, match="speech_models") as raised:
            transcriber.transcribe(AUDIO, config)
        assert raised.value.status_code == 400
        failed = transcriber.transcribe("https://example.com/fail.wav")
        assert failed.status == aai.TranscriptStatus.error
        assert "Download error, unable to download" in (failed.error or "")

    await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        ({}, 400, "Transcript creation error, audio_url not found"),
        ({"audio_url": "ftp://x"}, 400, "must be a valid URL"),
        ({"audio_url": AUDIO, "speech_model": "best"}, 400, "speech_model is deprecated"),
        ({"audio_url": AUDIO, "redact_pii_audio": True}, 400, "redact_pii must be enabled"),
        ({"audio_url": "https://cdn.sandbox.invalid/upload/unknown"}, 403, "Cannot access uploaded file"),
        (
            {"audio_url": AUDIO, "speech_understanding": {"request": {"speaker_identification": {}}}},
            400,
            "speaker_labels or multichannel required",
        ),
    ],
)
async def test_bad_submissions_are_refused(
    http: aiohttp.ClientSession, request_: dict[str, Any], status: int, text: str
) -> None:
    """Each with the vendor's status and text."""
    async with http.post("/v2/transcript", json=request_) as answer:
        assert answer.status == status
        assert text in (await answer.json())["error"]


async def test_a_completed_object_echoes_every_flag(http: aiohttp.ClientSession) -> None:
    """The price can be computed from the object alone."""
    flags = {"speaker_labels": True, "redact_pii": True, "sentiment_analysis": True, "custom_flag": {"a": 1}}
    body = await completed(http, **flags, speech_models=["universal-2"])
    assert {name: body[name] for name in flags} == flags
    assert body["audio_duration"] == 91
    assert "audio_channels" not in body
    assert body["speech_model_used"] == "universal-2"
    assert {utterance["speaker"] for utterance in body["utterances"]} == {"A", "B"}
    assert isinstance(body["project_id"], int)
    assert isinstance(body["token_id"], int)


async def test_a_task_that_is_null_is_none(http: aiohttp.ClientSession) -> None:
    """Only what was asked for is said to have run."""
    tasks = {"translation": None, "summarization": {"summary_type": "paragraph"}}
    body = await completed(http, speech_understanding={"request": tasks})
    assert set(body["speech_understanding"]["response"]) == {"summarization"}


async def test_a_job_goes_through_its_states(http: aiohttp.ClientSession) -> None:
    """Queued, processing, completed; unfinished ones cannot be exported or deleted."""
    async with http.post(
        "/v2/transcript", json={"audio_url": AUDIO}, headers={"X-Sandbox-Job-Seconds": "0.4"}
    ) as answer:
        body = await answer.json()
    assert (body["status"], body["audio_duration"]) == ("queued", None)
    path = f"/v2/transcript/{body['id']}"
    await asyncio.sleep(0.2)
    async with http.get(path) as answer:
        assert (await answer.json())["status"] == "processing"
    async with http.get(f"{path}/srt") as export, http.delete(path) as deleted:
        assert (export.status, deleted.status) == (400, 400)
    await asyncio.sleep(0.25)
    async with http.get(path) as answer:
        assert (await answer.json())["status"] == "completed"


async def test_usage_and_model_of_a_job_follow_the_knobs_of_its_submission(http: aiohttp.ClientSession) -> None:
    """The job keeps what its own request asked for."""
    knobs = {"X-Sandbox-Usage": '{"audio_duration": 7}', "X-Sandbox-Model-Used": "universal-2"}
    async with http.post("/v2/transcript", json={"audio_url": AUDIO}, headers=knobs) as answer:
        made = await answer.json()
    await asyncio.sleep(0.06)
    async with http.get(f"/v2/transcript/{made['id']}") as answer:
        body = await answer.json()
    assert (body["audio_duration"], body["speech_model_used"]) == (7, "universal-2")


async def test_a_webhook_is_called_at_the_end(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """With the transcript's id, its status, and the header that was asked for."""
    seen: asyncio.Queue[tuple[Any, str | None]] = asyncio.Queue()

    async def hook(request: web.Request) -> web.Response:
        await seen.put((await request.json(), request.headers.get("X-Hook")))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", hook)
    async with TestServer(app) as server:
        body = await completed(
            http,
            webhook_url=str(server.make_url("/hook?customer=1")),
            webhook_auth_header_name="X-Hook",
            webhook_auth_header_value="secret",
        )
        async with asyncio.timeout(20):
            assert await seen.get() == ({"transcript_id": body["id"], "status": "completed"}, "secret")
    assert body["webhook_auth"] is True
    assert "webhook_auth_header_value" not in body


async def test_webhooks_are_repeated_copied_and_reordered(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """Until they are taken, twice each, the second one first; a 4xx ends the attempts, and none may come at all."""
    seen: list[tuple[str, str, int]] = []

    async def hook(request: web.Request) -> web.Response:
        status, name = str((await request.json())["status"]), request.match_info["name"]
        times = sum(each[:2] == (name, status) for each in seen)
        answer = 410 if name == "gone" else 500 if times < 2 else 200
        seen.append((name, status, answer))
        return web.Response(status=answer)

    app = web.Application()
    app.router.add_post("/{name}", hook)
    asked = {"redact_pii": True, "redact_pii_audio": True}
    async with TestServer(app) as server:
        knobs = {"X-Sandbox-Webhook-Copies": "2", "X-Sandbox-Webhook-Reversed": "true"}
        http.headers["X-Sandbox-Webhook-Retry-Seconds"] = "0.02"
        for name, headers in (("taken", knobs), ("gone", {}), ("never", {"X-Sandbox-Webhook-Copies": "0"})):
            body = {"audio_url": "https://example.com/a.wav", "webhook_url": str(server.make_url(f"/{name}")), **asked}
            async with http.post("/v2/transcript", json=body, headers=headers) as answer:
                assert answer.status == 200
        await eventually(lambda: sum(answer == 200 for *_, answer in seen) == 4 and len(seen) == 10)
    assert seen[0][:2] == ("taken", "redacted_audio_ready")
    assert sorted(status for name, status, _ in seen if name == "gone") == ["completed", "redacted_audio_ready"]
    assert not [each for each in seen if each[0] == "never"]


async def test_uploads_are_hashed_and_short_ones_fail(
    http: aiohttp.ClientSession, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Unknown containers are taken by their size; a WAV of under 160 ms is too short."""
    async with http.post("/v2/upload", data=b"x" * 40_000) as answer:
        url = (await answer.json())["upload_url"]
    assert sandbox.state.entries[-1].body_bytes == 40_000
    assert (await completed(http, audio_url=url))["audio_duration"] == 3
    async with http.post("/v2/upload", data=recording(tmp_path, 0.1).read_bytes()) as answer:
        url = (await answer.json())["upload_url"]
    body = await completed(http, audio_url=url)
    assert (body["status"], body["error"]) == ("error", "Audio duration is too short.")
    async with http.post("/v2/upload", data=b"") as answer:
        assert answer.status == 422


async def test_redacted_audio_says_when_it_is_ready(http: aiohttp.ClientSession) -> None:
    """200 with a URL where it was asked for, 400 where not."""
    asked = await completed(http, redact_pii=True, redact_pii_audio=True)
    async with http.get(f"/v2/transcript/{asked['id']}/redacted-audio") as answer:
        assert (await answer.json())["status"] == "redacted_audio_ready"
    plain = await completed(http)
    async with http.get(f"/v2/transcript/{plain['id']}/redacted-audio") as answer:
        assert answer.status == 400


async def test_understanding_needs_a_completed_transcript(http: aiohttp.ClientSession) -> None:
    """404 for an unknown one, 400 before it is done; the answer holds no duration."""
    tasks = {"request": {"translation": {"target_languages": ["es", "de"]}, "speaker_identification": {}}}
    async with http.post("/v1/understanding", json={"transcript_id": "x", "speech_understanding": tasks}) as answer:
        assert answer.status == 404
        assert await answer.json() == {"message": "transcript not found", "code": 404}
    async with http.post("/v2/transcript", json={"audio_url": AUDIO}) as answer:
        request = {"transcript_id": (await answer.json())["id"], "speech_understanding": tasks}
    async with http.post("/v1/understanding", json=request) as answer:
        assert answer.status == 400
    await asyncio.sleep(0.06)
    async with http.post("/v1/understanding", json=request) as answer:
        body = await answer.json()
    assert set(body["translated_texts"]) == {"es", "de"}
    assert body["speech_understanding"]["response"]["translation"] == {"status": "success"}
    assert "audio_duration" not in body
    for wrong, status in ((request, 200), ({"transcript_id": "x"}, 400)):
        async with http.post("/v1/understanding/validate", json=wrong) as answer:
            assert answer.status == status


async def test_it_counts_how_many_jobs_ran_at_once(http: aiohttp.ClientSession) -> None:
    """Two that overlap are two, those that come after them are no more; it is the count of all that it remembers."""

    async def most() -> int:
        async with http.get("/sandbox/state") as answer:
            return int((await answer.json())["transcripts_most_at_once"])

    assert await most() == 0
    await completed(http)
    await completed(http)
    assert await most() == 1
    await asyncio.gather(completed(http), completed(http))
    assert await most() == 2
    await completed(http)
    assert await most() == 2
