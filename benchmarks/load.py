"""A closed-loop load generator: so many connections, each sending its next request when the answer has come.

`python -m benchmarks.load PORT CONNECTIONS SECONDS KEY` prints one JSON line; p50 and p99 are in ms.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

BODY = (
    b'{"model":"gpt-5.2","max_tokens":64,"stream":false,"messages":[{"role":"system","content":"You are a terse '
    b'assistant."},{"role":"user","content":"Say the sentence with the fox and the dog three times, please."}]}'
)


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, request: bytes, latencies: list[float], errors: list[bytes]) -> None:
        self.request = request
        self.latencies = latencies
        self.errors = errors
        self.buffer = b""
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:

        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def connection_lost(self, _error: BaseException | None) -> None:
        if not self.stopped:
            self.errors.append(b"lost")

    def send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            total = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.buffer) < total:
                return
        elif not self.buffer.endswith(b"0\r\n\r\n"):
            return
        if not self.buffer.startswith(b"HTTP/1.1 200"):
            self.errors.append(self.buffer[:200])
        self.latencies.append(time.perf_counter() - self.started)
        self.buffer = b""
        if not self.stopped:
            self.send()


async def main(port: int, connections: int, seconds: float, key: str) -> None:
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (key.encode(), len(BODY), BODY)
    )
    latencies: list[float] = []
    errors: list[bytes] = []
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Connection(request, latencies, errors), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    for client in clients:
        client.stopped = True
    done = sorted(latencies)
    await asyncio.sleep(0.2)
    for client in clients:
        client.transport.close()
    count = len(done)
    result = {
        "requests": count,
        "seconds": elapsed,
        "p50": done[count // 2] * 1e3 if done else 0,
        "p99": done[count * 99 // 100] * 1e3 if done else 0,
        "errors": len(errors),
        "error": errors[0].decode(errors="replace") if errors else "",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
