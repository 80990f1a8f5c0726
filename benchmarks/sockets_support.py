"""Both ends of real-time sessions: an upstream in the manner of streaming speech-to-text, and the clients that load it.

`python -m benchmarks.sockets_support UPSTREAM_PORT` serves the upstream, and takes one JSON object a line from its
input: `{"port", "sessions", "seconds", "fields", "warm"}`. Each is a run, answered by one line of JSON.
A session sends 20 frames of 3,200 bytes a second (or one every `interval`), and gets a text of 300 bytes back for each.
In both stands when the frame was sent. Both ends in one process, with one timer: what is tested has the other core, and
must be the first to be too slow.
"""

import asyncio
import json
import sys
import time
from typing import Any, cast

import uvloop

from gateway.core.frames import CLOSE, TEXT, encoded, masked
from gateway.sockets.handshake import accept_value

FRAME, TURN, INTERVAL, SLOTS = 3200, 300, 0.05, 50
MASK = b"\x01\x02\x03\x04"
HEAD = b"\x82\xfe" + FRAME.to_bytes(2, "big") + bytes(4)  # masked with zeros: the cheapest that keeps the rules
PAD = bytes(FRAME - 8)
TURN_HEAD = b"\x81\x7e" + TURN.to_bytes(2, "big")
TURN_START = b'{"type":"Turn","turn_order":1,"at":"'
BEGIN = encoded(TEXT, b'{"type":"Begin","id":"00000000-0000-0000-0000-000000000000","expires_at":1893456000}')


def frame_ends(data: bytes, at: int) -> tuple[int, int]:
    """Where the payload of the frame at `at` begins and ends; (0, 0) while it is not whole."""
    if len(data) - at < 4:
        return 0, 0
    length, start = data[at + 1] & 0x7F, at + 2
    if length == 126:
        length, start = data[at + 2] << 8 | data[at + 3], at + 4
    if data[at + 1] & 0x80:
        start += 4
    return (start, start + length) if start + length <= len(data) else (0, 0)


class End(asyncio.Protocol):
    """One end of a socket: bytes in, a head and then frames out."""

    def __init__(self) -> None:
        self.buffer = b""
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        if not self.open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.buffer = head
                return
            self.head_came(head.decode())
        at = 0
        while (ends := frame_ends(data, at)) != (0, 0):
            self.frame_came(data, at, *ends)
            at = ends[1]
        self.buffer = data[at:]

    def head_came(self, head: str) -> None:
        raise NotImplementedError

    def frame_came(self, data: bytes, at: int, start: int, stop: int) -> None:
        raise NotImplementedError


class Upstream(End):
    """Begin, a Turn for each frame, Termination."""

    def head_came(self, head: str) -> None:
        key = [line[19:].strip() for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key:")]
        if not key:
            self.transport.write(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
            return
        self.open = True
        self.began = time.monotonic()
        self.transport.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_value(key[0])}\r\n\r\n".encode()
            + BEGIN
        )

    def frame_came(self, data: bytes, at: int, start: int, stop: int) -> None:
        opcode = data[at] & 0x0F
        if stop - start == FRAME:
            stamp, key = data[start : start + 8], data[start - 4 : start]
            stamp = masked(stamp, key) if any(key) else stamp
            text = TURN_START + stamp.hex().encode() + b'","transcript":"'
            self.transport.write(TURN_HEAD + text + b"x" * (TURN - 2 - len(text)) + b'"}')
        elif opcode == CLOSE:
            self.transport.write(encoded(CLOSE, b"\x03\xe8"))
            self.transport.close()
        elif b"Terminate" in masked(data[start:stop], data[start - 4 : start]):
            seconds = int(time.monotonic() - self.began)
            ended = b'{"type":"Termination","audio_duration_seconds":%d,"session_duration_seconds":%d}'
            self.transport.write(encoded(TEXT, ended % (seconds, seconds)) + encoded(CLOSE, b"\x03\xe8Session Ended"))


