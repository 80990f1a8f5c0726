"""Jobs: the charge that comes with a terminal status, whoever sees it first.

Owns: what a job's status does to its hold, and asking the upstream for it ("looking").
Does not know: who asked. No result of a job leaves the gateway before the job is settled.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import quote

from multidict import CIMultiDict

from gateway.core import record as records
from gateway.core.alerts import ALERT, anomaly
from gateway.core.extract import Sources
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Charge, PriceTable
from gateway.pipeline import pricing
from gateway.pipeline.books import Settled
from gateway.pipeline.callbacks import WEBHOOK, notice
from gateway.pipeline.meter import Copy, decoded, reply_data
from gateway.pipeline.placing import Placing
from gateway.ports import Clock, Receipt, Resource, ResourceRef, ResourceState, Settlement
from gateway.settings.jobs import Job
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime
from gateway.upstream.ports import UpstreamClient


@records.record
class Concluded:
    """A job that is over: its record as it is then, the charge (None: released) and what became of it."""

    record: Resource
    charge: Charge | None = None
    settled: Settled | None = None
    unheard: bool = False  # its reply has the result under a status that nobody here knows

    @property
    def charged(self) -> Nanos:
        """What this charged; of a charge that waits in the spool, what it is at most. Nothing by a conflict, or where
        somebody else who saw the job's end charged it first.
        """
        if isinstance(self.settled, Receipt):
            return ZERO if self.settled.repeated else self.settled.charged
        return self.charge.amount if self.charge is not None and self.settled == "spooled" else ZERO

    @property
    def told(self) -> bool:
        """Whether somebody else charged it first, and told of that."""
        return isinstance(self.settled, Receipt) and self.settled.repeated

    @property
    def outcome(self) -> str:
        """In a word: settled, released, spooled, conflict."""
        return self.settled if isinstance(self.settled, str) else self.record.state


@records.record
class Seen:
    """What an upstream said of a job. `unread`: its reply is larger than what is read of one."""

    sources: Sources
    unread: bool = False
    gone: bool = False  # it does not know the job


class Bookkeeping(Protocol):
    """What the end of a job does to the ledger: see `Books`."""

    async def settle(self, settlement: Settlement) -> Settled:
        """Charge."""

    async def release(self, account: str, hold_id: str, resource: ResourceRef | None = None) -> None:
        """Give a hold back."""

    async def post(
        self, account: str, delivery_id: str, channel: str, payload: Mapping[str, Any], seconds: float
    ) -> None:
        """Tell somebody outside, in so many seconds."""


class Jobs:
    """Concludes jobs from what an upstream says of them."""

    def __init__(
        self, *, runtime: Runtime, books: Bookkeeping, upstreams: UpstreamClient, placing: Placing, clock: Clock
    ) -> None:
        self._runtime = runtime
        self._books = books
        self._upstreams = upstreams
        self._placing = placing
        self._clock = clock
        #: kind of resource -> (the job, the product of the route that makes it)
        self._made: Mapping[str, tuple[Job, Route]] = {
            route.job.kind: (route.job, route) for route in runtime.routes if route.job is not None
        }

    def job_of(self, record: Resource) -> Job | None:
        """What the settings say of a job; None where they no longer know its kind."""
        return self.of_kind(record.ref.kind)

    def made(self, kind: str) -> tuple[Job, Route] | None:
        """The job of a kind and the route that makes it; None where no product does any more."""
        return self._made.get(kind)

    def of_kind(self, kind: str) -> Job | None:
        """The same by the kind alone."""
        return self._made[kind][0] if kind in self._made else None

    async def look(self, account: str, record: Resource) -> Concluded | None:
        """Ask the upstream how an open job stands and conclude it if it is over; None while it is not.

        Raises UpstreamUnreachable or UpstreamTimeout.
        """
        seen = await self.ask(account, record)
        return None if seen is None else await self.conclude(account, record, seen.sources, unread=seen.unread)

    async def ask(self, account: str, record: Resource) -> Seen | None:
        """What the upstream says of a job; None where it says nothing of it. Raises as `look` does. Changes nothing."""
        job, route = self._made[record.ref.kind]
        upstream = self._placing.of(record, route.product.upstream)
        headers = CIMultiDict({upstream.credential_header: upstream.credential, "X-Account-Id": account})
        path = job.look.replace("{id}", quote(record.upstream_id, safe=""))
        bytes_max = route.product.metered_body_bytes_max
        copy = Copy(bytes_max)
        async with await self._upstreams.send(upstream, "GET", path, headers, None) as reply:
            while (chunk := await reply.chunk()) and not copy.overflown:
                copy.add(chunk)
            plain = decoded(copy.body(), reply.headers.get("Content-Encoding", ""), bytes_max)
            sources: dict[str, Any] = {"reply": reply_data(plain) if plain else None}
            if 200 <= reply.status < 300:
                return Seen(sources=sources, unread=copy.overflown)
            says_so = 400 <= reply.status < 500 and job.gone_when is not None and job.gone_when.met(sources)
            return Seen(sources={}, gone=True) if says_so or reply.status in job.gone_statuses else None

    async def conclude(
        self, account: str, record: Resource, sources: Sources, *, unread: bool = False, deleted: bool = False
    ) -> Concluded | None:
        """Settle or release an open job if `sources["reply"]` shows that it is over; None while it is not.

        `unread`: the reply is larger than what is read of one. Only a completed job's is: its usage is unknown.
        `deleted`: the reply is of its deletion, and what stands where the result would be is no result.
        """
        if record.state != "open" or (entry := self._made.get(record.ref.kind)) is None:
            return None
        job, route = entry
        status = job.status.read(sources)
        if type(status) is not str:
            status = ""
        if status in job.failed:
            await self.tell(account, record, status)
            return await self.release(account, record)
        unheard = status not in job.completed and not unread
        if unheard and (deleted or not job.has_content(sources)):
            return None
        if unheard:
            await self.warn(account, record, "status_unknown")
        await self.tell(account, record, status or min(job.completed))
        facts = record.facts
        seen = {"reply": sources.get("reply"), "job": facts.get("request", {})}
        model = pricing.ran_model(route.product, seen)
        priced = pricing.price(job.metering, model, seen, self._table(record), held_for(record))
        if priced is None:
            return await self.release(account, record)
        charge, usage = priced
        if charge.basis == "estimated":
            await self.warn(account, record, "usage_unknown")
        concluded = await self._charged(account, record, charge, pricing.usage_record(usage))
        return replace(concluded, unheard=unheard)

    async def tell(self, account: str, record: Resource, status: str, *, called_back: bool = True) -> None:
        """Have the client's webhook called, if the service does not call back within the job's grace; at once, where it
        was not given the job.

        Before the job is ended, so that no crash leaves one that is over and told to nobody.
        """
        job = self.job_of(record)
        if job is not None and job.callback is not None and (told := notice(job.callback, record, status)) is not None:
            seconds = job.callback.grace_seconds if called_back else 0
            await self._books.post(account, told.id, WEBHOOK, told.payload, seconds)

    async def warn(self, account: str, record: Resource, what: str) -> None:
        """Tell whoever watches over the account's jobs what went wrong with one, before it is ended."""
        at_ms = int(self._clock.now() * 1000)
        delivery_id, payload = anomaly("job_anomaly", what, product=record.product, call_id=record.hold, at_ms=at_ms)
        await self._books.post(account, delivery_id, ALERT, payload, 0.0)

    async def charge_hold(self, account: str, record: Resource, why: str) -> Concluded:
        """Charge an open job what was held for it, whatever became of it."""
        charge = pricing.charge_of_hold(self._table(record), held_for(record), why)
        return await self._charged(account, record, charge, {})

    async def release(self, account: str, record: Resource) -> Concluded:
        """Give an open job's hold back for good: its result, if there ever is one, is free."""
        await self._books.release(account, record.hold, record.ref)
        return Concluded(record=_ended(record, "released", {}))

    async def _charged(self, account: str, record: Resource, charge: Charge, used: Mapping[str, Any]) -> Concluded:
        made = self._made.get(record.ref.kind)
        settled = await self._books.settle(
            Settlement(
                account=account,
                hold_id=record.hold,
                key_id=record.key_id,
                product=record.product,
                route=made[1].name if made is not None else "",
                call_id=record.hold,
                charge=charge,
                upstream_id=record.upstream_id,
                resource=record.ref,
                resource_usage=used,
            )
        )
        return Concluded(record=_ended(record, "settled", used), charge=charge, settled=settled)

    def _table(self, record: Resource) -> PriceTable:
        """The prices that the job was admitted with; those of today if the config no longer has them."""
        pinned = self._runtime.prices.pinned(record.price_version, record.rate_card)
        if pinned is not None:
            return pinned
        cards = {card for _, card in self._runtime.prices.tables}
        default = self._runtime.tiers[self._runtime.default_tier].rate_card
        card = record.rate_card if record.rate_card in cards else default
        return self._runtime.prices.current(self._clock.now(), card)


def held_for(record: Resource) -> Nanos:
    """What was held for a job when it was admitted."""
    return Nanos(int(record.facts.get("held", 0)))


def _ended(record: Resource, state: ResourceState, usage: Mapping[str, Any]) -> Resource:
    return replace(record, state=state, usage=usage)
