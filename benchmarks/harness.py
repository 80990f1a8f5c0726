"""What benchmarks have in common: the processes of a run, each on its core, and what is read of them.

Owns: addresses, the config of the tested gateway, nginx's, starting and stopping, the figures of a process.
Does not know: what is compared. Core 0 runs what is tested, core 1 the load, the upstream and Redis. The books are
checked at the end: no hold left, every balance recomputed.
"""

import asyncio
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import upstream as answering
from benchmarks.load import BODY
from gateway.core.money import parse_usd
from gateway.edge.keys import key_digest
from gateway.edge.ledger import open_ledger
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ports import Key, Plan
from gateway.settings.load import load
from gateway.settings.runtime import Runtime

ROOT = Path(__file__).parent.parent
TESTED, SUPPORT = 0, max(os.sched_getaffinity(0))
UPSTREAM_PORT, PASSTHROUGH_PORT, GATEWAY_PORT, OPS_PORT, NGINX_PORT = 9701, 9702, 9703, 9704, 9705
UPSTREAM_URL = f"http://127.0.0.1:{UPSTREAM_PORT}"
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
daemon off; worker_processes 1; pid {directory}/nginx-{name}.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_timeout 3600; keepalive_requests 1000000000; tcp_nodelay on; default_type application/json;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  {servers}
}}
"""
ANSWERS = "server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{body}'; }} }}"
PASSES = """
  upstream service {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
    proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering {buffering};
    proxy_request_buffering {buffering}; client_max_body_size 0; proxy_read_timeout 300s; }} }}
"""


def nginx_argv(directory: Path, name: str, servers: str) -> list[str]:
    """nginx, one worker of it, with these servers."""
    path = directory / f"nginx-{name}.conf"
    path.write_text(NGINX.format(directory=directory, name=name, servers=servers))
    return ["nginx", "-p", str(directory), "-c", str(path)]


def upstream_argv(directory: Path) -> list[str]:
    """The fixed upstream: nginx where it is installed, so that core 1 has room; else one of our own."""
    if shutil.which("nginx") is None:
        return [sys.executable, "-m", "benchmarks.upstream", str(UPSTREAM_PORT)]
    return nginx_argv(directory, "upstream", ANSWERS.format(port=UPSTREAM_PORT, body=answering.BODY.decode()))


def proxy_argv(directory: Path, *, buffering: bool = True) -> list[str]:
    """nginx as a plain proxy: no key is looked at, nothing is counted."""
    passes = PASSES.format(port=NGINX_PORT, upstream=UPSTREAM_PORT, buffering="on" if buffering else "off")
    return nginx_argv(directory, "proxy", passes)


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
def process(log: Path, cores: Collection[int], *argv: str, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """A process pinned to cores; its id."""
    os.sched_setaffinity(0, cores)  # inherited, by what the process starts at once as well
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
    os.sched_setaffinity(0, {SUPPORT})
    try:
        yield child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(90)


def wait_until_up(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
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


def load_run(
    port: int, connections: int, seconds: int, directory: Path, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Calls as fast as they are answered, on so many connections: how many, how long they took."""
    argv = [sys.executable, "-m", "benchmarks.load", str(port), str(connections), str(seconds), SECRET]
    if shutil.which("wrk"):
        script = directory / f"chat-{port}.lua"
        more = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in (headers or {}).items())
        script.write_text(WRK_SCRIPT.format(key=SECRET, body=BODY.decode()) + more)
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        argv = f"wrk -t1 -c{connections} -d{seconds}s --timeout 30s --latency -s {script} {url}".split()
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


def load_seconds() -> float:
    """What loads that are over have used, as all else that this process has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_kib(pid: int) -> int:
    """What the process and its children have in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s*(\d+) kB", status)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found[1] if found else 0) + sum(resident_kib(int(child)) for child in children)


@dataclass(frozen=True)
class Stage:
    """What a benchmark runs on: an upstream, the ledger's server, and files."""

    directory: Path
    config: Path
    runtime: Runtime
    upstream: int
    """Its process."""
    redis: int
    """Its process."""

    @contextmanager
    def gateway(self, *, workers: int = 1, cores: Collection[int] = (TESTED,)) -> Iterator[int]:
        """Our gateway; its process."""
        argv = (sys.executable, "-m", "gateway", "serve", "-c", str(self.config), "--workers", str(workers))
        with process(self.directory / "gateway.log", cores, *argv) as pid:
            wait_until_up(GATEWAY_PORT)
            yield pid

    @contextmanager
    def pass_through(self) -> Iterator[int]:
        """The textbook proxy; its process."""
        argv = (sys.executable, "-m", "benchmarks.passthrough", str(PASSTHROUGH_PORT), UPSTREAM_URL)
        with process(self.directory / "plain.log", (TESTED,), *argv) as pid:
            wait_until_up(PASSTHROUGH_PORT)
            yield pid

    @contextmanager
    def bare(self, port: int, *, scripts: bool = False) -> Iterator[int]:
        """The least on our parsers: a proxy that does nothing else, or nothing but two bare scripts; its process."""
        redis = (self.runtime.redis.url,) if scripts else ()
        argv = (sys.executable, "-m", "benchmarks.bare", str(port), str(UPSTREAM_PORT), *redis)
        with process(self.directory / f"bare-{port}.log", (TESTED,), *argv) as pid:
            wait_until_up(port)
            yield pid

    @contextmanager
    def nginx(self, *, buffering: bool = True) -> Iterator[int]:
        """nginx as a plain proxy; its process."""
        argv = proxy_argv(self.directory, buffering=buffering)
        with process(self.directory / "nginx.log", (TESTED,), *argv) as pid:
            wait_until_up(NGINX_PORT)
            yield pid


@contextmanager
def stage(*upstream_command: str) -> Iterator[Stage]:
    """Everything that is not tested, on the core that is not tested."""
    os.sched_setaffinity(0, {SUPPORT})  # what is tested is moved to its own core
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        redis = EmbeddedRedis(directory / "redis", appendonly=False)
        redis.start_sync()
        os.sched_setaffinity(redis.pid or 0, {SUPPORT})
        try:
            config = write_config(directory, redis.url)
            runtime = load(config, dict(os.environ))
            asyncio.run(seed(runtime))
            argv = upstream_command or upstream_argv(directory)
            with process(directory / "upstream.log", (SUPPORT,), *argv) as upstream_pid:
                wait_until_up(UPSTREAM_PORT)
                yield Stage(directory, config, runtime, upstream_pid, redis.pid or 0)
            print("\n" + asyncio.run(books(runtime)))
        finally:
            redis.stop_sync()
