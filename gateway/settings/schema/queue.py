"""What clients are told of jobs that wait for their place: the part of a product file that says so."""

from typing import Any

from gateway.settings.schema.base import Filled, InBody, Settings, Whole, key


class QueueSettings(Settings):
    """A job's queue: accounts whose plan says `queued_max` have one beyond their `concurrency`."""

    reply: dict[str, Any] = key(
        "What the reply to such a job has beside the request's own fields, its id and status", default=dict,
        shown="nothing",
    )  # fmt: skip
    kept_bytes_max: Whole = key(
        "What is kept of a job that waits (request and reply); a larger one is refused, as if the queue were full",
        default=128 * 1024, unit="bytes", ge=1024, le=16 * 1024**2,
    )  # fmt: skip
    status: Filled = key("Its status while it waits", default="queued")
    failed: Filled = key("Its status if the service refuses it in the end")
    error: InBody = key("Where a reply says why")
    item: dict[str, Any] = key(
        'How it stands in lists: `"{id}"`, `"{created}"`, `"{url}"` are filled, another `"{x}"` is the reply\'s field',
        default=dict, shown="it does not",
    )  # fmt: skip
