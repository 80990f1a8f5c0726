"""The dialects in which each product refuses.

Owns: one error body per product, and each product's answer to a missing or wrong credential.
Does not know: when to refuse.
"""

import time
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from gateway.sandbox.replies import Reply, json_reply

BAD_KEY: Final = "Authentication error, API token missing/invalid"
NO_LLM_ACCESS: Final = (
    "Your account does not have access to LLM Gateway. Please upgrade or contact us at "
    "support@assemblyai.com for more information."
)
_TTS_CODES: Final = {400: "invalid_parameter", 401: "unauthorized", 429: "rate_limited", 503: "at_capacity"}


class Product(StrEnum):
    """Whose dialect a route speaks."""

    TRANSCRIPTS = "transcripts"
    LLM = "llm"
    STREAMING = "streaming"
    AGENTS = "agents"
    SPEECH = "speech"


def request_id() -> str:
    """An identifier for one answer."""
    return str(uuid4())


def epoch_seconds() -> int:
    """Now, in whole seconds."""
    return int(time.time())


def refusal(product: Product, status: int, message: str, *errors: str, param: str | None = None) -> Reply:
    """An error in the product's dialect."""
    body: dict[str, Any]
    match product:
        case Product.LLM:
            body = {
                "code": status,
                "message": message,
                "request_id": request_id(),
                "metadata": {"errors": list(errors)},
            }
        case Product.AGENTS:
            body = {"detail": message}
        case Product.SPEECH:
            body = {
                "code": _TTS_CODES.get(status, "internal_error" if status >= 500 else "invalid_request"),
                "message": message,
                "param": param,
                "request_id": request_id(),
                "errors": [{"message": message, "param": param}],
                "retryable": status in (429, 503),
                "retry_after_seconds": 1 if status in (429, 503) else None,
            }
        case Product.STREAMING:
            body = {"error": message, "code": status}
        case _:
            body = {"error": message}
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return json_reply(body, status, headers)


def unauthorized(product: Product, *, missing: bool) -> Reply:
    """The product's answer to a request without a credential, or with one that is not the service's."""
    match product:
        case Product.LLM:
            message = NO_LLM_ACCESS if missing else BAD_KEY
            return json_reply({"error": message, "status": "error", "request_id": request_id()}, 401)
        case Product.AGENTS if missing:
            return validation_error("header", "authorization", "Field required", kind="missing")
        case Product.AGENTS:
            return refusal(product, 404, "Invalid API key")
        case _:
            return refusal(product, 401, BAD_KEY)


def validation_error(place: str, name: str, message: str, *, kind: str = "value_error") -> Reply:
    """The voice agent API's 422."""
    return json_reply({"detail": [{"type": kind, "loc": [place, name], "msg": message, "input": None}]}, 422)
