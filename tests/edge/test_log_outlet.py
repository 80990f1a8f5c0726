"""Where the log goes: a pipe that nobody reads, a disk that is full, a standard output that is closed."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.edge.observing import Observing
from gateway.observe.logs import Logs
from gateway.observe.outlet import Outlet
from tests.cli.conftest import ROOT
from tests.cli.runtimes import make_runtime
from tests.pipeline.helpers import until

LINE = b"x" * 1023 + b"\n"


def test_a_pipe_that_nobody_reads_holds_up_nobody() -> None:
    """What waits is bounded, the rest is counted; once somebody reads, all that was kept comes, whole and in order."""
    reading, writing = os.pipe()
    outlet = Outlet(writing, waiting_bytes_max=200 * len(LINE))
    for number in range(300):
        outlet.write(b"%d " % number + LINE)
    lost = outlet.lost()
    assert 0 < lost <= 110
    assert outlet.lost() == 0
    outlet.close(0.01)  # waits no longer than that
    came = b""
    while came.count(b"\n") < 300 - lost:
        came += os.read(reading, 65536)
    outlet.close(60)
    assert [int(line.split()[0]) for line in came.splitlines()] == list(range(300 - lost))
    outlet.write(b"after all\n")
    outlet.close(60)
    assert os.read(reading, 65536) == b"after all\n"
    os.close(reading)
    os.close(writing)


def test_a_process_ends_though_its_log_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway's observers tell and end, and know how many lines were lost."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        observing = Observing(make_runtime())
        for number in range(20):
            observing.logs.info("something", number=number, fact="y" * 1024 * 1024)
        observing.flush()
        assert observing.logs.lost() > 0
        os.close(reading)  # what waits is lost as well
        while not observing.logs.lost():
            observing.flush()
        outlet = observing.logs._stream
        assert isinstance(outlet, Outlet)
        while outlet._writer is not None:
            outlet.close(60)  # it would write to what is opened next under this number


async def test_a_disk_that_is_full_loses_lines_and_no_half_one_stays(tmp_path: Path) -> None:
    """What is lost is counted, in metrics alone; the next line after a half one begins a line of its own."""
    observing = Observing(make_runtime())
    with Path("/dev/full").open("wb") as full, (tmp_path / "log").open("wb") as file:
        outlet = Outlet(full.fileno())
        observing.logs = Logs(stream=outlet)
        observing.all._observers = (observing.metrics, observing.logs)
        observing.logs.info("something")

        async def told() -> bool:
            await observing.keep_flushing()
            return observing.metrics._counts["gateway_events"]["log_lost", ""] == 1

        assert await until(told)
        outlet.close(60)
        outlet._descriptor = file.fileno()
        outlet._unfinished = True
        observing.logs.info("another")
        observing.flush()
    first, second = (tmp_path / "log").read_bytes().splitlines()
    assert first == b"" and b'"event":"another"' in second


def test_without_standard_output_lines_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started with it closed says nothing, and writes into no other file of its own."""
    monkeypatch.setattr(sys, "stdout", None)
    logs = Logs()
    logs.info("something")
    lost = 0
    while not lost:
        logs.close()  # which waits for no more than a moment
        lost = logs.lost()
    assert lost == 1


def test_without_room_for_a_thread_lines_are_lost() -> None:
    """Nobody's call fails because of a log, and what comes when there is room again is written."""
    reading, writing = os.pipe()
    outlet = Outlet(writing)
    before = threading.stack_size(1 << 60)  # no address has so much room, however freely memory is promised
    try:
        outlet.write(b"one\ntwo\n")
    finally:
        threading.stack_size(before)
    assert outlet.lost() == 2
    outlet.close(60)
    outlet.write(b"three\n")
    outlet.close(60)
    assert os.read(reading, 65536) == b"three\n"
    os.close(reading)
    os.close(writing)


STANDARD = """
import asyncio, os
from gateway.edge.process.loop import run

async def standard():
    return {os.fstat(descriptor).st_rdev for descriptor in range(3)} == {os.stat(os.devnull).st_rdev}

os._exit(0 if run(standard()) else 1)
"""


def test_a_process_without_standard_files_has_empty_ones() -> None:
    """What it opens first is none of them: a loop cannot run with a socket in the place of one."""
    shell = 'exec "$0" -c "$1" <&- >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", shell, sys.executable, STANDARD], cwd=ROOT, check=False).returncode == 0
