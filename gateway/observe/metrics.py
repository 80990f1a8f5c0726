"""Prometheus metrics: what happened, counted. Labels are bounded: products, routes and codes are the config's and ours.

Owns: the figures of a process, those of several as one, their form for the library. Does not know: names and meanings
(catalogue), HTTP; whoever serves `/metrics` renders `registry`.

A call is counted in plain dictionaries, a few hundred nanoseconds; the library's families are made when it scrapes.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from gateway.observe.catalogue import (
    CALLED_FOR,
    COUNTERS,
    GAUGES,
    GAUGES_BY_ENDPOINT,
    GAUGES_BY_PRODUCT,
    HISTOGRAMS,
    WORST,
)
from gateway.ports import CallFinished, DeliveryTried, ExportTried, JobLooked, PaymentTold, QueueLeft, SessionFinished

#: All figures of one process, as JSON: counters and histograms by labels, gauges.
Figures = dict[str, Any]


class _Told(NamedTuple):
    """What is known of a call that another process told of."""

    call_id: str
    time: float


class _Times:
    """Observations of one histogram of one product."""

    __slots__ = ("_bounds", "counts", "examples", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        #: The last call of each bucket, and what was observed of it.
        self.examples: dict[int, tuple[float, CallFinished | _Told]] = {}
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    def observe_call(self, seconds: float, record: CallFinished) -> None:
        bucket = bisect_left(self._bounds, seconds)
        self.counts[bucket] += 1
        self.total += seconds
        self.examples[bucket] = seconds, record

    def figures(self) -> list[Any]:
        told = [(bucket, seconds, call.call_id, call.time) for bucket, (seconds, call) in self.examples.items()]
        return [self.counts, self.total, told]

    def add(self, counts: list[int], total: float, examples: list[tuple[int, float, str, float]]) -> None:
        self.counts = [mine + more for mine, more in zip(self.counts, counts, strict=True)]
        self.total += total
        for bucket, seconds, call_id, at in examples:
            if bucket not in self.examples or self.examples[bucket][1].time < at:
                self.examples[bucket] = seconds, _Told(call_id, at)

    def buckets(self) -> list[tuple[Any, ...]]:
        """Cumulative, as the library wants them."""
        found: list[tuple[Any, ...]] = []
        total = 0
        for bucket, (bound, count) in enumerate(zip((*map(str, self._bounds), "+Inf"), self.counts, strict=True)):
            total += count
            told: tuple[Exemplar, ...] = ()
            if bucket in self.examples:
                seconds, call = self.examples[bucket]
                told = (Exemplar({"call_id": call.call_id}, seconds, call.time),)
            found.append((bound, total, *told))
        return found


class Metrics(Collector):
    """An `Observer` that counts. What may alarm is told of every one of `products` from the start, as zero."""

    def __init__(self, *, version: str, config: str, products: Collection[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._info = {"version": version, "config": config}
        self._products = products
        self._counts: dict[str, dict[tuple[str, ...], float]] = {name: defaultdict(int) for name in COUNTERS}
        self._times: dict[str, dict[str, _Times]] = {
            name: defaultdict(partial(_Times, bounds)) for name, (_, _, bounds) in HISTOGRAMS.items()
        }
        self._calls = self._counts["gateway_calls"]
        self._charges_made = self._counts["gateway_charges"]
        self._charges = self._counts["gateway_charges_nanos"]
        self._call_seconds = self._times["gateway_call_seconds"]
        self._upstream_seconds = self._times["gateway_upstream_seconds"]
        self._added_seconds = self._times["gateway_added_seconds"]
        self._settle_seconds = self._times["gateway_settle_seconds"]
        self.gauges: dict[str, float] = dict.fromkeys(GAUGES, 0)
        self.by_product: dict[str, dict[str, float]] = {name: {} for name in GAUGES_BY_PRODUCT}
        #: By "upstream/endpoint": no name has a slash.
        self.by_endpoint: dict[str, dict[str, float]] = {name: {} for name in GAUGES_BY_ENDPOINT}
        self.registry.register(self)

    def call_finished(self, record: CallFinished) -> None:
        """See `Observer`."""
        product = record.product
        self._calls[product, record.route, record.outcome, _CLASSES[record.status // 100]] += 1
        self._call_seconds[product].observe_call(record.seconds, record)
        if record.upstream_status:
            self._upstream_seconds[product].observe(record.upstream_seconds)
        if record.admit_seconds:
            self._added_seconds[product].observe_call(record.admit_seconds + record.settle_seconds, record)
        if record.settle_seconds:
            self._settle_seconds[product].observe(record.settle_seconds)
        if record.charged:
            key = (product, "estimated" if record.estimated else "reported")
            self._charges_made[key] += 1
            self._charges[key] += record.charged
            if record.charged > record.held > 0 and record.status != _SESSION:  # which is held slice by slice
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
            key = (product, "estimated" if record.estimated else "reported")
            self._charges_made[key] += 1
            self._charges[key] += record.charged
            if record.charged > record.held > 0:
                self._counts["gateway_charged_above_hold_nanos"][product,] += record.charged - record.held
        if record.late:
            self._counts["gateway_late_charges"][product,] += 1

    def queue_left(self, record: QueueLeft) -> None:
        """See `Observer`."""
        if record.outcome == "submitted":
            self._times["gateway_queue_seconds"][record.product].observe(record.seconds)

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

    def lagged(self, seconds: float) -> None:
        """The event loop woke so late."""
        self._times["gateway_loop_lag_seconds"][""].observe(seconds)

    def asked(self, asked: Mapping[tuple[str, str, str], int]) -> None:
        """What this process has asked of endpoints since it began: upstream, endpoint, how it went."""
        counts = self._counts["gateway_upstream_requests"]
        for labels, count in asked.items():
            counts[labels] = count

    def count(self, name: str) -> Mapping[tuple[str, ...], float]:
        """A counter as it stands, by the values of its labels."""
        return self._counts[name]

    def used(self, process: str, cpu_seconds: float) -> None:
        """This process has used so much of a processor since it began."""
        self._counts["gateway_cpu_seconds"][process,] = cpu_seconds

    def figures(self) -> Figures:
        """Everything, as another process's `add` takes it."""
        return {
            "counts": {name: list(counts.items()) for name, counts in self._counts.items()},
            "times": {
                name: {product: times.figures() for product, times in products.items()}
                for name, products in self._times.items()
            },
            "gauges": self.gauges,
            "by_product": self.by_product,
            "by_endpoint": self.by_endpoint,
        }

    def add(self, figures: Figures, *, living: bool) -> None:
        """Count what another process counted. The gauges of one that is gone (not `living`) are gone with it."""
        for name, counts in figures["counts"].items():
            for values, count in counts:
                self._counts[name][tuple(values)] += count
        for name, products in figures["times"].items():
            for product, figures_of_one in products.items():
                self._times[name][product].add(*figures_of_one)
        if living:
            for name, value in figures["gauges"].items():
                self.gauges[name] = max(self.gauges[name], value) if name in WORST else self.gauges[name] + value
            for group, of_all in (("by_product", self.by_product), ("by_endpoint", self.by_endpoint)):
                for name, values_of_one in figures[group].items():
                    mine = of_all[name]
                    for label, value in values_of_one.items():
                        mine[label] = mine.get(label, 0) + value

    def collect(self) -> Iterator[Metric]:
        """The library's families, as they stand."""
        for name, (text, labels) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            for values, count in (self._zeros(name, labels) | self._counts[name]).items():
                counter.add_metric(values, count)
            yield counter
        for name, (text, labels, _) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(name, text, labels=labels)
            for product, times in self._times[name].items():
                histogram.add_metric((product,)[: len(labels)], times.buckets(), times.total)
            yield histogram
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=self.gauges[name])
        for name, text in GAUGES_BY_PRODUCT.items():
            gauge = GaugeMetricFamily(name, text, labels=("product",))
            for product, value in (dict.fromkeys(self._products, 0.0) | self.by_product[name]).items():
                gauge.add_metric((product,), value)
            yield gauge
        for name, text in GAUGES_BY_ENDPOINT.items():
            gauge = GaugeMetricFamily(name, text, labels=("upstream", "endpoint"))
            for endpoint, value in self.by_endpoint[name].items():
                gauge.add_metric(endpoint.split("/"), value)
            yield gauge
        yield InfoMetricFamily("gateway", "What runs.", value=self._info)

    def _zeros(self, name: str, labels: tuple[str, ...]) -> dict[tuple[str, ...], float]:
        """What a counter tells before anything has happened."""
        if name == "gateway_events":
            return {(event, product): 0 for event in CALLED_FOR for product in ("", *self._products)}
        return {(product,): 0 for product in self._products} if labels == ("product",) else {}


_SESSION: Final = 101  # the status of calls that opened one
_CLASSES: Final = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")
