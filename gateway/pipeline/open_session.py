"""One open session: what its frames and its time make of it.

Owns: when a slice is renewed, when the credit is gone, who ended the session, and that it is settled exactly once.
Does not know: how it was opened (session), the bytes of its frames (sockets), amounts (session_slices, session_meter),
what both sides are told at its end (session_end).

Everything is done by the one task that serves the call; frames only note things down and wake it (session_watcher).
"""

from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDict

from gateway.core.alerts import ALERT, anomaly
from gateway.core.errors import Code, LedgerRefused, LedgerUnavailable, Refused
from gateway.core.exchange import Move
from gateway.pipeline.admit import Admission
from gateway.pipeline.books import Books
from gateway.pipeline.call import Call
from gateway.pipeline.leases import Leases
from gateway.pipeline.refusals import SERVER, rate_fields
from gateway.pipeline.session_end import SessionEnd
from gateway.pipeline.session_frames import warning_frame
from gateway.pipeline.session_meter import SessionMeter, TooManyChanges
from gateway.pipeline.session_outcome import anomaly_of, broken_off, finished, how_it_ended
from gateway.pipeline.session_slices import NEVER, Closed, Outlook, Slices
from gateway.pipeline.session_watcher import SessionWatcher
from gateway.ports import Clock, Ledger, Observer, Resource, ResourceRef
from gateway.settings.plans import PriceBook
from gateway.settings.sessions import Session
from gateway.sockets.ports import Relay, UpstreamSocket, Watch
from gateway.sockets.signal import Signal

