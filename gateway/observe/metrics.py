"""Prometheus metrics. Labels are bounded: products, routes and codes are the config's and ours, never a client's.

Owns: the names of the metrics, the figures of several processes as one. Does not know: HTTP; whoever serves
`/metrics` renders `registry`.

A call is counted in plain dictionaries, a few hundred nanoseconds; the library's families are made when it scrapes.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.ports import CallFinished, DeliveryTried, ExportTried, JobLooked, PaymentTold, SessionFinished

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_BUCKETS: Final = (*map(str, _SECONDS), "+Inf")

#: name -> (help, labels). `_total` is added by the library.
COUNTERS: Final = {
    "gateway_calls": ("Calls, by how they ended.", ("product", "route", "outcome", "status_class")),
    "gateway_refusals": ("Calls that the gateway did not serve, by code.", ("product", "code")),
    "gateway_charges_nanos": ("Nano-dollars charged.", ("product", "basis")),
    "gateway_charged_above_hold_nanos": ("Nano-dollars charged beyond the hold.", ("product",)),
    "gateway_late_charges": ("Charges whose hold had ended before.", ("product",)),
    "gateway_clients_gone": ("Clients that left before the end.", ("product",)),
    "gateway_sessions": ("Sessions, by how they ended.", ("product", "ended")),
    "gateway_sessions_unreported": ("Sessions that ended without a report of their time.", ("product",)),
    "gateway_session_slices": ("Slices that were held, in sessions that are over.", ("product",)),
    "gateway_session_seconds": ("Seconds of sessions by our clock.", ("product",)),
    "gateway_session_difference_seconds": ("Seconds by which reports differ from our clock, either way.", ("product",)),
    "gateway_job_looks": ("Looks of the gateway itself at open jobs, by what they found.", ("product", "outcome")),
    "gateway_deliveries": ("Attempts at deliveries of the outbox, by outcome.", ("channel", "outcome")),
    "gateway_payments": ("What was told of payments, by what it was.", ("provider", "outcome")),
    "gateway_exported_entries": ("Entries that a sink of the export has kept.", ("sink",)),
    "gateway_export_batches": ("Batches that were put to a sink of the export, by outcome.", ("sink", "outcome")),
    "gateway_events": ("What ops should know of, by name.", ("event", "product")),
}
HISTOGRAMS: Final = {
    "gateway_call_seconds": "From the request's head to the answer.",
    "gateway_upstream_seconds": "From forwarding to the head of the reply.",
    "gateway_settle_seconds": "One settlement, or one look at a job, in the ledger.",
}
GAUGES: Final = {
    "gateway_workers": "Workers that take customers' calls.",
    "gateway_holds_open": "Holds of calls that are being served.",
    "gateway_calls_open": "Calls under way, sessions included.",
    "gateway_sessions_open": "Sockets that are paid for now.",
    "gateway_job_looks_open": "Looks at jobs under way.",
    "gateway_job_look_lag_seconds": "How late the job was that had waited longest for its look, in the worst worker.",
    "gateway_deliveries_open": "Attempts at deliveries under way.",
    "gateway_delivery_lag_seconds": "How late the delivery was that had waited longest, in the worst worker.",
    "gateway_export_lag_accounts": "Accounts with something that a sink of the export has not had.",
    "gateway_export_lag_seconds": "For how long the account has waited for the export that waits longest.",
    "gateway_spool_pending": "Ledger operations that wait in the spool.",
    "gateway_spool_unwritten": "Of these, those that the disk has not taken: they are in memory only.",
    "gateway_ledger_up": "Whether the ledger answers.",
    "gateway_config_last_reload_successful": "Whether the last change of the config, or of certificates, was taken up.",
    "gateway_config_last_reload_success_timestamp_seconds": "When one was last taken up.",
    "gateway_ledger_drift_accounts": "Accounts whose numbers do not agree.",
    "gateway_ledger_drift_nanos": "Nano-dollars by which balances differ from their entries.",
    "gateway_ledger_faults": "Faults of the ledger's servers that can lose money.",
}
GAUGES_BY_PRODUCT: Final = {
    "gateway_exposure_nanos": "Nano-dollars admitted while the ledger is away, until they are charged.",
}
#: Gauges of which the largest of all processes is told; of the others, the sum.
_WORST: Final = frozenset(
    {"gateway_job_look_lag_seconds", "gateway_delivery_lag_seconds", "gateway_export_lag_seconds"}
)


#: All figures of one process, as JSON: counters and histograms by labels, gauges.
Figures = dict[str, Any]


class _Times:
    """Observations of one histogram of one product."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_BUCKETS)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds

    def add(self, counts: list[int], total: float) -> None:
        self.counts = [mine + more for mine, more in zip(self.counts, counts, strict=True)]
        self.total += total


