"""The spool: ledger operations that could not be done, kept on local disk until they are.

Owns: durable lines with their checksums (synced before `append` returns), their order, their replay, the files of
processes that are gone. What the disk does not take waits in memory until it does.
Does not know: what an operation means. Replay is safe to repeat, because every operation carries an operation id.

One file for each process, locked while it lives. A file without a lock belongs to nobody, and is adopted by one.
"""

import asyncio
import errno
import fcntl
import os
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

from gateway.core.errors import GatewayError, LedgerRefused, LedgerUnavailable

Record = dict[str, Any]
_SUFFIX = ".spool"
#: What must be left for records of calls that are to be begun: several hundred.
_ROOM_BYTES = 256 * 1024


class SpoolFull(GatewayError):
    """The spool has reached its bound; the operation was not kept."""


class Spool:
    """Records that wait for the ledger. `bytes_max` bounds the file of this process."""

    def __init__(self, directory: Path, *, bytes_max: int) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._pending: deque[Record] = deque()
        self._unwritten: list[bytes] = []
        self._gathered: list[bytes] = []  # of this tick of the loop, and who waits for them: what went wrong, if it did
        self._sync: asyncio.Future[OSError | None] | None = None
        self._adopted: list[IO[bytes]] = []
        self._file: IO[bytes] | None = None
        self._path = Path()
        self._replaying = False

    def __repr__(self) -> str:
        return f"<Spool pending={len(self._pending)} unwritten={self.unwritten} adopted={len(self._adopted)}>"

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def first(self) -> Record | None:
        """What is replayed next."""
        return self._pending[0] if self._pending else None

    @property
    def unwritten(self) -> int:
        """Records that are in memory only, because the disk did not take them: they would die with the process."""
        return len(self._unwritten)

    @property
    def is_sound(self) -> bool:
        """Whether the next records will be kept as promised, as far as one can know before."""
        return self._file is not None and not self._unwritten and self._file.tell() + _ROOM_BYTES <= self._bytes_max

    def open(self, name: str) -> None:
        """Make this process's file, and take over the files of processes that are gone."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self.adopt()
        path = self._directory / f"{name}{_SUFFIX}"
        opening = path.with_suffix(".opening")  # no other process may find it before it is locked
        self._file = _locked(opening.open("ab", buffering=0))
        assert self._file is not None and not path.exists(), "two processes with one spool name"
        opening.rename(path)
        _sync_directory(self._directory)  # else a crash of the machine may leave the records and not their file
        self._path = path

    def adopt(self) -> None:
        """Take over the files of processes that are gone."""
        mine = {self._path, *(Path(handle.name) for handle in self._adopted)}
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            if path not in mine:
                self._adopt(path)

    def _adopt(self, path: Path) -> None:
        try:
            handle = _locked(path.open("r+b"))
        except FileNotFoundError:
            return  # another process has adopted it and is done
        if handle is None:
            return  # its process is alive, or another has adopted it
        if not os.fstat(handle.fileno()).st_nlink:
            handle.close()
            return  # another process adopted it, and was done just now
        for line in handle:
            if not line.endswith(b"\n"):
                break  # torn by a crash in the middle of a write: its operation was never promised to be kept
            record = _read(line)
            if record is not None:
                self._pending.append(record)
            else:  # what a crash made of it: for people to look at, and no reason not to start
                self._reject({"line": line.decode(errors="replace")}, "cannot be read")
        self._adopted.append(handle)

    async def append(self, record: Record) -> None:
        """Keep a record; when this returns it survives a crash of the process and of the machine.

        OSError: the disk does not take it. It waits in memory, and is written once the disk does.
        Those of one tick of the loop are written and synced together: a thousand calls that find the ledger away at
        once would else keep each other, and the loop, waiting for a thousand syncs.
        """
        assert self._file is not None, "the spool is not open"
        line = _line(record)
        waiting = sum(map(len, self._unwritten)) + sum(map(len, self._gathered))
        if self._file.tell() + waiting + len(line) > self._bytes_max:
            raise SpoolFull(f"the spool has reached {self._bytes_max} bytes")
        self._pending.append(record)
        self._gathered.append(line)
        if self._sync is None:
            loop = asyncio.get_running_loop()
            self._sync = loop.create_future()
            loop.call_soon(self._write_gathered)
        if (error := await asyncio.shield(self._sync)) is not None:  # one who is cancelled leaves it to the others
            raise OSError(error.errno, error.strerror)

    def _write_gathered(self) -> None:
        sync, self._sync = self._sync, None
        assert sync is not None, "somebody waits for it"
        try:
            self.write()
        except OSError as error:
            sync.set_result(error)
        else:
            sync.set_result(None)

    def write(self) -> None:
        """Write what the disk did not take before. OSError if it does not take it now either."""
        self._unwritten += self._gathered
        self._gathered.clear()
        if not self._unwritten:
            return
        if self._file is None:
            raise OSError(errno.EBADF, "the spool is closed")
        end, lines = self._file.tell(), b"".join(self._unwritten)
        try:
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, "no room for the whole record")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # half a record would spoil the one after it
            self._file.seek(end)
            raise
        self._unwritten.clear()

    async def replay(self, apply: Callable[[Record], Awaitable[None]]) -> tuple[int, int]:
        """Apply what waits, in order, until done or the ledger is away again: how many were applied and rejected.

        A record that the ledger refuses is moved to `rejected.jsonl` beside the spool, for people to look at.
        """
        if self._replaying:
            return 0, 0
        self._replaying = True
        applied = rejected = 0
        try:
            while self._pending:
                try:
                    await apply(self._pending[0])
                    applied += 1
                except LedgerUnavailable:
                    return applied, rejected
                except LedgerRefused as error:
                    self._reject(self._pending[0], str(error))
                    rejected += 1
                self._pending.popleft()
            self._clear()
        finally:
            self._replaying = False
        return applied, rejected

    def _reject(self, record: Record, why: str) -> None:
        with (self._directory / "rejected.jsonl").open("ab") as handle:
            handle.write(orjson.dumps({"why": why, "record": record}, option=orjson.OPT_APPEND_NEWLINE))
            handle.flush()
            os.fsync(handle.fileno())

    def _clear(self) -> None:
        """Everything was applied: nothing that the files say is outstanding."""
        self._unwritten.clear()
        self._gathered.clear()
        if self._file is not None:
            self._file.truncate(0)
            self._file.seek(0)
        for handle in self._adopted:
            Path(handle.name).unlink(missing_ok=True)
            handle.close()
        self._adopted.clear()

    def close(self) -> int:
        """Give the files up; what still waits is adopted by the next process. How many records the disk never took."""
        if self._file is not None:
            with suppress(OSError):
                self.write()
            if not self._pending:
                self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
        for handle in self._adopted:
            handle.close()
        self._adopted.clear()
        return self.unwritten


def _line(record: Record) -> bytes:
    """A record as it stands in a file: its checksum, and what it says."""
    text = orjson.dumps(record)
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _read(line: bytes) -> Record | None:
    """The record of a line; None if it is not what was written. One of an older version has no checksum."""
    if not line.startswith(b"{"):
        checksum, _, line = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(line.rstrip(b"\n")):
            return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if type(record) is dict else None


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _locked(handle: IO[bytes]) -> IO[bytes] | None:
    """The file with its lock taken, or None (and closed) if another process has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle
