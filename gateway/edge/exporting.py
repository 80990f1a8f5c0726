"""The export as it is wired: which sinks the config has, and an exporter for each.

Owns: the loops of a process that may export. Does not know: how things are kept (exports), or in what order (workers).
"""

import asyncio
from contextlib import suppress
from typing import Final, Self

from gateway.core.errors import LedgerUnavailable
from gateway.exports.cloudevents import CloudEventsSink
from gateway.exports.jsonl import JsonlSink
from gateway.exports.kafka import KafkaSink
from gateway.exports.postgres import PostgresSink
from gateway.ports import Clock, Ledger, Observer, Sink
from gateway.settings.exports import Exports
from gateway.workers.export import Exporter
from gateway.workers.loops import forever

#: How often what has changed is noted, and what waits is exported.
NOTE_SECONDS: Final = 0.5
_EXPORT_SECONDS: Final = 0.5
_WALK_SECONDS: Final = 1.0
_DAY_SECONDS: Final = 86_400


def make_sinks(settings: Exports) -> list[Sink]:
    """The sinks that the config has."""
    sinks: list[Sink] = []
    if settings.postgres is not None:
        sinks.append(PostgresSink(settings.postgres))
    if settings.jsonl is not None:
        sinks.append(JsonlSink(settings.jsonl))
    if settings.cloudevents is not None:
        sinks.append(CloudEventsSink(settings.cloudevents))
    if settings.kafka is not None:
        sinks.append(KafkaSink(settings.kafka))
    return sinks


class Exporting:
    """`async with Exporting(...)`: notes what is changed through this ledger, and exports if it is `on`."""

    def __init__(self, settings: Exports, *, ledger: Ledger, observer: Observer, clock: Clock, on: bool) -> None:
        self._ledger = ledger
        self._observer = observer
        ledger.export_to(settings.sinks)
        keep = None if settings.keep_days is None else (settings.sinks, settings.keep_days * _DAY_SECONDS)
        self.exporters = [
            Exporter(
                ledger=ledger, sink=sink, observer=observer, clock=clock, walk_accounts=settings.walk_accounts,
                trims=keep if sink.name == settings.sinks[0] else None,
            )
            for sink in (make_sinks(settings) if on else ())
        ]  # fmt: skip
        self._notes = bool(settings.sinks)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start the loops."""
        loops = [forever("exports", NOTE_SECONDS, self._ledger.note_exports, self._observer)] if self._notes else []
        for exporter in self.exporters:
            loops.append(forever("export", _EXPORT_SECONDS, exporter.round, self._observer))
            loops.append(forever("export_walk", _WALK_SECONDS, exporter.walk, self._observer))
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        return self

    async def __aexit__(self, *_error: object) -> None:
        """End the loops: what was under way is put again by whoever comes next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(LedgerUnavailable):
            await self._ledger.note_exports()
        for exporter in self.exporters:
            await exporter.close()

    def gauges(self) -> dict[str, float]:
        """How far the sinks are behind that this process exports to."""
        return {
            "gateway_export_lag_accounts": sum(exporter.lag_accounts for exporter in self.exporters),
            "gateway_export_lag_seconds": max((exporter.lag_seconds for exporter in self.exporters), default=0.0),
        }
