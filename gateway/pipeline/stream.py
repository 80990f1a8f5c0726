"""Bodies that are passed on as they come: a large reply, or a stream of events.

Owns: the order read, judge, write; the bounds of reading on after a client left; when a stream of events is charged.
Does not know: what an event says (`events`), how a charge is made (`conclude`).
"""

import asyncio
from collections.abc import Callable
from typing import Final

from multidict import CIMultiDict

from gateway.core.errors import GatewayError
from gateway.core.extract import Field
from gateway.core.money import ZERO, format_usd
from gateway.core.record import record
from gateway.core.splice import with_field
from gateway.core.usage import read_usage
from gateway.pipeline.call import Call, ClientGone
from gateway.pipeline.conclude import Conclusion
from gateway.pipeline.events import EventMeter
from gateway.pipeline.meter import OF_THE_BYTES, decoded, parsed
from gateway.ports import Clock, Observer
from gateway.upstream.ports import Reply

EVENT_STREAM: Final = "text/event-stream"


@record
class Passed:
    """How far a body came. `complete`: as far as it matters to what it costs. `left`: the client did not stay. `cut`:
    and it was not read to its end.
    """

    complete: bool
    left: bool
    cut: bool


class _Passage:
    """A body on its way to its client.

    `left_at`: when the client was found to have left. `ended`: no more of the body is wanted. `complete`: see `Passed`.
    """

    __slots__ = ("_call", "_clock", "_judge", "_since", "_wanted", "complete", "ended", "left_at")

    def __init__(self, call: Call, judge: Callable[[bytes], bytes], clock: Clock, *, wanted: bool) -> None:
        self._call = call
        self._judge = judge
        self._clock = clock
        self._wanted = wanted
        self._since = 0  # how much of the body has come since the client left
        self.complete = True
        self.ended = False
        self.left_at: float | None = None

    def take(self, chunk: bytes) -> bool:
        """Pass a piece on; whether the next is to wait."""
        passing = self._judge(chunk)
        if self.left_at is not None:
            return self._drains(len(chunk))
        try:
            slow = self._call.client.write(passing)
        except ClientGone:
            self.leave()
            return False
        self._call.reply_bytes += len(passing)
        return slow

    def leave(self) -> None:
        """The client is not there any more."""
        self.left_at = self._clock.monotonic()

    def _drains(self, size: int) -> bool:
        """A piece has come that nobody gets; whether the rest is not wanted."""
        assert self.left_at is not None, "the client has left"
        route = self._call.route
        product = route.product
        self._since += size
        if not self._wanted:
            self.complete, self.ended = route.metered, True  # what it costs is known without the rest
        elif (
            self._since > product.drain_bytes_max or self._clock.monotonic() - self.left_at > product.drain_seconds_max
        ):
            self.complete, self.ended = False, True
        return self.ended

    async def waits(self, reply: Reply) -> None:
        """Wait for a slow client: it must not make a timeout of the upstream's, which costs nothing."""
        if self.ended or self.left_at is not None:
            return
        reply.pause()
        try:
            await self._call.client.drained()
        except ClientGone:
            self.leave()
        finally:
            reply.resume()


def is_event_stream(reply: Reply) -> bool:
    """Whether a reply is a stream of events."""
    kind = reply.headers.get("Content-Type", "")
    if kind.startswith("application/json"):  # nearly all that are none
        return False
    return kind.partition(";")[0].strip().lower() == EVENT_STREAM and reply.status < 300


def asking(call: Call, headers: CIMultiDict[str]) -> bytes | None:
    """The body that is forwarded. Where it asks for a stream, it asks for usage as well, and for no encoding."""
    stream, body, sources = call.route.stream, call.body, call.sources
    if stream is None or body is None or not stream.when.read(sources):
        return body
    headers["Accept-Encoding"] = "identity"
    request = sources.get("request")
    for path, value in stream.asks:
        said = Field("request", path).read({"request": request})
        if said == value and type(said) is type(value):
            continue
        plain = decoded(body, headers.get("Content-Encoding", ""), call.route.body_bytes_max)
        changed = None if plain is None else with_field(plain, request, path, value)
        if changed is None:
            continue  # the service will say what is wrong with it
        body, request = changed, parsed(changed)
        call.hides_report = True
        for name in OF_THE_BYTES:
            headers.popall(name, None)
    return body


