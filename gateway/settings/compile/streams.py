"""Replies that are streams of events.

Owns: what a stream's keys need of the route around them, which fields of its events are kept.
Does not know: bytes.
"""

from typing import Final

from gateway.settings.compile.metering import fields_of
from gateway.settings.compile.scope import Scope
from gateway.settings.metering import Metering, Stream
from gateway.settings.problems import Place
from gateway.settings.products import Models, Product
from gateway.settings.schema.route import RouteSettings
from gateway.settings.schema.stream import StreamSettings

#: Fields of an event by which people compare bills.
_IDS: Final = ("id", "request_id")


def check_stream(settings: RouteSettings, product: Product, place: Place, scope: Scope) -> None:
    """A stream and the meter that reads it go together."""
    stream = settings.stream
    if settings.meter == "sse" and stream is None:
        scope.report.add(place.at("meter"), "meter: sse needs to know its streams: add stream: {when: request.stream}")
    if stream is None:
        return
    place = place.at("stream")
    if settings.meter != "sse":
        scope.report.add(place, "this is read by meter: sse: use that, or remove it", at_key=True)
    if stream.when.source != "request" and stream.asks:
        scope.report.add(place.at("when"), "asks sets fields of the body, so this is one of it: write request.x")
    if product.strip_reply_fields:
        scope.report.add(place, "fields cannot be stripped from events: remove strip_reply_fields", at_key=True)
    if stream.drops is not None and not stream.asks:
        scope.report.add(place.at("drops"), "nothing is asked for, so nothing is dropped: add asks", at_key=True)


def compile_stream(settings: StreamSettings, metering: Metering, models: Models | None) -> Stream:
    """The stream as it runs."""
    drops = settings.drops
    read = [*fields_of(metering.measures, metering.rules), *(models.ran if models is not None else ())]
    return Stream(
        when=settings.when,
        asks=tuple((tuple(path.split(".")), value) for path, value in settings.asks.items()),
        drops_has=None if drops is None else drops.has,
        drops_lacks=None if drops is None else drops.lacks,
        end=None if settings.end is None else settings.end.encode(),
        errors=tuple(settings.errors),
        content=tuple(settings.content),
        counts_content=metering.unknown_usage == "charge_estimate",
        reads=frozenset({*_IDS, *(str(field.steps[0]) for field in read if field.source == "reply")}),
        event_bytes_max=settings.event_bytes_max,
        charge_comment=settings.charge_comment,
    )
