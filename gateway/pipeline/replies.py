"""What has to be known of a call's reply, and what of it its client gets to see.

Owns: which replies are read, waited for, withheld or changed, and the changes.
Does not know: connections, charges, the ledger.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.pipeline.call import Call
from gateway.pipeline.callbacks import shown
from gateway.pipeline.events import events_in
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.meter import decoded, reply_data, without_fields
from gateway.pipeline.queueing import as_client_knows
from gateway.upstream.ports import Reply


def must_be_whole(call: Call) -> bool:
    """Whether the ledger must know of the reply before the client does: whose it is, or that the job has ended."""
    route = call.route
    return route.makes or (route.reports is not None and job_is_open(call))


def job_is_open(call: Call) -> bool:
    """Whether the call is about a job that is not charged yet."""
    return call.record is not None and call.record.state == "open"


def polls_open_job(call: Call) -> bool:
    """Whether its reply says how such a job stands."""
    return call.route.reports is not None and job_is_open(call)


def shows_result(call: Call) -> bool:
    """Whether a success shows what a job made that is not charged yet, without saying how the job stands."""
    return job_is_open(call) and call.route.reports is None and call.route.deletes is None


def reads_reply(call: Call) -> bool:
    """Whether the reply's body says something that we have to know."""
    route = call.route
    if route.reads_replies:
        return True
    return (route.reports is not None or route.deletes is not None) and job_is_open(call)


def read_again(call: Call, body: bytes) -> None:
    """It is not quite JSON, or a stream of events that the service calls something else: what it reports counts."""
    call.sources["reply"] = said = reply_data(body)
    stream = call.route.stream
    if type(said) is not dict and stream is not None and (meter := events_in(stream, body)) is not None:
        call.sources["reply"], call.content_bytes = meter.reply, meter.content_bytes


def require_service(call: Call, reply: Reply, body: bytes) -> None:
    """Raise ServiceRefusesUs where a refusal of the service's is of our own account there."""
    product = call.route.product
    if product.may_refuse_us(reply.status):
        plain = decoded(body, reply.headers.get("Content-Encoding", ""), product.metered_body_bytes_max)
        product.require_service(reply.status, reply_data(plain) if plain else None)


def changes_reply(call: Call, jobs: Jobs) -> bool:
    """Whether something in a JSON reply is not for the customer to see, or is the customer's own to see again."""
    if call.route.product.strip_reply_fields:
        return True
    if call.record is None and call.route.job is None:
        return False  # it speaks of no job
    return (call.record is not None and bool(call.record.upstream)) or bool(_of_webhook(call, jobs))


def as_client_sees(call: Call, reply: Reply, body: bytes, plain: bytes | None, jobs: Jobs) -> bytes:
    """The body without the service's own identifiers, and with the client's webhook where ours is."""
    names, said = call.route.product.strip_reply_fields, _of_webhook(call, jobs)
    if not body or "json" not in reply.headers.get("Content-Type", ""):
        return body
    if plain is None:
        plain = decoded(body, reply.headers.get("Content-Encoding", ""), call.route.product.metered_body_bytes_max)
    if plain is not None and call.record is not None and call.record.upstream:
        body = plain = as_client_knows(call.record, plain)
    if plain is None or not (said or any(f'"{name}"'.encode() in plain for name in names)):
        return body
    data = reply_data(plain)
    if data is None:
        return body
    seen = without_fields(data, frozenset(names))
    if type(seen) is dict:
        seen.update((name, value) for name, value in said.items() if name in seen)
    return orjson.dumps(seen)


def _of_webhook(call: Call, jobs: Jobs) -> Mapping[str, Any]:
    """What the reply is to say of the client's webhook, where it speaks of a job that we are called back for."""
    route, record = call.route, call.record
    if route.job is not None:
        return shown(call, route.job)
    if record is None or (route.reports is None and route.deletes is None):
        return {}
    return shown(call, jobs.job_of(record))
