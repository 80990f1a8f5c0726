"""Every way in which the gateway says no, and the one small tree of its faults.

Owns: the refusal codes, their default status and sentence, the exceptions.
Does not know: how a product words them (settings) or how they are written to a client (edge).

Refusals are values (`Refused`), faults are exceptions, impossibilities are asserts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.core.record import record


class Code(StrEnum):
    """The value of `X-Gateway-Error`. The first seven are the guards, in their order."""

    UNAUTHORIZED = "unauthorized"
    KEY_DISABLED = "key_disabled"
    ACCOUNT_SUSPENDED = "account_suspended"
    NOT_ENTITLED = "not_entitled"
    INSUFFICIENT_CREDIT = "insufficient_credit"
    KEY_BUDGET_EXCEEDED = "key_budget_exceeded"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_CONCURRENT = "too_many_concurrent"
    NOT_FOUND = "not_found"
    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UPGRADE_REQUIRED = "upgrade_required"
    INVALID_REQUEST = "invalid_request"
    UNKNOWN_MODEL = "unknown_model"
    UNPRICED_FIELD = "unpriced_field"
    UNSUPPORTED = "unsupported"
    JOB_NOT_FINISHED = "job_not_finished"
    JOB_FAILED = "job_failed"
    BODY_TOO_LARGE = "body_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    TOO_MANY_UNKNOWN_KEYS = "too_many_unknown_keys"
    SESSION_EXPIRED = "session_expired"
    SESSION_IDLE = "session_idle"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    IDEMPOTENCY_ANSWER_NOT_KEPT = "idempotency_answer_not_kept"
    IDEMPOTENCY_KEYS_EXHAUSTED = "idempotency_keys_exhausted"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    OVERLOADED = "overloaded"
    RESTARTING = "restarting"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    ENDPOINT_UNAVAILABLE = "endpoint_unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a code means unless a product says otherwise: HTTP status and the sentence for people.

    `{name}` in the message is filled from the details of the refusal at hand; it has those of `also` beside them, for
    products that word it themselves. `otherwise`: how a detail reads that a refusal does not have.
    """

    status: int
    message: str
    also: tuple[str, ...] = ()
    otherwise: Mapping[str, str] = field(default_factory=dict)


NO_CREDIT: Final = "Your current account balance is negative. Please top up to continue using the API."

REFUSALS: Final[Mapping[Code, Refusal]] = {
    Code.UNAUTHORIZED: Refusal(
        status=401,
        message="Authentication error, API token missing/invalid",
        also=("problem",),
        otherwise={"problem": "Invalid API key"},
    ),
    Code.KEY_DISABLED: Refusal(status=403, message="This API key is disabled or has expired. Use another key."),
    Code.ACCOUNT_SUSPENDED: Refusal(status=403, message="This account is suspended. Contact support."),
    Code.NOT_ENTITLED: Refusal(
        status=403, message="{holder} does not include {product}. {remedy}", also=("tier", "entitled_tiers")
    ),
    Code.INSUFFICIENT_CREDIT: Refusal(status=400, message=NO_CREDIT),
    Code.KEY_BUDGET_EXCEEDED: Refusal(status=403, message="This API key has spent its budget for this month."),
    Code.RATE_LIMITED: Refusal(status=429, message="Too Many Requests"),
    Code.TOO_MANY_CONCURRENT: Refusal(
        status=429, message="Too many concurrent requests: your plan runs {limit} at a time. Retry when one has ended."
    ),
    Code.NOT_FOUND: Refusal(status=404, message="Not found"),
    Code.ROUTE_NOT_FOUND: Refusal(status=404, message="Not found"),
    Code.METHOD_NOT_ALLOWED: Refusal(status=405, message="Method not allowed"),
    Code.UPGRADE_REQUIRED: Refusal(status=426, message="This is a WebSocket. Open it with a WebSocket client."),
    Code.INVALID_REQUEST: Refusal(status=400, message="Invalid request: {reason}"),
    Code.UNKNOWN_MODEL: Refusal(status=400, message="Unknown model: {model}. Available: {models}."),
    Code.UNPRICED_FIELD: Refusal(status=400, message="The field {field} is not supported here. Remove it."),
    Code.UNSUPPORTED: Refusal(status=400, message="{reason}"),
    Code.JOB_NOT_FINISHED: Refusal(status=400, message="The {resource} is not completed yet. Retry when it is."),
    Code.JOB_FAILED: Refusal(status=400, message="The {resource} was not completed: it has no result."),
    Code.BODY_TOO_LARGE: Refusal(status=413, message="Request body too large: at most {bytes_max} bytes."),
    Code.REQUEST_TIMEOUT: Refusal(status=408, message="The request body did not arrive in time."),
    Code.TOO_MANY_UNKNOWN_KEYS: Refusal(
        status=429, message="Too many unknown API keys came from your address. Retry later, with a key that is known."
    ),
    Code.SESSION_EXPIRED: Refusal(status=408, message="The session has reached its maximum duration."),
    Code.SESSION_IDLE: Refusal(status=408, message="The session was idle for too long."),
    Code.IDEMPOTENCY_CONFLICT: Refusal(
        status=422, message="This Idempotency-Key was used for another request. Use a new key for each new request."
    ),
    Code.IDEMPOTENCY_IN_PROGRESS: Refusal(
        status=409, message="The first request with this Idempotency-Key is still in progress. Please retry."
    ),
    Code.IDEMPOTENCY_ANSWER_NOT_KEPT: Refusal(
        status=410,
        message="The request with this Idempotency-Key was served (call {call_id}), and its answer was not kept. "
        "Use a new key to make it again.",
    ),
    Code.IDEMPOTENCY_KEYS_EXHAUSTED: Refusal(
        status=429, message="Your account has used too many Idempotency-Keys lately. Retry later, or send none."
    ),
    Code.LEDGER_UNAVAILABLE: Refusal(status=503, message="Credit cannot be checked right now. Please retry."),
    Code.OVERLOADED: Refusal(status=503, message="The gateway is at its limit. Please retry."),
    Code.RESTARTING: Refusal(status=503, message="The gateway is restarting. Please connect again."),
    Code.UPSTREAM_UNREACHABLE: Refusal(status=502, message="The service could not be reached. You were not charged."),
    Code.UPSTREAM_TIMEOUT: Refusal(status=504, message="The service did not answer in time. You were not charged."),
    Code.ENDPOINT_UNAVAILABLE: Refusal(
        status=503, message="The service cannot be reached where this has to be served. You were not charged."
    ),
    Code.INTERNAL: Refusal(status=500, message="Internal Server Error"),
}


