"""Streams of events through the gateway, beside a textbook proxy, nginx without buffers, and nothing at all.

`python -m benchmarks.streams [--rounds 3] [--seconds 4] [--streams 100] [--many 2000]`

An event of 200 bytes says when it was sent, so its way is measured by itself: the figures are of the time from there to
the client, and of the time from a request to its first bytes. Events a second and core are what the CPU time of a
design would allow. The last run is `--many` streams at once through the gateway. All are charged, and the books are
checked.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any, Final, cast

import uvloop

from benchmarks.harness import (
    GATEWAY_PORT,
    NGINX_PORT,
    PASSTHROUGH_PORT,
    ROOT,
    SECRET,
    UPSTREAM_PORT,
    cpu_seconds,
    stage,
)

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EVENT: Final = (
    b'data: {"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,"model":"gpt-5.2",'
    b'"choices":[{"index":0,"delta":{"content":"%020d"},"finish_reason":null}]}\n\n'
)
_BEGIN_PER_SECOND: Final = 500
MARK: Final = b'"content":"'
USAGE: Final = (
    b'data: {"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,"model":"gpt-5.2",'
    b'"choices":[],"usage":{"prompt_tokens":23,"completion_tokens":34,"total_tokens":57}}\n\ndata: [DONE]\n\n'
)
BODY: Final = (
    b'{"model":"gpt-5.2","max_tokens":64,"stream":true,"stream_options":{"include_usage":true},'
    b'"messages":[{"role":"user","content":"gap %d count %d"}]}'
)


def chunked(data: bytes) -> bytes:
    """A piece of a body in chunks."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Service(asyncio.Protocol):
    """The upstream: so many events, so many ms apart, as the request asks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.buffer.endswith((b"]}", b"]}\r\n0\r\n\r\n")):
            if self.buffer.startswith(b"GET "):
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        words = self.buffer.rpartition(b'"gap ')[2].partition(b'"')[0].split()
        self.gap, self.left, self.buffer = int(words[0]) / 1e3, int(words[2]), b""
        self.transport.write(HEAD)
        self.tick()

    def tick(self) -> None:
        if self.transport.is_closing():
            return
        if self.left:
            self.left -= 1
            self.transport.write(chunked(EVENT % time.monotonic_ns()))
            asyncio.get_running_loop().call_later(self.gap, self.tick)
        else:
            self.transport.write(chunked(USAGE) + b"0\r\n\r\n")


async def service(port: int) -> None:
    """Serve the upstream."""
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


class Stream(asyncio.Protocol):
    """One client: a request, and the times of its events, in ms."""

    def __init__(self, request: bytes, took: list[float]) -> None:
        self.request = request
        self.took = took
        self.tail = b""
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.began = 0
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.began = self.began or now
        data = self.tail + data
        at = data.find(MARK)
        while at >= 0 and len(data) - at >= len(MARK) + 20:
            sent = int(data[at + len(MARK) : at + len(MARK) + 20])
            self.took.append((now - sent) / 1e6)
            data = data[at + len(MARK) + 20 :]
            at = data.find(MARK)
        self.tail = data[-(len(MARK) + 20) :]
        if data.endswith(b"\r\n0\r\n\r\n"):
            self.over.set_result(True)
            self.transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(False)


def at(values: list[float], part: float) -> float:
    """A percentile."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


async def client(port: int, streams: int, gap_ms: int, count: int) -> dict[str, Any]:
    """So many streams at once, which begin one after another, `_BEGIN_PER_SECOND` of them."""
    body = BODY % (gap_ms, count)
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (SECRET.encode(), len(body), body)
    )
    loop = asyncio.get_running_loop()
    took: list[float] = []
    firsts: list[float] = []

    async def one(number: int) -> bool:
        await asyncio.sleep(number / _BEGIN_PER_SECOND)
        began = time.monotonic_ns()
        _, stream = await loop.create_connection(lambda: Stream(request, took), "127.0.0.1", port)
        ended = await stream.over
        firsts.append((stream.began - began) / 1e6)
        return ended

    ended = await asyncio.gather(*map(one, range(streams)))
    times = {"first": sorted(firsts), "took": sorted(took)}
    figures = {f"{name}{part}": at(values, part) for name, values in times.items() for part in (0.5, 0.99)}
    return {**figures, "events": len(took), "errors": ended.count(False)}


def load(port: int, streams: int, gap_ms: int, count: int) -> dict[str, Any]:
    """A run by a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.streams", "client", *map(str, (port, streams, gap_ms, count))]
    done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def row(name: str, runs: list[dict[str, Any]], direct: list[dict[str, Any]]) -> str:
    """A line of the table."""
    figures = [
        statistics.median(run[name] for run in runs) for name in ("first0.5", "first0.99", "took0.5", "took0.99")
    ]
    added = statistics.median(run["took0.5"] - of["took0.5"] for run, of in zip(runs, direct, strict=True))
    cpu = statistics.median(run["cpu_us"] for run in runs)
    errors = sum(run["errors"] for run in runs)
    first50, first99, took50, took99 = figures
    return (
        f"| {name} | {first50:.2f} | {first99:.2f} | {took50:.2f} | {took99:.2f} | {added:.2f} "
        f"| {cpu:.1f} | {1e6 / cpu if cpu else 0:.0f} | {errors} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--gap", type=int, default=20, help="ms between the events of a stream")
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--many-gap", type=int, default=500)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = options.seconds * 1000 // options.gap
    print("| design | first bytes p50 ms | p99 | an event's way p50 ms | p99 | added p50 | CPU us/event "
          "| events/s a core | errors |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    with ExitStack() as stack:
        on = stack.enter_context(stage(sys.executable, "-m", "benchmarks.streams", "service", str(UPSTREAM_PORT)))
        pids = {
            "direct": (UPSTREAM_PORT, on.upstream),
            "nginx": (NGINX_PORT, stack.enter_context(on.nginx(buffering=False))),
            "pass-through": (PASSTHROUGH_PORT, stack.enter_context(on.pass_through())),
            "gateway": (GATEWAY_PORT, stack.enter_context(on.gateway())),
        }
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in pids}
        for number in range(options.rounds):
            for name in list(pids)[:: 1 if number % 2 else -1]:
                port, pid = pids[name]
                before = cpu_seconds(pid)
                result = load(port, options.streams, options.gap, count)
                result["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / max(1, result["events"])
                rows[name].append(result)
        for name, runs in rows.items():
            print(row(name, runs, rows["direct"]))
        port, pid = pids["gateway"]
        before = cpu_seconds(pid)
        many = load(port, options.many, options.many_gap, options.seconds * 2000 // options.many_gap)
        many["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / max(1, many["events"])
        print(row(f"gateway, {options.many} streams", [many], [many]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["service"]:
        uvloop.run(service(int(sys.argv[2])))
    elif sys.argv[1:2] == ["client"]:
        print(json.dumps(uvloop.run(client(*map(int, sys.argv[2:6])))))
    else:
        main()
