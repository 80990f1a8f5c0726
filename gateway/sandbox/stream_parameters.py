"""The query parameters of a streaming session.

Owns: which are checked and how, how much audio a chunk is, and the configuration that Begin echoes.
Does not know: sessions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

MODEL_DEFAULT: Final = "universal-streaming-english"
MODELS: Final = (
    "universal-streaming-english",
    "universal-streaming-multilingual",
    "u3-rt-pro",
    "u3-rt-pro-beta-1",
    "u3-pro",
    "whisper-rt",
    "universal-3-5-pro",
    "universal-3-6",
    "universal-3-6-pro",
)
#: Bytes of one sample; None for compressed audio, whose length is not known from its size.
_SAMPLE_BYTES: Final[dict[str, int | None]] = {
    "pcm_s16le": 2,
    "pcm_mulaw": 1,
    "opus": None,
    "ogg_opus": None,
    "aac": None,
}


class InvalidParameter(ValueError):
    """A parameter that is missing or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a session was opened with."""

    speech_model: str
    encoding: str
    sample_rate: int | None
    format_turns: bool
    inactivity_timeout: int | None
    llm_gateway: dict[str, Any] | None
    given: Mapping[str, str]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Parameters":
        """The parameters, or InvalidParameter."""
        encoding = query.get("encoding", "pcm_s16le")
        if encoding not in _SAMPLE_BYTES:
            raise InvalidParameter(f"encoding {encoding} is not supported")
        model = query.get("speech_model", MODEL_DEFAULT)
        if model not in MODELS:
            raise InvalidParameter(f"speech_model {model} is not supported")
        rate = _whole(query, "sample_rate", 8000, 48000)
        if rate is None and _SAMPLE_BYTES[encoding] is not None:
            raise InvalidParameter("sample_rate is required")
        _json(query, "keyterms_prompt", list)
        return cls(
            speech_model=model,
            encoding=encoding,
            sample_rate=rate,
            format_turns=_flag(query, "format_turns"),
            inactivity_timeout=_whole(query, "inactivity_timeout", 5, 3600),
            llm_gateway=_json(query, "llm_gateway", dict),
            given=dict(query),
        )

    @property
    def announces_speech(self) -> bool:
        """Whether this model sends SpeechStarted."""
        return self.speech_model.startswith(("u3", "universal-3"))

    def seconds(self, chunk: bytes) -> float | None:
        """The length of a chunk, where its encoding tells."""
        sample_bytes = _SAMPLE_BYTES[self.encoding]
        if sample_bytes is None or self.sample_rate is None:
            return None
        return len(chunk) / (sample_bytes * self.sample_rate)

    def configuration(self, api_version: str | None) -> dict[str, Any]:
        """What Begin says of the session."""
        return {
            "model": self.speech_model,
            "mode": self.given.get("mode"),
            "api_version": api_version or "2025-05-12",
            "speaker_labels": _flag(self.given, "speaker_labels"),
            "redact_pii": _flag(self.given, "redact_pii"),
            "filter_profanity": _flag(self.given, "filter_profanity"),
            "domain": self.given.get("domain"),
            "voice_focus": self.given.get("voice_focus"),
        }


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def _whole(query: Mapping[str, str], name: str, minimum: int, maximum: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9 or not minimum <= int(text) <= maximum:
        raise InvalidParameter(f"{name} must be a number from {minimum} to {maximum}")
    return int(text)


def _json(query: Mapping[str, str], name: str, kind: type) -> Any:
    text = query.get(name)
    if text is None:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidParameter(f"{name} must be JSON") from None
    if not isinstance(value, kind):
        raise InvalidParameter(f"{name} must be a JSON {kind.__name__}")
    return value
