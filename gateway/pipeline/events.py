"""A stream of events as it passes: what it says of usage, and which of its bytes the client gets.

Owns: the reply that the events make together, which events are ours to take out, what counts as delivered.
Does not know: connections, prices. Raises UpstreamUnreachable where a compressed stream cannot be read.
"""

from typing import Any

from gateway.core.sse import Event, EventParser
from gateway.pipeline.alike import Alike
from gateway.pipeline.meter import DECODABLE, Inflating, parsed, reply_data
from gateway.settings.metering import Stream


class EventMeter:
    """Reads a stream while it passes. `hides`: the client did not ask for the events that only report usage.

    `reply` has what the events said last. `delivered`: content came. `spoke`: an event without any came, which was no
    report and no error. `failed`: an event said that the service failed before there was content. `ended`: the event
    came that ends a stream. `unended`: the last event lacks its empty line. `content_bytes` are those of all data,
    where the stream counts no content.
    """

    __slots__ = (
        "_alike", "_hides", "_inflating", "_opaque", "_parser", "_passed", "_ready", "_stream", "content_bytes",
        "delivered", "ended", "failed", "reply", "spoke", "unended",
    )  # fmt: skip

    def __init__(self, stream: Stream, encoding: str, *, hides: bool) -> None:
        encoding = encoding.strip().lower()
        self._stream = stream
        self._parser = EventParser(stream.event_bytes_max)
        self._inflating = Inflating() if encoding in DECODABLE else None
        #: Asked for a stream without encoding, the service chose one that we cannot read: it passes, and tells nothing.
        self._opaque = self._inflating is None and encoding not in ("", "identity")
        self._hides = hides
        self._alike = Alike(stream)
        self._ready = False  # something was delivered, and the next bytes begin an event
        self._passed = True  # whether the last event was
        self.reply: dict[str, Any] = {}
        self.content_bytes = 0
        self.spoke = False
        self.delivered = False
        self.failed = False
        self.ended = False
        self.unended = False

    def __repr__(self) -> str:
        return f"<EventMeter content={self.content_bytes} ended={self.ended} failed={self.failed} {self._parser}>"

    @property
    def decodes(self) -> bool:
        """Whether the client gets the stream without its content encoding."""
        return self._inflating is not None

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to pass on now. Only where events may be taken out, one that has not ended waits for its end."""
        if self._opaque:
            self._deliver(len(chunk))
            return chunk
        if self._inflating is not None:
            chunk = self._inflating.feed(chunk)
        if self._ready and (size := self._alike.size_of(chunk)) >= 0:
            self.content_bytes += size
            return chunk
        passing = [event.raw for event in self._parser.feed(chunk) if self._passes(event)]
        self._ready = self.delivered and self._parser.between
        if not self._hides:
            return chunk
        return passing[0] if len(passing) == 1 else b"".join(passing)

    def finish(self) -> bytes:
        """The stream is over: what was held back of an event that did not end. UpstreamUnreachable if it was cut."""
        if self._inflating is not None:
            self._inflating.finish()
        last = self._parser.finish()
        self.unended = last is not None
        return last.raw if last is not None and self._passes(last) and self._hides else b""

    def _passes(self, event: Event) -> bool:
        """Note what an event says; whether the client gets it."""
        if not event.belated:
            self._passed = self._judged(event)
        return self._passed

    def _judged(self, event: Event) -> bool:
        data, stream = event.data, self._stream
        if data is None:
            if event.too_large:
                self._deliver(len(event.raw))
                return True
            if not event.raw.startswith(b"{"):
                return True
            data = event.raw  # JSON in place of a stream, under a stream's name
        if data == stream.end:
            self.ended = True
            return True
        value = parsed(data)
        if type(value) is not dict and type(value := reply_data(data)) is not dict:
            self._deliver(len(data))
            return True
        self._alike.begins = b""  # what comes may be like this one, but not like the one before
        for name in stream.reads.intersection(value):
            said = value[name]
            if said or said == 0:  # null and empty are no reports, zero is one
                self.reply[name] = said
        if (self.delivered or not stream.content) and stream.passes_over(value) and event.type != b"error":
            self._deliver(len(data))
            self._alike.learn(event, value)
            return True
        sources = {"reply": value}
        if event.type == b"error" or stream.fails(sources):
            self.failed = not self.delivered
            return True
        has, lacks = stream.drops_has, stream.drops_lacks
        if has is not None and lacks is not None and has.read(sources) is not None and not lacks.read(sources):
            return not self._hides
        if stream.content and data is not event.raw:
            texts = [text for field in stream.content for text in field.read_all(sources) if type(text) is str]
            self._deliver(sum(len(text.encode(errors="surrogatepass")) for text in texts))
        else:
            self._deliver(len(data))
        self._alike.learn(event, value)
        return True

    def _deliver(self, size: int) -> None:
        if size:
            self.delivered = True
            self.failed = False
            self.content_bytes += size
        else:
            self.spoke = True


def events_in(stream: Stream, body: bytes) -> EventMeter | None:
    """What a whole body says that is a stream of events under another name; None where it is no such thing."""
    meter = EventMeter(stream, "", hides=False)
    meter.feed(body)
    meter.finish()
    return meter if meter.delivered or meter.spoke or meter.failed or meter.reply else None
