"""Which calls are recorded, and the spans that wait to be told.

Owns: the choice, the ids, the bound of what waits. Does not know: how a trace is filled (spans), HTTP, OTLP.

Whoever sends many calls with a sampled `traceparent` must not fill the operator's collector: such calls are recorded at
a bounded rate. The share that the operator has chosen is recorded whatever clients say.
"""

import random
import secrets
from collections import deque
from collections.abc import Sequence

from gateway.core.tracecontext import RANDOM, SAMPLED, TraceContext, read_traceparent
from gateway.observe.spans import Span, Trace, span_of_job
from gateway.ports import Clock, JobLooked
from gateway.settings.tracing import Tracing


class Tracer:
    """Begins traces, and keeps spans until they are taken."""

    def __init__(self, settings: Tracing, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._asked_left = settings.asked_per_second_max
        self._asked_at = clock.monotonic()
        self._waiting: deque[Span] = deque()
        self._dropped = 0

    def __repr__(self) -> str:
        return f"<Tracer waiting={len(self._waiting)} dropped={self._dropped}>"

    def begin(self, said: Sequence[str]) -> Trace | None:
        """The trace of a call whose client has sent these `traceparent`; None: it has none, and is not recorded."""
        parent = read_traceparent(said[0]) if len(said) == 1 else None
        asked = parent is not None and parent.sampled
        recorded = random.random() < self._settings.sample or (asked and self._may())  # noqa: S311 - not a secret
        if not recorded:
            return None if parent is None else Trace(parent, None, 0.0, recorded=False)
        span_id = secrets.token_hex(8)
        if parent is None:
            context = TraceContext(trace_id=secrets.token_hex(16), span_id=span_id, flags=SAMPLED | RANDOM)
        else:
            context = TraceContext(trace_id=parent.trace_id, span_id=span_id, flags=parent.flags | SAMPLED)
        return Trace(context, parent, self._clock.now(), recorded=True)

    def _may(self) -> bool:
        """Whether one more call may be recorded because its client asks for it."""
        rate, now = self._settings.asked_per_second_max, self._clock.monotonic()
        self._asked_left = min(max(1.0, rate), self._asked_left + (now - self._asked_at) * rate)
        self._asked_at = now
        if self._asked_left < 1:
            return False
        self._asked_left -= 1
        return True

    def job_over(self, job: JobLooked) -> None:
        """A job is over that nobody asked for. It has a span where the call was recorded that made it."""
        made_by = read_traceparent(job.trace)
        if made_by is not None:
            self.keep((span_of_job(job, made_by, self._clock.now()),))

    def keep(self, spans: Sequence[Span]) -> None:
        """Keep the spans of a trace until they are taken; all of them, or none."""
        if len(self._waiting) + len(spans) > self._settings.spans_max:
            self._dropped += len(spans)
        else:
            self._waiting.extend(spans)

    def take(self) -> list[Span]:
        """Spans that wait, the oldest first: as many as go into one batch."""
        size = min(len(self._waiting), self._settings.batch_spans_max)
        return [self._waiting.popleft() for _ in range(size)]

    def dropped(self) -> int:
        """How many had no room since this was last asked."""
        count, self._dropped = self._dropped, 0
        return count
