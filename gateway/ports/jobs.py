"""The part of the ledger that knows jobs: those that wait for their place, and those that are followed to their end.

Owns: the promises of those verbs, which the contract's tests check, and their records.
Does not know: upstreams, or what a job is.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.core.record import record
from gateway.ports.records import Resource, ResourceRef


@record
class QueuedJob:
    """A job whose turn it is: its place is taken, and it is to be submitted. `body` is what was kept of its request.

    `allowed`: its key is still in use. `held`: its hold is open; else it is not to be submitted any more, and its
    client is to be told.
    """

    account: str
    record: Resource
    body: bytes
    allowed: bool
    held: bool


@record
class FollowedJob:
    """An open job that the gateway follows: when its next look is, or was, due, and the time (store's clock, ms)."""

    account: str
    record: Resource
    look_ms: int
    now_ms: int


class JobLedger(Protocol):
    """What `Ledger` promises of its methods holds here too."""

    # ---- those that wait for their place

    async def enqueue(
        self, *, account: str, resource: Resource, body: bytes, deadline_seconds: int, call_seconds: int = 0
    ) -> bool:
        """Put a call that was admitted `queued` into its queue, as a job under an id of ours: from now on the account
        owns it, and its hold has the deadline as its expiry. False: its hold is not open and queued (any more).

        `body` is kept for whom `claim_queued` gives the job to. The order is that of the admissions. Replay: True.
        """

    async def claim_queued(
        self,
        *,
        limit: int,
        lease_seconds: float,
        limits: Mapping[tuple[str, str], int],
        when_negative: Mapping[tuple[str, str], int] | None = None,
    ) -> Sequence[QueuedJob]:
        """Jobs of any account whose turn it is, at most `limit`, first in, first out: each takes a place of its class,
        and nobody else gets it within the lease. One whose claimer was lost is claimed again after the lease.

        `limits`: the places by class and tier; a pair that is not there has no limit, and an account's overrides stand
        in place of both. While an account has no credit, a
        job for which nothing is held has only the places of `when_negative`, or one. The queue of a suspended account
        waits, and holds up no other's; it goes on as soon as the account is active again.
        """

    async def submitted(
        self, *, account: str, ref: ResourceRef, hold_id: str, upstream: str, look_seconds: float, endpoint: str = ""
    ) -> None:
        """A claimed job is at the upstream, which calls it `upstream`, at its `endpoint`; it is followed from now on,
        like one that was accepted. Of one that was ended meanwhile nothing changes.
        """

    async def submit_later(self, *, account: str, ref: ResourceRef, seconds: float) -> None:
        """A claimed job could not be submitted: claim it again after so many seconds. It keeps its place."""

    async def reject(self, *, account: str, ref: ResourceRef, hold_id: str, reason: str) -> None:
        """A queued job will not run: its hold is given back, and its record says why (`usage["error"]`)."""

    async def queued(self, account: str, *, limit: int = ...) -> Sequence[ResourceRef]:
        """The account's jobs that wait for their place, so many at most, the next one of each product first."""

    async def waiting(self, classes: Sequence[str]) -> Mapping[str, int]:
        """How many jobs of all accounts wait for their place, by class. For figures: an account may be missing while
        its queue is looked at, and beyond a thousand accounts none is counted.
        """

    async def queued_bodies(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bytes | None]:
        """What is kept of the request of each; None where nothing is (any more)."""

    async def ids_of_ours(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[str | None]:
        """For each, named by the upstream's id, the id that we gave it; None where the account knows it by the
        upstream's.
        """

    # ---- those that are followed

    async def claim_jobs(self, *, limit: int, lease_seconds: float) -> Sequence[FollowedJob]:
        """Open jobs of any account whose look is due, at most `limit`; nobody else gets them within the lease.

        What a lost process had claimed is due again after the lease. A job whose account lost its place in the index
        of accounts comes back with the account's next `sweep`.
        """

    async def look_later(self, *, account: str, ref: ResourceRef, seconds: float, gone: bool | None = None) -> None:
        """A job was looked at (or, with `gone` None, was not): claim it again after so many seconds, if it is followed.

        `gone`: whether the upstream does not know it; Resource.gone_ms is when it was first said and not denied since.
        """

    async def give_up(self, *, account: str, ref: ResourceRef, hold_id: str) -> bool:
        """Follow a job no longer, and end its hold as if its time were over; True if it was followed until now.

        Its record stays open: a result that turns up all the same is charged, late.
        """

    async def jobs(self, account: str, *, limit: int = 1000) -> Sequence[FollowedJob]:
        """The account's jobs that are followed, the next one to be looked at first."""
