"""Jobs, compiled: how their states are told apart, how they are followed, called back for, and queued.

Owns: the shape of it. Does not know: YAML, any single job.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.core.extract import Field, Sources
from gateway.core.pricing import Condition
from gateway.settings.metering import Metering


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """How a service calls back when a job is over: names of fields of the request, of replies, and of its body.

    `url`, `header_name` and `header_value` are what a client gives; replies repeat the first two, and say in
    `has_header` whether there is a header, in `answered` what the client's server answered. Of the callback's body are
    `id` and `status`. With `always` the gateway is called back where a client gives no URL, too.
    """

    url: str
    header_name: str | None = None
    header_value: str | None = None
    has_header: str | None = None
    answered: str | None = None
    id: str
    status: str
    always: bool = False
    grace_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What clients are told of a job that waits for its place: see settings/schema/queue."""

    reply: Mapping[str, Any]
    kept_bytes_max: int
    status: str
    failed: str
    error: Field
    item: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A resource whose charge comes with its terminal status, whoever sees it first.

    `status` in a reply: one of `completed` settles, one of `failed` releases, anything else is still open, unless the
    reply has some of its `content`: then it is completed, whatever the service calls that.
    `look` is the path, with `{id}`, at which the gateway itself asks. `facts` are the request's fields to keep for
    pricing. Job holds live `seconds_max`, and so long the gateway looks: first after `look_first_seconds`, then ever
    more rarely. A job that is unknown there (`gone_statuses`, `gone_when`) for `gone_seconds`, or not over in time,
    ends as `gone` says.
    """

    kind: str
    product: str
    id: Field
    status: Field
    completed: frozenset[str]
    failed: frozenset[str]
    look: str
    seconds_max: int
    metering: Metering
    facts: tuple[Field, ...]
    look_first_seconds: float = 10.0
    look_seconds_max: float = 300.0
    gone_statuses: frozenset[int] = frozenset({404, 410})
    gone_when: Condition | None = None
    gone_seconds: int = 120
    gone: Literal["release", "charge_hold"] = "release"
    content: tuple[Field, ...] = ()
    callback: Callback | None = None
    queue: Queue | None = None

    def has_content(self, sources: Sources) -> bool:
        """Whether a reply has something of its result."""
        return any(value for field in self.content for value in field.read_all(sources))
