"""A collector of spans: takes OTLP over HTTP, decodes it as OpenTelemetry's own schema has it, and keeps the spans."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.fakes.events import EventService
from tests.upstream.proxying import until


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A span as it came; ids are hexadecimal. `links`: trace and span."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    started: int
    ended: int
    failed: bool
    facts: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str]]


def _facts(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


def _seen(span: Span) -> Seen:
    return Seen(
        name=span.name, kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(), id=span.span_id.hex(), parent=span.parent_span_id.hex(),
        started=span.start_time_unix_nano, ended=span.end_time_unix_nano, failed=span.status.code == 2,
        facts=_facts(span.attributes), events=[(event.name, _facts(event.attributes)) for event in span.events],
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    )  # fmt: skip


class Collector(EventService):
    """`async with Collector()`: its spans, as they come. `answers` are given in turn, then 204."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Seen] = []
        self.bodies: list[bytes] = []  # as they are without gzip
        self.services: set[str] = set()

    async def take(self, request: web.Request, body: bytes) -> None:
        """See `EventService`."""
        assert request.content_type == "application/x-protobuf"
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services.add(_facts(resource.resource.attributes)["service.name"])
            self.spans += [_seen(span) for scope in resource.scope_spans for span in scope.spans]

    async def some(self, name: str, count: int = 1) -> list[Seen]:
        """The spans of this name, once there are so many."""
        found: list[Seen] = []

        def enough() -> bool:
            found[:] = [span for span in self.spans if span.name == name]
            return len(found) >= count

        await until(enough)
        return found

    def below(self, span: Seen) -> dict[str, Seen]:
        """The spans below one, by name."""
        return {each.name: each for each in self.spans if each.parent == span.id}
