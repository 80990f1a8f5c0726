"""What the supervisor decides, and the sockets and messages between it and its workers."""

import asyncio
import os
import resource
import socket
import sys
from dataclasses import replace

import pytest

from gateway.edge.process.channel import Channel, Says
from gateway.edge.process.child import Child
from gateway.edge.process.files import FILES_OF_A_CONNECTION, FILES_OF_ITS_OWN, within_files
from gateway.edge.process.reloading import CannotReload
from gateway.edge.process.supervisor import check_reloadable, pause_seconds
from gateway.edge.server.listening import SharedPort, listen, port_of
from gateway.observe.metrics import Figures, Metrics
from gateway.settings.runtime import Limits, Listener
from tests.cli.runtimes import make_runtime
from tests.pipeline.helpers import until

HERE = Listener(host="127.0.0.1", port=0)


def test_the_pause_grows_with_each_failure_to_a_bound() -> None:
    """None for a worker that had lived; then half a second, twice as long each time, never more than 30."""
    assert [pause_seconds(failures) for failures in range(9)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_only_what_a_running_gateway_can_change_is_reloaded() -> None:
    """Limits can change; a listener cannot, and the message names it."""
    runtime = make_runtime()
    check_reloadable(runtime, replace(runtime, limits=Limits(calls_max=7), admin_token="another"))
    with pytest.raises(CannotReload, match="only a restart changes workers, ops"):
        check_reloadable(runtime, replace(runtime, workers=7, ops=Listener(host="::", port=1)))
    renewed = replace(runtime, key_pepper="another")
    with pytest.raises(CannotReload, match="no key would be known any more"):
        check_reloadable(runtime, renewed)
    check_reloadable(runtime, replace(renewed, key_peppers_accepted=(runtime.key_pepper,)))


def test_a_process_lets_in_no_more_than_it_has_files_for() -> None:
    """Each of its customers takes two; as many files as they need are asked for, where the system lets us."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = FILES_OF_ITS_OWN + FILES_OF_A_CONNECTION * 5
    pid = os.fork()
    if pid == 0:
        let_in = 0
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
            let_in = within_files(Limits()).connections_max
        finally:
            os._exit(let_in)  # whatever was raised: there is one run of the tests
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 5
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
        assert within_files(Limits(connections_max=50)).connections_max == 50
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == FILES_OF_ITS_OWN + FILES_OF_A_CONNECTION * 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_connections_are_spread_over_the_sockets_of_a_port() -> None:
    """100 connections on three sockets: each gets some. One that is left, or does not listen yet, gets none."""
    port = SharedPort(HERE)
    sockets = [port.of(worker) for worker in range(3)]
    assert {port_of(each) for each in sockets} == {port.port}
    await _connect(port, sockets[:1])
    for each in sockets:
        each.listen(128)
    counts = await _connect(port, sockets)
    assert min(counts) > 5
    port.leave(1)
    counts = await _connect(port, [sockets[0], sockets[2]])
    assert min(counts) > 5
    assert port_of(port.of(1)) == port.port
    await _connect(port, [sockets[0], sockets[2]])
    port.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port.port)


async def _connect(port: SharedPort, sockets: list[socket.socket]) -> list[int]:
    """How many of 100 connections each socket gets; all of them together get all."""
    clients = [await asyncio.open_connection("127.0.0.1", port.port) for _ in range(100)]
    counts = [_accepted(each) for each in sockets]
    assert sum(counts) == 100
    for _, writer in clients:
        writer.close()
    return counts


def _accepted(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


async def test_a_port_that_another_has_is_not_shared() -> None:
    """Whether the other one shares it or not."""
    for other in (listen(HERE), listen(HERE, shared=True)):
        with other, pytest.raises(OSError, match="in use"):
            SharedPort(replace(HERE, port=port_of(other)))


async def test_messages_come_out_of_the_channel_as_they_went_in() -> None:
    """Large and small, both ways; after the other end has closed there is nothing more."""
    ours, theirs = [await Channel.over(each) for each in socket.socketpair()]
    large = bytes(3_000_000)
    ours.send(large)
    ours.say(Says.END_WITHIN, (1.5, 0))
    theirs.say(Says.READY)
    assert await theirs.receive() == large
    assert await theirs.hear() == (Says.END_WITHIN, [1.5, 0])
    assert await ours.hear() == (Says.READY, None)
    await ours.close()
    assert await theirs.hear() is None
    theirs.say(Says.FIGURES, {})
    await theirs.close()


async def test_a_worker_is_waited_for_until_it_says_that_it_ends() -> None:
    """What it says otherwise is no sign that it has heard it; of one that is gone nothing is waited for."""
    ours, theirs = [await Channel.over(each) for each in socket.socketpair()]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    child = Child(0, process, ours, 600.0)
    theirs.say(Says.READY)
    await child.ready()
    child.end_within(600)
    ending = asyncio.create_task(child.ending())

    async def reported() -> bool:
        return child.figures is not None

    theirs.say(Says.FIGURES, {})
    assert await until(reported)
    assert not ending.done()
    theirs.say(Says.ENDING)
    await asyncio.wait_for(ending, 30)
    process.kill()
    await theirs.close()
    await asyncio.wait_for(child.over(), 30)
    gone = Child(0, process, ours, 600.0)
    gone.end_within(600)
    await asyncio.wait_for(gone.ending(), 30)


def test_the_metrics_of_several_processes_add_up() -> None:
    """Counters and histograms of all, gauges of those that live, no rounding of nano-dollars."""

    def counted(amount: int) -> Figures:
        metrics = Metrics(version="1", config="c")
        metrics.event("spooled", value=amount, product="p")
        metrics.gauges["gateway_calls_open"] = amount
        return metrics.figures()

    everybody = Metrics(version="1", config="c")
    everybody.add(counted(2**53 + 1), living=True)
    everybody.add(counted(2), living=False)
    found = everybody.figures()
    assert found["counts"]["gateway_events"] == [(("spooled", "p"), 2**53 + 3)]
    assert found["gauges"]["gateway_calls_open"] == 2**53 + 1
