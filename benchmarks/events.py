"""What an event of a stream costs a process, without its sockets: of CPU, in bytecodes, in instructions.

`python -m benchmarks.events [--rounds 7] [--events 2000] [--streams 16] [--burst 1] [--instructions] [--top 0]`

Customers and the upstream are in memory, see `path`. `--burst` is how many events come in one piece. `--instructions`
counts those of valgrind's machine, which no load changes: what a longer stream costs more than a shorter one.
"""

import argparse
import asyncio
import gc
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import CodeType
from typing import Final, cast

from benchmarks.bytecodes import Tracer
from benchmarks.memory import SECRET, Customers, MemoryLoop
from benchmarks.path import LAYERS
from benchmarks.streams import BODY, EVENT, HEAD, USAGE, chunked

NAMES: Final = ("pass-through", "gateway")
_BODY: Final = BODY % (0, 0)
REQUEST: Final = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (SECRET.encode(), len(_BODY), _BODY)
)
#: In a stream whose bytecodes are counted.
EVENTS: Final = 40
END: Final = chunked(USAGE) + b"0\r\n\r\n"


class Streaming:
    """The upstream: streams of so many events, each piece in a turn of the loop of its own."""

    def __init__(self, burst: int = 1) -> None:
        self._loop = asyncio.get_running_loop()
        self._piece = b"".join(chunked(EVENT % number) for number in range(burst))
        self.pieces = 0

    def __call__(self, protocol: asyncio.Protocol) -> None:
        self._loop.call_soon(protocol.data_received, HEAD)
        self._loop.call_soon(self._go_on, protocol, self.pieces)

    def _go_on(self, protocol: asyncio.Protocol, left: int) -> None:
        if left:
            protocol.data_received(self._piece)
            self._loop.call_soon(self._go_on, protocol, left - 1)
        else:
            protocol.data_received(END)


@asynccontextmanager
async def streams(names: list[str], at_once: int, burst: int) -> AsyncIterator[tuple[Streaming, dict[str, Customers]]]:
    """The upstream, and customers of each layer."""
    loop = cast("MemoryLoop", asyncio.get_running_loop())
    loop.answer = upstream = Streaming(burst)
    async with AsyncExitStack() as stack:
        customers = {
            name: Customers(await stack.enter_async_context(LAYERS[name](loop)), at_once, REQUEST, (b"\r\n0\r\n\r\n",))
            for name in names
        }
        yield upstream, customers
        for each in customers.values():
            each.close()
        await asyncio.sleep(0.01)


async def measure(names: list[str], rounds: int, events: int, at_once: int, burst: int) -> dict[str, list[float]]:
    """Microseconds of CPU of an event in each layer, by rounds. A stream's beginning and end are not in it."""
    async with streams(names, at_once, burst) as (upstream, customers):
        spent: dict[str, list[float]] = {name: [] for name in names}
        gc.freeze()
        for number in range(-1, rounds):
            for name in names if number % 2 else names[::-1]:
                took = []
                for pieces in (0, events // burst):
                    upstream.pieces = pieces
                    before = time.process_time()
                    await customers[name].call(at_once)
                    took.append((time.process_time() - before) * 1e6)
                if number >= 0:
                    spent[name].append((took[1] - took[0]) / (events * at_once))
    return spent


async def of_events(name: str, burst: int = 1, events: int = EVENTS) -> Counter[CodeType]:
    """Bytecodes of so many events: what a stream has more than one without them.

    Of the cheapest of some streams: what runs beside one now and then is not its own.
    """
    counts: dict[int, list[Counter[CodeType]]] = {0: [], events // burst: []}
    async with streams([name], 1, burst) as (upstream, customers):
        gc.disable()
        await customers[name].call(1)
        for pieces in [*counts] * 12:
            upstream.pieces = pieces
            tracer, before = Tracer(__file__), sys.gettrace()
            sys.settrace(tracer)
            try:
                await customers[name].call(1)
            finally:
                sys.settrace(before)
            counts[pieces].append(tracer.of)
        gc.enable()
    bare, found = (min(each, key=Counter.total) for each in counts.values())
    found.subtract(bare)
    return found


def of_the_machine(name: str, events: int, burst: int) -> float:
    """Instructions of an event, by callgrind."""
    totals = []
    for count in (0, events):
        with tempfile.TemporaryDirectory(prefix="events-") as directory:
            done = subprocess.run(
                ["valgrind", "--tool=callgrind", f"--callgrind-out-file={Path(directory) / 'out'}", sys.executable,
                 "-m", "benchmarks.events", "one", name, str(count), str(burst)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        found = re.search(r"Collected : (\d+)", done.stderr)
        assert found is not None, done.stderr[-500:]
        totals.append(int(found[1]))
    return (totals[1] - totals[0]) / events


async def one(name: str, events: int, burst: int) -> None:
    """One stream after one without events."""
    async with streams([name], 1, burst) as (upstream, customers):
        await customers[name].call(1)
        upstream.pieces = events // burst
        await customers[name].call(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--top", type=int, default=0, help="functions to list, by bytecodes")
    options = parser.parse_args()
    names = list(NAMES)
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        spent = runner.run(measure(names, options.rounds, options.events, options.streams, options.burst))
        codes = {name: runner.run(of_events(name, options.burst)) for name in names}
    print("| layer | CPU us/event (min-max) | of the first | bytecodes | instructions |\n|---|---:|---:|---:|---:|")
    for name, runs in spent.items():
        ratio = statistics.median(mine / first for mine, first in zip(runs, spent[names[0]], strict=True))
        counted = f"{of_the_machine(name, 500, options.burst):.0f}" if options.instructions else ""
        print(
            f"| {name} | {statistics.median(runs):.1f} ({min(runs):.1f}-{max(runs):.1f}) | {ratio:.2f} "
            f"| {codes[name].total() / EVENTS:.0f} | {counted} |"
        )
    for name in names if options.top else []:
        print(name)
        for code, count in codes[name].most_common(options.top):
            place = Path(code.co_filename)
            print(f"{count / EVENTS:8.1f}  {place.parent.name}/{place.name}:{code.co_firstlineno} {code.co_qualname}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        with asyncio.Runner(loop_factory=MemoryLoop) as alone:
            alone.run(one(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        main()
