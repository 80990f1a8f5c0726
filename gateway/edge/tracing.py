"""Tracing, put around the parts of a call's path: they do not know of it, and without it there is nothing around them.

Owns: which operations are stages of a trace, and where its id goes: to the upstream, back to the client, into the log,
to the record of a job.
Does not know: what a call is, which are recorded (tracer), how spans are told (otlp).

Parts are told apart by the call under way: a variable of its task's context.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import fields, replace
from typing import Any, Final, ParamSpec, TypeVar, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from gateway.core.errors import Refused
from gateway.core.tracecontext import FACT, read_traceparent
from gateway.core.upstreams import Upstream
from gateway.edge.proxy import Answering
from gateway.observe.spans import Stage, Trace
from gateway.observe.tracer import Tracer
from gateway.pipeline.call import Answer, Client
from gateway.ports import (
    AdmissionRequest,
    Admitted,
    CallFinished,
    Clock,
    Identity,
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
from gateway.settings.routes import Route
from gateway.settings.tracing import Tracing
from gateway.sockets.ports import Dialer, Relay, UpstreamSocket, Watch, Watcher
from gateway.upstream.ports import Body, Reply, UpstreamClient
from gateway.workers.loops import forever

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
RESPONSE: Final = "traceresponse"
_NO_STAGE: Final[AbstractContextManager[None]] = nullcontext()
#: How often spans are told that wait.
TELL_SECONDS: Final = 0.5
_FIELDS: Final = tuple(each.name for each in fields(CallFinished))
_T = TypeVar("_T")
_under_way: ContextVar[Trace | None] = ContextVar("trace of the call under way", default=None)

_P = ParamSpec("_P")
#: Something that is done for its effects.
Work = Callable[_P, Awaitable[None]]
Identify = Callable[[Client, Route], Awaitable[Identity | Refused]]


class Around:
    """Parts as they are, for calls that are not traced. `Traced` puts itself around them."""

    def identify(self, identify: Identify) -> Identify:
        """Who calls."""
        return identify

    def ledger(self, ledger: Ledger) -> Ledger:
        """The ledger."""
        return ledger

    def upstreams(self, upstreams: UpstreamClient) -> UpstreamClient:
        """Who forwards calls."""
        return upstreams

    def dialer(self, dialer: Dialer) -> Dialer:
        """Who opens sockets."""
        return dialer

    def observer(self, observer: Observer) -> Observer:
        """Who is told of things."""
        return observer

    def pipeline(self, pipeline: Answering) -> Answering:
        """Who serves calls."""
        return pipeline

    def work(self, name: str, deed: Work[_P]) -> Work[_P]:
        """Work of our own that no call asks for: `name` is its span's."""
        del name
        return deed

    def own(self) -> tuple[Middleware, ...]:
        """What is put around routes of our own, on the customers' listener."""
        return ()

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What goes on beside the calls."""
        return ()

    async def close(self) -> None:
        """No call comes any more, and all that is left is told."""


class Traced(Around):
    """Parts whose work is told as spans."""

    def __init__(self, settings: Tracing, clock: Clock, observer: Observer) -> None:
        from gateway.observe.otlp import Telling  # noqa: PLC0415 - an extra, and half a second of imports

        self.tracer = Tracer(settings, clock)
        self._clock = clock
        self._all = observer
        self._telling = Telling(self.tracer, settings, observer)

    def stage(self, name: str, *, calls_out: bool = False) -> AbstractContextManager[Stage | None]:
        """A stage of the call under way; None where that is not recorded."""
        trace = _under_way.get()
        stage = None if trace is None else trace.begin(name, self._clock.now(), calls_out=calls_out)
        return _NO_STAGE if stage is None else self._timed(stage)

    @contextmanager
    def _timed(self, stage: Stage) -> Iterator[Stage]:
        try:
            yield stage
        except BaseException as error:
            stage.error = type(error).__name__
            raise
        finally:
            stage.ended = self._clock.now()

    def note(self, name: str, **of: int | str) -> None:
        """Something happened in the call under way."""
        if (trace := _under_way.get()) is not None:
            trace.note(name, self._clock.now(), {f"gateway.{key}": value for key, value in of.items()})

    def identify(self, identify: Identify) -> Identify:
        """See `Around`."""

        async def traced(client: Client, route: Route) -> Identity | Refused:
            with self.stage("identify"):
                return await identify(client, route)

        return traced

    def ledger(self, ledger: Ledger) -> Ledger:
        """See `Around`."""
        return cast("Ledger", _Ledger(ledger, self))

    def upstreams(self, upstreams: UpstreamClient) -> UpstreamClient:
        """See `Around`."""
        return _Upstreams(upstreams, self)

    def dialer(self, dialer: Dialer) -> Dialer:
        """See `Around`."""
        return _Dialer(dialer, self)

    def observer(self, observer: Observer) -> Observer:
        """See `Around`."""
        return cast("Observer", _Observer(observer, self.tracer))

    def pipeline(self, pipeline: Answering) -> Answering:
        """See `Around`."""
        return _Pipeline(pipeline, self.tracer)

    def work(self, name: str, deed: Work[_P]) -> Work[_P]:
        """See `Around`. Its trace begins here."""

        async def traced(*args: _P.args, **kwargs: _P.kwargs) -> None:
            trace = self.tracer.begin(())
            if trace is None:
                return await deed(*args, **kwargs)
            before, failed = _under_way.set(trace), True
            try:
                await deed(*args, **kwargs)
                failed = False
            finally:
                _under_way.reset(before)
                self.tracer.keep(trace.whole(name, "internal", self._clock.now(), failed=failed))

        return traced

    def own(self) -> tuple[Middleware, ...]:
        """See `Around`. A call that is told of there is named as a call is."""

        @web.middleware
        async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
            trace = self.tracer.begin(request.headers.getall(PARENT, ()))
            if trace is None or not trace.recorded:
                return await handler(request)
            resource = request.match_info.route.resource
            name = f"{request.method} {'unknown' if resource is None else resource.canonical}"
            before, status = _under_way.set(trace), 500
            try:
                answer = await handler(request)
                status = answer.status
            except web.HTTPException as error:
                status = error.status
                raise
            finally:
                _under_way.reset(before)
                trace.about({"http.request.method": request.method, "http.response.status_code": status})
                self.tracer.keep(trace.whole(name, "server", self._clock.now(), failed=status >= 500))
            answer.headers[RESPONSE] = str(trace.context)
            return answer

        return (traced,)

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """See `Around`."""
        return (forever("traces", TELL_SECONDS, self._telling.round, self._all),)

    async def close(self) -> None:
        """See `Around`."""
        await self._telling.close()


def around(settings: Tracing | None, clock: Clock, observer: Observer) -> Around:
    """What the config puts around the parts."""
    return Around() if settings is None else Traced(settings, clock, observer)


class _Within:
    """A part with something around it: what is not written here is the part's own."""

    def __init__(self, part: object) -> None:
        self._part: Any = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class _Pipeline:
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
        before = _under_way.set(trace)
        try:
            if not trace.recorded:
                return await self._part.serve(client)
            said = str(trace.context)
            answer = await self._part.serve(cast("Client", _Client(client, said)))
            if answer is not None and not trace.recorded:  # it was a call, and is recorded by now
                answer.headers[RESPONSE] = said
            return answer
        finally:
            _under_way.reset(before)


