"""The tests of sockets run on both event loops: the one that serves, and Python's own."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Their transports differ in what they allow and when they call."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
