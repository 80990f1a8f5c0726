"""The gateway beside a textbook pass-through proxy, nginx and Envoy: same core, same load, interleaved.

`python -m benchmarks.run [--rounds 5] [--seconds 4] [--connections 64]`

Only the gateway looks at a key, holds, charges, counts and logs; nginx and Envoy (where `ENVOY` names its binary) pass
on. So do our own server and connections with nothing between them, and with two bare scripts: what is built on them
cannot be faster. A ratio is the median over rounds of a design / pass-through within the same round. Exits 1 where a
target is missed by more than the run's own spread: in no round was it met. Uses wrk where it is installed, else a
generator of our own.
"""

import argparse
import os
import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import (
    GATEWAY_PORT,
    NGINX_PORT,
    PASSTHROUGH_PORT,
    TESTED,
    UPSTREAM_PORT,
    Stage,
    cpu_seconds,
    load_run,
    load_seconds,
    process,
    resident_kib,
    stage,
    wait_until_up,
)

RATIO_MIN: Final = 2.5
OF_ENVOY_MIN: Final = 0.7
#: What LiteLLM's proxy added over direct on the machine of docs/operating/performance.md, at one connection, in ms.
LITELLM_ADDS_MS: Final = 6.4
ADDED_OF_LITELLM_MAX: Final = 0.35 / 10
ENVOY_PORT: Final = 9706
BARE_PORT, SCRIPTS_PORT = 9707, 9708
ENVOY: Final = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: up}}}}]}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: up
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""

FIGURES: Final = ("rps", "p50", "p99", "cpu_us", "others_us", "rss_mib")
Runs = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Design:
    """What is measured: where it listens, its process, and whether it enforces anything."""

    port: int
    pid: int
    enforces: str = "nothing"
    headers: Mapping[str, str] = field(default_factory=dict)
    """What its clients must send beside the others'."""


@contextmanager
def envoy(on: Stage, binary: str) -> Iterator[Design]:
    """Envoy as a plain proxy."""
    path = on.directory / "envoy.yaml"
    path.write_text(ENVOY.format(port=ENVOY_PORT, upstream=UPSTREAM_PORT))
    argv = (binary, "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error")
    with process(on.directory / "envoy.log", (TESTED,), *argv) as pid:
        wait_until_up(ENVOY_PORT)
        yield Design(ENVOY_PORT, pid)


def measure(designs: Mapping[str, Design], on: Stage, *, rounds: int, seconds: int, connections: int) -> Runs:
    """The runs of each design, interleaved."""
    rows: Runs = {name: [] for name in designs}
    for number in range(rounds):
        for name in list(designs)[:: 1 if number % 2 else -1]:
            design = designs[name]
            before, before_others = cpu_seconds(design.pid), others_seconds(on)
            result = load_run(design.port, connections, seconds, on.directory, design.headers)
            result["rps"] = result["requests"] / result["seconds"]
            result["cpu_us"] = (cpu_seconds(design.pid) - before) * 1e6 / max(1, result["requests"])
            result["others_us"] = (others_seconds(on) - before_others) * 1e6 / max(1, result["requests"])
            result["rss_mib"] = resident_kib(design.pid) / 1024
            rows[name].append(result)
    return rows


def others_seconds(on: Stage) -> float:
    """What the other core has done: load, upstream, Redis."""
    return cpu_seconds(on.upstream) + cpu_seconds(on.redis) + load_seconds()


def ratios(rows: Runs, name: str, figure: str = "rps", reference: str = "pass-through") -> list[float]:
    """A design's figure over the reference's, of each round."""
    pairs = zip(rows[name], rows[reference], strict=True)
    return [run[figure] / other[figure] for run, other in pairs if other[figure]]


def median(rows: Runs, name: str, figure: str) -> float:
    """Over the rounds."""
    return float(statistics.median(run[figure] for run in rows[name]))


def table(rows: Runs, designs: Mapping[str, Design], title: str) -> None:
    """Print what was measured."""
    print(f"\n{title}")
    print("| design | requests/s | ratio (min-max) | p50 ms | p99 ms | CPU us | others' us | MiB | errors | enforces |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for name, design in designs.items():
        of = ratios(rows, name)
        rps, p50, p99, cpu, others, rss = (median(rows, name, each) for each in FIGURES)
        errors = sum(run["errors"] for run in rows[name])
        print(
            f"| {name} | {rps:.0f} | {statistics.median(of):.2f} ({min(of):.2f}-{max(of):.2f}) | {p50:.2f} | {p99:.2f} "
            f"| {cpu:.0f} | {others:.0f} | {rss:.0f} | {errors} | {design.enforces} |"
        )


def verdict(rows: Runs, single: Runs) -> bool:
    """Print each target and whether it was met; whether all were, in at least one round."""
    of, p99 = ratios(rows, "gateway"), ratios(rows, "gateway", "p99")
    direct = median(single, "direct", "p50")
    added = [run["p50"] - direct for run in single["gateway"]]
    allowed = LITELLM_ADDS_MS * ADDED_OF_LITELLM_MAX
    targets = [
        (f"requests/s at least {RATIO_MIN} of the pass-through", statistics.median(of), max(of) >= RATIO_MIN),
        ("p99 below the pass-through's, as a ratio", statistics.median(p99), min(p99) < 1),
        (
            f"at one connection, ms added over direct at most {allowed:.2f}",
            statistics.median(added),
            min(added) <= allowed,
        ),
    ]
    if "Envoy" in rows:
        of = ratios(rows, "gateway", reference="Envoy")
        targets.append((f"requests/s at least {OF_ENVOY_MIN} of Envoy", statistics.median(of), max(of) >= OF_ENVOY_MIN))
    print("\n| target | measured | met |\n|---|---:|---|")
    for text, measured, met in targets:
        print(f"| {text} | {measured:.2f} | {'yes' if met else 'NO'} |")
    print(f"\nOne connection, ms added over direct ({direct:.2f}):", end=" ")
    print(", ".join(f"{name} {median(single, name, 'p50') - direct:.2f}" for name in single if name != "direct"))
    print(f"LiteLLM's proxy added {LITELLM_ADDS_MS} where it was measured.")
    serves = 1e6 / median(rows, "gateway", "others_us")
    print(
        f"By what load, upstream and Redis take of the other core for a call of the gateway, that core serves at most "
        f"{serves:.0f} a second, {serves / median(rows, 'pass-through', 'rps'):.2f} of the pass-through."
    )
    return all(met for _, _, met in targets)


@contextmanager
def standing(on: Stage) -> Iterator[dict[str, Design]]:
    """All designs that this machine has."""
    with ExitStack() as stack:
        found = {
            "pass-through": Design(PASSTHROUGH_PORT, stack.enter_context(on.pass_through())),
            "gateway": Design(GATEWAY_PORT, stack.enter_context(on.gateway()), "keys, limits, credit, charges"),
            "our parsers": Design(BARE_PORT, stack.enter_context(on.bare(BARE_PORT))),
            "our parsers, two bare scripts": Design(
                SCRIPTS_PORT, stack.enter_context(on.bare(SCRIPTS_PORT, scripts=True))
            ),
            "nginx": Design(NGINX_PORT, stack.enter_context(on.nginx())),
        }
        if binary := os.environ.get("ENVOY"):
            assert Path(binary).is_file(), f"no Envoy at {binary}"
            found["Envoy"] = stack.enter_context(envoy(on, binary))
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    with stage() as on, standing(on) as designs:
        direct = Design(UPSTREAM_PORT, on.upstream)
        for design in designs.values():
            load_run(design.port, options.connections, 1, on.directory)
        rows = measure(designs, on, rounds=options.rounds, seconds=options.seconds, connections=options.connections)
        table(rows, designs, f"{options.connections} connections, {options.rounds} rounds of {options.seconds} s")
        alone_seconds = max(1, options.seconds // 2)
        alone = {"direct": direct, **designs}
        single = measure(alone, on, rounds=options.rounds, seconds=alone_seconds, connections=1)
        table(single, alone, f"1 connection, {options.rounds} rounds of {alone_seconds} s")
        met = verdict(rows, single)
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
