"""What a scrape of /metrics costs the supervisor: figures of many workers summed and written, by how many there are.

`python -m benchmarks.scrape`. Every product, every outcome and code that there is, calls in every bucket: more than a
gateway ever has. Beside it, what a worker's own report costs the worker, once a second and once a scrape.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import orjson
from prometheus_client.exposition import choose_encoder

from gateway.core.errors import Code
from gateway.core.money import Nanos
from gateway.observe.catalogue import CALLED_FOR, HISTOGRAMS
from gateway.observe.metrics import Figures, Metrics
from gateway.ports import CallFinished
from gateway.settings.load import load
from tests.harness import ROOT

WORKERS: Final = (1, 2, 8, 32)
_OUTCOMES: Final = ("refused", "passed", "settled", "released", "job_accepted", "spooled", "repeated", "conflict")
_ROUNDS: Final = 20


def busy(products: dict[str, list[str]]) -> Metrics:
    """A worker that has seen everything."""
    metrics = Metrics(version="1", config="c", products=tuple(products))
    codes = ["", *map(str, Code)]
    for product, routes in products.items():
        for number, route in enumerate(routes):
            for outcome in _OUTCOMES:
                for status in (200, 404, 502):
                    metrics.call_finished(_call(product, route, outcome, status, codes[number % len(codes)]))
        for code in codes:
            metrics.call_finished(_call(product, routes[0], "refused", 402, code))
        for _, _, bounds in HISTOGRAMS.values():
            for bound in bounds:
                metrics.call_finished(_call(product, routes[0], "settled", 200, "", seconds=bound))
        for event in CALLED_FOR:
            metrics.event(event, product=product)
    return metrics


def _call(product: str, route: str, outcome: str, status: int, code: str, *, seconds: float = 0.01) -> CallFinished:
    return CallFinished(
        time=time.time(), call_id="0123456789abcdef01234567", account="a", key_id="k", product=product, route=route,
        method="POST", status=status, outcome=outcome, code=code, held=Nanos(1), charged=Nanos(2), late=True,
        estimated=False, client_gone=True, seconds=seconds, admit_seconds=seconds, upstream_seconds=seconds,
        settle_seconds=seconds, request_bytes=1, reply_bytes=1, upstream_status=status, endpoint="",
    )  # fmt: skip


def milliseconds(work: Callable[[], object]) -> float:
    """Of processor time, the least of some rounds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return best * 1000


def main() -> None:
    """Print the table."""
    runtime = load(ROOT / "gateway.yaml", {})
    products: dict[str, list[str]] = {name: [] for name in runtime.products}
    for route in runtime.routes:
        products[route.product.name].append(route.name)
    products = {name: routes for name, routes in products.items() if routes}
    worker = busy(products)
    said = orjson.dumps(worker.figures())
    report = milliseconds(lambda: orjson.dumps(worker.figures()))
    print(f"a worker's report: {report:.2f} ms, {len(said) / 1024:.0f} KiB")
    encoders = {kind: choose_encoder(kind)[0] for kind in ("text/plain", "application/openmetrics-text")}

    def summed(workers: int) -> Metrics:
        everybody = Metrics(version="1", config="c", products=tuple(products))
        for _ in range(workers):
            figures: Figures = orjson.loads(said)
            everybody.add(figures, living=True)
        return everybody

    for workers in WORKERS:
        everybody = summed(workers)
        print(f"{workers:>2} workers: summed in {milliseconds(partial(summed, workers)):.1f} ms", end="")
        for kind, encode in encoders.items():
            cost, size = milliseconds(partial(encode, everybody.registry)), len(encode(everybody.registry))
            print(f"; {kind}: {cost:.1f} ms, {size / 1024:.0f} KiB", end="")
        print()


if __name__ == "__main__":
    main()
