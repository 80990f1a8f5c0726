"""Hours of sessions whose clients and upstreams vanish in every way: the gateway's memory must stay what it is.

`python -m benchmarks.sockets_soak [--minutes 30] [--sessions 200]`

Each of so many places opens a session, sends real-time audio for a few seconds, ends it in one of seven ways, and opens
the next. Printed is the worker's resident memory; it fails if that grows by more than 20 % after the warm-up (a tenth
of the time, three minutes at most), or if a session or a hold is left open at the end.
"""

import argparse
import asyncio
import os
import random
import resource
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import uvloop

from benchmarks.harness import GATEWAY_PORT, OPS_PORT, SUPPORT, books
from benchmarks.sockets import AUTHORIZED, UPSTREAM_PORT, gateway, memory
from benchmarks.sockets_support import HEAD, INTERVAL, MASK, Session, Upstream, opening_of
from gateway.core.frames import CLOSE, TEXT, encoded

GROWTH_MAX = 1.2
DIE = b'{"type":"KeepAlive","die":true}'
OPENING = opening_of("/v3/ws?sample_rate=16000", AUTHORIZED)


class MortalUpstream(Upstream):
    """Vanishes when it is told to, which a client does by a message that nobody watches."""

    def frame_came(self, data: bytes, at: int, start: int, stop: int) -> None:
        if stop - start == len(DIE):
            self.transport.abort()
        else:
            super().frame_came(data, at, start, stop)


def closes(session: Session) -> None:
    """In good order."""
    session.transport.write(encoded(CLOSE, b"\x03\xe8", MASK))


def terminates(session: Session) -> None:
    """As the official clients do."""
    session.transport.write(encoded(TEXT, b'{"type":"Terminate"}', MASK))


def vanishes(session: Session) -> None:
    """Without a word."""
    session.transport.abort()


def breaks_off(session: Session) -> None:
    """In the middle of a frame."""
    session.transport.write(HEAD + bytes(100))
    session.transport.close()


def breaks_rules(session: Session) -> None:
    """With a frame that is not masked."""
    session.transport.write(encoded(TEXT, b"{}"))


def loses_its_upstream(session: Session) -> None:
    """Which vanishes."""
    session.transport.write(encoded(TEXT, DIE, MASK))


def stops_reading(session: Session) -> None:
    """And then vanishes."""
    session.transport.pause_reading()
    asyncio.get_running_loop().call_later(1.0, session.transport.abort)


ENDS = (closes, terminates, vanishes, breaks_off, breaks_rules, loses_its_upstream, stops_reading)


async def place(until: float, chance: random.Random, done: Counter[str]) -> None:
    """One session after another."""
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        _, session = await loop.create_connection(lambda: Session(OPENING, []), "127.0.0.1", GATEWAY_PORT)
        if chance.random() < 0.05:  # before it has begun
            session.ready.cancel()
            await asyncio.sleep(chance.random() * 0.02)
            session.transport.abort()
            done["leaves early"] += 1
            continue
        try:
            async with asyncio.timeout(20):
                await session.ready
        except (OSError, TimeoutError) as error:
            done[f"failed: {type(error).__name__}"] += 1
            session.transport.abort()
            await asyncio.sleep(1)
            continue
        for _ in range(chance.randrange(4, 100)):
            if session.open:
                session.send()
            await asyncio.sleep(INTERVAL)
        end = chance.choice(ENDS)
        if session.open:
            end(session)
        done[end.__name__] += 1
        await asyncio.sleep(chance.random())
        if end is not stops_reading:
            session.transport.close()


def sessions_open() -> float:
    """As the gateway counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{OPS_PORT}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("gateway_sessions_open"))


async def soak(pid: int, minutes: float, places: int) -> bool:
    """Whether the memory stayed."""
    loop = asyncio.get_running_loop()
    await loop.create_server(MortalUpstream, "127.0.0.1", UPSTREAM_PORT, backlog=4096)
    chance, done = random.Random(1), Counter[str]()
    began, until = loop.time(), loop.time() + minutes * 60
    running = [asyncio.create_task(place(until, chance, done)) for _ in range(places)]
    warm = min(180.0, minutes * 6)
    samples: list[float] = []
    while loop.time() < until:
        await asyncio.sleep(min(10.0, minutes * 2))
        used = memory(pid) / 1024
        samples += [used] if loop.time() - began > warm else []
        print(f"{(loop.time() - began) / 60:6.1f} min  {used:7.1f} MiB  {sum(done.values())} sessions", flush=True)
    await asyncio.gather(*running)
    await asyncio.sleep(8)  # the grace of the last ones
    left = await asyncio.to_thread(sessions_open)
    print(f"\n{dict(done)}\nsessions left open: {left:g}")
    before, after = max(samples[:3]), sum(samples[-3:]) / len(samples[-3:])
    print(f"resident memory: {before:.1f} MiB after the warm-up, {after:.1f} MiB at the end ({after / before:.2f})")
    return after <= GROWTH_MAX * before and left == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--sessions", type=int, default=200)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {SUPPORT})
    with tempfile.TemporaryDirectory(prefix="soak-ws-") as name, gateway(Path(name), slice_seconds=6) as (pid, runtime):
        stayed = uvloop.run(soak(pid, options.minutes, options.sessions))
        time.sleep(1)
        found = asyncio.run(books(runtime))
    if not stayed or "open holds 0" not in found or "drift 0" not in found:
        sys.exit(f"failed: {found}")


if __name__ == "__main__":
    main()
