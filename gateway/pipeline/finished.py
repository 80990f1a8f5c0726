"""What is told of a call that is over.

Owns: which of a call's facts its observers get. Does not know: who they are, or what they make of it.
"""

from typing import Any

from gateway.core.money import ZERO
from gateway.core.record import blank
from gateway.pipeline.call import Call
from gateway.ports import CallFinished, Clock


def finished(call: Call, clock: Clock) -> CallFinished:
    """The record of a call, filled field by field."""
    record: Any = blank(CallFinished)
    identity, route = call.identity, call.route
    record.time = clock.now()
    record.call_id = call.id
    record.account = identity.account if identity is not None else ""
    record.key_id = identity.key_id if identity is not None else ""
    record.product = route.product.name
    record.route = route.name
    record.method = call.client.method
    record.status = call.status
    record.outcome = call.outcome
    record.code = call.code
    record.held = call.admitted_hold
    record.charged = call.charged or ZERO
    record.late = call.late
    record.estimated = call.estimated
    record.client_gone = call.client.gone and not call.answered
    record.seconds = clock.monotonic() - call.started
    record.admit_seconds = call.admit_seconds
    record.upstream_seconds = call.upstream_seconds
    record.settle_seconds = call.settle_seconds
    record.request_bytes = call.request_bytes
    record.reply_bytes = call.reply_bytes
    record.upstream_status = call.upstream_status
    record.endpoint = call.endpoint
    made: CallFinished = record
    return made