class Session(End):
    """One client. `took` gathers the round trips, in ns."""

    def __init__(self, opening: bytes, took: list[int]) -> None:
        super().__init__()
        self.opening = opening
        self.took = took
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(self.opening)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("closed before it was open"))

    def head_came(self, head: str) -> None:
        if not head.startswith("HTTP/1.1 101 "):
            self.ready.set_exception(ConnectionError(head))
            return
        self.open = True

    def frame_came(self, data: bytes, at: int, start: int, stop: int) -> None:
        if stop - start == TURN:
            at = start + len(TURN_START)
            self.took.append(time.perf_counter_ns() - int(data[at : at + 16], 16))
        elif data[at] & 0x0F == CLOSE:
            self.transport.close()
        elif not self.ready.done():  # Begin: the upstream is there
            self.ready.set_result(None)

    def send(self) -> None:
        self.sent += 1
        self.transport.write(HEAD + time.perf_counter_ns().to_bytes(8, "big") + PAD)


def opening_of(path: str, fields: str) -> bytes:
    """An opening handshake."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    ).encode()


async def opened(port: int, count: int, opening: bytes, took: list[int]) -> list[Session]:
    """So many sessions, a few at a time."""
    loop = asyncio.get_running_loop()
    sessions: list[Session] = []
    while len(sessions) < count:
        batch = [
            (await loop.create_connection(lambda: Session(opening, took), "127.0.0.1", port))[1]
            for _ in range(min(20, count - len(sessions)))
        ]
        async with asyncio.timeout(30):
            await asyncio.gather(*(session.ready for session in batch))
        sessions += batch
    return sessions


async def paced(sessions: list[Session], interval: float) -> None:
    """Every session sends once in an interval, spread evenly: one timer, a millisecond long for one of 50 ms."""
    loop = asyncio.get_running_loop()
    slots = [list(sessions[number::SLOTS]) for number in range(SLOTS)]
    due, number = loop.time(), 0
    while True:
        for session in slots[number % SLOTS]:
            if session.open:
                session.send()
        number += 1
        due += interval / SLOTS
        await asyncio.sleep(max(0.0, due - loop.time()))


async def run(order: dict[str, Any]) -> dict[str, Any]:
    """One run; what came of it."""
    opening = opening_of("/v3/ws?sample_rate=16000", order["fields"])
    took: list[int] = []
    sessions = await opened(order["port"], order["sessions"], opening, took)
    pacing = asyncio.create_task(paced(sessions, order.get("interval", INTERVAL)))
    await asyncio.sleep(order.get("warm", 1.5))
    took.clear()
    sent, cpu, began = sum(session.sent for session in sessions), time.process_time(), time.perf_counter()
    print("MEASURING", flush=True)
    await asyncio.sleep(order["seconds"])
    print("MEASURED", flush=True)
    wall = time.perf_counter() - began
    found, done = sorted(took), sum(session.sent for session in sessions) - sent
    cpu = (time.process_time() - cpu) / wall
    pacing.cancel()
    lost = sum(not session.open for session in sessions)
    await asyncio.sleep(0.3)
    for session in sessions:
        if session.open:
            session.transport.write(encoded(CLOSE, b"\x03\xe8", MASK))
    await asyncio.sleep(1.0)
    for session in sessions:
        session.transport.abort()
    rank = {name: found[int(len(found) * part)] / 1e6 if found else float("inf") for name, part in PARTS.items()}
    return {"sent": done / wall, "answered": len(found) / wall, "lost": lost, "cpu": cpu, **rank}


PARTS = {"p50": 0.5, "p99": 0.99}


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Upstream, "127.0.0.1", port, backlog=4096)
    print("READY", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            result = await run(json.loads(line))
        except (OSError, TimeoutError) as error:
            result = {"failed": repr(error)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