_ASK_AGAIN_SECONDS: Final = 0.5
#: How much longer than it may be a session's end can take.
_OVERTIME_SECONDS: Final = 60.0
_GOING_AWAY: Final = 1001
_TOO_MANY_CHANGES: Final = Refused(code=Code.INVALID_REQUEST, details={"reason": "too many changes of one session"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What sessions work with."""

    admission: Admission
    ledger: Ledger
    books: Books
    leases: Leases
    prices: PriceBook
    observer: Observer
    clock: Clock


class OpenSession:
    """A session and its two sockets."""

    __slots__ = (
        "_ask_again_at", "_away_since", "_broken", "_call", "_look_again", "_meter", "_opened_at", "_outlook",
        "_parts", "_prices_change_at", "_relay", "_slices", "_spec", "_told", "_warned", "ended",
    )  # fmt: skip

    def __init__(self, call: Call, spec: Session, parts: Parts) -> None:
        self._call = call
        self._spec = spec
        self._parts = parts
        self._relay: Relay | None = None
        self.ended = Signal()
        self._look_again = False
        self._told = SessionWatcher(
            call=call, session=spec, admission=parts.admission, ledger=parts.ledger, observer=parts.observer,
            began=self._begin, changed=self._change,
        )  # fmt: skip
        # times are monotonic seconds
        self._opened_at = NEVER
        self._outlook = Outlook()
        self._warned = False
        self._broken = ""
        self._prices_change_at = NEVER
        self._away_since: float | None = None
        self._ask_again_at = NEVER

    def __repr__(self) -> str:
        return f"<OpenSession {self._call.id} refused={self._told.refused and self._told.refused.code}>"

    # ---- opening

    @property
    def accepted(self) -> bool:
        """Whether the client's handshake was answered."""
        return self._relay is not None

    def accept(self, watch: Watch, subprotocol: str) -> None:
        """Answer the handshake; ClientGone."""
        call = self._call
        headers = CIMultiDict({"X-Gateway-Call-Id": call.id, "Server": SERVER})
        if call.rates:
            headers.update(rate_fields(call.rates))
        self._relay = call.client.accept_socket(watch, self._told, headers, subprotocol)
        call.status = 101

    async def refuse(self, refused: Refused) -> None:
        """Tell a client that was accepted that there will be no session."""
        self._call.refuse(refused)
        self._parts.leases.discard(self._call.id)  # it was given back, and its client may take its time to close
        self._told.end(refused)
        self._told.opened.set()
        self._end().refuse(refused)
        self._call.answered = True
        await self.relay.over()

    def join(self, upstream: UpstreamSocket) -> None:
        """The upstream is there: from now on the session is open."""
        call, parts = self._call, self._parts
        metering = call.route.metering
        assert metering is not None and call.table is not None, "a session was admitted without prices"
        self._opened_at = now = parts.clock.monotonic()
        self._meter = SessionMeter(
            metering,
            call.route.product,
            call.sources,
            call.table,
            seconds_max=self._spec.seconds_max + _OVERTIME_SECONDS,
        )
        self._slices = Slices(
            call=call, session=self._spec, meter=self._meter, admission=parts.admission, ledger=parts.ledger,
            books=parts.books, leases=parts.leases,
        )  # fmt: skip
        self._plan_price_change(now)
        if not self._spec.begins:
            self._begin()
        self.relay.join(upstream)
        self._told.opened.set()

    @property
    def relay(self) -> Relay:
        """The two sockets, once there are any."""
        assert self._relay is not None, "the client's handshake was not answered"
        return self._relay

    # ---- what others tell

    def look_again(self) -> None:
        """An administrator changed something of the account."""
        self._look_again = True
        self._told.wake.set()

    def end(self, refused: Refused) -> None:
        """End it in good order."""
        self._told.end(refused)

    def part(self) -> None:
        """It is over, or never was."""
        self.ended.set()
        self._told.part()
        if self._relay is not None:
            self._relay.close_client(_GOING_AWAY)  # nothing, unless the call was cut down before it was open

    # ---- running

    async def run(self) -> None:
        """From the joined sockets to the settled books and the closed sockets."""
        call = self._call
        try:
            while not self._told.over:
                await self._told.wait(self._next_at() - self._now())
                await self._step(self._now())
            self._broken = broken_off(self._told, self._spec)
            begun = self._meter.begun
            end = self._end()
            self.relay.mute_client()
            self._meter.stop(self._now())  # what comes after is not the customer's, unless it is reported
            if begun:
                await end.wind_down()
            await self._own()
            call.unfinished = operation = self._slices.closing(self._now())
            self._closed(await operation())
            call.unfinished = None
            await end.see_off(begun=begun)
            await self._tell_if_strange()
            await self.relay.over()
        finally:
            if not self.ended.is_set():  # cut down: what is owed is settled by the call's unfinished operation
                call.unfinished = call.unfinished or self._slices.closing(self._now())
                call.outcome = "settled" if self._meter.begun else "released"
                self.relay.close_upstream(None)
                self.relay.close_client(None)
            self._finished()

    def _next_at(self) -> float:
        """When there is something to do, if nothing is told before."""
        times = [self._expires_at(), self._idle_at(), self._low_at()]
        times += [self._ask_again_at] if self._slices.waiting else [self._outlook.renew_at, self._prices_change_at]
        return min(times)

    def _expires_at(self) -> float:
        """The end of the longest time that this session may last: the product's, or its token's."""
        token = self._call.identity.token if self._call.identity is not None else None
        cap = token.session_seconds_max if token is not None and token.session_seconds_max else NEVER
        return self._opened_at + min(self._spec.seconds_max, cap)

    def _idle_at(self) -> float:
        return self.relay.active_at + self._spec.idle_seconds_max if self._spec.idle_seconds_max else NEVER

    def _low_at(self) -> float:
        return NEVER if self._warned else self._outlook.low_at

    async def _step(self, now: float) -> None:
        await self._own()
        if self._told.over:
            return
        if now >= self._expires_at():
            self.end(Refused(code=Code.SESSION_EXPIRED))
        elif now >= self._idle_at():
            self.end(Refused(code=Code.SESSION_IDLE))
        elif self._slices.waiting:
            if now >= self._ask_again_at:
                await self._renew(now)
        elif (
            self._look_again or now >= min(self._outlook.renew_at, self._prices_change_at) or self._slices.used_up(now)
        ):
            await self._renew(now)
        if now >= self._low_at() and not self._told.over:
            self._warn(now)

    async def _own(self) -> None:
        """The session has a name: it is the account's."""
        if not self._told.id_is_new:
            return
        self._told.id_is_new = False
        self._slices.upstream_id = self._told.id
        if self._spec.kind:
            ref = ResourceRef(kind=self._spec.kind, id=self._told.id)
            call = self._call
            resource = Resource(ref=ref, state="kept", product=call.route.product.name, endpoint=call.endpoint)
            await self._parts.books.accept(call.account, resource, deadline_seconds=0, keep_seconds=0)

    def _begin(self) -> float:
        """From now on it costs. By when it ends at the latest, in seconds since 1970."""
        if self._told.resumed:
            self._meter.resume()
        try:
            self._meter.begin(self._now())
        except TooManyChanges:
            self.end(_TOO_MANY_CHANGES)
        now = self._now()
        self._outlook = self._slices.outlook(now)
        return self._parts.clock.now() + self._expires_at() - now

    def _change(self, more_products: bool) -> Refused | None:  # noqa: FBT001 - the watcher's callback
        """From now on it costs what it costs then. Only the ledger knows whether its key is for more products."""
        now = self._now()
        try:
            self._meter.change(now)
        except TooManyChanges:
            return _TOO_MANY_CHANGES
        self._outlook = self._slices.outlook(now)
        self._look_again = self._look_again or more_products
        self._told.wake.set()
        return None

    async def _renew(self, now: float) -> None:
        product = self._call.route.product.name
        self._look_again = False
        try:
            refused = await self._slices.renew(now)
        except LedgerUnavailable:
            # It goes on unheld for a while; what it uses is settled later, from the spool if need be.
            if self._away_since is None:
                self._away_since = now
                self._parts.observer.event("session_unheld", product=product)
            if now >= self._away_since + self._spec.redis_grace_seconds:
                self.end(Refused(code=Code.LEDGER_UNAVAILABLE))
            self._ask_again_at = now + _ASK_AGAIN_SECONDS
            return
        except (LedgerRefused, TooManyChanges) as error:
            self._parts.observer.event("session_renewal_failed", product=product, error=type(error).__name__)
            self.end(Refused(code=Code.INTERNAL))
            return
        self._away_since, self._ask_again_at = None, NEVER
        self._plan_price_change(now)
        if refused is not None:
            self._meter.stop(now)  # what comes after is not the customer's
            self._parts.observer.event("session_cut", product=product)
            self.end(self._parts.admission.explained(self._call, refused))
            return
        self._parts.observer.event("hold_renewed", product=product)
        self._outlook = self._slices.outlook(now)
        if self._outlook.low_at - now > self._spec.slice_seconds:
            self._warned = False  # credit came in

    def _plan_price_change(self, now: float) -> None:
        epoch = self._parts.clock.now()
        coming = [start for start in self._parts.prices.starts if start > epoch]
        self._prices_change_at = now + (coming[0] - epoch) if coming else NEVER

    def _warn(self, now: float) -> None:
        """Credit runs low: told to ops, and to the client where its dialect has room for it."""
        self._warned = True
        self._parts.observer.event("session_low_credit", product=self._call.route.product.name)
        frame = warning_frame(self._spec, max(0, round(self._outlook.low_at + self._spec.warn_seconds - now)))
        if frame is not None:
            self.relay.tell_client(frame)

    # ---- the end

    def _end(self) -> SessionEnd:
        return SessionEnd(call=self._call, spec=self._spec, told=self._told, relay=self.relay, clock=self._parts.clock)

    def _now(self) -> float:
        return self._parts.clock.monotonic()

    def _closed(self, closed: Closed) -> None:
        call = self._call
        charged = closed.outcome != "released"
        call.move(Move.METER if charged or self._meter.begun else Move.FAIL)
        call.move(Move.SETTLE if charged else Move.RELEASE)
        call.outcome = closed.outcome
        call.late = call.late or closed.late
        self._parts.leases.discard(self._slices.hold_id)
        self.ended.set()

    async def _tell_if_strange(self) -> None:
        """Tell whoever watches over the account's sessions; after the books are closed and both sides were told."""
        call, now = self._call, self._now()
        if not self._meter.begun:
            return
        what = anomaly_of(
            self._told, self._spec, broken=self._broken, estimated=call.estimated, slices=self._slices.count,
            seconds=now - self._opened_at, client_bytes=self.relay.traffic.client_bytes,
        )  # fmt: skip
        if what:
            at_ms = int(self._parts.clock.now() * 1000)
            product = call.route.product.name
            delivery_id, payload = anomaly("session_anomaly", what, product=product, call_id=call.id, at_ms=at_ms)
            await self._parts.books.post(call.account, delivery_id, ALERT, payload, 0.0)

    def _finished(self) -> None:
        """What observers are told of it."""
        self.ended.set()
        self._parts.leases.discard(self._slices.hold_id)
        call, traffic = self._call, self.relay.traffic
        call.request_bytes, call.reply_bytes = traffic.client_bytes, traffic.upstream_bytes
        ended = how_it_ended(self._told, broken=self._broken)
        call.answered = ended != "client_lost"  # who closes it has had what there was
        self._parts.observer.session_finished(
            finished(
                self._meter, product=call.route.product.name, ended=ended, now=self._now(), slices=self._slices.count,
                warned=self._warned,
            )
        )  # fmt: skip
