"""How full a process is: how late its event loop is, what it uses of the processor, its files, its memory.

Owns: how each is measured, on which system. Does not know: what is too much.
"""

import asyncio
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.observe.metrics import Metrics

#: How often the loop is probed, and for how long it is asked to sleep, in seconds.
PROBE_SECONDS: Final = 0.25
_SLEEP_SECONDS: Final = 0.02
_FILES: Final = Path("/proc/self/fd")
_MEMORY: Final = Path("/proc/self/statm")


async def probe(metrics: Metrics) -> None:
    """Sleep for a moment: what is more than that is how long whatever is ready waits for its turn."""
    asleep = time.monotonic()
    await asyncio.sleep(_SLEEP_SECONDS)
    metrics.lagged(max(0.0, time.monotonic() - asleep - _SLEEP_SECONDS))


def measure(metrics: Metrics, process: str) -> None:
    """What this process uses now."""
    metrics.used(process, time.process_time())
    metrics.gauges["gateway_file_descriptors_open"] = _files()
    metrics.gauges["gateway_file_descriptors_max"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    metrics.gauges["gateway_resident_bytes"] = _resident_bytes()


def _files() -> int:
    """0 where nothing tells. A Linux since 6.2 tells their number without a list of them."""
    with suppress(OSError):
        return _FILES.stat().st_size or sum(1 for _ in _FILES.iterdir())
    return 0


def _resident_bytes() -> int:
    """0 where nothing tells."""
    with suppress(OSError):
        return int(_MEMORY.read_bytes().split()[1]) * resource.getpagesize()
    return 0