@record
class Refused:
    """A call that is not served, and why. A value, not a fault."""

    code: Code
    details: Mapping[str, str] = field(default_factory=dict)
    retry_after_seconds: int | None = None


class GatewayError(Exception):
    """A fault. Carries the code it is answered with and how soon a retry makes sense (seconds)."""

    code: Code = Code.INTERNAL
    retry_after_seconds: int | None = None


class LedgerUnavailable(GatewayError):
    """The store of balances did not answer in time; nothing is known of the operation's outcome."""

    code = Code.LEDGER_UNAVAILABLE
    retry_after_seconds = 1


class LedgerRefused(GatewayError):
    """A ledger operation that cannot be done as asked; the message says what to do. Nothing was changed."""

    code = Code.INVALID_REQUEST


class OperationConflict(LedgerRefused):
    """The operation id was used before with other content. Nothing was changed."""


class UnknownAccount(LedgerRefused):
    """There is no account of this id."""


class UpstreamUnreachable(GatewayError):
    """No answer could be had from the upstream: refused, reset, or cut before its head was complete.

    `unsent`: nothing of the request has left us. `status`: a socket's handshake was refused with it.
    """

    code = Code.UPSTREAM_UNREACHABLE
    unsent = False
    status = 0


class ServiceRefusesUs(UpstreamUnreachable):
    """The service does not take our own credential, or our own account there has no credit: no customer's business."""


class EndpointsUnavailable(UpstreamUnreachable):
    """None of the endpoints that this may go to could be reached, or there is none. Nothing was sent."""

    code = Code.ENDPOINT_UNAVAILABLE
    retry_after_seconds = 1
    unsent = True


class UpstreamTimeout(GatewayError):
    """The upstream did not answer within the product's time. `unsent`: nothing of the request has left us."""

    code = Code.UPSTREAM_TIMEOUT
    unsent = False


class OutwardRefused(GatewayError):
    """An address that a customer named is not called, now or later. The message says why, without the address."""

    code = Code.INVALID_REQUEST


class OutwardFailed(GatewayError):
    """An address that a customer named did not answer this time. The message says why, without the address."""

    code = Code.UPSTREAM_UNREACHABLE


class IllegalMove(GatewayError):
    """A call was asked to make a move that its state does not have. Nothing was changed."""


def place_of(error: BaseException) -> str:
    """A fault's type and where it was raised. Not its text: that could hold what a client sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "nowhere"
    return f"{type(error).__name__} at {where}"
