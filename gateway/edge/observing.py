"""Everybody who is told of things: metrics and logs, and the two as one.

Owns: who they are, and that finished calls are told a batch at a time.
Does not know: what they make of it (observe), or who tells.
"""

from gateway import __version__
from gateway.observe.logs import Lines, Logs
from gateway.observe.metrics import Metrics
from gateway.ports import (
    CallFinished,
    DeliveryTried,
    ExportTried,
    JobLooked,
    Observer,
    PaymentTold,
    QueueLeft,
    SessionFinished,
)
from gateway.settings.runtime import Runtime


class Observers:
    """Several observers as one. Finished calls gather, and are told a batch at a time, off the path of a call."""

    _BATCH = 64

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        self._finished: list[CallFinished] = []

    def call_finished(self, record: CallFinished) -> None:
        """See `Observer`."""
        self._finished.append(record)
        if len(self._finished) >= self._BATCH:
            self.flush()

    def flush(self) -> None:
        """Tell what has gathered."""
        finished, self._finished = self._finished, []
        for observer in self._observers:
            for record in finished:
                observer.call_finished(record)

    def session_finished(self, record: SessionFinished) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.session_finished(record)

    def job_looked(self, record: JobLooked) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.job_looked(record)

    def queue_left(self, record: QueueLeft) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.queue_left(record)

    def delivery_tried(self, record: DeliveryTried) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.delivery_tried(record)

    def payment_told(self, record: PaymentTold) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.payment_told(record)

    def export_tried(self, record: ExportTried) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.export_tried(record)

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.event(name, value=value, **facts)


class Observing:
    """Everybody who is told of things: metrics and logs, and the two as one."""

    def __init__(self, runtime: Runtime, *, lines: Lines | None = None) -> None:
        self.metrics = Metrics(version=__version__, config=runtime.digest, products=tuple(runtime.products))
        self.logs = Logs(level=runtime.log_level, stream=lines)
        self.all = Observers(self.metrics, self.logs)

    def flush(self) -> None:
        """Tell and write what has gathered, to the last line."""
        self.all.flush()
        self.logs.tell_repeats(ending=True)
        self.logs.close()

    async def keep_flushing(self) -> None:
        """The same now and then, as the work of a loop, without waiting; lines that repeat others wait for longer."""
        self.all.flush()
        if lost := self.logs.lost():
            self.all.event("log_lost", value=lost)
        self.logs.tell_repeats()
        self.logs.flush()
