"""`gateway health`: what a container engine asks."""

import asyncio
import socket
import time
from typing import Any

import pytest

from gateway.edge.observing import Observing
from gateway.edge.process.control import Control, ask
from tests.cli.conftest import Shell
from tests.cli.runtimes import make_runtime

STATE: dict[str, Any] = {"ready": True, "ledger": "ok", "config": "0123", "workers": 2}


async def test_it_tells_whether_a_gateway_lives_and_is_ready(offline: Shell) -> None:
    """0 while it lives, whatever its ledger does; with --ready only while it should get traffic; 1 if there is none."""
    state = dict(STATE)

    async def health() -> dict[str, Any]:
        return state

    async with Control(offline.data / "spool", {"health": health}, Observing(make_runtime())):
        for words in (["health"], ["health", "--ready"]):
            assert await asyncio.to_thread(offline.ok, *words) == "ready: 2 workers, ledger ok, config 0123\n"
        assert await asyncio.to_thread(offline.json, "health") == {"gateways": [STATE]}
        state.update(ready=False, ledger="unavailable")
        assert "alive, not ready" in await asyncio.to_thread(offline.ok, "health")
        assert "ledger unavailable" in await asyncio.to_thread(offline.refused, "health", "--ready")
    assert "No gateway" in await asyncio.to_thread(offline.refused, "health")


def test_one_that_says_nothing_is_not_waited_for(offline: Shell) -> None:
    """A supervisor that hangs accepts, and answers nothing: told as such within the time that is given."""
    place = offline.data / "spool"
    place.mkdir()
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(f"{place}/control-1.sock")
        hung.listen()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(place, "health", seconds_max=0.1)
        assert time.monotonic() - began < 60
