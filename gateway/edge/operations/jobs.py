"""What ops may do with jobs, once, for the APIs, the pages and the command line.

Owns: which jobs are shown, and what a job is ended by when a person says so: the same scripts as in traffic.
Does not know: HTTP, the command line; how a job is asked for and priced (pipeline/jobs).
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.core.errors import LedgerRefused, OperationConflict, UpstreamTimeout, UpstreamUnreachable
from gateway.core.money import format_usd
from gateway.core.record import record
from gateway.edge.operations.views import CURRENCY, Data, view_job
from gateway.pipeline.books import Settled, by_steps
from gateway.pipeline.follow import tell_of_look
from gateway.pipeline.jobs import Concluded, Jobs
from gateway.pipeline.placing import Placing
from gateway.ports import Clock, Ledger, Observer, Receipt, Resource, ResourceRef, Settlement
from gateway.settings.plans import PriceBook
from gateway.settings.runtime import Runtime
from gateway.upstream.ports import UpstreamClient


class UnknownJob(LedgerRefused):
    """The account has no job of this kind and id."""


@record
class OpenJob:
    """A job that is not over: when it is looked at next (0: never), its place in the queue of its kind (0: none)."""

    record: Resource
    look_ms: int = 0
    place: int = 0


async def open_jobs(ledger: Ledger, account: str, *, limit: int) -> list[OpenJob]:
    """The account's jobs that are followed, the next one to be looked at first; then those that wait, in order."""
    followed, refs = await asyncio.gather(ledger.jobs(account, limit=limit), ledger.queued(account, limit=limit))
    found = [OpenJob(record=job.record, look_ms=job.look_ms) for job in followed]
    refs = refs[: limit - len(found)]
    records = await asyncio.gather(*(ledger.resource(account=account, ref=ref) for ref in refs))
    places: dict[str, int] = defaultdict(int)
    for ref, waiting in zip(refs, records, strict=True):
        places[ref.kind] += 1
        if waiting is not None:
            found.append(OpenJob(record=waiting, place=places[ref.kind]))
    return found


class _Straight:
    """`Bookkeeping` without a spool: a person is there to hear that the ledger is away, and to try again."""

    def __init__(self, ledger: Ledger, prices: PriceBook) -> None:
        self._ledger = ledger
        self._prices = prices

    async def settle(self, settlement: Settlement) -> Settled:
        """See `Bookkeeping`."""
        try:
            return await self._ledger.settle(await by_steps(self._ledger, self._prices, settlement))
        except OperationConflict:
            return "conflict"

    async def release(self, account: str, hold_id: str, resource: ResourceRef | None = None) -> None:
        """See `Bookkeeping`."""
        await self._ledger.release(account=account, hold_id=hold_id, resource=resource)

    async def post(
        self, account: str, delivery_id: str, channel: str, payload: Mapping[str, Any], seconds: float
    ) -> None:
        """See `Bookkeeping`."""
        await self._ledger.post(
            account=account, delivery_id=delivery_id, channel=channel, payload=payload, seconds=seconds
        )


#: What its client is told of a job that ops took out of the queue.
TAKEN_OUT: Final = "The job was taken out of the queue."


class JobReading:
    """What may be known of an account's jobs. Answers plain data; raises UnknownJob, and what the ledger raises."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def list_jobs(self, account: str, *, limit: int) -> Data:
        """The account's jobs that are followed, the next one to be looked at first; then those that wait, in order."""
        found = await open_jobs(self._ledger, account, limit=limit)
        return {"items": [view_job(job.record, job.look_ms, job.place) for job in found], "next": None}

    async def show_job(self, account: str, ref: ResourceRef) -> Data:
        """One job, over or not, with its place if it waits."""
        record = await self._record(account, ref)
        return view_job(record, place=await self._place(account, record))

    async def _place(self, account: str, record: Resource) -> int:
        """Its place in the queue of its kind; 0: it does not wait."""
        if record.state != "queued":
            return 0
        waiting = [ref for ref in await self._ledger.queued(account) if ref.kind == record.ref.kind]
        return waiting.index(record.ref) + 1 if record.ref in waiting else 0

    async def _record(self, account: str, ref: ResourceRef) -> Resource:
        await self._ledger.account(account)  # raises where there is none
        record = await self._ledger.resource(account=account, ref=ref)
        if record is None or not record.hold:
            raise UnknownJob(f"the account has no {ref.kind} {ref.id}")
        return record


class JobOperations(JobReading):
    """What ops may do with jobs beside. `observer`, where there is one, is told of looks as of the gateway's own."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        runtime: Runtime,
        upstreams: UpstreamClient,
        clock: Clock,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(ledger)
        self._clock = clock
        self._observer = observer
        placing = Placing(runtime)
        books = _Straight(ledger, runtime.prices)
        self._jobs = Jobs(runtime=runtime, books=books, upstreams=upstreams, placing=placing, clock=clock)

    async def settle_job(self, account: str, ref: ResourceRef, *, charge_hold: bool) -> Data:
        """Ask the service now, and end the job by what it says; `charge_hold`: one that is not over costs its hold."""
        record = await self._record(account, ref)
        found: str = "running" if record.state == "open" else record.state
        concluded: Concluded | None = None
        if record.state == "open":
            try:
                concluded = await self._jobs.look(account, record)
            except (UpstreamUnreachable, UpstreamTimeout):
                found = "unreachable"
            if concluded is None and charge_hold:
                concluded = await self._jobs.charge_hold(account, record, "settled by hand")
            if concluded is not None and self._observer is not None:
                now_ms = int(self._clock.now() * 1000)
                tell_of_look(self._observer, account, record, concluded.outcome, concluded, now_ms=now_ms)
        return _settled(account, record, found, concluded)

    async def release_job(self, account: str, ref: ResourceRef) -> Data:
        """Give a job's hold back for good. `released` false: it had ended before."""
        record = await self._record(account, ref)
        if record.state == "queued":
            await self._ledger.reject(account=account, ref=ref, hold_id=record.hold, reason=TAKEN_OUT)
        elif record.state == "open":
            await self._jobs.release(account, record)
        now = await self._record(account, ref)
        released = now.state == "released" != record.state  # it may have been submitted, or settled, meanwhile
        job = self._jobs.job_of(record)
        if released and now.only_here and job is not None and job.queue is not None:
            await self._jobs.tell(account, record, job.queue.failed, called_back=False)
        return {"account": account, "job": view_job(now), "released": released}


def _settled(account: str, record: Resource, found: str, concluded: Concluded | None) -> Data:
    charged = None
    if concluded is not None:
        found = concluded.record.state
        if concluded.settled == "conflict":
            found = "conflict"
        elif isinstance(concluded.settled, Receipt):
            charged = format_usd(concluded.settled.charged)
        record = record if found == "conflict" else replace(record, state=concluded.record.state)
    return {"account": account, "job": view_job(record), "found": found, "charged": charged, **CURRENCY}
