"""How the admin API, and that of customers, say no: problem details for HTTP (RFC 9457).

Owns: the status and title of each code, the shape of the body.
Does not know: the products' dialects (those are for customers).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.core.errors import Code, LedgerUnavailable
from gateway.edge.operations.bodies import Invalid
from gateway.edge.operations.problems import code_of
from gateway.ports import PaymentUnknown


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem. Its type is `urn:gateway:problem:` and the code."""

    status: int
    title: str


PROBLEMS: Final[Mapping[str, Kind]] = {
    "invalid_json": Kind(400, "The body is not JSON"),
    "invalid_idempotency_key": Kind(400, "The Idempotency-Key cannot be used"),
    "unauthorized": Kind(401, "The token is missing or wrong"),
    "admin_disabled": Kind(403, "The admin API is off"),
    "insufficient_scope": Kind(403, "The admin token is not for this"),
    "unknown_route": Kind(404, "There is nothing here"),
    "unknown_account": Kind(404, "There is no such account"),
    "unknown_key": Kind(404, "The account has no such key"),
    "unknown_job": Kind(404, "The account has no such job"),
    "unknown_delivery": Kind(404, "The account has no such delivery"),
    "unknown_alert": Kind(404, "The account has no such alert"),
    "method_not_allowed": Kind(405, "Not with this method"),
    "operation_conflict": Kind(409, "The Idempotency-Key was used for something else"),
    "body_too_large": Kind(413, "The body is too large"),
    "invalid_request": Kind(422, "The request has problems"),
    "ledger_refused": Kind(422, "The ledger refuses this"),
    "payment_refused": Kind(422, "The payment cannot be made"),
    "too_many_tests": Kind(429, "Alerts were tested often enough"),
    "too_many_unknown_keys": Kind(429, "Too many unknown keys or tokens came from this address"),
    "internal": Kind(500, "Something went wrong here"),
    "ledger_unavailable": Kind(503, "The ledger does not answer"),
    "provider_unavailable": Kind(503, "The provider of payments does not answer"),
}
#: What customers alone are told.
CUSTOMERS: Final[Mapping[str, Kind]] = {
    "key_disabled": Kind(403, "The API key is disabled or has expired"),
    "not_with_this_key": Kind(403, "The API key is not for this"),
    "rate_limited": Kind(429, "Too many requests with this key"),
}
#: What services are told that hold credit.
HOLDERS: Final[Mapping[str, Kind]] = {
    "unknown_hold": Kind(404, "There is no such hold"),
    "hold_ended": Kind(409, "The hold has ended"),
}
KINDS: Final[Mapping[str, Kind]] = {**PROBLEMS, **CUSTOMERS, **HOLDERS}

#: The JSON schema of every problem.
SHAPE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"enum": list(dict.fromkeys([*KINDS, *map(str, Code)]))},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemReply:
    """One problem, told. `errors` has every single thing that is wrong, `headers` what HTTP wants beside it.

    `refusal`: not the request has it, but the call that it is about, whose code this is.
    """

    code: str
    detail: str
    errors: tuple[Mapping[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    refusal: Kind | None = None

    def response(self) -> web.Response:
        """The problem as an HTTP answer."""
        kind = self.refusal or KINDS[self.code]
        body: dict[str, Any] = {
            "type": f"urn:gateway:{'refusal' if self.refusal else 'problem'}:{self.code}",
            "title": kind.title,
            "status": kind.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        headers = {"Cache-Control": "no-store", "X-Gateway-Error": self.code, **self.headers}
        return web.Response(
            status=kind.status, body=orjson.dumps(body), content_type="application/problem+json", headers=headers
        )


def later(code: str, detail: str, seconds: int) -> ProblemReply:
    """What may be asked again after so many seconds."""
    return ProblemReply(code=code, detail=f"{detail} Retry later.", headers={"Retry-After": str(seconds)})


def too_many_guesses(seconds: int) -> ProblemReply:
    """Whoever shows many tokens that nobody has is told to wait."""
    return later("too_many_unknown_keys", "Tokens that nobody has came from your address.", seconds)


INTERNAL: Final = ProblemReply(code="internal", detail="The request was not done. The log says more.")


def problem_of(error: Exception) -> ProblemReply:
    """How a fault is told. What is not expected here says nothing of the inside."""
    code, detail = code_of(error), str(error)
    match error:
        case Invalid():
            errors = tuple({"pointer": problem.pointer, "detail": problem.detail} for problem in error.problems)
            return ProblemReply(code=code, detail=detail, errors=errors)
        case LedgerUnavailable() | PaymentUnknown():
            told = "Nothing is known of the outcome. Repeat the request with the same Idempotency-Key."
            return ProblemReply(code=code, detail=told, headers={"Retry-After": str(error.retry_after_seconds or 1)})
    return INTERNAL if code == INTERNAL.code else ProblemReply(code=code, detail=detail)


def problem_of_http(error: web.HTTPException) -> ProblemReply:
    """How aiohttp's own refusals (routes, methods, sizes) are told."""
    match error:
        case web.HTTPMethodNotAllowed():
            allow = ", ".join(sorted(error.allowed_methods))
            detail = f"{error.method} is not for this resource. It takes {allow}."
            return ProblemReply(code="method_not_allowed", detail=detail, headers={"Allow": allow})
        case web.HTTPNotFound():
            return ProblemReply(code="unknown_route", detail="The API has no such resource.")
        case web.HTTPRequestEntityTooLarge():
            return ProblemReply(code="body_too_large", detail="A body has at most 65536 bytes.")
    return INTERNAL


def telling_problems(note: Callable[[Exception], None]) -> Any:
    """The middleware that answers every refusal and fault of an API as a problem; `note` logs what nobody expected."""

    @web.middleware
    async def telling(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            problem = problem_of_http(error)
        except Exception as error:  # noqa: BLE001 - a problem told is better than a page of another format
            problem = problem_of(error)
            if problem.code == "internal":
                note(error)
        return problem.response()

    return telling
