"""Jobs that wait for their place: taken in under an id of ours, spoken for while they wait, submitted in their turn.

Owns: what is kept of such a request, what its client is told meanwhile, what an upstream's answer to it means, and
where one id stands for the other.
Does not know: whose turn it is (the ledger), or how many are submitted at once (workers/submissions).
"""

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

import orjson
from multidict import CIMultiDict

from gateway.core.admission import Concurrency, crowded
from gateway.core.errors import Code, Refused, UpstreamTimeout, UpstreamUnreachable
from gateway.core.exchange import Move
from gateway.core.extract import id_of
from gateway.pipeline.call import Answer, Call
from gateway.pipeline.callbacks import Callbacks, echo, wish
from gateway.pipeline.conclude import Conclusion
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.meter import OF_THE_BYTES, Copy, decoded, reply_data
from gateway.pipeline.placing import Placing
from gateway.ports import Clock, Ledger, Observer, QueuedJob, QueueLeft, Resource
from gateway.settings.jobs import Job, Queue
from gateway.settings.routes import Route
from gateway.upstream.ports import UpstreamClient

#: What else than a 5xx says that a job may be taken in later.
_LATER: Final = frozenset({408, 409, 425, 429})
_PAUSE_SECONDS: Final = (1.0, 30.0)
_REASON_MAX: Final = 500
_JSON: Final = "application/json"
#: What clients are told whose job was never begun.
KEY_DISABLED: Final = "The API key was disabled before the job could start."
TOO_LATE: Final = "The job could not be started in time."
GIVEN_BACK: Final = "The job's credit was given back before it could start."