class Metrics(Collector):
    """An `Observer` that counts."""

    def __init__(self, *, version: str, config: str) -> None:
        self.registry = CollectorRegistry()
        self._info = (version, config)
        self._counts: dict[str, dict[tuple[str, ...], float]] = {name: defaultdict(int) for name in COUNTERS}
        self._times: dict[str, dict[str, _Times]] = {name: defaultdict(_Times) for name in HISTOGRAMS}
        self._calls = self._counts["gateway_calls"]
        self._charges = self._counts["gateway_charges_nanos"]
        self._call_seconds = self._times["gateway_call_seconds"]
        self._upstream_seconds = self._times["gateway_upstream_seconds"]
        self._settle_seconds = self._times["gateway_settle_seconds"]
        self.gauges: dict[str, float] = dict.fromkeys(GAUGES, 0)
        self.by_product: dict[str, dict[str, float]] = {name: {} for name in GAUGES_BY_PRODUCT}
        self.registry.register(self)

    def call_finished(self, record: CallFinished) -> None:
        """See `Observer`."""
        product = record.product
        self._calls[product, record.route, record.outcome, _CLASSES[record.status // 100]] += 1
        self._call_seconds[product].observe(record.seconds)
        if record.upstream_status:
            self._upstream_seconds[product].observe(record.upstream_seconds)
        if record.settle_seconds:
            self._settle_seconds[product].observe(record.settle_seconds)
        if record.charged:
            self._charges[product, "estimated" if record.estimated else "reported"] += record.charged
            if record.charged > record.held > 0:
                self._counts["gateway_charged_above_hold_nanos"][product,] += record.charged - record.held
        if record.code:
            self._counts["gateway_refusals"][product, record.code] += 1
        if record.late:
            self._counts["gateway_late_charges"][product,] += 1
        if record.client_gone:
            self._counts["gateway_clients_gone"][product,] += 1

    def session_finished(self, record: SessionFinished) -> None:
        """See `Observer`."""
        counts, product = self._counts, record.product
        counts["gateway_sessions"][product, record.ended] += 1
        counts["gateway_session_slices"][product,] += record.slices
        counts["gateway_session_seconds"][product,] += record.seconds
        counts["gateway_session_difference_seconds"][product,] += record.difference_seconds
        if record.begun and not record.reported:
            counts["gateway_sessions_unreported"][product,] += 1

    def job_looked(self, record: JobLooked) -> None:
        """See `Observer`."""
        product = record.product
        self._counts["gateway_job_looks"][product, record.outcome] += 1
        if record.charged:
            self._charges[product, "estimated" if record.estimated else "reported"] += record.charged
        if record.late:
            self._counts["gateway_late_charges"][product,] += 1

    def delivery_tried(self, record: DeliveryTried) -> None:
        """See `Observer`."""
        self._counts["gateway_deliveries"][record.channel, record.outcome] += 1

    def payment_told(self, record: PaymentTold) -> None:
        """See `Observer`."""
        self._counts["gateway_payments"][record.provider, record.outcome] += 1

    def export_tried(self, record: ExportTried) -> None:
        """See `Observer`."""
        self._counts["gateway_export_batches"][record.sink, record.outcome] += 1
        if record.outcome == "kept":
            self._counts["gateway_exported_entries"][record.sink,] += record.entries

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """See `Observer`."""
        self._counts["gateway_events"][name, facts.get("product", "")] += value

    def figures(self) -> Figures:
        """Everything, as another process's `add` takes it."""
        return {
            "counts": {name: list(counts.items()) for name, counts in self._counts.items()},
            "times": {
                name: {product: [times.counts, times.total] for product, times in products.items()}
                for name, products in self._times.items()
            },
            "gauges": self.gauges,
            "by_product": self.by_product,
        }

    def add(self, figures: Figures, *, living: bool) -> None:
        """Count what another process counted. The gauges of one that is gone (not `living`) are gone with it."""
        for name, counts in figures["counts"].items():
            for values, count in counts:
                self._counts[name][tuple(values)] += count
        for name, products in figures["times"].items():
            for product, (counts, total) in products.items():
                self._times[name][product].add(counts, total)
        if living:
            for name, value in figures["gauges"].items():
                self.gauges[name] = max(self.gauges[name], value) if name in _WORST else self.gauges[name] + value
            for name, products in figures["by_product"].items():
                mine = self.by_product[name]
                for product, value in products.items():
                    mine[product] = mine.get(product, 0) + value

    def collect(self) -> Iterator[Metric]:
        """The library's families, as they stand."""
        for name, (text, labels) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            for values, count in self._counts[name].items():
                counter.add_metric(values, count)
            yield counter
        for name, text in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(name, text, labels=("product",))
            for product, times in self._times[name].items():
                histogram.add_metric((product,), _cumulative(times.counts), times.total)
            yield histogram
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=self.gauges[name])
        for name, text in GAUGES_BY_PRODUCT.items():
            gauge = GaugeMetricFamily(name, text, labels=("product",))
            for product, value in self.by_product[name].items():
                gauge.add_metric((product,), value)
            yield gauge
        info = GaugeMetricFamily("gateway_info", "Always 1.", labels=("version", "config"))
        info.add_metric(self._info, 1)
        yield info


_CLASSES: Final = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(_BUCKETS, counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
