"""What a call may cost: counted in bytecodes, timers and tasks, not in seconds, so that no load changes it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from benchmarks.bytecodes import Tracer, of_layer
from benchmarks.events import EVENTS, of_events
from benchmarks.memory import Customers, MemoryLoop
from benchmarks.path import LAYERS, Answering, Factory, Layer, gateway
from benchmarks.streams import EVENT
from gateway.core.extract import Field
from gateway.edge.server.proxy import CustomerServer
from gateway.pipeline.call import Answer, Client
from gateway.pipeline.events import EventMeter
from gateway.pipeline.http import HttpPipeline
from gateway.settings.metering import Stream
from gateway.settings.runtime import Limits

#: Bytecodes of one call (`python -m benchmarks.bytecodes LAYER` tells whose). What must cost more raises its bound,
#: what costs less lowers it: an unnoticed twentieth is what these are against.
BYTECODES_MAX = {"server": 945, "server + upstream": 1910, "gateway": 6550}

#: Of one event of a stream: what it says, and its whole way (`python -m benchmarks.events --top 20`).
EVENT_BYTECODES_MAX = 115
EVENTS_WAY_BYTECODES_MAX = 400


def bytecodes(layer: Layer) -> int:
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        return runner.run(of_layer(layer)).total()


@pytest.mark.parametrize("layer", BYTECODES_MAX)
def test_a_call_costs_no_more_than_it_did(layer: str) -> None:
    """A call of the benchmark's kind runs through a known number of bytecodes in each layer of the gateway."""
    assert bytecodes(LAYERS[layer]) <= BYTECODES_MAX[layer]


def test_an_event_costs_no_more_than_it_did() -> None:
    """An event that says neither usage nor a failure is passed on without a look at what else it could say."""
    usage, choices, error = (Field("reply", (name,)) for name in ("usage", "choices", "error"))
    reads = frozenset({"model", "id", "usage"})
    stream = Stream(when=error, drops_has=usage, drops_lacks=choices, end=b"[DONE]", errors=(error,), reads=reads)
    meter = EventMeter(stream, "", hides=False)
    meter.feed(EVENT % 5)
    tracer, before = Tracer(), sys.gettrace()
    sys.settrace(tracer)
    try:
        passing = meter.feed(EVENT % 6)
    finally:
        sys.settrace(before)
    assert passing == EVENT % 6
    assert meter.delivered
    assert tracer.of.total() <= EVENT_BYTECODES_MAX


def test_the_way_of_an_event_costs_no_more_than_it_did() -> None:
    """From the upstream's bytes to the client's, with all that the gateway does between, and no task in it."""
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        found = runner.run(of_events("gateway"))
    assert found.total() <= EVENTS_WAY_BYTECODES_MAX * EVENTS


class Slower(Answering):
    async def serve(self, client: Client) -> Answer:
        for _ in range(40):
            pass
        return await super().serve(client)


@asynccontextmanager
async def slower(_loop: MemoryLoop) -> AsyncIterator[Factory]:
    yield CustomerServer(cast("HttpPipeline", Slower()), Limits())


def test_a_slower_path_is_noticed() -> None:
    """A loop that goes round forty times, two microseconds, is more than the bound of the layer allows."""
    assert bytecodes(slower) > BYTECODES_MAX["server"]


class CountingLoop(MemoryLoop):
    """Counts what costs most of what a loop offers."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def call_at(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        self.made.append("timer")
        return super().call_at(*args, **options)

    def call_later(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        self.made.append("timer")
        return super().call_later(*args, **options)

    def create_task(self, *args: Any, **options: Any) -> Any:
        self.made.append("task")
        return super().create_task(*args, **options)


def test_a_call_makes_no_task_and_no_timer() -> None:
    """Deadlines are looked at together. (The gateway's own loops, and those looks, come between some of the calls.)"""

    async def main() -> list[list[str]]:
        loop = cast("CountingLoop", asyncio.get_running_loop())
        made = []
        async with gateway(loop) as factory:
            customers = Customers(factory, 1)
            await customers.call(5)
            for _ in range(20):
                loop.made = []
                await customers.call(1)
                made.append(loop.made)
            customers.close()
            await asyncio.sleep(0.01)
        return made

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert [] in runner.run(main())
