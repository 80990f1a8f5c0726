"""The parts of a call's path with tracing around them: what each does is a stage of the trace of the call under way.

Owns: which operations are stages, and where the trace's id goes: to the upstream, back to the client, into the log, to
the record of a job.
Does not know: when they are put around the parts (tracing), what a call is, which are recorded (tracer).
"""

from collections.abc import Coroutine
from dataclasses import fields, replace
from typing import Any, Final, cast

from multidict import CIMultiDict

from gateway.core.errors import Refused
from gateway.core.tracecontext import FACT, read_traceparent
from gateway.core.upstreams import Upstream
from gateway.edge.server.proxy import Answering
from gateway.edge.stages import PARENT, RESPONSE, STATE, Stages, under_way
from gateway.observe.spans import Stage, Trace
from gateway.observe.tracer import Tracer
from gateway.pipeline.call import Answer, Client
from gateway.ports import (
    AdmissionRequest,
    Admitted,
    CallFinished,
    JobLooked,
    Ledger,
    Observer,
    PlanChanged,
    Receipt,
    Renewal,
    Renewed,
    Resource,
    ResourceRef,
    SessionFinished,
    Settlement,
    TracedCallFinished,
)
from gateway.sockets.ports import Dialer, Relay, UpstreamSocket, Watch, Watcher
from gateway.upstream.ports import Body, Reply, UpstreamClient

_FIELDS: Final = tuple(each.name for each in fields(CallFinished))


class _Within:
    """A part with something around it: what is not written here is the part's own."""

    def __init__(self, part: object) -> None:
        self._part: Any = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class TracedPipeline:
    """Calls with their traces."""

    def __init__(self, pipeline: Answering, tracer: Tracer) -> None:
        self._part = pipeline
        self._tracer = tracer

    def unread(self, reason: str) -> Answer:
        """See `Answering`."""
        return self._part.unread(reason)

    def serve(self, client: Client) -> Coroutine[Any, Any, Answer | None]:
        """See `Answering`."""
        trace = self._tracer.begin(client.headers.getall(PARENT, ()))
        return self._part.serve(client) if trace is None else self._serve(client, trace)

    async def _serve(self, client: Client, trace: Trace) -> Answer | None:
        before = under_way.set(trace)
        try:
            if not trace.recorded:
                return await self._part.serve(client)
            said = str(trace.context)
            answer = await self._part.serve(cast("Client", TracedClient(client, said)))
            if answer is not None and not trace.recorded:  # it was a call, and is recorded by now
                answer.headers[RESPONSE] = said
            return answer
        finally:
            under_way.reset(before)


