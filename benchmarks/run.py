"""The gateway beside a textbook pass-through proxy: same core, same load, interleaved, credit enforced.

`python -m benchmarks.run [--rounds 5] [--seconds 4] [--connections 64]`

Core 0 runs what is tested, core 1 the load, the upstream and Redis. A ratio is the median over rounds of
gateway / pass-through within the same round. The books are checked at the end: as many charges as answers, no hold
left, every balance recomputed. Uses wrk where it is installed, else a generator of our own.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from gateway.core.money import parse_usd
from gateway.edge.app import open_ledger
from gateway.edge.keys import key_digest
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ports import Key, Plan
from gateway.settings.load import load
from gateway.settings.runtime import Runtime

ROOT = Path(__file__).parent.parent
TESTED, SUPPORT = 0, max(os.sched_getaffinity(0))
UPSTREAM_PORT, PASSTHROUGH_PORT, GATEWAY_PORT, OPS_PORT = 9701, 9702, 9703, 9704
SECRET = "bench-key-0000000000000000"
WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{body}]]
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"errors":%d}}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status + e.connect + e.read + e.write + e.timeout))
end
"""


NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_timeout 3600; keepalive_requests 1000000000; tcp_nodelay on; default_type application/json;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{body}'; }} }}
}}
"""


def upstream_argv(directory: Path) -> list[str]:
    """The fixed upstream: nginx where it is installed, so that core 1 has room; else one of our own."""
    if shutil.which("nginx") is None:
        return [sys.executable, "-m", "benchmarks.upstream", str(UPSTREAM_PORT)]
    from benchmarks.upstream import BODY  # noqa: PLC0415 - only where nginx is there

    path = directory / "nginx.conf"
    path.write_text(NGINX.format(directory=directory, port=UPSTREAM_PORT, body=BODY.decode()))
    return ["nginx", "-p", str(directory), "-c", str(path)]


def write_config(
    directory: Path, redis_url: str, *, upstream_port: int = UPSTREAM_PORT, customers_port: int = GATEWAY_PORT
) -> Path:
    """The project's own config, with the addresses of the benchmark and without limits of rate."""
    data = yaml.safe_load((ROOT / "gateway.yaml").read_text())
    data["customers"]["port"], data["ops"]["port"] = customers_port, OPS_PORT
    data["redis"] = {"url": redis_url}
    data["spool_directory"] = str(directory / "spool")
    for upstream in data["upstreams"].values():
        upstream["base_url"] = f"http://127.0.0.1:{upstream_port}"
    tiers = yaml.safe_load((ROOT / "config/tiers.yaml").read_text())
    for tier in tiers["tiers"].values():
        tier["requests"] = {"quota": 1_000_000_000, "window_seconds": 300}
        for product in tier["products"].values():
            product.pop("requests", None)
    shutil.copytree(ROOT / "config", directory / "config")
    (directory / "config/tiers.yaml").write_text(yaml.safe_dump(tiers))
    (directory / "gateway.yaml").write_text(yaml.safe_dump(data))
    return directory / "gateway.yaml"


@contextmanager
def process(log: Path, core: int, *argv: str) -> Iterator[int]:
    """A process pinned to a core; its id."""
    with log.open("wb") as output:
        child = subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    os.sched_setaffinity(child.pid, {core})
    try:
        yield child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(20)


