"""The settings and the knobs of the sandbox.

Owns: every adjustable behaviour, its default, its check and its one-line meaning. `SandboxSettings` is what a sandbox
is started with; its `Knobs` part can be changed while it runs (`PUT /sandbox/knobs`), and for one request by a header
`X-Sandbox-<Knob>`, whose value is JSON or plain text.
Does not know: what a knob does; that is with the code that reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

import orjson

Parse = Callable[[Any], Any]
Delivery = Literal["auto", "content-length", "chunked", "gzip", "slow", "truncated", "no_reply", "hang"]

DELIVERIES: Final = ("auto", "content-length", "chunked", "gzip", "slow", "truncated", "no_reply", "hang")
HEADER_PREFIX: Final = "x-sandbox-"
_HEADER_PREFIX_BYTES: Final = HEADER_PREFIX.encode()


class KnobError(ValueError):
    """A knob that does not exist, or a value that it cannot take."""


def _number(minimum: float, maximum: float) -> Parse:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
            raise KnobError(f"must be a number from {minimum} to {maximum}")
        return float(value)

    return parse


def _integer(minimum: int, maximum: int, *besides: int) -> Parse:
    def parse(value: Any) -> int:
        if type(value) is not int or not (minimum <= value <= maximum or value in besides):
            raise KnobError(f"must be a whole number from {minimum} to {maximum}")
        return value

    return parse


def _choice(*names: str) -> Parse:
    def parse(value: Any) -> str:
        if value not in names:
            raise KnobError(f"must be one of {', '.join(names)}")
        return str(value)

    return parse


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\r" in value or "\n" in value:
        raise KnobError("must be one line of text")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise KnobError("must be true or false")
    return value


def _lines(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise KnobError("must be an object of names and texts")
    return {_text(name): _text(str(text)) for name, text in value.items()}


def _usage(value: Any) -> str | dict[str, Any]:
    if value in ("normal", "missing", "zero"):
        return str(value)
    if isinstance(value, dict):
        return value
    raise KnobError("must be normal, missing, zero or an object")


def _anything(value: Any) -> Any:
    return value


def _knob(parse: Parse, meaning: str) -> dict[str, Any]:
    """What a field of `Knobs` knows of itself besides its default."""
    return {"parse": parse, "meaning": meaning}


_SECONDS: Final = _number(0, 86_400)
_TOKENS: Final = _integer(0, 10**15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What can be changed at run time. `null` gives a knob its default back."""

    latency_seconds: float = field(
        default=0.0, metadata=_knob(_SECONDS, "wait before answering; for sockets, before the first frame")
    )
    fail_rate: float = field(
        default=0.0, metadata=_knob(_number(0, 1), "share of the requests answered with fail_status, evenly spread")
    )
    fail_status: int = field(
        default=500, metadata=_knob(_integer(400, 599), "status of the requests failed by fail_rate")
    )
    status: int | None = field(
        default=None,
        metadata=_knob(
            _integer(200, 599), "status forced: 204, 304 and errors replace the reply, others only its status"
        ),
    )
    status_body: Any = field(
        default=None, metadata=_knob(_anything, "body of a forced error: text as it is, anything else as JSON")
    )
    redirect: str | None = field(default=None, metadata=_knob(_text, "Location to redirect to, with status or 307"))
    early_hints: int = field(default=0, metadata=_knob(_integer(0, 100), "number of 103 responses before the answer"))
    set_cookie: str | None = field(default=None, metadata=_knob(_text, "value of a Set-Cookie header"))
    headers: Mapping[str, str] | None = field(default=None, metadata=_knob(_lines, "additional response headers"))
    trailers: Mapping[str, str] | None = field(
        default=None, metadata=_knob(_lines, "trailer fields after a chunked body")
    )
    body: Delivery = field(default="auto", metadata=_knob(_choice(*DELIVERIES), "how the body is delivered"))
    body_bytes: int = field(
        default=0, metadata=_knob(_integer(0, 2**30), "pad the body by so many bytes, keeping it well-formed")
    )
    chunk_bytes: int = field(default=16, metadata=_knob(_integer(1, 2**24), "size of the pieces of a slow body"))
    chunk_seconds: float = field(default=0.05, metadata=_knob(_SECONDS, "pause between the pieces of a slow body"))
    event_seconds: float = field(default=0.0, metadata=_knob(_SECONDS, "pause between streamed events"))
    event_lines: str = field(
        default="lf", metadata=_knob(_choice("lf", "crlf", "cr"), "how the lines of streamed events end")
    )
    event_comments: bool = field(default=False, metadata=_knob(_flag, "a comment before each streamed event"))
    event_error: int | None = field(
        default=None, metadata=_knob(_integer(0, 10_000), "an LLM stream ends with an error after so many events")
    )
    events_max: int | None = field(
        default=None, metadata=_knob(_integer(0, 10_000), "drop the line after so many streamed events")
    )
    running_usage: bool = field(default=False, metadata=_knob(_flag, "every LLM chunk reports the usage so far"))
    usage: str | Mapping[str, Any] = field(
        default="normal",
        metadata=_knob(
            _usage, "reported usage: normal, missing, zero, or an object (the LLM's usage; else merged fields)"
        ),
    )
    model_used: str | None = field(default=None, metadata=_knob(_text, "model that answers, whichever was asked for"))
    primary_fails: bool = field(
        default=False, metadata=_knob(_flag, "the asked LLM model fails: the first fallback answers, or 503")
    )
    input_tokens: int | None = field(default=None, metadata=_knob(_TOKENS, "reported input tokens"))
    output_tokens: int | None = field(default=None, metadata=_knob(_TOKENS, "reported output tokens"))
    cached_tokens: int = field(default=0, metadata=_knob(_TOKENS, "input tokens read from a cache"))
    cache_write_tokens: int = field(default=0, metadata=_knob(_TOKENS, "input tokens written to a cache"))
    reasoning_tokens: int = field(default=0, metadata=_knob(_TOKENS, "output tokens spent on reasoning"))
    job_seconds: float = field(default=0.2, metadata=_knob(_SECONDS, "from a transcript's submission to its end"))
    job_status: str = field(default="completed", metadata=_knob(_choice("completed", "error"), "how jobs end"))
    job_error: str = field(
        default="Internal Server Error", metadata=_knob(_text, "error text of jobs that job_status ends in error")
    )
    webhook_delay_seconds: float = field(
        default=0.0, metadata=_knob(_SECONDS, "from a transcript's end to its webhook")
    )
    webhook_copies: int = field(
        default=1, metadata=_knob(_integer(0, 100), "how often each webhook is sent; 0: the service forgets it")
    )
    webhook_reversed: bool = field(
        default=False, metadata=_knob(_flag, "a transcript's webhooks come in the other order")
    )
    webhook_retry_seconds: float = field(
        default=1.0, metadata=_knob(_SECONDS, "from a webhook that was not taken to its next attempt; there are 10")
    )
    session_rate: float = field(
        default=1.0, metadata=_knob(_number(0.001, 10**6), "seconds of a session that pass in one real second")
    )
    turn_seconds: float = field(default=1.0, metadata=_knob(_number(0.05, 3600), "audio seconds of one spoken turn"))
    audio_rate_max: float = field(
        default=0.0, metadata=_knob(_number(0, 10**6), "audio seconds allowed per session second; 0 is no limit")
    )
    close_code: int | None = field(
        default=None,
        metadata=_knob(
            _integer(3000, 4999, 1000, 1001, 1006, 1008, 1011, 1013), "end sessions with it; 1006 drops the line"
        ),
    )
    close_after_seconds: float = field(
        default=0.0, metadata=_knob(_SECONDS, "real seconds from a session's begin to close_code")
    )
    resume_seconds: float = field(
        default=30.0, metadata=_knob(_SECONDS, "session seconds in which a vanished voice agent client may resume")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings(Knobs):
    """What a sandbox is started with: the defaults of the knobs, and what stays as it is while it runs."""

    credential: str = "sandbox-service-key"
    upload_prefix: str = "https://cdn.sandbox.invalid/upload/"
    upload_bytes_max: int = 2_200_000_000
    body_bytes_max: int = 64 * 2**20
    frame_bytes_max: int = 4 * 2**20
    requests_kept: int = 1_000
    transcripts_kept: int = 100_000
    uploads_kept: int = 100_000
    tokens_kept: int = 10_000
    sessions_kept: int = 10_000
    agents_kept: int = 1_000
    webhooks_pending_max: int = 1_000
    webhook_seconds_max: float = 10.0

    def knobs(self) -> Knobs:
        """The knobs' part of these settings."""
        return Knobs(**{name: getattr(self, name) for name in KNOBS})


KNOBS: Final[Mapping[str, Parse]] = {each.name: each.metadata["parse"] for each in fields(Knobs)}


def describe(knobs: Knobs) -> dict[str, dict[str, Any]]:
    """Each knob with its value and its meaning, for people."""
    return {
        each.name: {"value": getattr(knobs, each.name), "meaning": each.metadata["meaning"]} for each in fields(Knobs)
    }


def merged(knobs: Knobs, changes: Mapping[str, Any], defaults: Knobs) -> Knobs:
    """The knobs with the changes made; null means the default."""
    checked: dict[str, Any] = {}
    for name, value in changes.items():
        parse = KNOBS.get(name)
        if parse is None:
            raise KnobError(f"unknown knob {name!r}")
        try:
            checked[name] = getattr(defaults, name) if value is None else parse(value)
        except KnobError as error:
            raise KnobError(f"knob {name!r} {error}") from None
    return replace(knobs, **checked)


def of_request(knobs: Knobs, raw_headers: tuple[tuple[bytes, bytes], ...], defaults: Knobs) -> Knobs:
    """The knobs as one request's `X-Sandbox-*` headers change them."""
    changes: dict[str, Any] = {}
    for raw_name, raw_value in raw_headers:
        name = raw_name.lower()
        if name.startswith(_HEADER_PREFIX_BYTES):
            text = raw_value.decode("utf-8", "surrogateescape")
            try:
                value = orjson.loads(raw_value)
            except orjson.JSONDecodeError:
                value = text
            changes[name.decode()[len(HEADER_PREFIX) :].replace("-", "_")] = value
    return merged(knobs, changes, defaults) if changes else knobs


def adjusted(reported: Mapping[str, Any], usage: str | Mapping[str, Any]) -> dict[str, Any]:
    """Reported quantities as the usage knob wants them."""
    if usage == "missing":
        return {}
    if usage == "zero":
        return dict.fromkeys(reported, 0)
    if isinstance(usage, Mapping):
        return {**reported, **{name: usage[name] for name in reported if name in usage}}
    return dict(reported)