class TracedClient(_Within):
    """A client who is told which trace its call is recorded in."""

    def __init__(self, client: Client, said: str) -> None:
        super().__init__(client)
        self._said = said

    async def start(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        headers[RESPONSE] = self._said
        await self._part.start(status, reason, headers, length)

    def accept_socket(self, watch: Watch, watcher: Watcher, headers: CIMultiDict[str], subprotocol: str) -> Relay:
        headers[RESPONSE] = self._said
        relay: Relay = self._part.accept_socket(watch, watcher, headers, subprotocol)
        return relay


class TracedLedger(_Within):
    """The operations of a call, as its stages."""

    def __init__(self, ledger: Ledger, stages: Stages) -> None:
        super().__init__(ledger)
        self._stages = stages

    async def admit(self, request: AdmissionRequest) -> Admitted | Refused | PlanChanged:
        with self._stages.stage("admit"):
            answer: Admitted | Refused | PlanChanged = await self._part.admit(request)
        if isinstance(answer, Admitted) and answer.resources and (trace := under_way.get()) is not None:
            made_by = (read_traceparent(str(each.facts.get(FACT, ""))) for each in answer.resources)
            for context in filter(None, made_by):
                trace.link(context)
        return answer

    async def settle(self, settlement: Settlement) -> Receipt:
        with self._stages.stage("settle") as stage:
            if stage is not None:
                stage.facts["gateway.call_id"] = settlement.call_id
            receipt: Receipt = await self._part.settle(settlement)
        return receipt

    async def release(self, *, account: str, hold_id: str, resource: ResourceRef | None = None) -> bool:
        with self._stages.stage("release"):
            released: bool = await self._part.release(account=account, hold_id=hold_id, resource=resource)
        return released

    async def accept(self, *, resource: Resource, **how: Any) -> None:
        with self._stages.stage("accept"):
            await self._part.accept(resource=_made_here(resource), **how)

    async def enqueue(self, *, resource: Resource, **how: Any) -> bool:
        with self._stages.stage("enqueue"):
            queued: bool = await self._part.enqueue(resource=_made_here(resource), **how)
        return queued

    async def renew(self, renewal: Renewal) -> Renewed | PlanChanged:
        answer: Renewed | PlanChanged = await self._part.renew(renewal)
        if isinstance(answer, Renewed):
            refused = {} if answer.refused is None else {"code": str(answer.refused.code)}
            self._stages.note("slice", charged_nanos=answer.receipt.charged, held_nanos=answer.hold, **refused)
        return answer


def _made_here(resource: Resource) -> Resource:
    """A job with the span that made it, for those who learn of its end."""
    trace = under_way.get()
    if trace is None or not trace.recorded or not resource.hold:
        return resource
    return replace(resource, facts={**resource.facts, FACT: str(trace.context)})


def _pass_on(stage: Stage | None, headers: CIMultiDict[str], upstream: str) -> None:
    """The upstream's spans are below this stage's. What is not recorded goes on as it came."""
    trace = under_way.get()
    if stage is None or trace is None:
        return
    headers[PARENT] = str(replace(trace.context, span_id=stage.span_id))
    if trace.parent is None:  # the trace begins here, and a state would be another's
        headers.popall(STATE, None)
    stage.facts["gateway.upstream"] = upstream


class TracedUpstreams(_Within):
    """Forwarded calls, until their bodies are there."""

    def __init__(self, upstreams: UpstreamClient, stages: Stages) -> None:
        super().__init__(upstreams)
        self._stages = stages

    async def send(
        self, upstream: Upstream, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body
    ) -> Reply:
        """See `UpstreamClient`."""
        with self._stages.stage("forward", calls_out=True) as stage:
            _pass_on(stage, headers, upstream.name)
            reply: Reply = await self._part.send(upstream, method, path_and_query, headers, body)
        if stage is not None:
            stage.answered, stage.lasts = stage.ended, True
            stage.facts |= {"http.request.method": method, "http.response.status_code": reply.status}
            stage.ended = 0.0
            stage.error = str(reply.status) if reply.status >= 500 else ""
        return reply

    async def close(self) -> None:
        """See `UpstreamClient`."""
        await self._part.close()


class TracedDialer(_Within):
    """Opening handshakes with upstreams."""

    def __init__(self, dialer: Dialer, stages: Stages) -> None:
        super().__init__(dialer)
        self._stages = stages

    async def dial(
        self, upstream: Upstream, path_and_query: str, headers: CIMultiDict[str], watch: Watch
    ) -> UpstreamSocket:
        """See `Dialer`."""
        with self._stages.stage("forward", calls_out=True) as stage:
            _pass_on(stage, headers, upstream.name)
            dialed: UpstreamSocket = await self._part.dial(upstream, path_and_query, headers, watch)
        return dialed

    async def close(self) -> None:
        """See `Dialer`."""
        await self._part.close()


class TracedObserver(_Within):
    """Observers who are told of the trace, and of what is over for its spans."""

    def __init__(self, observer: Observer, tracer: Tracer) -> None:
        super().__init__(observer)
        self._tracer = tracer

    def call_finished(self, record: CallFinished) -> None:
        trace = under_way.get()
        if trace is not None:
            self._tracer.keep(trace.over(record))
            known = {name: getattr(record, name) for name in _FIELDS}
            record = TracedCallFinished(**known, trace_id=trace.context.trace_id)
        self._part.call_finished(record)

    def session_finished(self, record: SessionFinished) -> None:
        if (trace := under_way.get()) is not None:
            trace.session_over(record)
        self._part.session_finished(record)

    def job_looked(self, record: JobLooked) -> None:
        if (trace := under_way.get()) is not None:
            self._look_over(trace, record)
        if record.over and record.trace:
            self._tracer.job_over(record)
        self._part.job_looked(record)

    @staticmethod
    def _look_over(trace: Trace, record: JobLooked) -> None:
        """The trace is that of a look, of which this is known now."""
        trace.about(
            {
                "gateway.call_id": record.call_id,
                "gateway.account": record.account,
                "gateway.product": record.product,
                "gateway.outcome": record.outcome,
            }
        )
        if (made_by := read_traceparent(record.trace)) is not None:
            trace.link(made_by)