def wait_until_up(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing came up on port {port}")


def load_run(port: int, connections: int, seconds: float, script: Path | None) -> dict[str, Any]:
    argv = [sys.executable, "-m", "benchmarks.load", str(port), str(connections), str(seconds), SECRET]
    if script is not None:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        argv = f"wrk -t1 -c{connections} -d{seconds:g}s --timeout 30s --latency -s {script} {url}".split()
    done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    found = re.search(r"(\{.*\})", done.stdout)
    assert found is not None, done.stdout
    result: dict[str, Any] = json.loads(found[1])
    return result


def cpu_seconds(pid: int) -> float:
    """What the process and its children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


async def seed(runtime: Runtime) -> None:
    async with open_ledger(runtime) as ledger:
        await ledger.open_account(operation="bench-open", account="bench", plan=Plan(tier="payg"))
        await ledger.grant(operation="bench-grant", account="bench", kind="purchase", amount=parse_usd("5000000"))
        digest = key_digest(runtime.key_pepper, SECRET)
        await ledger.put_key(operation="bench-key", key=Key(id="bench", account="bench"), digest=digest)


async def books(runtime: Runtime) -> str:
    async with open_ledger(runtime) as ledger:
        account = await ledger.account("bench")
        drift = await ledger.verify("bench")
    spent = parse_usd("5000000") - account.balance
    return (
        f"books: spent {spent} nano-dollars, held {account.held}, open holds {account.open_holds}, drift {len(drift)}"
    )


def measure(pids: dict[str, int], ports: dict[str, int], options: argparse.Namespace, script: Path | None) -> None:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ports}
    for number in range(options.rounds):
        names = list(ports) if number % 2 else list(ports)[::-1]
        for name in names:
            before = cpu_seconds(pids[name])
            result = load_run(ports[name], options.connections, options.seconds, script)
            result["rps"] = result["requests"] / result["seconds"]
            result["cpu_us"] = (cpu_seconds(pids[name]) - before) * 1e6 / max(1, result["requests"])
            rows[name].append(result)
    reference = rows["pass-through"]
    print(f"\n{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s")
    print("| design | requests/s | ratio (min-max) | p50 ms | p99 ms | CPU us/request | errors |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, runs in rows.items():
        ratios = [run["rps"] / other["rps"] for run, other in zip(runs, reference, strict=True)]
        middle = {key: statistics.median(run[key] for run in runs) for key in ("rps", "p50", "p99", "cpu_us")}
        print(
            f"| {name} | {middle['rps']:.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) "
            f"| {middle['p50']:.2f} | {middle['p99']:.2f} | {middle['cpu_us']:.0f} | {sum(r['errors'] for r in runs)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    os.sched_setaffinity(0, {SUPPORT})  # what is tested is moved to its own core
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        redis = EmbeddedRedis(directory / "redis", appendonly=False)
        redis.start_sync()
        os.sched_setaffinity(redis.pid or 0, {SUPPORT})
        try:
            path = write_config(directory, redis.url)
            runtime = load(path, dict(os.environ))
            asyncio.run(seed(runtime))
            script = None
            if shutil.which("wrk"):
                from benchmarks.load import BODY  # noqa: PLC0415 - only where wrk is there

                script = directory / "chat.lua"
                script.write_text(WRK_SCRIPT.format(key=SECRET, body=BODY.decode()))
            python = (sys.executable, "-m")
            serve = ("gateway", "serve", "-c", str(path), "--workers", "1")
            plain_argv = (str(PASSTHROUGH_PORT), f"http://127.0.0.1:{UPSTREAM_PORT}")
            with (
                process(directory / "upstream.log", SUPPORT, *upstream_argv(directory)),
                process(directory / "plain.log", TESTED, *python, "benchmarks.passthrough", *plain_argv) as plain,
                process(directory / "gateway.log", TESTED, *python, *serve) as gateway,
            ):
                ports = {"pass-through": PASSTHROUGH_PORT, "gateway": GATEWAY_PORT}
                for port in (UPSTREAM_PORT, *ports.values()):
                    wait_until_up(port)
                for port in ports.values():
                    load_run(port, options.connections, 1, script)
                pids = {"pass-through": plain, "gateway": gateway}
                measure(pids, ports, options, script)
                single = argparse.Namespace(rounds=max(1, options.rounds // 2), seconds=2, connections=1)
                measure(pids, ports, single, script)
            print("\n" + asyncio.run(books(runtime)))
        finally:
            redis.stop_sync()


if __name__ == "__main__":
    main()
