"""The loops of jobs as they are wired: what the reconciler looks with, and how much it may ask of each upstream; how
many places there are for jobs that wait for one.

Owns: which kind of job is asked for at which upstream. Does not know: what is due (the ledger), what a look does
(pipeline/follow) or a submission (pipeline/queueing).
"""

from gateway.edge.tracing import Around
from gateway.pipeline.follow import Follower
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.queueing import Queueing
from gateway.ports import Clock, FollowedJob, Ledger, Observer
from gateway.settings.runtime import Runtime
from gateway.workers.reconciler import Lane, Reconciler
from gateway.workers.submissions import Submissions


def make_reconciler(
    runtime: Runtime, *, ledger: Ledger, jobs: Jobs, observer: Observer, clock: Clock, tracing: Around
) -> Reconciler:
    """The reconciler, with a lane for each place of an upstream that has jobs."""
    lease_seconds = runtime.limits.hold_lease_seconds
    follower = Follower(jobs=jobs, ledger=ledger, observer=observer, answer_seconds_max=lease_seconds / 2)
    upstreams = {route.job.kind: route.product.upstream for route in runtime.routes if route.job is not None}
    lanes = {
        place.name: Lane(together_max=place.looks_max, per_second_max=place.looks_per_second_max)
        for each in upstreams.values()
        for place in each.places
    }

    def lane_of(job: FollowedJob) -> Lane:
        upstream = upstreams.get(job.record.ref.kind)
        place = None if upstream is None else upstream.at(job.record.endpoint)
        # What no product makes any more, or was made where nothing is now, is asked for nowhere: it may take any lane.
        return lanes[place.name] if place is not None else next(iter(lanes.values()))

    return Reconciler(
        ledger=ledger,
        follow=tracing.work("look", follower.follow),
        lanes=[*lanes.values()],
        lane_of=lane_of,
        lease_seconds=lease_seconds,
        observer=observer,
        clock=clock,
    )


def make_submissions(
    runtime: Runtime, *, ledger: Ledger, queueing: Queueing, observer: Observer, clock: Clock
) -> Submissions:
    """Who submits jobs in their turn."""
    places = {
        (share.concurrency.name, tier.name): share.concurrency
        for tier in runtime.tiers.values()
        for share in tier.products.values()
        if share.concurrency is not None
    }
    return Submissions(
        ledger=ledger,
        submit=queueing.submit,
        limits={name: limit.limit for name, limit in places.items()},
        when_negative={name: limit.when_negative for name, limit in places.items() if limit.when_negative},
        lease_seconds=runtime.limits.hold_lease_seconds,
        observer=observer,
        clock=clock,
    )
