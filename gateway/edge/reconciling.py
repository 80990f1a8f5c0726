"""The reconciler as it is wired: what it looks with, and how much it may ask of each upstream.

Owns: which kind of job is asked for at which upstream. Does not know: what is due (the ledger), what a look does
(pipeline/follow).
"""

from gateway.pipeline.follow import Follower
from gateway.pipeline.jobs import Jobs
from gateway.ports import Clock, Ledger, Observer
from gateway.settings.runtime import Runtime
from gateway.workers.reconciler import Lane, Reconciler


def make_reconciler(runtime: Runtime, *, ledger: Ledger, jobs: Jobs, observer: Observer, clock: Clock) -> Reconciler:
    """The reconciler, with a lane for each upstream that has jobs."""
    lease_seconds = runtime.limits.hold_lease_seconds
    follower = Follower(jobs=jobs, ledger=ledger, observer=observer, answer_seconds_max=lease_seconds / 2)
    upstreams = {route.job.kind: route.product.upstream for route in runtime.routes if route.job is not None}
    lanes = {
        each.name: Lane(together_max=each.looks_max, per_second_max=each.looks_per_second_max)
        for each in upstreams.values()
    }
    by_kind = {kind: lanes[upstream.name] for kind, upstream in upstreams.items()}
    return Reconciler(
        ledger=ledger,
        follow=follower.follow,
        lanes=[*lanes.values()],
        # A kind that no product makes any more is asked for nowhere: it may take any lane.
        lane_of=lambda job: by_kind.get(job.record.ref.kind) or next(iter(lanes.values())),
        lease_seconds=lease_seconds,
        observer=observer,
        clock=clock,
    )
