"""The event loop: uvloop where it is installed."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run to the end."""
    _fill_standard_files()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work)


def _fill_standard_files() -> None:
    """A process that was started without one of them (`>&-`) would take the next file that it opens for it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
