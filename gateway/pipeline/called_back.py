"""A service calls back: its job is settled, and then its client is told, in the service's own words.

Owns: the order of the two, and what is answered. Whatever cannot be done now is left to the service, which repeats.
Does not know: HTTP, tokens' signatures, how a client is called (workers/webhooks).
"""

from typing import Final, Literal

from gateway.core.errors import LedgerUnavailable, UpstreamTimeout, UpstreamUnreachable
from gateway.core.splice import with_field
from gateway.pipeline.callbacks import JSON, WEBHOOK, CallbackToken, notice
from gateway.pipeline.follow import tell_of_look
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.meter import parsed
from gateway.ports import Clock, Ledger, Observer, Resource
from gateway.settings.jobs import Job

#: `taken`: what it is about is in the books, and the client will be told. `later`: not yet. `unknown`: it is none of
#: ours. `unreadable`: nobody can tell what it says.
Outcome = Literal["taken", "later", "unknown", "unreadable"]
#: What a client is told is kept until it has arrived.
_TYPE_MAX: Final = 128


class CalledBack:
    """Takes callbacks."""

    def __init__(self, *, ledger: Ledger, jobs: Jobs, observer: Observer, clock: Clock) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._observer = observer
        self._clock = clock

    async def take(self, token: CallbackToken, body: bytes, content_type: str) -> Outcome:
        """Settle the job that a callback is about, then post its client's webhook. The same callback again changes
        nothing.
        """
        job = self._jobs.of_kind(token.kind)
        if job is None or job.callback is None:
            return "unknown"
        data = parsed(body)
        if type(data) is not dict:
            return "unreadable"
        status = data.get(job.callback.status)
        outcome: Outcome = "taken"
        try:
            record = await self._over(token)
            if record == "later":
                outcome = "later"
            elif record is not None:
                await self._tell(token.account, job, record, str(status or ""), body, content_type[:_TYPE_MAX])
        except (LedgerUnavailable, UpstreamUnreachable, UpstreamTimeout):
            outcome = "later"
        if outcome == "later":
            self._observer.event("callback_put_off", product=job.product)
        return outcome

    async def _over(self, token: CallbackToken) -> Resource | Literal["later"] | None:
        """The job, which is over; "later" where it is not, for all we know, or is not in the books yet. None: it was
        deleted, and nobody wants to hear of it.
        """
        ref = await self._ledger.made_by(account=token.account, call_id=token.call_id)
        if ref is None:  # it may be quicker than the reply that names the job
            return "later"
        record = await self._ledger.resource(account=token.account, ref=ref)
        if record is not None and record.state == "queued":  # nor may it be written yet that the service has it
            return "later"
        if record is None or record.state != "open":
            return record
        concluded = await self._jobs.look(token.account, record)
        if concluded is None:
            return "later"
        now_ms = int(self._clock.now() * 1000)
        tell_of_look(self._observer, token.account, record, concluded.outcome, concluded, now_ms=now_ms)
        return concluded.record

    async def _tell(
        self, account: str, job: Job, record: Resource, status: str, body: bytes, content_type: str
    ) -> None:
        assert job.callback is not None, "it called back"
        told = notice(job.callback, record, status, as_client_sees(job, record, body), content_type or JSON)
        if told is not None:
            await self._ledger.post(account=account, delivery_id=told.id, channel=WEBHOOK, payload=told.payload)


def as_client_sees(job: Job, record: Resource, body: bytes) -> bytes:
    """A callback's body as its client is to get it: to the byte what the service said, unless it names the job by an
    id that the client does not know it by.
    """
    assert job.callback is not None, "it called back"
    data = parsed(body)
    if data.get(job.callback.id, record.ref.id) == record.ref.id:
        return body
    changed = with_field(body, data, (job.callback.id,), record.ref.id)
    assert changed is not None, "it is an object"
    return changed
