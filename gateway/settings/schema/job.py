"""`jobs.KIND`: a resource whose charge comes with its terminal status."""

from typing import Literal

from gateway.settings.schema.base import Filled, InBody, InBodyAll, Name, Seconds, Settings, Texts, Told, Whole, key
from gateway.settings.schema.callback import CallbackSettings
from gateway.settings.schema.metering import ChargeSettings, Condition, MeasureSettings
from gateway.settings.schema.queue import QueueSettings


class JobSettings(Settings):
    """A resource whose charge comes with its terminal status."""

    id: Told = key("Where the creating reply names it")
    status: InBody = key("Where a reply says how it stands")
    completed: Texts = key("Statuses that settle it", min_length=1)
    failed: Texts = key("Statuses that release its hold", default=list, shown="none")
    content: list[InBodyAll] = key(
        "What counts as its result; name all that clients want. A reply that has some of it settles the job, unless "
        "its status is one of `failed`: a status that is new is no way to a result that nobody paid",
        default=list, shown="none: its status alone settles it",
    )  # fmt: skip
    look: Filled = key("Path at which the gateway itself asks, with `{id}`")
    look_first_seconds: Seconds = key(
        "When the gateway first asks by itself; then after half the job's age each time, and a fifth of jitter",
        default=10.0, unit="seconds", gt=0, le=86400,
    )  # fmt: skip
    look_seconds_max: Seconds = key("Longest pause between two looks", default=300.0, unit="seconds", gt=0, le=86400)
    seconds_max: Whole = key(
        "How long its hold is kept, and the gateway asks", default=86400, unit="seconds", ge=60, le=30 * 86400
    )
    gone_statuses: list[Whole] = key(
        "HTTP statuses that mean that the service does not know it", default=lambda: [404, 410], shown="`[404, 410]`"
    )
    gone_when: Condition | None = key(
        "What another 4xx reply says, where that means the same", default=None, shown="nothing"
    )
    gone_seconds: Whole = key(
        "How long it must be unknown to be gone: a service may learn of it late",
        default=120, unit="seconds", ge=0, le=86400,
    )  # fmt: skip
    gone: Literal["release", "charge_hold"] = key(
        "One that is gone, or not over after seconds_max: `release` gives its credit back, and a result that turns up "
        "all the same is charged then; `charge_hold` charges its hold",
        default="release",
    )
    queue: QueueSettings | None = key("What is said of those that wait for their place", default=None, shown="none")
    callback: CallbackSettings | None = key("How the service calls back when it is over", default=None, shown="none")
    usage: dict[Name, MeasureSettings] = key(
        "The measures, by name; `job.x` is the request's `x`", default=dict, shown="none"
    )
    charges: list[ChargeSettings] = key("The lines of its charge", min_length=1)
    unknown_usage: Literal["charge_hold", "charge_floor", "charge_nothing"] = key(
        "A success that reports no usage: `charge_hold`, `charge_floor` or `charge_nothing`", default="charge_hold"
    )
