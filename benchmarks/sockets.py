"""How many real-time sessions one core serves: the gateway beside bare relays, interleaved in one run.

`python -m benchmarks.sockets [--counts 200,400,...] [--rounds 3] [--seconds 6] [--slice-seconds 30]`

The gateway is the whole one: sessions are admitted, held for in the config's slices, renewed, settled. They are opened
together, so their first renewals come from a third of a slice to five sixths of it, twice as close as later ones: that
is when it is measured. Beside it: its own relay without the money, a relay written with aiohttp's classes, nginx. Core
0 runs what is tested; core 1 both ends of the sockets, and Redis.

A count of sessions is sustained if the p99 of a frame's round trip is at most 10 ms above that of the same count
without a relay, by the median of the rounds. Where that is too slow by itself, core 1 is at its end, and the machine
tells nothing more. A machine that does other things as well delays them all: then the processor's time for a frame and
its answer, beside the aiohttp relay's in the same round, is what tells something.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.harness import (
    GATEWAY_PORT,
    SECRET,
    SUPPORT,
    TESTED,
    books,
    cpu_seconds,
    process,
    seed,
    wait_until_up,
    write_config,
)
from gateway.ledger.embedded import EmbeddedRedis
from gateway.settings.load import load
from gateway.settings.runtime import Runtime

UPSTREAM_PORT, AIOHTTP_PORT, SPLICED_PORT, NGINX_PORT = 9711, 9712, 9713, 9714
AUTHORIZED = f"Authorization: {SECRET}\r\n"
ADDED_MS_MAX = 10.0
REFERENCE = "aiohttp relay"
NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr error; worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
  access_log off; tcp_nodelay on;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_read_timeout 1h;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""

#: When a gateway is measured, as a part of its slices: in the midst of the first renewals.
_RENEWING: Final = 0.4
#: When the others are.
_WARM_SECONDS: Final = 1.5

#: All sessions are of one account, and come from one address.
_UNLIMITED = {
    "connections_max": 100_000, "connections_per_address_max": 0, "calls_max": 100_000, "calls_per_account_max": 0,
}  # fmt: skip
Row = dict[str, float]


class Support:
    """The process of both ends."""

    def __init__(self, port: int) -> None:
        argv = ["taskset", "-c", str(SUPPORT), sys.executable, "-m", "benchmarks.sockets_support", str(port)]
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "READY"

    def _line(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline().strip()

    def run(self, order: dict[str, Any], tested: int) -> Row:
        """One run, with the CPU and the memory of the tested process while it was measured."""
        assert self.child.stdin is not None
        print(json.dumps(order), file=self.child.stdin, flush=True)
        before = memory(tested) if tested else 0.0
        if (line := self._line()) == "MEASURING":
            used = cpu_seconds(tested) if tested else 0.0
            assert self._line() == "MEASURED"
            used, grown = (cpu_seconds(tested) - used, memory(tested) - before) if tested else (0.0, 0.0)
            found: Row = json.loads(self._line())
            return {**found, "cores": used / order["seconds"], "kib": grown / order["sessions"]}
        raise SystemExit(f"a run failed: {line}")

    def stop(self) -> None:
        self.child.terminate()
        self.child.wait(10)


def memory(pid: int) -> float:
    """Resident memory of a process and its children, KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(float(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(memory(int(child)) for child in children)


@contextmanager
def gateway(directory: Path, *, slice_seconds: int) -> Iterator[tuple[int, Runtime]]:
    """The whole gateway in one worker, with an account that can pay; its process id."""
    redis = EmbeddedRedis(directory / "redis", appendonly=False)
    redis.start_sync()
    os.sched_setaffinity(redis.pid or 0, {SUPPORT})
    try:
        path = write_config(directory, redis.url)
        data = yaml.safe_load(path.read_text())
        data["limits"].update(_UNLIMITED)
        data["upstreams"]["streaming"]["base_url"] = f"http://127.0.0.1:{UPSTREAM_PORT}"
        path.write_text(yaml.safe_dump(data))
        product = directory / "config/products/streaming.yaml"
        text = product.read_text().replace("slice_seconds: 30 ", f"slice_seconds: {slice_seconds} ")
        product.write_text(text.replace("renew_before_seconds: 5", f"renew_before_seconds: {slice_seconds // 6}"))
        runtime = load(path, dict(os.environ))
        asyncio.run(seed(runtime))
        argv = (sys.executable, "-m", "gateway", "serve", "-c", str(path), "--workers", "1")
        with process(directory / "gateway.log", (TESTED,), *argv) as pid:
            wait_until_up(GATEWAY_PORT)
            yield pid, runtime
            print("\n" + asyncio.run(books(runtime)))
    finally:
        redis.stop_sync()


@contextmanager
def relays(directory: Path, slice_seconds: int) -> Iterator[dict[str, tuple[int, int]]]:
    """The tested processes: name -> port and process id. "direct" is none."""
    relay = (sys.executable, "-m", "benchmarks.sockets_relays")
    designs: dict[str, tuple[int, tuple[str, ...]]] = {
        REFERENCE: (AIOHTTP_PORT, (*relay, "aiohttp", str(AIOHTTP_PORT), str(UPSTREAM_PORT))),
        "our relay": (SPLICED_PORT, (*relay, "spliced", str(SPLICED_PORT), str(UPSTREAM_PORT))),
    }
    if shutil.which("nginx") is not None:
        config = directory / "nginx.conf"
        config.write_text(NGINX.format(directory=directory, port=NGINX_PORT, upstream=UPSTREAM_PORT))
        designs["nginx"] = (NGINX_PORT, ("nginx", "-p", str(directory), "-c", str(config)))
    with ExitStack() as stack:
        found = {"direct": (UPSTREAM_PORT, 0)}
        pid, _ = stack.enter_context(gateway(directory, slice_seconds=slice_seconds))
        found["gateway"] = (GATEWAY_PORT, pid)
        for name, (port, argv) in designs.items():
            log = directory / f"{name.replace(' ', '-')}.log"
            found[name] = (port, stack.enter_context(process(log, (TESTED,), *argv)))
            wait_until_up(port)
        yield found


def measure(support: Support, tested: dict[str, tuple[int, int]], options: argparse.Namespace) -> None:
    """All counts, in rounds; then the table."""
    counts = [int(count) for count in options.counts.split(",")]
    rows: dict[tuple[str, int], list[Row]] = {}
    for number in range(options.rounds):
        failed: set[str] = set()
        for count in counts:
            names = list(tested)[:1] + (list(tested)[1:] if number % 2 else list(tested)[:0:-1])
            for name in names:
                if name in failed:
                    continue
                port, pid = tested[name]
                warm = options.slice_seconds * _RENEWING if name == "gateway" else _WARM_SECONDS
                order = {
                    "port": port, "sessions": count, "seconds": options.seconds, "fields": AUTHORIZED, "warm": warm
                }  # fmt: skip
                row = support.run(order, pid)
                row["added"] = row["p99"] - rows[("direct", count)][-1]["p99"] if name != "direct" else 0.0
                rows.setdefault((name, count), []).append(row)
                if row["added"] > 20 * ADDED_MS_MAX or row["lost"]:
                    failed.add(name)  # more will not be better, and takes long to calm down
                print(f"  {name} {count}: {row}", file=sys.stderr, flush=True)
    report(rows, list(tested), counts, options)


def report(rows: dict[tuple[str, int], list[Row]], names: list[str], counts: list[int], options: Any) -> None:
    """The tables."""
    print(f"\n20 frames of 3,200 bytes a second and session; {options.rounds} rounds of {options.seconds:g} s")
    print("| sessions | design | answered/s | p50 ms | p99 ms | p99 added | cores | ends' cores |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    sustained = dict.fromkeys(names, 0)
    usable = 0
    for count in counts:
        middle = {
            name: {key: statistics.median(row[key] for row in found) for key in found[0]}
            for name in names if (found := rows.get((name, count)))
        }  # fmt: skip
        for name, row in middle.items():
            print(
                f"| {count} | {name} | {row['answered']:.0f} | {row['p50']:.2f} | {row['p99']:.2f} "
                f"| {row['added']:.2f} | {row['cores']:.2f} | {row['cpu']:.2f} |"
            )
        if middle["direct"]["p99"] > ADDED_MS_MAX:
            break
        usable = count
        for name, row in middle.items():
            if row["added"] <= ADDED_MS_MAX and row["answered"] > 19 * count:
                sustained[name] = count
    print("\n| design | sessions sustained | CPU us/answer | of the aiohttp relay's (min-max) | KiB/session |")
    print("|---|---:|---:|---:|---:|")
    for name in names[1:]:
        at_most = "at least " if sustained[name] == usable else ""
        both = [
            (row["cores"] / row["answered"], other["cores"] / other["answered"])
            for count in counts
            for row, other in zip(rows.get((name, count), []), rows.get((REFERENCE, count), []), strict=False)
        ]
        shares = [own / other for own, other in both]
        grown = max(row["kib"] for (other, _), found in rows.items() if other == name for row in found)
        print(
            f"| {name} | {at_most}{sustained[name]} | {statistics.median(own for own, _ in both) * 1e6:.1f} "
            f"| {statistics.median(shares):.2f} ({min(shares):.2f}-{max(shares):.2f}) | {grown:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="200,600,800,1000,1200,1400,1600,1800,2000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--slice-seconds", type=int, default=30)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="bench-ws-") as name:
        support = Support(UPSTREAM_PORT)
        try:
            with relays(Path(name), options.slice_seconds) as tested:
                measure(support, tested, options)
        finally:
            support.stop()


if __name__ == "__main__":
    main()
