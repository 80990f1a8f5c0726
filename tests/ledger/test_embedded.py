"""The embedded server: starts, keeps data, is shared, is never doubled, and ends with its owner."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.ledger.embedded import EmbeddedError, EmbeddedRedis, find_binary
from gateway.ledger.link import LinkSettings, Reply
from gateway.ledger.single import SingleLink
from tests.ports import free_port


async def ask(server: EmbeddedRedis, *parts: str) -> Reply:
    link = SingleLink(LinkSettings(url=server.url))
    await link.open()
    try:
        return await link.call(*parts)
    finally:
        await link.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("fsync", ["everysec", "always"])
async def test_data_outlives_a_restart(tmp_path: Path, fsync: str) -> None:
    """What was written is there after stop and start."""
    server = EmbeddedRedis(tmp_path, fsync=fsync)  # type: ignore[arg-type]
    await server.start()
    await ask(server, "SET", "a", "kept")
    await server.stop()
    async with server:
        assert await ask(server, "GET", "a") == b"kept"
        assert await ask(server, "CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]


async def test_data_outlives_a_kill(tmp_path: Path) -> None:
    """A server killed without warning has kept what it had answered, and its stale socket is no hindrance."""
    async with EmbeddedRedis(tmp_path, fsync="always") as server:
        await ask(server, "SET", "a", "kept")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
    async with EmbeddedRedis(tmp_path) as server:
        assert await ask(server, "GET", "a") == b"kept"


async def test_a_running_server_is_used_and_left_alone(tmp_path: Path) -> None:
    """The second on a directory uses the first's server and does not stop it."""
    async with EmbeddedRedis(tmp_path) as first:
        async with EmbeddedRedis(tmp_path) as second:
            assert (first.owned, second.owned) == (True, False)
            assert second.url == first.url
        assert await ask(first, "PING") == b"PONG"


async def test_two_that_start_at_once_get_one_server(tmp_path: Path) -> None:
    """Exactly one of four that start together owns the server."""
    servers = [EmbeddedRedis(tmp_path) for _ in range(4)]
    await asyncio.gather(*(server.start() for server in servers))
    assert sorted(server.owned for server in servers) == [False, False, False, True]
    await asyncio.gather(*(server.stop() for server in servers))


async def test_a_start_waits_for_the_last_server_to_leave(tmp_path: Path) -> None:
    """A server that is still stopping keeps its directory to itself, and then the next one starts."""
    old, new = EmbeddedRedis(tmp_path), EmbeddedRedis(tmp_path)
    await old.start()
    assert old.pid is not None
    os.kill(old.pid, signal.SIGSTOP)
    starting = asyncio.create_task(new.start())
    await asyncio.sleep(0.05)
    assert not starting.done()
    os.kill(old.pid, signal.SIGTERM)
    os.kill(old.pid, signal.SIGCONT)
    await starting
    async with asyncio.timeout(10):
        while not new.owned:  # it answered once more on its way out: whoever keeps a server asks again
            await asyncio.sleep(0.02)
            await new.start()
    await old.stop()
    await new.stop()


async def test_tcp_on_request(tmp_path: Path) -> None:
    """With a port the server listens on 127.0.0.1; a port that is taken is refused by name."""
    port = free_port()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        probe.listen()
        with pytest.raises(EmbeddedError, match=f"port {port} is not free"):
            await EmbeddedRedis(tmp_path, port=port).start()
    async with EmbeddedRedis(tmp_path, port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}/0"
        assert await ask(server, "PING") == b"PONG"


async def test_a_directory_served_elsewhere_is_refused(tmp_path: Path) -> None:
    """A server on a port may not open the files of one that runs on the socket."""
    async with EmbeddedRedis(tmp_path):
        with pytest.raises(EmbeddedError, match="another server keeps its data"):
            await EmbeddedRedis(tmp_path, port=1, start_seconds_max=0.05).start()


def test_a_long_directory_gets_a_short_socket(tmp_path: Path) -> None:
    """A path that is too long for a unix socket is replaced by one in the temporary directory."""
    server = EmbeddedRedis(tmp_path / ("x" * 100))
    assert server.socket_path.parent != server.directory
    server.start_sync()
    server.stop_sync()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error ends with what the server logged."""
    server = EmbeddedRedis(tmp_path, extra_args=("--no-such-option", "1"))
    with pytest.raises(EmbeddedError, match=r"(?s)ended at once.*no-such-option"):
        server.start_sync()
    assert not server.owned


def test_a_missing_binary_is_named(tmp_path: Path) -> None:
    """A binary that is not there is an error before anything starts; without one, one is found."""
    with pytest.raises(EmbeddedError, match="no server binary at /nowhere"):
        EmbeddedRedis(tmp_path, binary=Path("/nowhere")).start_sync()
    assert find_binary().is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is told to the child by Linux only")
def test_the_server_dies_with_its_killed_parent(tmp_path: Path) -> None:
    """A gateway that is killed leaves no server behind; Ctrl-C in the terminal does not reach the server."""
    program = (
        "import sys; from pathlib import Path; from gateway.ledger.embedded import EmbeddedRedis\n"
        "s = EmbeddedRedis(Path(sys.argv[1])); s.start_sync(); print(s.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert os.getsid(pid) == pid
        parent.kill()
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(pid)
