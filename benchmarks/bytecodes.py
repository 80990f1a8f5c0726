"""Bytecodes of Python that a call runs through: what it costs, in a unit that no load of the machine changes.

`python -m benchmarks.bytecodes [LAYER] [--top 40]` prints them by function.

What C code does is in no count: the parsers, the JSON, the sockets. It is where the time goes in Python, and it is the
same in every run, so a test can hold it to a bound.
"""

import argparse
import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, cast

from benchmarks import memory, path

CALLS: Final = 12


class Tracer:
    """Counts the bytecodes that run while it is set, by function; not those of the benchmark's own files."""

    def __init__(self, *apart: str) -> None:
        self.of: Counter[CodeType] = Counter()
        self._apart = {memory.__file__, *apart}

    def __call__(self, frame: FrameType, _event: str, _arg: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename in self._apart:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._opcode

    def _opcode(self, frame: FrameType, event: str, _arg: object) -> Callable[..., Any]:
        if event == "opcode":
            self.of[frame.f_code] += 1
        return self._opcode


async def of_a_call(customers: memory.Customers) -> Counter[CodeType]:
    """Those of the cheapest of some calls, one after the other: what runs beside one now and then is not its own."""
    await customers.call(CALLS)
    counts = []
    before = sys.gettrace()
    gc.disable()
    for _ in range(CALLS):
        tracer = Tracer(__file__)
        sys.settrace(tracer)
        try:
            await customers.call(1)
        finally:
            sys.settrace(before)
        counts.append(tracer.of)
    gc.enable()
    return min(counts, key=Counter.total)


async def of_layer(layer: path.Layer) -> Counter[CodeType]:
    """Those of a call through a layer."""
    loop = cast("memory.MemoryLoop", asyncio.get_running_loop())
    async with layer(loop) as factory:
        customers = memory.Customers(factory, 1)
        found = await of_a_call(customers)
        customers.close()
        await asyncio.sleep(0.01)  # its connections close
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layer", nargs="?", choices=list(path.LAYERS), default="gateway")
    parser.add_argument("--top", type=int, default=40)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=memory.MemoryLoop) as runner:
        found = runner.run(of_layer(path.LAYERS[options.layer]))
    print(f"{found.total()} bytecodes for a call through {options.layer}")
    for code, count in found.most_common(options.top):
        place = Path(code.co_filename)
        print(f"{count:6d}  {place.parent.name}/{place.name}:{code.co_firstlineno} {code.co_qualname}")


if __name__ == "__main__":
    main()