class Queueing:
    """Takes jobs in, answers for them, and submits them."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        conclusion: Conclusion,
        callbacks: Callbacks,
        jobs: Jobs,
        upstreams: UpstreamClient,
        observer: Observer,
        clock: Clock,
        placing: Placing,
        answer_seconds_max: float,
    ) -> None:
        self._ledger = ledger
        self._conclusion = conclusion
        self._callbacks = callbacks
        self._jobs = jobs
        self._upstreams = upstreams
        self._observer = observer
        self._clock = clock
        self._placing = placing
        self._answer_seconds_max = answer_seconds_max

    # ---- its client

    async def take(self, call: Call) -> Answer | Refused:
        """Put a call that was admitted `queued` into the queue; what its client gets for it."""
        job, body = call.route.job, call.body
        assert job is not None and job.queue is not None and body is not None, "only such calls are queued"
        call.move(Move.FORWARD)
        coding = call.client.headers.get("Content-Encoding", "")
        plain = self._callbacks.put_in(call, decoded(body, coding, call.route.body_bytes_max), CIMultiDict())
        assert plain is not None, "it was read"
        call.request_bytes = len(body)
        own_id = str(uuid4())
        reply = _reply(job, job.queue, call, own_id)
        path = "?".join(filter(None, (call.client.raw_path, call.query)))
        request = plain.decode("utf-8", "replace")
        bounds = {"bounds": call.bounds} if call.bounds else {}
        kept = orjson.dumps({"v": 1, "path": path, "request": request, "reply": reply, **bounds})
        if len(kept) > job.queue.kept_bytes_max:
            await self._conclusion.fail(call)
            return crowded(_places(call))
        if not await self._conclusion.enqueue_job(call, own_id, kept):
            await self._conclusion.fail(call)
            return Refused(code=Code.OVERLOADED, retry_after_seconds=1)
        self._observer.event("job_queued", product=call.route.product.name)
        return _answer(reply)

    async def answer(self, call: Call, record: Resource) -> Answer | Refused | None:
        """What a client gets that asks for a job which is not at the upstream; None where it is."""
        job = self._jobs.job_of(record)
        if job is None or job.queue is None or not record.only_here:
            return None
        (kept,) = await self._ledger.queued_bodies(account=call.account, refs=[record.ref])
        if kept is None:  # it was submitted just now, or deleted
            call.record = await self._ledger.resource(account=call.account, ref=record.ref)
            return None if call.record is not None else Refused(code=Code.NOT_FOUND)
        if call.route.reports is None and call.route.deletes is None:
            code = Code.JOB_FAILED if self._why_not(record) else Code.JOB_NOT_FINISHED
            return Refused(code=code, details={"resource": record.ref.kind})
        reply = orjson.loads(kept)["reply"]
        if why := self._why_not(record):
            put(reply, job.status.steps, job.queue.failed)
            put(reply, job.queue.error.steps, why)
        if call.route.deletes is not None:
            await self._conclusion.keep_ownership(call)
        return _answer(reply)

    def _why_not(self, record: Resource) -> str:
        """Why a job will not run; empty if it still may."""
        if record.state == "released":
            return str(record.usage["error"])
        return TOO_LATE if record.deadline_ms <= self._clock.now() * 1000 else ""

    # ---- its upstream

    async def submit(self, queued: QueuedJob) -> None:
        """Submit a job whose turn it is. A fault raises: it is claimed again after its lease."""
        record = queued.record
        made = self._jobs.made(record.ref.kind)
        if made is None:  # no product makes such jobs any more, until one does again
            await self._later(queued)
        elif (
            why := KEY_DISABLED if not queued.allowed else self._why_not(record) or ("" if queued.held else GIVEN_BACK)
        ):
            await self._reject(queued, made[0], why)
        else:
            await self._submit(queued, *made)

    async def _submit(self, queued: QueuedJob, job: Job, route: Route) -> None:
        account, record, upstream = queued.account, queued.record, route.product.upstream
        kept = orjson.loads(queued.body)
        bounds = kept.get("bounds", {})
        headers = CIMultiDict(
            {
                upstream.credential_header: upstream.credential,
                "Content-Type": _JSON,
                "X-Account-Id": account,
                "X-Call-Id": record.hold,
            }
        )
        copy = Copy(route.product.metered_body_bytes_max)
        try:
            async with (
                asyncio.timeout(self._answer_seconds_max),
                await self._upstreams.send(
                    self._placing.again(upstream, account, record.hold, bounds),
                    "POST",
                    kept["path"],
                    headers,
                    kept["request"].encode(),
                ) as reply,  # fmt: skip
            ):
                while (chunk := await reply.chunk()) and not copy.overflown:
                    copy.add(chunk)
                status, coding, endpoint = reply.status, reply.headers.get("Content-Encoding", ""), reply.endpoint
        except (UpstreamUnreachable, UpstreamTimeout, TimeoutError):
            await self._later(queued)
            return
        plain = decoded(copy.body(), coding, route.product.metered_body_bytes_max)
        data = reply_data(plain) if plain else None
        found = id_of(job.id.read({"reply": data}))
        refused_us = route.product.refuses_us(status, data)
        if 200 <= status < 300 and found is not None:
            look_seconds = job.look_first_seconds * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret
            await self._ledger.submitted(
                account=account, ref=record.ref, hold_id=record.hold, upstream=found, look_seconds=look_seconds,
                endpoint=endpoint,
            )  # fmt: skip
            self._observer.event("job_submitted", product=record.product)
            self._left(queued, "submitted")
        elif status >= 500 or status in _LATER or refused_us:
            if refused_us:  # it is not the customer who is refused
                self._observer.event("credential_refused", product=record.product)
            await self._later(queued)
        else:
            await self._reject(queued, job, _reason(data, status))

    async def _later(self, queued: QueuedJob) -> None:
        """The upstream cannot take it now: a quarter of its age from now, within bounds."""
        least, most = _PAUSE_SECONDS
        record = queued.record
        seconds = min(most, max(least, (self._clock.now() - record.created_ms / 1000) / 4))
        self._observer.event("job_put_off", product=record.product)
        await self._ledger.submit_later(account=queued.account, ref=record.ref, seconds=seconds)

    async def _reject(self, queued: QueuedJob, job: Job, why: str) -> None:
        """It will not run: its client is told, and its credit given back."""
        record = queued.record
        assert job.queue is not None, "it was queued"
        await self._jobs.tell(queued.account, record, job.queue.failed, called_back=False)
        await self._ledger.reject(account=queued.account, ref=record.ref, hold_id=record.hold, reason=why)
        self._observer.event("job_rejected", product=record.product)
        self._left(queued, "rejected")

    def _left(self, queued: QueuedJob, outcome: str) -> None:
        record = queued.record
        self._observer.queue_left(
            QueueLeft(
                account=queued.account,
                key_id=record.key_id,
                call_id=record.hold,
                product=record.product,
                outcome=outcome,
                seconds=max(0.0, self._clock.now() - record.created_ms / 1000),
            )
        )


def _places(call: Call) -> Concurrency:
    """The limit that has the call wait."""
    share = call.tier.products.get(call.route.product.name) if call.tier is not None else None
    assert share is not None and share.concurrency is not None, "what is queued has a limit"
    return share.concurrency


def path_upstream_knows(record: Resource, path: str) -> str:
    """A request's path with the upstream's id of a job for ours."""
    return path.replace(record.ref.id, record.upstream) if record.upstream else path


def body_upstream_knows(
    record: Resource, body: bytes | None, headers: CIMultiDict[str], bytes_max: int
) -> bytes | None:
    """A request's body with the upstream's id of a job for ours."""
    if not record.upstream or body is None:
        return body
    plain = decoded(body, headers.get("Content-Encoding", ""), bytes_max)
    ours = record.ref.id.encode()
    if plain is None or ours not in plain:
        return body
    for name in OF_THE_BYTES:
        headers.popall(name, None)
    return plain.replace(ours, record.upstream.encode())


def as_client_knows(record: Resource, plain: bytes) -> bytes:
    """A reply's text with our id of a job for the upstream's."""
    return plain.replace(record.upstream.encode(), record.ref.id.encode())


def put(data: dict[str, Any], steps: tuple[str | int, ...], value: Any) -> None:
    """Set a field of JSON data, with the objects on the way to it."""
    for step in steps[:-1]:
        below = data.get(str(step))
        if type(below) is not dict:
            below = data[str(step)] = {}
        data = below
    data[str(steps[-1])] = value


def _reply(job: Job, queue: Queue, call: Call, own_id: str) -> dict[str, Any]:
    """What the upstream would say of a job that it has queued: what was asked for, an id and a status."""
    request: Mapping[str, Any] = call.sources["request"]
    reply = {**queue.reply, **request}
    if (callback := job.callback) is not None:
        for name in (callback.header_name, callback.header_value):
            reply.pop(name or "", None)
        given = call.callback if call.callback is not None else wish(callback, request)
        reply |= echo(callback, given if isinstance(given, Mapping) else {})
    put(reply, job.id.steps, own_id)
    put(reply, job.status.steps, queue.status)
    return reply


def _answer(reply: dict[str, Any]) -> Answer:
    return Answer(status=200, reason="OK", headers=CIMultiDict({"Content-Type": _JSON}), body=orjson.dumps(reply))


def _reason(data: Any, status: int) -> str:
    """Why an upstream refused a job, in its own words where it has some."""
    error = data.get("error") if type(data) is dict else None
    if type(error) is dict:
        error = error.get("message")
    return error[:_REASON_MAX] if type(error) is str and error else f"The service refused the job (HTTP {status})."
