"""A large upload through the gateway beside the textbook proxy: how fast, and what it takes of memory.

`python -m benchmarks.uploads [--mib 1024] [--rounds 3]`

The body is measured by how long it takes until the service's answer has come back. Exits 1 where the gateway has less
than 0.8 of the textbook proxy's throughput in every round, or took 30 MiB more than it had.
"""

import argparse
import asyncio
import socket
import statistics
import sys
import threading
import time
from contextlib import ExitStack
from typing import Final, cast

import uvloop

from benchmarks.harness import (
    GATEWAY_PORT,
    PASSTHROUGH_PORT,
    SECRET,
    UPSTREAM_PORT,
    cpu_seconds,
    resident_kib,
    stage,
)

OF_PASS_THROUGH_MIN: Final = 0.8
GROWTH_MIB_MAX: Final = 30
PIECE: Final = bytes(2**20)
ANSWER: Final = b'{"upload_url":"http://127.0.0.1/upload/0123456789"}'
REPLY: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(ANSWER), ANSWER,
)  # fmt: skip


class Service(asyncio.Protocol):
    """The upstream: counts a body, and answers when it is complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.head = b""
        self.left: int | None = None  # None: chunked

    def data_received(self, data: bytes) -> None:
        if not self.head.endswith(b"\r\n\r\n"):
            head, end, data = (self.head + data).partition(b"\r\n\r\n")
            self.head = head + end
            if not end:
                return
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            chunked = b"transfer-encoding: chunked" in head.lower()
            self.left = None if chunked else int(length or 0)
        if self.left is not None:
            self.left -= len(data)
        if self.left == 0 or (self.left is None and data.endswith(b"0\r\n\r\n")):
            self.head = b""
            self.transport.write(REPLY)


async def service(port: int) -> None:
    """Serve the upstream."""
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port, backlog=64)
    await server.serve_forever()


def upload(port: int, mib: int) -> float:
    """Seconds that a body takes."""
    head = (
        f"POST /v2/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {SECRET}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {mib * 2**20}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as client:
        began = time.monotonic()
        client.sendall(head.encode())
        for _ in range(mib):
            client.sendall(PIECE)
        answered = client.recv(2**16)
        assert answered.startswith(b"HTTP/1.1 200"), answered[:200]
        return time.monotonic() - began


class Watch(threading.Thread):
    """The most memory that a process has had since, in KiB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.most = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, resident_kib(self.pid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with ExitStack() as stack:
        on = stack.enter_context(stage(sys.executable, "-m", "benchmarks.uploads", "service", str(UPSTREAM_PORT)))
        pids = {PASSTHROUGH_PORT: stack.enter_context(on.pass_through())}
        pids[GATEWAY_PORT] = pid = stack.enter_context(on.gateway())
        for port in (PASSTHROUGH_PORT, GATEWAY_PORT):
            upload(port, 32)
        had, watch = resident_kib(pid), Watch(pid)
        watch.start()
        took: dict[int, list[float]] = {UPSTREAM_PORT: [], PASSTHROUGH_PORT: [], GATEWAY_PORT: []}
        worked = {port: cpu_seconds(each) for port, each in pids.items()}
        for number in range(options.rounds):
            for port in list(took)[:: 1 if number % 2 else -1]:
                took[port].append(upload(port, options.mib))
        watch.over.set()
        worked = {port: (cpu_seconds(each) - worked[port]) / options.rounds for port, each in pids.items()}
    print(f"| {options.mib} MiB, {options.rounds} rounds | MiB/s | of the pass-through (min-max) | CPU us/MiB |")
    print("|---|---:|---:|---:|")
    of: list[float] = []
    for name, port in (("direct", UPSTREAM_PORT), ("pass-through", PASSTHROUGH_PORT), ("gateway", GATEWAY_PORT)):
        of = [plain / mine for mine, plain in zip(took[port], took[PASSTHROUGH_PORT], strict=True)]
        speed = options.mib / statistics.median(took[port])
        cpu = round(worked[port] * 1e6 / options.mib) if port in worked else ""
        print(f"| {name} | {speed:.0f} | {statistics.median(of):.2f} ({min(of):.2f}-{max(of):.2f}) | {cpu} |")
    grown = (watch.most - had) / 1024
    print(f"\nThe gateway's memory: {had / 1024:.0f} MiB before, at most {grown:.1f} more.")
    raise SystemExit(0 if max(of) >= OF_PASS_THROUGH_MIN and grown < GROWTH_MIB_MAX else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["service"]:
        uvloop.run(service(int(sys.argv[2])))
    else:
        main()