class _Client(_Within):
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


class _Ledger(_Within):
    """The operations of a call, as its stages."""

    def __init__(self, ledger: Ledger, traced: Traced) -> None:
        super().__init__(ledger)
        self._traced = traced

    async def admit(self, request: AdmissionRequest) -> Admitted | Refused | PlanChanged:
        with self._traced.stage("admit"):
            answer: Admitted | Refused | PlanChanged = await self._part.admit(request)
        if isinstance(answer, Admitted) and answer.resources and (trace := _under_way.get()) is not None:
            made_by = (read_traceparent(str(each.facts.get(FACT, ""))) for each in answer.resources)
            for context in filter(None, made_by):
                trace.link(context)
        return answer

    async def settle(self, settlement: Settlement) -> Receipt:
        with self._traced.stage("settle") as stage:
            if stage is not None:
                stage.facts["gateway.call_id"] = settlement.call_id
            receipt: Receipt = await self._part.settle(settlement)
        return receipt

    async def release(self, *, account: str, hold_id: str, resource: ResourceRef | None = None) -> bool:
        with self._traced.stage("release"):
            released: bool = await self._part.release(account=account, hold_id=hold_id, resource=resource)
        return released

    async def accept(self, *, resource: Resource, **how: Any) -> None:
        with self._traced.stage("accept"):
            await self._part.accept(resource=_made_here(resource), **how)

    async def enqueue(self, *, resource: Resource, **how: Any) -> bool:
        with self._traced.stage("enqueue"):
            queued: bool = await self._part.enqueue(resource=_made_here(resource), **how)
        return queued

    async def renew(self, renewal: Renewal) -> Renewed | PlanChanged:
        answer: Renewed | PlanChanged = await self._part.renew(renewal)
        if isinstance(answer, Renewed):
            refused = {} if answer.refused is None else {"code": str(answer.refused.code)}
            self._traced.note("slice", charged_nanos=answer.receipt.charged, held_nanos=answer.hold, **refused)
        return answer


