"""One look at a job that is followed, and what comes of it: charged, given back, looked at again, given up.

Owns: when a job is looked at next, and when it has been waited for long enough.
Does not know: which jobs are due, or how many are looked at at once (workers/reconciler).
"""

import asyncio
import random
from typing import Final, Literal

from gateway.core import tracecontext
from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.core.money import ZERO
from gateway.pipeline.jobs import Concluded, Jobs, Seen, held_for
from gateway.ports import FollowedJob, JobLooked, Ledger, Observer, Receipt, Resource
from gateway.settings.jobs import Job

#: What a look found of a job that is not over: it runs, the service does not know it, the service said nothing.
Found = Literal["running", "unknown", "silent"]
#: Why a job is not waited for any longer.
Verdict = Literal["gone", "expired"]
#: How often a job is looked for that no product makes any more, in seconds.
_NO_KIND_SECONDS: Final = 3600.0
_WHY: Final = {"gone": "not known to the service any more", "expired": "not over in time"}
_SAID: Final = {"running": False, "unknown": True, "silent": None}


def judge(job: Job, followed: FollowedJob, found: Found) -> float | Verdict:
    """The pause before the next look, in seconds: half of the job's age, within bounds. Or why there is none.

    A service that says nothing is asked more rarely, and for another `seconds_max` after the deadline: the job may be
    over, and its usage is owed.
    """
    record, now = followed.record, followed.now_ms
    patience_ms = job.seconds_max * 1000 if found == "silent" else 0
    if now >= record.deadline_ms + patience_ms:
        return "expired"
    if found == "unknown" and now - (record.gone_ms or now) >= job.gone_seconds * 1000:
        return "gone"
    pause = max(job.look_first_seconds, (now - record.created_ms) / 2000)
    if found == "unknown":
        pause = min(pause, max(job.look_first_seconds, job.gone_seconds))
    elif found == "silent":
        pause *= 2
    return min(pause, job.look_seconds_max)


class Follower:
    """Follows jobs, one look at a time. A service that has not answered within `answer_seconds_max` said nothing."""

    def __init__(self, *, jobs: Jobs, ledger: Ledger, observer: Observer, answer_seconds_max: float) -> None:
        self._jobs = jobs
        self._ledger = ledger
        self._observer = observer
        self._answer_seconds_max = answer_seconds_max

    async def follow(self, followed: FollowedJob) -> None:
        """Look at a claimed job. A fault raises: the job is claimed again after its lease."""
        account, record = followed.account, followed.record
        job = self._jobs.job_of(record)
        if job is None:
            await self._follow_blindly(followed)
            return
        seen = await self._ask(followed)
        if seen is not None:
            concluded = await self._jobs.conclude(account, record, seen.sources, unread=seen.unread)
            if concluded is not None:
                await self._concluded(followed, concluded)
                return
        found: Found = "silent" if seen is None else "unknown" if seen.gone else "running"
        verdict = judge(job, followed, found)
        if not isinstance(verdict, str):
            self._tell(followed, found)
            pause = verdict * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret
            await self._ledger.look_later(account=account, ref=record.ref, seconds=pause, gone=_SAID[found])
            return
        await self._jobs.warn(account, record, verdict)
        for status in sorted(job.failed)[:1]:  # for its client it has failed
            await self._jobs.tell(account, record, status)
        if job.gone == "charge_hold":
            await self._concluded(followed, await self._jobs.charge_hold(account, record, _WHY[verdict]), verdict)
        else:
            await self._give_up(followed, verdict)

    async def _follow_blindly(self, followed: FollowedJob) -> None:
        """No product makes such a job any more: nobody can ask for it, until one does again or its time is over."""
        if followed.now_ms >= followed.record.deadline_ms:
            await self._give_up(followed, "expired")
        else:
            ref = followed.record.ref
            await self._ledger.look_later(account=followed.account, ref=ref, seconds=_NO_KIND_SECONDS)

    async def _ask(self, followed: FollowedJob) -> Seen | None:
        try:
            async with asyncio.timeout(self._answer_seconds_max):
                return await self._jobs.ask(followed.account, followed.record)
        except (UpstreamUnreachable, UpstreamTimeout, TimeoutError):
            return None

    async def _concluded(self, followed: FollowedJob, concluded: Concluded, why: Verdict | None = None) -> None:
        if concluded.settled == "conflict":  # its hold had another end, and there is nothing to wait for
            await self._give_up(followed, "conflict")
            return
        self._tell(followed, why or concluded.outcome, concluded)

    async def _give_up(self, followed: FollowedJob, why: str) -> None:
        record = followed.record
        if await self._ledger.give_up(account=followed.account, ref=record.ref, hold_id=record.hold):
            self._tell(followed, why)

    def _tell(self, followed: FollowedJob, outcome: str, concluded: Concluded | None = None) -> None:
        tell_of_look(self._observer, followed.account, followed.record, outcome, concluded, now_ms=followed.now_ms)


def tell_of_look(
    observer: Observer, account: str, record: Resource, outcome: str, concluded: Concluded | None, *, now_ms: int
) -> None:
    """What observers are told of a look at a job that no call made."""
    if outcome == "gone":
        observer.event("job_gone", product=record.product)
    elif outcome == "expired":
        observer.event("job_expired", product=record.product)
    if concluded is not None and concluded.unheard:
        observer.event("job_status_unknown", product=record.product)
    charge = concluded.charge if concluded is not None else None
    settled = concluded.settled if concluded is not None and not concluded.told else None
    if charge is not None and charge.basis == "estimated" and outcome == "settled" and settled is not None:
        observer.event("usage_unknown", product=record.product)
    observer.job_looked(
        JobLooked(
            account=account,
            key_id=record.key_id,
            call_id=record.hold,
            product=record.product,
            outcome=outcome,
            over=outcome not in _SAID,
            held=held_for(record),
            charged=concluded.charged if concluded is not None else ZERO,
            estimated=charge is not None and charge.basis == "estimated",
            late=isinstance(settled, Receipt) and settled.late,
            seconds=(now_ms - record.created_ms) / 1000,
            trace=str(record.facts.get(tracecontext.FACT, "")),
        )
    )
