"""What is scraped: names and units, what is there before anything happened, calls as exemplars, several processes."""

import asyncio
import time
from typing import Any, Final

import orjson
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read

from gateway.core.money import Nanos
from gateway.observe.catalogue import CALLED_FOR, COUNTERS, GAUGES, GAUGES_BY_ENDPOINT, GAUGES_BY_PRODUCT, HISTOGRAMS
from gateway.observe.metrics import Metrics
from gateway.observe.saturation import measure, probe
from gateway.ports import CallFinished, QueueLeft

PRODUCTS: Final = ("llm", "stt")
#: What has no unit: it is counted, or is one or zero.
UNITS: Final = ("_seconds", "_bytes", "_nanos", "_accounts", "_jobs")
COUNTED: Final = ("_open", "_max", "_up", "_successful", "_pending", "_unwritten", "_faults", "_configured", "_workers")


def call(number: int, **changes: Any) -> CallFinished:
    """A call of 30 ms, of which the gateway took three."""
    facts: dict[str, Any] = {
        "time": 1_700_000_000.0 + number, "call_id": f"call-{number}", "account": "acme", "key_id": "key",
        "product": "llm", "route": "chat", "method": "POST", "status": 200, "outcome": "settled", "code": "",
        "held": Nanos(5), "charged": Nanos(4), "late": False, "estimated": False, "client_gone": False,
        "seconds": 0.03, "admit_seconds": 0.002, "upstream_seconds": 0.027, "settle_seconds": 0.001,
        "request_bytes": 1, "reply_bytes": 1, "upstream_status": 200, "endpoint": "",
    }  # fmt: skip
    return CallFinished(**{**facts, **changes})


def metrics() -> Metrics:
    return Metrics(version="1", config="c", products=PRODUCTS)


def scraped(found: Metrics) -> dict[str, Metric]:
    """The families by name, as OpenMetrics tells them."""
    encode, _ = choose_encoder("application/openmetrics-text")
    families = read_openmetrics(encode(found.registry).decode())  # type: ignore[no-untyped-call]
    return {family.name: family for family in families}