class Streams:
    """Passes bodies on. Holds the calls of this process whose streams are read on after their clients left."""

    def __init__(self, *, conclusion: Conclusion, observer: Observer, clock: Clock, drains_max: int) -> None:
        self._conclusion = conclusion
        self._observer = observer
        self._clock = clock
        self._drains_max = drains_max
        self._draining: set[str] = set()

    def __repr__(self) -> str:
        return f"<Streams draining={len(self._draining)}/{self._drains_max}>"

    @property
    def draining(self) -> int:
        """Streams that are read on after their clients left."""
        return len(self._draining)

    async def pass_on(
        self, call: Call, reply: Reply, headers: CIMultiDict[str], judge: Callable[[bytes], bytes], *,
        first: list[bytes], length: int | None, wanted: bool = True,
    ) -> Passed:  # fmt: skip
        """Send the head, then what `judge` makes of each piece. A client that leaves does not stop it, within bounds.

        `first` has come already. Not `wanted`: what the rest of the body says does not matter.
        """
        call.status = reply.status
        passage = _Passage(call, judge, self._clock, wanted=wanted)
        try:
            await call.client.start(reply.status, reply.reason, headers, length)
        except ClientGone:
            passage.leave()
        try:
            while first:
                if passage.take(first.pop(0)):
                    await passage.waits(reply)
            while not passage.ended and not await reply.each(passage.take):
                await passage.waits(reply)
        except GatewayError:
            passage.complete = False
        cut = passage.ended and not passage.complete
        return Passed(complete=passage.complete, left=passage.left_at is not None, cut=cut)

    async def finish(self, call: Call) -> None:
        """The body is complete."""
        try:
            await call.client.finish()
        except ClientGone:
            if not call.answered:
                self._observer.event("client_gone", product=call.route.product.name)

    # ---- streams of events

    async def serve(self, call: Call, reply: Reply, headers: CIMultiDict[str]) -> None:
        """Pass a stream on and charge it, however it ends."""
        stream = call.route.stream
        assert stream is not None, "only routes with streams serve them"
        meter = EventMeter(stream, reply.headers.get("Content-Encoding", ""), hides=call.hides_report)
        for name in OF_THE_BYTES:  # bytes may be taken out and added
            if meter.decodes or name != "Content-Encoding":
                headers.popall(name, None)
        call.sources["reply_header"], call.sources["reply"] = reply.headers, meter.reply

        def judge(chunk: bytes) -> bytes:
            passing = meter.feed(chunk)
            if meter.ended and not call.client.gone:
                call.answered = True
            return passing

        call.client.when_leaving(lambda: self._leaves(call))
        try:
            passed = await self.pass_on(call, reply, headers, judge, first=[], length=None)
        except asyncio.CancelledError:  # it was read on for long enough, or the gateway stops
            call.content_bytes = meter.content_bytes
            if call.id in self._draining:
                self._observer.event("drain_cut", product=call.route.product.name)
            if self._costs(call, meter, complete=False, left=call.client.gone and not meter.ended):
                self._conclusion.owe(call)
            raise
        finally:
            self._draining.discard(call.id)
        complete = passed.complete or meter.ended  # nothing can be missing after the end
        rest = b""
        if complete:
            try:
                rest = meter.finish()
            except GatewayError:
                complete = meter.ended
        call.content_bytes = meter.content_bytes
        if _ends_by_closing(reply) and stream.end is not None and not meter.ended:
            complete = False  # the connection was closed, and the service did not say that this is all
        await self._conclude(call, meter, rest, complete=complete, left=passed.left and not meter.ended)

    async def _conclude(self, call: Call, meter: EventMeter, rest: bytes, *, complete: bool, left: bool) -> None:
        client, stream = call.client, call.route.stream
        if not complete:
            product = call.route.product.name
            if left:
                self._observer.event("drain_cut", product=product)
            else:
                self._observer.event("stream_broken", product=product)
                call.answered = True
            client.abort()  # it must not look complete
        if self._costs(call, meter, complete=complete, left=left):
            await self._conclusion.charge(call)
        else:
            await self._conclusion.fail(call)
        if not complete or left:
            return
        if stream is not None and stream.charge_comment and call.outcome != "conflict":
            rest += _comment(call, meter)
        try:
            if client.write(rest):
                await client.drained()
        except ClientGone:
            return
        await self.finish(call)

    @staticmethod
    def _costs(call: Call, meter: EventMeter, *, complete: bool, left: bool) -> bool:
        """Whether a stream that ended like this is charged.

        What was delivered is, and what a client did not wait for. Nothing is where the service failed or broke off
        before its first content, nor for an end without an event, unless it reports usage.
        """
        if meter.delivered or meter.failed:
            return meter.delivered
        metering = call.route.metering
        assert metering is not None, "a stream is metered"
        return left or (complete and (meter.spoke or read_usage(metering.measures, call.sources).reported))

    def _leaves(self, call: Call) -> None:
        """The client has left: the stream is read on, unless as many as may be are."""
        if call.answered or call.id in self._draining:
            return
        if len(self._draining) >= self._drains_max:
            self._observer.event("drain_refused", product=call.route.product.name)
            call.client.drain_within(0.0)
        else:
            self._draining.add(call.id)


def _ends_by_closing(reply: Reply) -> bool:
    """Whether nothing but the end of the connection ends the body (RFC 9112 6.3)."""
    return reply.length is None and "chunked" not in reply.headers.get("Transfer-Encoding", "").lower()


def _comment(call: Call, meter: EventMeter) -> bytes:
    """What the call was charged, in a line that every reader of events skips."""
    ends = "\n\n" if meter.unended else ""
    charge = format_usd(call.charged if call.charged is not None else ZERO)
    return f"{ends}: gateway call_id={call.id} charge={charge} currency=USD\n\n".encode()
