"""The names of the metrics, as data: what each means, its labels, its bounds.

Owns: names, help texts, labels, the buckets of histograms, which gauges are summed over processes and which are not,
which counters are there before anything happened. Does not know: figures.

Every label is bounded: by the config (product, route, sink), or by words of ours. A name ends in its unit.
"""

from typing import Final

_CALLS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_OURS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_WAITS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0)
_PRODUCT: Final = ("product",)
_ENDPOINT: Final = ("upstream", "endpoint")

#: name -> (help, labels). `_total` is added by the library.
COUNTERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "gateway_calls": ("Calls, by how they ended.", ("product", "route", "outcome", "status_class")),
    "gateway_refusals": ("Calls that the gateway did not serve, by code.", ("product", "code")),
    "gateway_charges": ("Charges.", ("product", "basis")),
    "gateway_charges_nanos": ("Nano-dollars charged.", ("product", "basis")),
    "gateway_charged_above_hold_nanos": ("Nano-dollars charged beyond the hold.", _PRODUCT),
    "gateway_late_charges": ("Charges whose hold had ended before.", _PRODUCT),
    "gateway_clients_gone": ("Clients that left before the end.", _PRODUCT),
    "gateway_sessions": ("Sessions, by how they ended.", ("product", "ended")),
    "gateway_sessions_unreported": ("Sessions that ended without a report of their time.", _PRODUCT),
    "gateway_session_slices": ("Slices that were held, in sessions that are over.", _PRODUCT),
    "gateway_session_seconds": ("Seconds of sessions by our clock.", _PRODUCT),
    "gateway_session_difference_seconds": ("Seconds by which reports differ from our clock, either way.", _PRODUCT),
    "gateway_job_looks": ("Looks of the gateway itself at open jobs, by what they found.", ("product", "outcome")),
    "gateway_deliveries": ("Attempts at deliveries of the outbox, by outcome.", ("channel", "outcome")),
    "gateway_payments": ("What was told of payments, by what it was.", ("provider", "outcome")),
    "gateway_exported_entries": ("Entries that a sink of the export has kept.", ("sink",)),
    "gateway_export_batches": ("Batches that were put to a sink of the export, by outcome.", ("sink", "outcome")),
    "gateway_events": ("What ops should know of, by name.", ("event", "product")),
    "gateway_upstream_requests": ("What endpoints were asked, by how it went.", (*_ENDPOINT, "outcome")),
    "gateway_cpu_seconds": ("Seconds of processor time.", ("process",)),
}
#: name -> (help, labels, the upper bounds of its buckets)
HISTOGRAMS: Final[dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]]] = {
    "gateway_call_seconds": ("From the request's head to the answer.", _PRODUCT, _CALLS),
    "gateway_upstream_seconds": ("From forwarding to the head of the reply.", _PRODUCT, _CALLS),
    "gateway_added_seconds": ("What the gateway added: until forwarding, and settling.", _PRODUCT, _OURS),
    "gateway_settle_seconds": ("One settlement, or one look at a job, in the ledger.", _PRODUCT, _OURS),
    "gateway_queue_seconds": ("How long a job waited for its place before it was submitted.", _PRODUCT, _WAITS),
    "gateway_loop_lag_seconds": ("How late a worker's event loop woke from a short sleep.", (), _OURS),
}
GAUGES: Final = {
    "gateway_workers": "Workers that take customers' calls.",
    "gateway_workers_configured": "Workers that there should be.",
    "gateway_calls_open": "Calls under way, sessions included.",
    "gateway_sessions_open": "Sockets that are paid for now.",
    "gateway_connections_open": "Connections of customers.",
    "gateway_upstream_connections_open": "Connections to upstreams, idle ones included; not those of sessions.",
    "gateway_file_descriptors_open": "Open files and sockets of the process that has most.",
    "gateway_file_descriptors_max": "How many a process may have.",
    "gateway_resident_bytes": "Memory of all processes.",
    "gateway_job_looks_open": "Looks at jobs under way.",
    "gateway_job_look_lag_accounts": "Accounts with a job whose look is due.",
    "gateway_job_look_lag_seconds": "How late the job is that has waited longest for its look.",
    "gateway_deliveries_open": "Attempts at deliveries under way.",
    "gateway_delivery_lag_accounts": "Accounts with a delivery that is due.",
    "gateway_delivery_lag_seconds": "How late the delivery is that has waited longest.",
    "gateway_export_lag_accounts": "Accounts with something that a sink of the export has not had.",
    "gateway_export_lag_seconds": "For how long the account has waited for the export that waits longest.",
    "gateway_spool_pending": "Ledger operations that wait in the spool.",
    "gateway_spool_unwritten": "Of these, those that the disk has not taken: they are in memory only.",
    "gateway_spool_oldest_seconds": "For how long the operation has waited in the spool that is next.",
    "gateway_ledger_up": "Whether the ledger answers.",
    "gateway_config_last_reload_successful": "Whether the last change of the config, or of certificates, was taken up.",
    "gateway_config_last_reload_success_timestamp_seconds": "When one was last taken up.",
    "gateway_ledger_drift_accounts": "Accounts whose numbers do not agree.",
    "gateway_ledger_drift_nanos": "Nano-dollars by which balances differ from their entries.",
    "gateway_ledger_faults": "Faults of the ledger's servers that can lose money.",
}
GAUGES_BY_PRODUCT: Final = {
    "gateway_holds_open": "Holds of calls that are being served.",
    "gateway_queue_jobs": "Jobs that wait for their place.",
    "gateway_exposure_nanos": "Nano-dollars admitted while the ledger is away, until they are charged.",
}
#: Of services with several endpoints; their labels are the upstream and the endpoint.
GAUGES_BY_ENDPOINT: Final = {
    "gateway_upstream_up": "Workers that give an endpoint new work.",
}
#: Gauges of which the largest of all processes is told; of the others, the sum.
WORST: Final = frozenset(
    {
        "gateway_job_look_lag_seconds",
        "gateway_delivery_lag_seconds",
        "gateway_export_lag_seconds",
        "gateway_spool_oldest_seconds",
        "gateway_file_descriptors_open",
        "gateway_file_descriptors_max",
    }
)
#: Events that somebody is to be called for. They are told as zero before the first: whoever looks for an increase would
#: not see a counter that begins at one.
CALLED_FOR: Final = (
    "credential_refused",
    "hold_expired",
    "internal_error",
    "job_expired",
    "job_gone",
    "model_unknown",
    "settlement_refused",
    "spool_failed",
    "spool_rejected",
    "usage_unknown",
    "worker_lost",
)