def values(family: Metric, suffix: str = "_total") -> dict[tuple[str, ...], float]:
    """By the values of the labels in the order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for sample in family.samples
        if sample.name == family.name + suffix
    }


def test_every_name_ends_in_its_unit() -> None:
    """Or in what it counts; no two families meet in one name of a sample."""
    names = [*COUNTERS, *HISTOGRAMS, *GAUGES, *GAUGES_BY_PRODUCT, *GAUGES_BY_ENDPOINT]
    assert [name for name in names[len(COUNTERS) :] if not name.endswith((*UNITS, *COUNTED))] == []
    assert len(set(names)) == len(names)
    assert all(name.startswith("gateway_") for name in names)
    assert all(list(bounds) == sorted(set(bounds)) for _, _, bounds in HISTOGRAMS.values())


def test_what_somebody_is_called_for_begins_at_zero() -> None:
    """Of every product, and of none: the first one is an increase. What counts by product alone is there as well."""
    families = scraped(metrics())
    told = values(families["gateway_events"])
    assert told == {(event, product): 0 for event in CALLED_FOR for product in ("", *PRODUCTS)}
    assert values(families["gateway_late_charges"]) == {("llm",): 0, ("stt",): 0}
    assert values(families["gateway_exposure_nanos"], "") == {("llm",): 0, ("stt",): 0}
    assert values(families["gateway"], "_info") == {("c", "1"): 1}


def test_each_bucket_names_its_last_call() -> None:
    """In OpenMetrics, with what was observed and when; the older form has the same numbers and no names."""
    found = metrics()
    for number, seconds in enumerate((0.03, 0.04, 7.0)):
        found.call_finished(call(number, seconds=seconds))
    family = scraped(found)["gateway_call_seconds"]
    named = {
        sample.labels["le"]: (sample.exemplar.labels, sample.exemplar.value, float(sample.exemplar.timestamp or 0))
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert named == {
        "0.05": ({"call_id": "call-1"}, 0.04, 1_700_000_001),
        "10.0": ({"call_id": "call-2"}, 7.0, 1_700_000_002),
    }
    plain = {family.name: family for family in read(generate_latest(found.registry).decode())}
    assert [(s.name, s.labels, s.value) for s in plain["gateway_call_seconds"].samples] == [
        (s.name, s.labels, s.value) for s in family.samples
    ]


def test_what_the_gateway_added_is_told_beside_what_the_service_took() -> None:
    """Until forwarding and settling; of a call that was not forwarded nothing. Charges are counted and summed."""
    found = metrics()
    found.call_finished(call(1))
    found.call_finished(call(2, estimated=True, charged=Nanos(7)))
    found.call_finished(call(3, admit_seconds=0.0, upstream_status=0, status=402, charged=Nanos(0), settle_seconds=0.0))
    families = scraped(found)
    for name, seconds in (("added", 0.006), ("upstream", 0.054), ("settle", 0.002), ("call", 0.09)):
        family = families[f"gateway_{name}_seconds"]
        count = 3 if name == "call" else 2
        assert values(family, "_count") == {("llm",): count}
        assert abs(values(family, "_sum")["llm",] - seconds) < 1e-9
    assert values(families["gateway_charges"]) == {("reported", "llm"): 1, ("estimated", "llm"): 1}
    assert values(families["gateway_charges_nanos"]) == {("reported", "llm"): 4, ("estimated", "llm"): 7}


def test_a_job_that_waited_is_timed_once_it_is_submitted() -> None:
    """One that was rejected has not had its place."""
    found = metrics()
    for outcome in ("submitted", "rejected"):
        found.queue_left(
            QueueLeft(account="acme", key_id="key", call_id="c", product="stt", outcome=outcome, seconds=40.0)
        )
    assert values(scraped(found)["gateway_queue_seconds"], "_sum") == {("stt",): 40}


def test_several_processes_are_one() -> None:
    """Through JSON, as they report: counts are summed, a bucket names the last call, files are the worst's."""
    everybody, workers = metrics(), [metrics(), metrics()]
    for number, worker in enumerate(workers):
        worker.call_finished(call(number))
        worker.used("worker", 1.5)
        worker.lagged(0.2)
        worker.gauges |= {"gateway_connections_open": 3, "gateway_file_descriptors_open": 10 + number}
        worker.by_product["gateway_holds_open"] = {"llm": 2}
    for worker in reversed(workers):
        everybody.add(orjson.loads(orjson.dumps(worker.figures())), living=True)
    families = scraped(everybody)
    assert values(families["gateway_cpu_seconds"]) == {("worker",): 3.0}
    assert values(families["gateway_loop_lag_seconds"], "_count") == {(): 2}
    assert values(families["gateway_connections_open"], "") == {(): 6}
    assert values(families["gateway_file_descriptors_open"], "") == {(): 11}
    assert values(families["gateway_holds_open"], "") == {("llm",): 4, ("stt",): 0}
    (exemplar,) = {s.exemplar.labels["call_id"] for s in families["gateway_call_seconds"].samples if s.exemplar}
    assert exemplar == "call-1"


async def test_a_loop_that_is_held_up_is_seen() -> None:
    """By a probe that sleeps meanwhile; files, memory and processor of this process are told."""
    found = metrics()
    probing = asyncio.create_task(probe(found))
    await asyncio.sleep(0)
    time.sleep(0.12)
    await probing
    measure(found, "worker")
    families = scraped(found)
    assert values(families["gateway_loop_lag_seconds"], "_sum")[()] >= 0.1
    assert values(families["gateway_cpu_seconds"])["worker",] > 0
    assert 3 <= found.gauges["gateway_file_descriptors_open"] < found.gauges["gateway_file_descriptors_max"]
    assert found.gauges["gateway_resident_bytes"] > 10_000_000
