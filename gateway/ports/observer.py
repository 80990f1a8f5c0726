"""The ports of time and of what is told: the clock of this process, and the observers.

Owns: the records that observers get. Does not know: logs, Prometheus.
"""

from typing import Protocol

from gateway.core.money import Nanos
from gateway.core.record import open_record, record


class Clock(Protocol):
    """Time of this process."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


@open_record
class CallFinished:
    """One call, told to observers when it is over. No key, token, URL query or body is in it.

    `outcome`: refused, passed (free), settled, released, job_accepted, spooled, repeated (an answer or a receipt
    given before), conflict (the ledger refused the charge). Seconds and nano-dollars.
    """

    time: float  # seconds since the epoch, when it was over
    call_id: str
    account: str
    key_id: str
    product: str
    route: str
    method: str
    status: int
    outcome: str
    code: str
    held: Nanos
    charged: Nanos
    late: bool
    estimated: bool
    client_gone: bool
    seconds: float
    admit_seconds: float  # from its head to its forwarding, with its body read; 0: it was not forwarded
    upstream_seconds: float
    settle_seconds: float
    request_bytes: int
    reply_bytes: int
    upstream_status: int
    endpoint: str  # which of the service's answered; empty where it has only one


@open_record
class TracedCallFinished(CallFinished):
    """A call of a trace, recorded or not. `trace_id`: 32 hexadecimal digits, which its client may have given."""

    trace_id: str


@record
class SessionFinished:
    """One session, told to observers when it is over, beside its call.

    `ended`: client, client_lost, upstream, upstream_lost, or the code for which the gateway ended it. `seconds` by our
    clock from its beginning; `difference_seconds` is how far the upstream's report was from that, where there was one.
    """

    product: str
    ended: str
    begun: bool
    reported: bool
    seconds: float
    difference_seconds: float
    slices: int
    warned: bool


@record
class JobLooked:
    """A look of the gateway itself at an open job, told to observers. No id of the upstream's is in it.

    `outcome` while it is open: running, unknown (to the service), silent (the service said nothing); when it is `over`:
    settled, released, spooled, gone, expired, conflict (its hold had another end). `seconds` since it was accepted.
    `trace`: the span of the call that made it, as `traceparent` writes it; empty where that was not recorded.
    """

    account: str
    key_id: str
    call_id: str
    product: str
    outcome: str
    over: bool
    held: Nanos
    charged: Nanos
    estimated: bool
    late: bool
    seconds: float
    trace: str


@record
class QueueLeft:
    """A job has left the queue of its account, told to observers, after so many seconds.

    `outcome`: submitted, rejected.
    """

    account: str
    key_id: str
    call_id: str
    product: str
    outcome: str
    seconds: float


@record
class DeliveryTried:
    """An attempt at a delivery, told to observers.

    `outcome`: delivered, retry, dead, left (its channel has no courier). `attempts` were made before; `seconds` is the
    time that it took.
    """

    account: str
    delivery_id: str
    channel: str
    outcome: str
    why: str
    attempts: int
    seconds: float


@record
class PaymentTold:
    """What became of a payment, told to observers, as often as it is told to us. No id or secret of the provider's.

    `outcome`: paid, declined, pending, unknown (the provider said nothing), capped, refund, dispute, method_added,
    unknown_account, conflict (credited before with another amount), refused. `why`: a decline, in one word.
    """

    account: str
    provider: str
    outcome: str
    amount: Nanos
    why: str


@record
class ExportTried:
    """A batch that was put to a sink of the export, told to observers.

    `outcome`: kept, failed (it is put again). `lag_seconds`: for how long the account had waited that waited longest.
    """

    sink: str
    outcome: str
    accounts: int
    entries: int
    why: str
    seconds: float
    lag_seconds: float


class Observer(Protocol):
    """Told of what happened, after the fact. Must not raise and must not block."""

    def call_finished(self, record: CallFinished) -> None:
        """A call is over."""

    def session_finished(self, record: SessionFinished) -> None:
        """A session is over."""

    def job_looked(self, record: JobLooked) -> None:
        """The gateway looked at a job by itself."""

    def queue_left(self, record: QueueLeft) -> None:
        """A job waits for its place no longer."""

    def delivery_tried(self, record: DeliveryTried) -> None:
        """A delivery was tried."""

    def payment_told(self, record: PaymentTold) -> None:
        """Something was told of a payment."""

    def export_tried(self, record: ExportTried) -> None:
        """A batch was put to a sink."""

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """Something that ops count: `hold_expired`, `spool_replayed`, `ledger_error`, ... Facts are bounded words."""
