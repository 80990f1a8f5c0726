"""Spans told to a collector, as OTLP over HTTP in protobuf.

Owns: their encoding, which is OpenTelemetry's own library's (the extra `otel`), and what becomes of a batch that is not
taken. Does not know: calls. Spans are encoded in a thread, so that no call waits for it.
"""

import asyncio
import gzip
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as OtelEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway import __version__
from gateway.core.tracecontext import TraceContext
from gateway.exports.posting import NotTaken, Poster
from gateway.observe.spans import Event, Span
from gateway.observe.tracer import Tracer
from gateway.ports import Observer
from gateway.settings.tracing import Tracing

#: Answers after which OTLP has a batch be sent again; so has none at all (0).
_AGAIN: Final = frozenset({0, 429, 502, 503, 504})
_TRIES_MAX: Final = 10
_HEADERS: Final = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
_SCOPE: Final = InstrumentationScope("credit-gateway", __version__)
_KINDS: Final[Mapping[str, SpanKind]] = {
    "server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL,
}  # fmt: skip


class Telling:
    """Tells a collector what waits in a tracer. One batch at a time; one that is not taken now is sent again."""

    def __init__(self, tracer: Tracer, settings: Tracing, observer: Observer) -> None:
        self._tracer = tracer
        self._observer = observer
        self._seconds_max = settings.otlp.seconds_max
        self._poster = Poster(settings.otlp.url, headers=settings.otlp.headers, seconds_max=self._seconds_max)
        self._resource = Resource.create({"service.name": settings.service, "service.version": __version__})
        self._batch: list[Span] = []
        self._tries = 0

    def __repr__(self) -> str:
        return f"<Telling batch={len(self._batch)} tries={self._tries}>"

    async def round(self) -> None:
        """Tell what waits, until there is nothing, or the collector does not take it."""
        if dropped := self._tracer.dropped():
            self._observer.event("spans_dropped", value=dropped)
        while self._batch or (batch := self._tracer.take()):
            if not self._batch:
                self._batch, self._tries = batch, 0
            if not await self._told():
                return

    async def _told(self) -> bool:
        """Whether there is no batch any more, taken or given up."""
        try:
            body = await asyncio.to_thread(encoded, self._batch, self._resource)
            await self._poster.post(body, _HEADERS)
        except NotTaken as error:
            self._tries += 1
            self._observer.event("spans_refused", why=str(error))
            if error.status in _AGAIN and self._tries < _TRIES_MAX:
                return False
            self._observer.event("spans_dropped", value=len(self._batch))
        self._batch = []
        return True

    async def close(self) -> None:
        """Tell what is left, in the time of one batch. What is not taken is dropped."""
        try:
            async with asyncio.timeout(self._seconds_max):
                await self.round()
        except TimeoutError:
            self._observer.event("spans_refused", why="no time left")
        left = len(self._batch)
        while batch := self._tracer.take():
            left += len(batch)
        if left:
            self._observer.event("spans_dropped", value=left)
        await self._poster.close()


def encoded(spans: Sequence[Span], resource: Resource) -> bytes:
    """The body of a request that tells these spans."""
    told = encode_spans([_told(span, resource) for span in spans])
    return gzip.compress(told.SerializeToString(), compresslevel=1)


def _told(span: Span, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=_context(span.context),
        parent=None if span.parent is None else _context(span.parent, is_remote=span.comes_from_client),
        resource=resource,
        attributes=span.facts,
        events=[_event(event) for event in span.events],
        links=[Link(_context(context, is_remote=True)) for context in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
        start_time=_nanos(span.started),
        end_time=_nanos(max(span.started, span.ended)),
        instrumentation_scope=_SCOPE,
    )


def _event(event: Event) -> OtelEvent:
    return OtelEvent(event.name, attributes=event.facts, timestamp=_nanos(event.at))


def _context(context: TraceContext, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16), int(context.span_id, 16), is_remote=is_remote, trace_flags=TraceFlags(context.flags)
    )


def _nanos(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
