"""The LLM gateway: chat completions and the list of models.

Owns: validation, deterministic usage, the answer as one object or as server-sent events, fallbacks.
Does not know: delivery (`replies`), or the catalogue (`llm_models`).

Usage follows from the request: input tokens are a quarter of the characters, output tokens the words of a fixed reply
as far as `max_tokens` reaches. Knobs change either, and so does the model's name: `gpt-5.2:in=100,out=50,cached=10`
is answered by gpt-5.2 with these quantities (`in`, `out`, `cached`, `written`, `reasoning`).
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from gateway.sandbox.errors import Product, epoch_seconds, refusal, request_id
from gateway.sandbox.jobs import Job
from gateway.sandbox.knobs import Knobs
from gateway.sandbox.llm_models import CANNOT_STREAM, CATALOGUE, KNOWN, USAGE_ON_EVERY_CHUNK
from gateway.sandbox.replies import Reply, json_reply
from gateway.sandbox.routes import Call, Route, event, event_stream

REPLY_WORDS: Final = ("This", "is", "a", "reply", "from", "the", "sandbox", "model.")
MAX_TOKENS_DEFAULT: Final = 1000
CHOICES_MAX: Final = 16
#: However many tokens are reported, no more words than this are sent.
WORDS_MAX: Final = 4096
TRANSCRIPT_TAG: Final = "{{ transcript }}"
_NAME_FIELDS: Final = ("in", "out", "cached", "written", "reasoning")
_DONE: Final = b"data: [DONE]\n\n"


class Refused(ValueError):
    """A request that the LLM gateway does not take, with the error texts it lists."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The quantities of one answer."""

    prompt: int
    completion: int
    cached: int = 0
    written: int = 0
    reasoning: int = 0


