"""Prometheus metrics. Labels are bounded: products, routes and codes are the config's and ours, never a client's.

Owns: the names of the metrics. Does not know: HTTP; whoever serves `/metrics` renders `registry`.
"""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.ports import CallFinished

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """An `Observer` that counts."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._calls = Counter(
            "gateway_calls",
            "Calls, by how they ended.",
            ("product", "route", "outcome", "status_class"),
            registry=registry,
        )
        self._refusals = Counter("gateway_refusals", "Calls refused, by code.", ("product", "code"), registry=registry)
        self._charges = Counter(
            "gateway_charges_nanos", "Nano-dollars charged.", ("product", "basis"), registry=registry
        )
        self._late = Counter("gateway_late_charges", "Charges whose hold had expired.", ("product",), registry=registry)
        self._above = Counter(
            "gateway_charged_above_hold_nanos", "Nano-dollars charged beyond the hold.", ("product",), registry=registry
        )
        self._gone = Counter(
            "gateway_clients_gone", "Clients that left before the end.", ("product",), registry=registry
        )
        self._seconds = Histogram(
            "gateway_call_seconds", "From request head to answer.", ("product",), registry=registry, buckets=_SECONDS
        )
        self._upstream_seconds = Histogram(
            "gateway_upstream_seconds",
            "From forwarding to the reply's head.",
            ("product",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._settle_seconds = Histogram(
            "gateway_settle_seconds", "One settlement in the ledger.", ("product",), registry=registry, buckets=_SECONDS
        )
        self._events = Counter(
            "gateway_events", "What ops should know of, by name.", ("event", "product"), registry=registry
        )
        self.holds_open = Gauge("gateway_holds_open", "Holds that this process serves.", registry=registry)
        self.calls_open = Gauge("gateway_calls_open", "Calls under way.", registry=registry)
        self.spool_pending = Gauge(
            "gateway_spool_pending", "Ledger operations that wait in the spool.", registry=registry
        )
        self.allowance = Gauge(
            "gateway_local_allowance_nanos", "Nano-dollars admitted while the ledger is away.", registry=registry
        )
        self.ledger_up = Gauge("gateway_ledger_up", "Whether the ledger answered the last check.", registry=registry)
        self.info = Gauge("gateway_info", "Always 1.", ("version", "config"), registry=registry)
        self._call = cache(self._calls.labels)
        self._product = cache(self._children)

    def _children(self, product: str) -> tuple[Histogram, Histogram, Histogram, Counter]:
        return (
            self._seconds.labels(product),
            self._upstream_seconds.labels(product),
            self._settle_seconds.labels(product),
            self._charges.labels(product, "reported"),
        )

    def call_finished(self, record: CallFinished) -> None:
        """See `Observer`."""
        product = record.product
        self._call(product, record.route, record.outcome, f"{record.status // 100}xx").inc()
        seconds, upstream_seconds, settle_seconds, charges = self._product(product)
        seconds.observe(record.seconds)
        if record.code:
            self._refusals.labels(product, record.code).inc()
        if record.upstream_status:
            upstream_seconds.observe(record.upstream_seconds)
        if record.settle_seconds:
            settle_seconds.observe(record.settle_seconds)
        if record.charged:
            (self._charges.labels(product, "estimated") if record.estimated else charges).inc(record.charged)
            if record.charged > record.held > 0:
                self._above.labels(product).inc(record.charged - record.held)
        if record.late:
            self._late.labels(product).inc()
        if record.client_gone:
            self._gone.labels(product).inc()

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """See `Observer`."""
        self._events.labels(name, facts.get("product", "")).inc(value)
