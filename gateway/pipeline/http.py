"""One HTTP call, from its bytes to its receipt: identify, admit, forward, meter, settle, respond.

Owns: the order of effects. This is the only place on the path of a call that uses ledger and upstream.
Does not know: aiohttp's server, Redis, or how a refusal is worded.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from multidict import CIMultiDict

from gateway.core.errors import (
    Code,
    GatewayError,
    LedgerUnavailable,
    Refused,
    ServiceRefusesUs,
    UpstreamUnreachable,
    place_of,
)
from gateway.core.exchange import Move, State
from gateway.core.money import format_usd
from gateway.pipeline.admit import Admission
from gateway.pipeline.call import Answer, BodyRefused, Call, Client
from gateway.pipeline.conclude import Conclusion
from gateway.pipeline.finished import finished
from gateway.pipeline.forward import Passing, forwarded_headers, same_body
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.leases import Leases
from gateway.pipeline.listing import own_page
from gateway.pipeline.meter import OF_THE_BYTES, Copy, decoded, parsed
from gateway.pipeline.placing import Placing
from gateway.pipeline.queueing import Queueing, body_upstream_knows, path_upstream_knows
from gateway.pipeline.refusals import SERVER, rate_fields, render
from gateway.pipeline.replies import (
    as_client_sees,
    changes_reply,
    must_be_whole,
    polls_open_job,
    read_again,
    reads_reply,
    require_service,
    shows_result,
)
from gateway.pipeline.session import Sessions
from gateway.pipeline.stream import Streams, asking, is_event_stream
from gateway.ports import Clock, Ledger, Observer
from gateway.settings.routing import Match, Router
from gateway.settings.runtime import Runtime
from gateway.upstream.headers import reply_headers
from gateway.upstream.ports import Reply, UpstreamClient

_EMPTY_BODY: Final = frozenset({204, 205, 304})


class HttpPipeline:
    """Serves calls. Everything that it needs is handed in; it holds no state of its own but work to finish."""

    def __init__(  # noqa: PLR0913 - the parts of the path of a call
        self,
        *,
        runtime: Runtime,
        router: Router,
        admission: Admission,
        ledger: Ledger,
        conclusion: Conclusion,
        jobs: Jobs,
        leases: Leases,
        upstreams: UpstreamClient,
        observer: Observer,
        clock: Clock,
        call_ids: Callable[[], str],
        sessions: Sessions,
        queueing: Queueing,
        placing: Placing,
    ) -> None:
        self._runtime = runtime
        self._router = router
        self._admission = admission
        self._ledger = ledger
        self._conclusion = conclusion
        self._jobs = jobs
        self._leases = leases
        self._upstreams = upstreams
        self._observer = observer
        self._clock = clock
        self._call_ids = call_ids
        self._open = 0
        self._streams = Streams(
            conclusion=conclusion, observer=observer, clock=clock, drains_max=runtime.limits.drains_max
        )
        self.sessions = sessions
        self._queueing = queueing
        self._placing = placing

    def __repr__(self) -> str:
        return f"<HttpPipeline open={self._open}>"

    @property
    def calls_open(self) -> int:
        """Calls under way."""
        return self._open

    @property
    def draining(self) -> int:
        """Streams that are read on after their clients left."""
        return self._streams.draining

    async def serve(self, client: Client) -> Answer | None:
        """The answer to a call, or None where it was streamed (or nobody is left to answer)."""
        match = self._router.match(client.method, client.host, client.raw_path)
        if not isinstance(match, Match):
            code = Code.METHOD_NOT_ALLOWED if match.allowed_methods else Code.ROUTE_NOT_FOUND
            answer = render(self._runtime.default_errors, Refused(code=code), self._call_ids())
            if match.allowed_methods:
                answer.headers["Allow"] = ", ".join(sorted(match.allowed_methods))
            self._observer.event("unrouted")
            return answer
        call = Call(self._call_ids(), client, match.route, match.params, self._clock.monotonic())
        client.drain_within(call.route.product.drain_seconds_max)
        self._open += 1
        try:
            if self._open > self._runtime.limits.calls_max:
                return self._refuse(call, Refused(code=Code.OVERLOADED, retry_after_seconds=1))
            answered = await self._serve(call)
            return await self._conclusion.kept(call, answered) if call.name else answered
        except BodyRefused as error:
            await self._conclusion.fail(call)
            return None if error.refused is None else self._refuse(call, error.refused)
        except GatewayError as fault:
            await self._conclusion.fail(call)
            if isinstance(fault, LedgerUnavailable):
                self._observer.event("ledger_error", product=call.route.product.name)
            elif isinstance(fault, ServiceRefusesUs):
                self._observer.event("credential_refused", product=call.route.product.name)
            return self._refuse(call, Refused(code=fault.code, retry_after_seconds=fault.retry_after_seconds))
        except Exception as error:  # noqa: BLE001 - a fault of ours is answered in the product's dialect as well
            self._observer.event("internal_error", product=call.route.product.name, error=place_of(error))
            await self._conclusion.fail(call)
            return self._refuse(call, Refused(code=Code.INTERNAL))
        finally:
            self._open -= 1
            if call.has_place:
                self._admission.places.leave(call.account)
            self._conclusion.abandon(call)
            self._leases.discard(call.id)
            self._observer.call_finished(finished(call, self._clock))

    def unread(self, reason: str) -> Answer:
        """The answer to what is no request, or could be read as two."""
        self._observer.event("malformed")
        refused = Refused(code=Code.INVALID_REQUEST, details={"reason": reason})
        return render(self._runtime.default_errors, refused, self._call_ids())

    # ---- admit

    async def _serve(self, call: Call) -> Answer | None:
        if call.route.session is not None:
            refused = await self.sessions.serve(call)
            return None if refused is None else self._refuse(call, refused)
        if not call.route.public and (refused := await self._admission.admit(call)) is not None:
            return self._refuse(call, refused)
        if (
            call.record is not None
            or call.repeated is not None
            or call.queued
            or call.route.mints is not None
            or call.route.listing is not None
        ) and (answer := await self._answered_here(call)) is not None:
            return answer
        self._placing.place(call)
        started = self._clock.monotonic()
        call.admit_seconds = started - call.started
        async with await self._forward(call) as reply:
            call.upstream_seconds = self._clock.monotonic() - started
            call.endpoint = reply.endpoint
            if call.record is not None and shows_result(call) and reply.status < 300:
                # The job may have ended since the look before: its result waits until it is charged.
                await self._conclusion.look(call, call.record)
                if shows_result(call):  # nothing is known of its end: the result stays here, the job stays open
                    await self._conclusion.fail(call)
                    kind = call.record.ref.kind
                    return self._refuse(call, Refused(code=Code.JOB_NOT_FINISHED, details={"resource": kind}))
            return await self._relay(call, reply)

    async def _answered_here(self, call: Call) -> Answer | None:
        """The answer to an admitted call for which it is made here; None: it goes on to the service."""
        if call.repeated is not None:
            if call.content is not None and not await same_body(call, call.content):
                return self._refuse(call, Refused(code=Code.IDEMPOTENCY_CONFLICT))
            return self._repeat(call, call.repeated)
        if call.route.mints is not None:
            answer = self.sessions.mint(call, call.route.mints)
            return self._refuse(call, answer) if isinstance(answer, Refused) else self._whole(call, answer)
        if call.queued:
            self._placing.place(call)
            taken = await self._queueing.take(call)
            return self._refuse(call, taken) if isinstance(taken, Refused) else self._whole(call, taken)
        if call.record is not None:
            if (ours := await self._queueing.answer(call, call.record)) is not None:
                return self._refuse(call, ours) if isinstance(ours, Refused) else self._whole(call, ours)
            if call.record.state == "open" and (call.route.reports is None or call.route.deletes):
                # No result of a job leaves the gateway before the job is settled, and none is deleted unpaid.
                await self._conclusion.look(call, call.record)
        if call.route.listing is not None:
            self._placing.place(call)
            of_jobs = self._jobs.of_kind(call.route.listing.kind)
            queue = of_jobs.queue if of_jobs is not None else None
            page = await own_page(call, self._ledger, self._upstreams, self._request_headers(call), queue)
            return self._refuse(call, page) if isinstance(page, Refused) else self._whole(call, page)
        return None

    # ---- forward

    async def _forward(self, call: Call) -> Reply:
        client = call.client
        if call.state is State.ADMITTED:
            call.move(Move.FORWARD)
        path = f"{client.raw_path}?{query}" if (query := call.query) else client.raw_path
        body: bytes | AsyncIterator[bytes] | None = None
        headers = self._request_headers(call)
        if call.body is not None:
            call.request_bytes = len(call.body)
            body = asking(call, headers)
            if call.route.job is not None:
                body = self._admission.callbacks.put_in(call, body, headers)
            if call.record is not None:
                body = body_upstream_knows(call.record, body, headers, call.route.body_bytes_max)
        elif client.has_body:
            body = Passing(call)
            if client.content_length is not None:
                headers["Content-Length"] = str(client.content_length)
        if call.record is not None:
            path = path_upstream_knows(call.record, path)
        try:
            return await self._upstreams.send(call.upstream, client.method, path, headers, body)
        except GatewayError:
            if call.body_refused is not None:  # it is the client's body that failed, not the upstream
                raise call.body_refused from None
            raise

    def _request_headers(self, call: Call) -> CIMultiDict[str]:
        route = call.route
        read = route.reads_replies or route.listing is not None or reads_reply(call) or changes_reply(call, self._jobs)
        return forwarded_headers(call, trust_forwarded_for=self._runtime.trust_forwarded_for, decodable_only=read)

    # ---- meter and respond

    async def _relay(self, call: Call, reply: Reply) -> Answer | None:
        """Answer whole where the body is in hand before the first byte would have to wait for it; else stream."""
        call.upstream_status = reply.status
        if call.route.stream is not None and is_event_stream(reply):
            await self._streams.serve(call, reply, self._head(call, reply))
            return None
        product = call.route.product
        changed = changes_reply(call, self._jobs) and "json" in reply.headers.get("Content-Type", "")
        # Of a refusal too, where its words may be about us.
        whole = must_be_whole(call) or changed if reply.status < 300 else product.may_refuse_us(reply.status)
        bytes_max = product.metered_body_bytes_max if whole else product.whole_body_bytes_max
        received = b""
        if call.client.method != "HEAD" and reply.status not in _EMPTY_BODY:
            came = reply.at_hand()
            if came is None or len(came) > bytes_max:
                came = await self._received(call, reply, came, bytes_max, whole=whole)
                if came is None:
                    return None
            received = came
        body = await self._conclude(call, reply, received)
        headers = reply_headers(reply.headers)
        if body is not received:
            for name in OF_THE_BYTES:
                headers.popall(name, None)
        elif not body and "Content-Length" in reply.headers:  # HEAD and 304 speak of a body that is not sent
            headers["Content-Length"] = reply.headers["Content-Length"]
        return self._whole(call, Answer(status=reply.status, reason=reply.reason, headers=headers, body=body))

    async def _received(
        self, call: Call, reply: Reply, first: bytes | None, bytes_max: int, *, whole: bool
    ) -> bytes | None:
        """A body that is not all there, or is too large, once it is; None where it was streamed instead."""
        # A small one is waited for where the answer's head is to name the charge, or all of it is to be kept.
        wait = whole or (call.metered and (bool(call.name) if reply.length is None else reply.length <= bytes_max))
        chunks: list[bytes] = []
        size = 0
        while chunk := first or await reply.chunk():
            first = None
            chunks.append(chunk)
            size += len(chunk)
            ended = reply.at_end()
            if size > bytes_max or not (wait or ended):
                await self._stream(call, reply, chunks)
                return None
            if ended:
                break
        return b"".join(chunks)

    def _whole(self, call: Call, answer: Answer) -> Answer:
        call.status = answer.status
        call.reply_bytes = len(answer.body)
        self._own_headers(call, answer.headers)
        return answer

    def _repeat(self, call: Call, first: Answer) -> Answer:
        """The answer that a client had before. Its charge and its call are those of then, the rates those of now."""
        call.outcome = "repeated"
        call.status, call.reply_bytes = first.status, len(first.body)
        if call.rates:
            first.headers.extend(rate_fields(call.rates))
        return first

    async def _stream(self, call: Call, reply: Reply, chunks: list[bytes]) -> None:
        """Pass the body on as it comes. A client that leaves does not stop metering, within bounds."""
        if polls_open_job(call) and reply.status < 300 and call.record is not None:
            # Larger than what is read: only a finished job's reply is. It is charged before it leaves, like any other.
            await self._conclusion.observe_job(call, call.record, unread=True)
        if reply.status >= 300:
            require_service(call, reply, b"")  # its words are too many to be read, and its head is not to be seen
        wanted = reads_reply(call) and reply.status < 300
        copy = Copy(call.route.product.metered_body_bytes_max if wanted else 0)
        try:
            passed = await self._streams.pass_on(
                call, reply, self._head(call, reply), copy.add, first=chunks, length=reply.length, wanted=wanted
            )
        except asyncio.CancelledError:  # its client has left, and it was read on for long enough
            if wanted and call.client.gone and self._left_in_the_middle(call, copy):
                self._conclusion.owe(call)
            raise
        if copy.overflown and wanted:
            call.content_bytes = copy.size
            self._observer.event("metered_body_too_large", product=call.route.product.name)
        if passed.complete:
            await self._conclude(call, reply, copy.body())
        else:
            call.answered = not passed.left
            call.client.abort()
            if wanted and passed.cut and self._left_in_the_middle(call, copy):
                await self._conclusion.charge(call)
            else:
                await self._conclusion.fail(call)
        if passed.complete and not passed.left:
            await self._streams.finish(call)

    def _left_in_the_middle(self, call: Call, copy: Copy) -> bool:
        """Whether a reply that was not read to its end is charged: its client, who has left, has some of it."""
        if not call.metered or not call.reply_bytes or call.route.job is not None:  # a job costs once it is known
            return False
        self._observer.event("drain_cut", product=call.route.product.name)
        call.content_bytes = copy.size
        return True

    async def _conclude(self, call: Call, reply: Reply, body: bytes) -> bytes:
        """Everything that follows from a complete reply: ownership, charge, release. The body as the client gets it."""
        if not 200 <= reply.status < 300:
            require_service(call, reply, body)
            await self._conclusion.fail(call)
            return body
        route, sources = call.route, call.sources
        sources["reply_header"] = reply.headers
        plain: bytes | None = None
        if reads_reply(call):
            plain = body
            if coding := reply.headers.get("Content-Encoding", ""):
                plain = decoded(body, coding, route.product.metered_body_bytes_max)
            sources["reply"] = said = parsed(plain) if plain else None
            if body:
                call.content_bytes = len(body if plain is None else plain)
            if type(said) is not dict:
                self._read_again(call, body, plain)
        if route.job is not None:
            await self._conclusion.accept_job(call)
        elif route.metered:
            await self._conclusion.charge(call, whole=True)
        elif call.record is not None and (route.reports is not None or route.deletes is not None):
            await self._conclusion.observe_job(call, call.record)
        if route.creates is not None or route.deletes is not None:
            await self._conclusion.keep_ownership(call)
        return as_client_sees(call, reply, body, plain, self._jobs) if changes_reply(call, self._jobs) else body

    def _read_again(self, call: Call, body: bytes, plain: bytes | None) -> None:
        """No JSON object, at the first look. UpstreamUnreachable where one must be had."""
        if plain:
            read_again(call, plain)
        if type(call.sources["reply"]) is dict:
            return
        if call.route.job is not None or (body and polls_open_job(call)):
            # A job that nobody could find again, or a result that may be in there unpaid.
            self._observer.event("reply_unreadable", product=call.route.product.name)
            raise UpstreamUnreachable("a job's reply cannot be read")

    # ---- what is told

    def _refuse(self, call: Call, refused: Refused) -> Answer:
        call.refuse(refused)
        rates = tuple(state.rate for state in call.rates) or self._admission.rates(call)
        answer = render(call.route.errors or call.route.product.errors, refused, call.id, rates)
        call.status = answer.status
        call.reply_bytes = len(answer.body)
        return answer

    def _head(self, call: Call, reply: Reply) -> CIMultiDict[str]:
        """The head of an answer whose body follows."""
        headers = reply_headers(reply.headers)
        self._own_headers(call, headers)
        return headers

    def _own_headers(self, call: Call, headers: CIMultiDict[str]) -> None:
        ours = {"X-Gateway-Call-Id": call.id, "Server": SERVER}
        if call.charged is not None:
            ours["X-Gateway-Charge"] = format_usd(call.charged)
            ours["X-Gateway-Currency"] = "USD"
        if call.rates:
            ours |= rate_fields(call.rates)
        headers.extend(ours)
