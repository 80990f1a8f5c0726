"""Transcription jobs: a job's life as a function of time, and the object that reports it.

Owns: `Job`, the words it "hears", the transcript object with every request flag echoed, and the results of add-ons.
A job needs no task: its status follows from its age.
Does not know: HTTP.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from gateway.sandbox.audio import Audio
from gateway.sandbox.knobs import adjusted

WORDS_MAX: Final = 200
WORDS_PER_SECOND: Final = 2.5
#: A job is queued for this share of its time, and then processing.
QUEUED_SHARE: Final = 0.25
DEFAULT_MODELS: Final = ("universal-3-5-pro", "universal-2")
PROJECT_ID: Final = 424242
TOKEN_ID: Final = 171717
DELETED_URL: Final = "http://deleted_by_user"
DELETED_TEXT: Final = "Deleted by user."
_UTTERANCE_WORDS: Final = 10
_CONFIDENCE: Final = 0.97


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_VOCABULARY: Final = _names(
    "the gateway keeps the books while every call passes through it and nobody pays for what did not run"
)

_OFF: Final = _names(
    "audio_end_at auto_chapters auto_highlights content_safety disfluencies entity_detection filter_profanity "
    "iab_categories language_detection multichannel redact_pii redact_pii_audio sentiment_analysis speaker_labels "
    "summarization"
)
_UNSET: Final = _names(
    "audio_start_from custom_spelling domain keyterms_prompt language_confidence_threshold prompt "
    "redact_pii_policies redact_pii_sub speakers_expected speech_threshold speech_understanding summary_model "
    "summary_type webhook_auth_header_name webhook_url"
)
_RESULTS: Final = _names(
    "text words utterances confidence audio_duration auto_highlights_result chapters content_safety_labels entities "
    "iab_categories_result sentiment_analysis_results summary speech_model_used error"
)
_ECHO_DEFAULTS: Final[dict[str, Any]] = {
    **dict.fromkeys(_RESULTS),
    **dict.fromkeys(_UNSET),
    **dict.fromkeys(_OFF, False),
    "audio_end_at": None,
    "format_text": True,
    "punctuate": True,
    "language_code": "en_us",
}


@dataclass(slots=True, kw_only=True)
class Job:
    """One transcription: what was asked, when, of which audio, and how it is to end."""

    id: str
    number: int
    request: dict[str, Any]
    audio: Audio
    created: datetime
    born: float
    seconds: float
    error: str | None
    model_used: str
    usage: Any
    deleted: bool = False
    webhook_status: int | None = None

    def status(self, now: float) -> str:
        """Queued, processing, completed or error, at this time of the monotonic clock."""
        age = now - self.born
        if age >= self.seconds:
            return "completed" if self.error is None else "error"
        return "queued" if age < self.seconds * QUEUED_SHARE else "processing"

    @property
    def audio_url(self) -> str:
        """Where the audio came from, until it is deleted."""
        return DELETED_URL if self.deleted else str(self.request["audio_url"])

    @property
    def audio_duration(self) -> int:
        """Whole seconds, rounded up."""
        return math.ceil(self.audio.seconds)

    @property
    def text(self) -> str:
        """What was heard."""
        return DELETED_TEXT if self.deleted else " ".join(word["text"] for word in words_of(self))

    def item(self, now: float, origin: str) -> dict[str, Any]:
        """This job in a list."""
        status = self.status(now)
        ended = self.created + timedelta(seconds=self.seconds)
        return {
            "id": self.id,
            "resource_url": f"{origin}/v2/transcript/{self.id}",
            "status": status,
            "created": self.created.isoformat(),
            "completed": ended.isoformat() if status in ("completed", "error") else None,
            "audio_url": self.audio_url,
            "error": self.error if status == "error" else None,
        }

    def object(self, now: float) -> dict[str, Any]:
        """The transcript object: every flag of the request, and the results when there are any."""
        status = self.status(now)
        body: dict[str, Any] = {
            "id": self.id,
            **_ECHO_DEFAULTS,
            **self.request,
            "speech_models": self.request.get("speech_models") or list(DEFAULT_MODELS),
            "audio_url": self.audio_url,
            "status": status,
            "throttled": False,
            "webhook_auth": "webhook_auth_header_name" in self.request,
            "webhook_status_code": self.webhook_status,
            "project_id": PROJECT_ID,
            "token_id": TOKEN_ID,
        }
        body.pop("webhook_auth_header_value", None)
        if status == "error":
            body["error"] = self.error
        elif status == "completed":
            self._complete(body)
        return body

    def _complete(self, body: dict[str, Any]) -> None:
        reported: dict[str, Any] = {"audio_duration": self.audio_duration}
        if self.request.get("multichannel"):
            reported["audio_channels"] = self.audio.channels
        body.update(adjusted(reported, self.usage))
        body.update(speech_model_used=self.model_used, text=self.text, confidence=_CONFIDENCE)
        body["metadata"] = {"domain_used": self.request.get("domain"), "warnings": None}
        if self.deleted:
            return
        body["words"] = words_of(self)
        if self.request.get("speaker_labels") or self.request.get("multichannel"):
            body["utterances"] = utterances_of(self)
        body.update(_results(self.request, body))


def most_at_once(jobs: Iterable[Job]) -> int:
    """How many of the jobs were not over at the same moment, at most; those that have their time still to come too."""
    moments = sorted(moment for job in jobs for moment in ((job.born, 1), (job.born + job.seconds, -1)))
    running = most = 0
    for _, change in moments:  # of one moment, what ends comes first
        running += change
        most = max(most, running)
    return most


def words_of(job: Job) -> list[dict[str, Any]]:
    """The words, evenly spread over the audio; with speakers or channels they take turns."""
    speakers = "AB" if job.request.get("speaker_labels") else None
    channels = job.audio.channels if job.request.get("multichannel") else 0
    return _words(job.audio.seconds, speakers, channels)


@lru_cache(maxsize=256)
def _words(seconds: float, speakers: str | None, channels: int) -> list[dict[str, Any]]:
    count = min(WORDS_MAX, max(1, int(seconds * WORDS_PER_SECOND)))
    step = seconds * 1000 / count
    words: list[dict[str, Any]] = []
    for number in range(count):
        turn = number // _UTTERANCE_WORDS
        word: dict[str, Any] = {
            "text": _VOCABULARY[number % len(_VOCABULARY)],
            "start": int(number * step),
            "end": int((number + 0.9) * step),
            "confidence": _CONFIDENCE,
            "speaker": speakers[turn % len(speakers)] if speakers else None,
        }
        if channels:
            word["channel"] = str(turn % channels + 1)
        words.append(word)
    return words


def utterances_of(job: Job) -> list[dict[str, Any]]:
    """The words in turns of speech."""
    words = words_of(job)
    turns = [words[start : start + _UTTERANCE_WORDS] for start in range(0, len(words), _UTTERANCE_WORDS)]
    return [spoken(turn) for turn in turns]


def spoken(words: list[dict[str, Any]]) -> dict[str, Any]:
    """A stretch of words as one piece of speech."""
    first = words[0]
    piece = {
        "text": " ".join(word["text"] for word in words),
        "start": first["start"],
        "end": words[-1]["end"],
        "confidence": _CONFIDENCE,
        "speaker": first["speaker"],
        "words": words,
    }
    if "channel" in first:
        piece["channel"] = first["channel"]
    return piece


def _results(request: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """What each add-on that was asked for found."""
    first = body["words"][0]
    span = {"start": first["start"], "end": first["end"]}
    spread = {"status": "success", "results": [], "summary": {}}
    found: dict[str, tuple[str, Any]] = {
        "entity_detection": ("entities", [{"entity_type": "occupation", "text": first["text"], **span}]),
        "sentiment_analysis": ("sentiment_analysis_results", [{**first, "sentiment": "NEUTRAL"}]),
        "auto_chapters": (
            "chapters",
            [{"gist": "Books", "headline": "Keeping the books", "summary": "The books are kept.", **span}],
        ),
        "auto_highlights": (
            "auto_highlights_result",
            {
                "status": "success",
                "results": [{"count": 1, "rank": 0.1, "text": first["text"], "timestamps": [span]}],
            },
        ),
        "iab_categories": ("iab_categories_result", spread),
        "content_safety": ("content_safety_labels", {**spread, "severity_score_summary": {}}),
        "summarization": ("summary", "- The books are kept."),
    }
    results = {name: value for flag, (name, value) in found.items() if request.get(flag)}
    understanding = request.get("speech_understanding")
    if isinstance(understanding, dict) and isinstance(understanding.get("request"), dict):
        asked = understanding["request"]
        results["speech_understanding"] = {"request": asked, "response": understood(asked)}
    return results


def understood(asked: dict[str, Any]) -> dict[str, Any]:
    """The response part of speech understanding, for each task asked for; one that is null is not."""
    response: dict[str, Any] = {}
    for task, options in asked.items():
        if options is None:
            continue
        response[task] = {"status": "success"}
        if task == "speaker_identification" and isinstance(options, dict):
            names = options.get("known_values") or ["Speaker A", "Speaker B"]
            response[task]["mapping"] = dict(zip("ABCDEFGH", map(str, names), strict=False))
        elif task == "summarization":
            kind = options.get("summary_type", "bullets") if isinstance(options, dict) else "bullets"
            said = {"bullets": ["The books are kept."]} if kind == "bullets" else {"text": "The books are kept."}
            response[task] |= {
                "summary": [{"start": 0, "end": 1000, "headline": "Keeping the books", **said}],
                "block_summary": "The books are kept.",
                "summary_type": kind,
            }
    return response
