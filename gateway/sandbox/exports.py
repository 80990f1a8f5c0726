"""What can be read of a finished transcript besides itself.

Owns: subtitles, sentences, paragraphs, word search and redacted audio of /v2/transcript/{id}/...
Does not know: how transcripts come to be.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from gateway.sandbox.errors import Product
from gateway.sandbox.jobs import Job, spoken, words_of
from gateway.sandbox.replies import Reply, json_reply, text_reply
from gateway.sandbox.routes import Call, Route
from gateway.sandbox.transcripts import NOT_FOUND, find, refuse

_CAPTION_CHARACTERS: Final = 64
_SENTENCE_WORDS: Final = 10
_PARAGRAPH_WORDS: Final = 50


def _finished(export: Callable[[Call, Job], Reply]) -> Callable[[Call], Reply]:
    """Only for completed transcripts."""

    def handler(call: Call) -> Reply:
        job = find(call)
        if job is None:
            return refuse(400, NOT_FOUND)
        status = job.status(time.monotonic())
        if status != "completed":
            return refuse(
                400, f"This transcript has a status of '{status}'. Transcripts must have a status of 'completed'."
            )
        if job.deleted:
            return refuse(400, "This transcript has been deleted.")
        return export(call, job)

    return handler


def _captions(call: Call, job: Job) -> list[dict[str, Any]]:
    asked = call.request.query.get("chars_per_caption", "")
    width = max(1, int(asked)) if asked.isdecimal() and len(asked) < 6 else _CAPTION_CHARACTERS
    captions: list[list[dict[str, Any]]] = [[]]
    used = 0
    for word in words_of(job):
        if captions[-1] and used + 1 + len(word["text"]) > width:
            captions.append([])
            used = 0
        captions[-1].append(word)
        used += 1 + len(word["text"])
    return [spoken(words) for words in captions]


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _srt(call: Call, job: Job) -> Reply:
    blocks = [
        f"{number}\n{_clock(caption['start'], ',')} --> {_clock(caption['end'], ',')}\n{caption['text']}\n"
        for number, caption in enumerate(_captions(call, job), 1)
    ]
    return text_reply("\n".join(blocks))


def _vtt(call: Call, job: Job) -> Reply:
    blocks = [
        f"{_clock(caption['start'], '.')} --> {_clock(caption['end'], '.')}\n{caption['text']}\n"
        for caption in _captions(call, job)
    ]
    return text_reply("WEBVTT\n\n" + "\n".join(blocks))


def _pieces(name: str, size: int) -> Callable[[Call, Job], Reply]:
    def export(call: Call, job: Job) -> Reply:  # noqa: ARG001 - an export
        words = words_of(job)
        pieces = [spoken(words[start : start + size]) for start in range(0, len(words), size)]
        return json_reply(
            {
                "id": job.id,
                name: pieces,
                "confidence": 0.97,
                "audio_duration": job.audio_duration,
                "speech_model_used": job.model_used,
            }
        )

    return export


def _word_search(call: Call, job: Job) -> Reply:
    asked = [word for word in call.request.query.get("words", "").split(",") if word]
    if not asked:
        return refuse(400, "words is required")
    heard = words_of(job)
    matches: list[dict[str, Any]] = []
    for word in asked:
        indexes = [index for index, said in enumerate(heard) if said["text"].lower() == word.strip().lower()]
        if indexes:
            spans = [[heard[index]["start"], heard[index]["end"]] for index in indexes]
            matches.append({"text": word, "count": len(indexes), "timestamps": spans, "indexes": indexes})
    total = sum(match["count"] for match in matches)
    return json_reply({"id": job.id, "total_count": total, "matches": matches})


def _redacted_audio(call: Call) -> Reply:
    job = find(call)
    if job is None:
        return refuse(400, NOT_FOUND)
    if job.status(time.monotonic()) in ("queued", "processing"):
        return json_reply({"status": "redacted_audio_processing"}, 202)
    if job.error or job.deleted or not job.request.get("redact_pii_audio"):
        return refuse(400, "The redacted audio for this transcript is not available")
    url = f"{call.state.settings.upload_prefix}redacted/{job.id}.mp3"
    return json_reply({"status": "redacted_audio_ready", "redacted_audio_url": url})


ROUTES: Final = (
    Route("GET", "/v2/transcript/{id}/srt", Product.TRANSCRIPTS, _finished(_srt)),
    Route("GET", "/v2/transcript/{id}/vtt", Product.TRANSCRIPTS, _finished(_vtt)),
    Route(
        "GET", "/v2/transcript/{id}/sentences", Product.TRANSCRIPTS, _finished(_pieces("sentences", _SENTENCE_WORDS))
    ),
    Route(
        "GET", "/v2/transcript/{id}/paragraphs", Product.TRANSCRIPTS, _finished(_pieces("paragraphs", _PARAGRAPH_WORDS))
    ),
    Route("GET", "/v2/transcript/{id}/word-search", Product.TRANSCRIPTS, _finished(_word_search)),
    Route("GET", "/v2/transcript/{id}/redacted-audio", Product.TRANSCRIPTS, _redacted_audio),
)