def chat_completions(call: Call) -> Reply:
    """Answer a conversation."""
    started = time.perf_counter_ns()
    body = call.json_object()
    if body is None:
        return _refuse("invalid request body", "body must be a JSON object")
    try:
        characters = _characters(body)
        model, fields = _model(body, call.knobs)
        max_tokens = _whole(body, "max_completion_tokens", _whole(body, "max_tokens", MAX_TOKENS_DEFAULT))
        choices = _whole(body, "n", 1)
        if choices > CHOICES_MAX:
            raise Refused(f"n must be at most {CHOICES_MAX}")
        if body.get("stream") and model in CANNOT_STREAM:
            raise Refused(f"stream is not supported by {model}")
    except Refused as error:
        return _refuse("invalid request body", str(error))
    if not model:
        return refusal(Product.LLM, 503, "the model is not available")
    if body.get("transcript_id") is not None:
        job = call.state.jobs.get(str(body["transcript_id"]))
        if job is None:
            return json_reply({"message": "transcript not found", "code": 404}, 404)
        characters += _injected(body, job)
    tokens = _tokens(characters, max_tokens, choices, fields, call.knobs)
    call.state.counts["llm_calls"] += 1
    if body.get("stream"):
        return _streamed(body, model, tokens, choices, call.knobs)

    words = min(tokens.completion // choices or 1, WORDS_MAX)
    answer: dict[str, Any] = {
        "request_id": request_id(),
        "model": model,
        "choices": _choices(words, choices, finish="length" if words >= max_tokens else "stop"),
        "request": {"model": body["model"], "max_tokens": max_tokens},
        "usage": _usage(tokens, call.knobs),
        "http_status_code": 200,
        "response_time": time.perf_counter_ns() - started,
        "llm_status_code": 200,
    }
    if answer["usage"] is None:
        del answer["usage"]
    return json_reply(answer)


def _refuse(message: str, *errors: str) -> Reply:
    return refusal(Product.LLM, 400, message, *errors)


def _characters(body: dict[str, Any]) -> int:
    """The length of what the model is given to read."""
    messages = body.get("messages")
    if messages is None and isinstance(body.get("prompt"), str):
        return len(body["prompt"])
    if not isinstance(messages, list) or not messages:
        raise Refused("messages must be a non-empty list")
    total = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            total += len(content)
        elif isinstance(content, list):
            total += sum(len(str(part.get("text", ""))) for part in content if isinstance(part, dict))
        elif not isinstance(message, dict) or "role" not in message:
            raise Refused("every message needs a role and content")
    return total


def _model(body: dict[str, Any], knobs: Knobs) -> tuple[str, dict[str, int]]:
    """Who answers, and the quantities that the model's name asks for; an empty name where nobody does."""
    asked = body.get("model")
    if not isinstance(asked, str) or not asked:
        raise Refused("model is required")
    model, fields = _parsed(asked)
    fallbacks = body.get("fallbacks") or []
    if not isinstance(fallbacks, list) or not all(isinstance(each, dict) for each in fallbacks):
        raise Refused("fallbacks must be a list of objects")
    if knobs.model_used is not None:
        return knobs.model_used, fields
    if knobs.primary_fails:
        names = [_parsed(str(each.get("model")))[0] for each in fallbacks]
        return (names[0] if names else ""), fields
    return model, fields


@lru_cache(maxsize=1024)
def _parsed(name: str) -> tuple[str, dict[str, int]]:
    base, _, extra = name.partition(":")
    if base not in KNOWN:
        raise Refused(f"model {base} is not supported")
    fields: dict[str, int] = {}
    for pair in filter(None, extra.split(",")):
        field, _, value = pair.partition("=")
        if field not in _NAME_FIELDS or not value.isdecimal() or len(value) > 15:
            raise Refused(f"model {name} is not supported")
        fields[field] = int(value)
    return base, fields


def _whole(body: dict[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or value < 1:
        raise Refused(f"{name} must be a positive whole number")
    return value


def _injected(body: dict[str, Any], job: Job) -> int:
    """Characters that the transcript adds where the tag stands."""
    text = "".join(str(message.get("content", "")) for message in body.get("messages") or ())
    return text.count(TRANSCRIPT_TAG) * (len(job.text) - len(TRANSCRIPT_TAG))


def _tokens(characters: int, max_tokens: int, choices: int, fields: dict[str, int], knobs: Knobs) -> Tokens:
    cached = fields.get("cached", knobs.cached_tokens)
    written = fields.get("written", knobs.cache_write_tokens)
    reasoning = fields.get("reasoning", knobs.reasoning_tokens)
    prompt = fields.get("in", knobs.input_tokens)
    completion = fields.get("out", knobs.output_tokens)
    if prompt is None:
        prompt = max(1, characters // 4, cached + written)
    if completion is None:
        completion = min(max_tokens, len(REPLY_WORDS)) * choices + reasoning
    return Tokens(prompt, completion, cached, written, reasoning)


@lru_cache(maxsize=256)
def _choices(words: int, count: int, *, finish: str) -> orjson.Fragment:
    """The choices, serialized once for each length."""
    text = " ".join(_words(words))
    message = {"role": "assistant", "content": text}
    return orjson.Fragment(
        orjson.dumps([{"index": index, "message": message, "finish_reason": finish} for index in range(count)])
    )


def _words(count: int) -> list[str]:
    return [REPLY_WORDS[number % len(REPLY_WORDS)] for number in range(count)]


def _usage(tokens: Tokens, knobs: Knobs) -> Any:
    """The usage object, in both naming schemes; None where it is to be missing."""
    if knobs.usage == "missing":
        return None
    if not isinstance(knobs.usage, str):
        return knobs.usage
    if knobs.usage == "zero":
        tokens = Tokens(0, 0)
    return {
        "input_tokens": tokens.prompt,
        "output_tokens": tokens.completion,
        **_totals(tokens),
        "prompt_tokens_details": {
            "cached_tokens": tokens.cached,
            "audio_tokens": 0,
            "cache_write_tokens": tokens.written,
            "cache_creation": {"ephemeral_5m_input_tokens": tokens.written, "ephemeral_1h_input_tokens": 0},
        },
        "completion_tokens_details": _reasoning(tokens),
    }


def _totals(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
    }


def _reasoning(tokens: Tokens) -> dict[str, int]:
    return {
        "reasoning_tokens": tokens.reasoning,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }


def _chunk_usage(tokens: Tokens, knobs: Knobs) -> Any:
    """The provider's own usage: one naming scheme, and details only where there is something to tell."""
    if not isinstance(knobs.usage, str):
        return knobs.usage
    if knobs.usage == "zero":
        return _totals(Tokens(0, 0))
    usage = _totals(tokens)
    if tokens.cached or tokens.written:
        usage["prompt_tokens_details"] = {
            "cached_tokens": tokens.cached,
            "cache_write_tokens": tokens.written,
            "audio_tokens": 0,
        }
    if tokens.reasoning:
        usage["completion_tokens_details"] = _reasoning(tokens)
    return usage


def _streamed(body: dict[str, Any], model: str, tokens: Tokens, choices: int, knobs: Knobs) -> Reply:
    options = body.get("stream_options")
    wanted = isinstance(options, dict) and options.get("include_usage") is True and knobs.usage != "missing"
    running = (model in USAGE_ON_EVERY_CHUNK or knobs.running_usage) and knobs.usage != "missing"
    head: dict[str, Any] = {
        "id": f"chatcmpl-{request_id()}",
        "object": "chat.completion.chunk",
        "created": epoch_seconds(),
        "model": USAGE_ON_EVERY_CHUNK.get(model, model),
    }
    words = _words(min(max(1, (tokens.completion - tokens.reasoning) // choices), WORDS_MAX))
    events: list[bytes] = []
    last = len(words) * choices
    for number in range(last):
        index, place = number % choices, number // choices
        delta = {"content": words[place] if place == 0 else f" {words[place]}"}
        if place == 0:
            delta["role"] = "assistant"
        finish = "stop" if place == len(words) - 1 else None
        chunk = {**head, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}
        if running:
            part = tokens if number == last - 1 else Tokens(tokens.prompt, tokens.completion * (number + 1) // last)
            chunk["usage"] = _chunk_usage(part, knobs)
        elif wanted:
            chunk["usage"] = None
        events.append(event(chunk))
    if wanted:
        events.append(event({**head, "choices": [], "usage": _chunk_usage(tokens, knobs)}))
    events.append(_DONE)
    if knobs.event_error is not None:
        error = {"error": {"message": "the model failed", "type": "server_error", "code": 500}}
        events = [*events[: knobs.event_error], event(error)]
    return event_stream(events)


def list_models(call: Call) -> Reply:  # noqa: ARG001 - a handler
    """The catalogue; no key is needed."""
    return Reply(200, (CATALOGUE,))


ROUTES: Final = (
    Route("POST", "/v1/chat/completions", Product.LLM, chat_completions),
    Route("GET", "/v1/models", Product.LLM, list_models, public=True),
)
