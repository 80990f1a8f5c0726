"""What a trace is made of: the span of a call, the spans of its stages, what happened meanwhile.

Owns: how a call's trace is filled while it goes on, its bounds, what its spans say. No key, token, URL or body is ever
in one. Does not know: which calls are recorded (tracer), how spans are told (otlp).
"""

import secrets
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from gateway.core.record import record
from gateway.core.tracecontext import TraceContext
from gateway.ports import CallFinished, JobLooked, SessionFinished

#: Of one call; what is beyond them is not recorded. A session has an event for each of its slices.
STAGES_MAX: Final = 64
EVENTS_MAX: Final = 128
LINKS_MAX: Final = 8

Value = str | int | float | bool


@record
class Event:
    """Something that happened within a span. `at` in seconds since the epoch."""

    name: str
    at: float
    facts: Mapping[str, Value]


@record
class Span:
    """A span that is over. Times in seconds since the epoch."""

    context: TraceContext
    parent: TraceContext | None
    comes_from_client: bool  # the parent does
    name: str
    kind: Literal["server", "client", "internal"]
    started: float
    ended: float
    facts: Mapping[str, Value]
    events: tuple[Event, ...] = ()
    links: tuple[TraceContext, ...] = ()
    failed: bool = False


class Stage:
    """A part of a call under way. `lasts`: until the next one begins, or the call is over."""

    __slots__ = ("answered", "calls_out", "ended", "error", "facts", "lasts", "name", "span_id", "started")

    def __init__(self, name: str, started: float, *, calls_out: bool) -> None:
        self.name = name
        self.span_id = secrets.token_hex(8)
        self.started = started
        self.calls_out = calls_out
        self.ended = 0.0
        self.answered = 0.0  # when the head of an answer came
        self.lasts = False
        self.error = ""
        self.facts: dict[str, Value] = {}


class Trace:
    """The trace of a call under way. Not `recorded`: nothing but its id is known, which its client has given."""

    __slots__ = ("_events", "_facts", "_links", "_session", "_stages", "context", "parent", "recorded", "started")

    def __init__(self, context: TraceContext, parent: TraceContext | None, started: float, *, recorded: bool) -> None:
        self.context = context
        self.parent = parent
        self.started = started
        self.recorded = recorded
        self._stages: list[Stage] = []
        self._events: list[Event] = []
        self._links: list[TraceContext] = []
        self._facts: dict[str, Value] = {}
        self._session: SessionFinished | None = None

    def __repr__(self) -> str:
        return f"<Trace {self.context} recorded={self.recorded} stages={len(self._stages)}>"

    def begin(self, name: str, now: float, *, calls_out: bool) -> Stage | None:
        """A stage that begins now; None where it is not recorded."""
        if not self.recorded or len(self._stages) >= STAGES_MAX:
            return None
        self._end_lasting(now)
        stage = Stage(name, now, calls_out=calls_out)
        self._stages.append(stage)
        return stage

    def note(self, name: str, now: float, facts: Mapping[str, Value]) -> None:
        """Something happened."""
        if self.recorded and len(self._events) < EVENTS_MAX:
            self._events.append(Event(name=name, at=now, facts=facts))

    def link(self, context: TraceContext) -> None:
        """The call has to do with that span."""
        if self.recorded and len(self._links) < LINKS_MAX:
            self._links.append(context)

    def about(self, facts: Mapping[str, Value]) -> None:
        """What is known of a piece of work of our own."""
        if self.recorded:
            self._facts |= facts

    def session_over(self, session: SessionFinished) -> None:
        """The call was a session."""
        self._session = session

    def over(self, call: CallFinished) -> tuple[Span, ...]:
        """The spans of a call that is over; what comes later is not recorded."""
        self._facts |= _of_call(call) | (_of_session(self._session) if self._session is not None else {})
        failed = call.status >= 500 or call.outcome == "conflict"
        return self.whole(f"{call.method} {call.route}", "server", call.time, failed=failed)

    def whole(self, name: str, kind: Literal["server", "internal"], ended: float, *, failed: bool) -> tuple[Span, ...]:
        """The spans of a trace that is over; what comes later is not recorded."""
        if not self.recorded:
            return ()
        self.recorded = False
        self._end_lasting(ended)
        root = Span(
            context=self.context, parent=self.parent, comes_from_client=True, name=name, kind=kind,
            started=self.started, ended=ended, events=tuple(self._events), links=tuple(self._links), facts=self._facts,
            failed=failed,
        )  # fmt: skip
        return (root, *self._parts(ended))

    def _parts(self, ended: float) -> Iterator[Span]:
        for stage in self._stages:
            context = TraceContext(trace_id=self.context.trace_id, span_id=stage.span_id, flags=self.context.flags)
            head = (Event(name="head", at=stage.answered, facts={}),) if stage.answered else ()
            yield Span(
                context=context, parent=self.context, comes_from_client=False, name=stage.name,
                kind="client" if stage.calls_out else "internal", started=stage.started, ended=stage.ended or ended,
                facts=stage.facts | ({"error.type": stage.error} if stage.error else {}), events=head,
                failed=bool(stage.error),
            )  # fmt: skip

    def _end_lasting(self, now: float) -> None:
        if self._stages and self._stages[-1].lasts:
            self._stages[-1].lasts, self._stages[-1].ended = False, now


def span_of_job(job: JobLooked, made_by: TraceContext, now: float) -> Span:
    """A job that nobody asked for and that is over: a trace of its own, linked to the call that made it."""
    return Span(
        context=TraceContext(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8), flags=made_by.flags),
        parent=None, comes_from_client=False, name=f"job {job.product}", kind="internal", started=now - job.seconds,
        ended=now, links=(made_by,),
        facts={
            "gateway.call_id": job.call_id, "gateway.account": job.account, "gateway.key_id": job.key_id,
            "gateway.product": job.product, "gateway.outcome": job.outcome, "gateway.charged_nanos": job.charged,
            "gateway.estimated": job.estimated, "gateway.late": job.late,
        },
    )  # fmt: skip


def _of_call(call: CallFinished) -> dict[str, Value]:
    facts: dict[str, Value] = {
        "http.request.method": call.method,
        "http.response.status_code": call.status,
        "http.request.body.size": call.request_bytes,
        "http.response.body.size": call.reply_bytes,
        "gateway.call_id": call.call_id,
        "gateway.account": call.account,
        "gateway.key_id": call.key_id,
        "gateway.product": call.product,
        "gateway.route": call.route,
        "gateway.outcome": call.outcome,
        "gateway.held_nanos": call.held,
        "gateway.charged_nanos": call.charged,
        "gateway.estimated": call.estimated,
        "gateway.late": call.late,
        "gateway.client_gone": call.client_gone,
    }
    if call.code:
        facts["gateway.code"] = call.code
    return facts


def _of_session(session: SessionFinished) -> dict[str, Value]:
    return {
        "gateway.session.ended": session.ended,
        "gateway.session.slices": session.slices,
        "gateway.session.seconds": session.seconds,
        "gateway.session.reported": session.reported,
    }
