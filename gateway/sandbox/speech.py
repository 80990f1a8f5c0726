"""Text-to-speech: /v1/speech.

Owns: the validation of a speech request, silence of a plausible length, and the `X-TTS-*` headers, of which
`X-TTS-Billed-Characters` is what is charged.
Does not know: delivery.
"""

import re
from typing import Any, Final

from gateway.sandbox.audio import silence, wav_header
from gateway.sandbox.errors import Product, refusal, request_id
from gateway.sandbox.knobs import adjusted
from gateway.sandbox.replies import Reply
from gateway.sandbox.routes import Call, Route

TEXT_CHARACTERS_MAX: Final = 10_000
SECONDS_PER_CHARACTER: Final = 0.04
VOICE_DEFAULT: Final = "aai-jane"
MODEL: Final = "assemblyai-tts-1"
_SAMPLE_RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)
_ENCODINGS: Final = {"pcm_s16le": 2, "pcm_mulaw": 1, "mulaw": 1, "pcm_alaw": 1, "alaw": 1}
_PIECE_BYTES: Final = 9600
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def speak(call: Call) -> Reply:
    """Speak a text."""
    body = call.json_object()
    if body is None:
        return _refuse("the body must be a JSON object", None)
    text, encoding = body.get("text"), body.get("encoding") or "pcm_s16le"
    sample_rate, container = body.get("sample_rate") or 24000, body.get("container") or "raw"
    if not isinstance(text, str) or not text:
        return _refuse("text is required", "text")
    if len(text) > TEXT_CHARACTERS_MAX:
        return _refuse(f"text must have at most {TEXT_CHARACTERS_MAX} characters", "text")
    if sample_rate not in _SAMPLE_RATES:
        return _refuse("sample_rate is not supported", "sample_rate")
    if not isinstance(encoding, str) or encoding not in _ENCODINGS or container not in ("raw", "wav"):
        return _refuse("encoding is not supported", "encoding")
    for name in ("voice", "voice_id", "model_id"):
        if body.get(name) is not None and not (isinstance(body[name], str) and _NAME.fullmatch(body[name])):
            return _refuse(f"{name} is not known", name)
    call.state.counts["speech_calls"] += 1
    seconds = len(text) * SECONDS_PER_CHARACTER
    sound = silence(seconds, sample_rate, sample_bytes=_ENCODINGS[encoding])
    if container == "wav":
        sound = wav_header(len(sound), sample_rate) + sound
    streamed = bool(body.get("stream"))
    parts = tuple(sound[at : at + _PIECE_BYTES] for at in range(0, len(sound), _PIECE_BYTES)) if streamed else (sound,)
    return Reply(
        200,
        parts,
        "audio/wav" if container == "wav" else f"audio/pcm;rate={sample_rate};channels=1",
        _headers(call, body, {"X-TTS-Encoding": encoding, "X-TTS-Sample-Rate": sample_rate}, seconds),
        streamed=streamed,
    )


def _headers(call: Call, body: dict[str, Any], sound: dict[str, Any], seconds: float) -> dict[str, str]:
    reported = adjusted({"billed_characters": len(body["text"])}, call.knobs.usage)
    headers = {
        "X-Request-Id": request_id(),
        "X-TTS-Region": "sandbox",
        "X-TTS-Model": call.knobs.model_used or body.get("model_id") or MODEL,
        "X-TTS-Voice-Id": body.get("voice_id") or body.get("voice") or VOICE_DEFAULT,
        "X-TTS-Container": str(body.get("container") or "raw"),
        **{name: str(value) for name, value in sound.items()},
    }
    if reported.get("billed_characters") is not None:
        headers["X-TTS-Billed-Characters"] = str(reported["billed_characters"])
    if not body.get("stream"):
        headers["X-TTS-Audio-Duration-Ms"] = str(round(seconds * 1000))
    return headers


def _refuse(message: str, param: str | None) -> Reply:
    return refusal(Product.SPEECH, 400, message, param=param)


ROUTES: Final = (Route("POST", "/v1/speech", Product.SPEECH, speak),)
