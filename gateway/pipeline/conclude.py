"""What a call's end does to the books: charge, job, ownership, release.

Owns: that each of them happens exactly once, reached by a normal end, an error and a call that is cut down alike.
Does not know: bytes. Every operation carries an operation id, so one that was cut in the middle is simply done again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from gateway.core.errors import GatewayError
from gateway.core.exchange import Move, State
from gateway.core.extract import id_of
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Charge
from gateway.pipeline import pricing
from gateway.pipeline.allowance import Allowance
from gateway.pipeline.books import Books, Settled
from gateway.pipeline.call import Answer, Call
from gateway.pipeline.callbacks import known_seconds
from gateway.pipeline.idempotency import NamedCalls
from gateway.pipeline.jobs import Concluded, Jobs, held_for
from gateway.pipeline.listing import tombstone
from gateway.ports import Clock, Observer, Receipt, Resource, ResourceRef, ResourceState, Settlement
from gateway.settings.jobs import Job

_T = TypeVar("_T")
#: How long a list may be paged on from an item that was deleted, in seconds.
_TOMBSTONE_SECONDS: Final = 86_400
_UPSTREAM_ID_MAX: Final = 128


class Conclusion:
    """Concludes calls, and finishes in the background what was cut down."""

    def __init__(
        self,
        *,
        books: Books,
        jobs: Jobs,
        allowance: Allowance,
        named: NamedCalls,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._books = books
        self._jobs = jobs
        self._allowance = allowance
        self._named = named
        self._observer = observer
        self._clock = clock
        self._unfinished: set[asyncio.Task[object]] = set()

    def __repr__(self) -> str:
        return f"<Conclusion unfinished={len(self._unfinished)}>"

    async def drain(self) -> None:
        """Finish the ledger operations of calls that were cut down."""
        while self._unfinished:
            await asyncio.gather(*self._unfinished, return_exceptions=True)

    async def charge(self, call: Call, *, whole: bool = False) -> None:
        """Charge a success. `whole`: its reply was one body, which shows whether it delivered anything."""
        settlement = self._settlement(call, whole=whole)
        if settlement is None:
            await self.fail(call)
            return
        started = self._clock.monotonic()
        try:
            settled = await self._finished(call, partial(self._books.settle, settlement))
        except asyncio.CancelledError:
            self._told_as_owed(call, settlement.charge)
            raise
        call.settle_seconds = self._clock.monotonic() - started
        call.move(Move.SETTLE)
        self._told_of_charge(call, settlement.charge, settled)
        if call.covered_locally:
            self._end_allowance(call, settlement.charge.amount)

    def owe(self, call: Call) -> None:
        """The call is cut down, and is charged all the same: left for `abandon`, which does it in a task."""
        settlement = self._settlement(call)
        if settlement is None:
            return
        call.unfinished = lambda: self._books.settle(settlement)
        self._told_as_owed(call, settlement.charge)
        self._end_allowance(call, settlement.charge.amount)

    def _settlement(self, call: Call, *, whole: bool = False) -> Settlement | None:
        """What a call is charged; None where the policy for unknown usage charges nothing, or nothing was delivered."""
        metering = call.route.metering
        assert metering is not None and call.table is not None, "a metered call was admitted without prices"
        assert call.identity is not None, "a metered call was admitted without a caller"
        call.move(Move.METER)
        product = call.route.product
        model, known = pricing.model_that_ran(product, call.sources)
        charge = pricing.charge(
            metering, model, call.sources, call.table, call.admitted_hold,
            request_bytes=call.request_bytes + call.unseen_bytes, content_bytes=call.content_bytes,
        )  # fmt: skip
        if not known:
            self._observer.event("model_unknown", product=product.name)
        empty = whole and call.content_bytes == 0 and metering.reads_reply
        if charge is None or charge.basis == "estimated" or empty:
            self._observer.event("usage_unknown", product=product.name)
            if empty or (whole and pricing.failed(call.route, call.sources)):
                return None
        if charge is None:
            return None
        return Settlement(
            account=call.identity.account,
            hold_id=call.id,
            key_id=call.identity.key_id,
            product=product.name,
            route=call.route.name,
            call_id=call.id,
            charge=charge,
            upstream_id=_upstream_id(call),
        )

    async def accept_job(self, call: Call) -> None:
        """The upstream made a job: the account owns it, and the hold is the job's from now on."""
        job = call.route.job
        assert job is not None and call.table is not None and call.identity is not None, "a job without admission"
        found = id_of(job.id.read(call.sources))
        if found is None:
            self._observer.event("job_without_id", product=call.route.product.name)
            await self.fail(call)
            return
        record = _record_of_job(call, job, found, "open")
        call.move(Move.ACCEPT_JOB)
        standing = await self._finished(call, lambda: self._take_in(call, job, record))
        if standing == record:
            call.outcome = "job_accepted"
        else:  # its id names a job that the account has, which is paid for by that one's hold; or none can be kept
            call.move(Move.FAIL)
            call.move(Move.RELEASE)
            call.outcome = "released"
            await self._named.free(call)
        if standing is not None:
            await self.observe_job(call, standing)

    async def _take_in(self, call: Call, job: Job, record: Resource) -> Resource | None:
        """Have the ledger follow a call's job; where it keeps another record of it, or none, the call holds nothing."""
        accept = partial(
            self._books.accept,
            call.account,
            record,
            deadline_seconds=job.seconds_max,
            keep_seconds=0,
            look_seconds=job.look_first_seconds * random.uniform(0.8, 1.2),  # noqa: S311 - not a secret
            call_seconds=0 if call.callback is None else known_seconds(job),
        )
        standing = await accept()
        if standing is not None and standing != record and standing.state == "released":
            await self._books.forget(call.account, record.ref)  # that one failed, and this is another attempt
            standing = await accept()
        if standing != record:
            await self._books.release(call.account, call.id)
        return standing

    async def enqueue_job(self, call: Call, own_id: str, kept: bytes) -> bool:
        """The job waits for its place under an id of ours, and the hold is its own from now on. False: it cannot."""
        job = call.route.job
        assert job is not None, "only jobs wait"
        record = _record_of_job(call, job, own_id, "queued")
        known = 0 if call.callback is None else known_seconds(job)
        queued = await self._finished(
            call,
            lambda: self._books.enqueue(
                call.account, record, kept, deadline_seconds=job.seconds_max, call_seconds=known
            ),
        )
        if queued:
            call.move(Move.ACCEPT_JOB)
            call.outcome = "job_accepted"
        return queued

    async def observe_job(self, call: Call, record: Resource, *, unread: bool = False) -> None:
        """The reply may say that the job is over. `unread`: it is over, and its reply is too large to be read."""
        started = self._clock.monotonic()
        concluded = await self._finished(
            call,
            lambda: self._jobs.conclude(
                call.account, record, call.sources, unread=unread, deleted=call.route.deletes is not None
            ),
        )
        if concluded is None:
            return
        call.settle_seconds = self._clock.monotonic() - started
        self._told_of_job(call, concluded)

    async def look(self, call: Call, record: Resource) -> None:
        """Ask the upstream how the job of a call stands, and conclude the job if it is over."""
        seen = await self._jobs.ask(call.account, record)
        if seen is None:
            return
        concluded = await self._finished(
            call, lambda: self._jobs.conclude(call.account, record, seen.sources, unread=seen.unread)
        )
        if concluded is not None:
            self._told_of_job(call, concluded)

    def _told_of_job(self, call: Call, concluded: Concluded) -> None:
        call.record = concluded.record
        if concluded.unheard:
            self._observer.event("job_status_unknown", product=concluded.record.product)
        if concluded.charge is None or concluded.settled is None:
            call.outcome = "released"
            return
        if concluded.told:
            return  # to this call it was over: it is as free as a later one
        call.admitted_hold = held_for(concluded.record)
        if concluded.charge.basis == "estimated":
            self._observer.event("usage_unknown", product=concluded.record.product)
        self._told_of_charge(call, concluded.charge, concluded.settled)

    @staticmethod
    def _told_of_charge(call: Call, charge: Charge, settled: Settled) -> None:
        """What the answer and the observers say of a charge. A conflict charged nothing, and says so."""
        if isinstance(settled, Receipt):
            call.outcome, call.charged, call.late = "settled", settled.charged, settled.late
        else:
            call.outcome = settled
            if settled == "conflict":
                return
            call.charged = charge.amount
        call.estimated = charge.basis == "estimated"

    @staticmethod
    def _told_as_owed(call: Call, charge: Charge) -> None:
        """What the observers say of a charge that is still to be made: they are told before it is."""
        call.outcome, call.charged, call.estimated = "settled", charge.amount, charge.basis == "estimated"

    async def keep_ownership(self, call: Call) -> None:
        route = call.route
        if route.creates is not None:
            found = id_of(route.creates.field.read(call.sources))
            if found is not None:
                resource = Resource(
                    ref=ResourceRef(kind=route.creates.kind, id=found),
                    state="kept",
                    product=route.product.name,
                    facts={} if call.probe is None else call.probe.facts(call.client.content_length),
                    endpoint=call.endpoint,
                )
                keep = route.creates.keep_seconds
                await self._finished(
                    call, lambda: self._books.accept(call.account, resource, deadline_seconds=0, keep_seconds=keep)
                )
            else:
                self._observer.event("resource_without_id", product=route.product.name)
        gone = next((ref for ref in call.resources if ref.kind == route.deletes), None)
        if gone is not None:
            record = call.record
            if record is not None and record.state in ("open", "queued"):
                # Deleted before it was over: nothing was delivered, nothing is charged.
                await self._finished(call, lambda: self._books.release(call.account, record.hold, record.ref))
                call.outcome = "released"
            # Its id stays the account's as an anchor of paging for a while; then it is nobody's.
            buried = Resource(ref=tombstone(gone), state="kept", product=route.product.name, endpoint=call.endpoint)
            await self._finished(
                call,
                lambda: self._books.accept(call.account, buried, deadline_seconds=0, keep_seconds=_TOMBSTONE_SECONDS),
            )
            await self._finished(call, lambda: self._books.forget(call.account, gone))

    async def kept(self, call: Call, answer: Answer | None) -> Answer | None:
        """The answer to a call that its client named, and may ask for once more."""
        await self._finished(call, lambda: self._named.keep(call, answer))
        return answer

    # ---- when it does not go on

    async def fail(self, call: Call) -> None:
        """Nothing was delivered: the hold, if there is one, is given back."""
        if not call.holds:
            return
        if call.state is State.FORWARDED:
            call.move(Move.FAIL)
        call.move(Move.RELEASE)
        call.outcome = "released"
        if call.covered_locally:
            self._end_allowance(call, ZERO)
        else:
            await self._finished(call, lambda: self._books.release(call.account, call.id))
            await self._named.free(call)

    def _end_allowance(self, call: Call, charged: Nanos) -> None:
        if call.covered_locally:
            call.covered_locally = False
            self._allowance.end(call.account, call.route.product.name, call.admitted_hold, charged)

    async def _finished(self, call: Call, operation: Callable[[], Awaitable[_T]]) -> _T:
        call.unfinished = operation
        try:
            result = await operation()
        except GatewayError:  # it is over, and the caller is told; only a call cut down leaves it unfinished
            call.unfinished = None
            raise
        call.unfinished = None
        return result

    def abandon(self, call: Call) -> None:
        """The call was cut down (shutdown, or a client that left too long ago): what is owed is done in a task."""
        operation = call.unfinished
        locally = call.covered_locally
        if locally:
            self._end_allowance(call, call.admitted_hold if operation is not None else ZERO)
        if operation is None:
            if not call.holds or locally:
                return
            account, hold_id = call.account, call.id
            call.outcome = "released"

            def operation() -> Awaitable[object]:
                return self._books.release(account, hold_id)

        task = asyncio.ensure_future(self._awaited(operation))
        self._unfinished.add(task)
        task.add_done_callback(self._finished_later)

    @staticmethod
    async def _awaited(operation: Callable[[], Awaitable[object]]) -> object:
        return await operation()

    def _finished_later(self, task: asyncio.Task[object]) -> None:
        self._unfinished.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._observer.event("unfinished_operation_failed")


def _record_of_job(call: Call, job: Job, job_id: str, state: ResourceState) -> Resource:
    assert call.table is not None and call.identity is not None, "a job without admission"
    facts = {"request": pricing.job_facts(call.route, call.sources), "held": call.admitted_hold}
    if call.callback is not None:
        facts["callback"] = call.callback
    return Resource(
        ref=ResourceRef(kind=job.kind, id=job_id),
        state=state,
        product=call.route.product.name,
        hold=call.id,
        key_id=call.identity.key_id,
        price_version=call.table.version,
        rate_card=call.table.rate_card,
        facts=facts,
        endpoint=call.endpoint,
    )


def _upstream_id(call: Call) -> str:
    """The upstream's own id of the call, for people who compare bills."""
    reply = call.sources.get("reply")
    if type(reply) is not dict:
        return ""
    value = reply.get("request_id")
    if type(value) is not str or len(value) > _UPSTREAM_ID_MAX:
        value = reply.get("id")
    return value if type(value) is str and len(value) <= _UPSTREAM_ID_MAX else ""