def _made_here(resource: Resource) -> Resource:
    """A job with the span that made it, for those who learn of its end."""
    trace = _under_way.get()
    if trace is None or not trace.recorded or not resource.hold:
        return resource
    return replace(resource, facts={**resource.facts, FACT: str(trace.context)})


def _pass_on(stage: Stage | None, headers: CIMultiDict[str], upstream: str) -> None:
    """The upstream's spans are below this stage's. What is not recorded goes on as it came."""
    trace = _under_way.get()
    if stage is None or trace is None:
        return
    headers[PARENT] = str(replace(trace.context, span_id=stage.span_id))
    if trace.parent is None:  # the trace begins here, and a state would be another's
        headers.popall(STATE, None)
    stage.facts["gateway.upstream"] = upstream


class _Upstreams(_Within):
    """Forwarded calls, until their bodies are there."""

    def __init__(self, upstreams: UpstreamClient, traced: Traced) -> None:
        super().__init__(upstreams)
        self._traced = traced

    async def send(
        self, upstream: Upstream, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body
    ) -> Reply:
        """See `UpstreamClient`."""
        with self._traced.stage("forward", calls_out=True) as stage:
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


class _Dialer(_Within):
    """Opening handshakes with upstreams."""

    def __init__(self, dialer: Dialer, traced: Traced) -> None:
        super().__init__(dialer)
        self._traced = traced

    async def dial(
        self, upstream: Upstream, path_and_query: str, headers: CIMultiDict[str], watch: Watch
    ) -> UpstreamSocket:
        """See `Dialer`."""
        with self._traced.stage("forward", calls_out=True) as stage:
            _pass_on(stage, headers, upstream.name)
            dialed: UpstreamSocket = await self._part.dial(upstream, path_and_query, headers, watch)
        return dialed

    async def close(self) -> None:
        """See `Dialer`."""
        await self._part.close()


class _Observer(_Within):
    """Observers who are told of the trace, and of what is over for its spans."""

    def __init__(self, observer: Observer, tracer: Tracer) -> None:
        super().__init__(observer)
        self._tracer = tracer

    def call_finished(self, record: CallFinished) -> None:
        trace = _under_way.get()
        if trace is not None:
            self._tracer.keep(trace.over(record))
            known = {name: getattr(record, name) for name in _FIELDS}
            record = TracedCallFinished(**known, trace_id=trace.context.trace_id)
        self._part.call_finished(record)

    def session_finished(self, record: SessionFinished) -> None:
        if (trace := _under_way.get()) is not None:
            trace.session_over(record)
        self._part.session_finished(record)

    def job_looked(self, record: JobLooked) -> None:
        if (trace := _under_way.get()) is not None:
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
