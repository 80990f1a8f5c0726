"""The spool: ledger operations that could not be done, kept on local disk until they are.

Owns: durable lines with their checksums (synced before `append` returns), their order, their replay, the files of
processes that are gone. What the disk does not take, or not in time, waits in memory until it does.
Does not know: what an operation means. Replay is safe to repeat, because every operation carries an operation id.

One file for each process, locked while it lives. A file without a lock belongs to nobody, and is adopted by one.
"""

import asyncio
import errno
import fcntl
import os
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from gateway.core.errors import GatewayError, LedgerRefused, LedgerUnavailable
from gateway.ledger.link import CommandError

Record = dict[str, Any]
About = tuple[str, str | None]
_SUFFIX = ".spool"
#: So many records are passed by before others on the loop have their turn.
_WALK_MAX = 500
#: What must be left for records of calls that are to be begun: several hundred.
_ROOM_BYTES = 256 * 1024
#: A server that is away for so many is away for all whose it has.
_AWAY_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Lines on their way to the disk, and who waits for them: what went wrong, if it did."""

    lines: list[bytes]
    told: asyncio.Future[OSError | None]
    written: Future[None]
    begun: float


class SpoolFull(GatewayError):
    """The spool has reached its bound; the operation was not kept."""


class Spool:
    """Records that wait for the ledger. `bytes_max` bounds the file of this process.

    Who waits longer than `disk_seconds_max` for the disk goes on: no answer to a customer depends on it.
    """

    def __init__(self, directory: Path, *, bytes_max: int, disk_seconds_max: float = 5.0) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._disk_seconds_max = disk_seconds_max
        self._pending: dict[int, Record] = {}  # by their numbers, in order
        self._numbered = 0
        self._unwritten: list[bytes] = []  # what the disk has refused
        self._gathered: list[bytes] = []  # what has come since the last batch went, and who waits for it
        self._told: asyncio.Future[OSError | None] | None = None
        self._batch: _Batch | None = None
        # A sync may take long, and a disk may hang: neither may stop the loop, and with it everybody's calls.
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._adopted: list[IO[bytes]] = []
        self._file: IO[bytes] | None = None
        self._bytes = 0  # of the file. It is not asked: whoever asks it waits for the write that is under way
        self._path = Path()
        self._replaying = False

    def __repr__(self) -> str:
        return f"<Spool pending={len(self._pending)} unwritten={self.unwritten} adopted={len(self._adopted)}>"

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def first(self) -> Record | None:
        """What is replayed next."""
        return next(iter(self._pending.values()), None)

    @property
    def unwritten(self) -> int:
        """Records that are in memory only, because the disk did not take them: they would die with the process."""
        late = 0 if self._batch is None or not self._is_late else len(self._batch.lines) + len(self._gathered)
        return max(len(self._unwritten), late)

    @property
    def is_sound(self) -> bool:
        """Whether the next records will be kept as promised, as far as one can know before."""
        return self._file is not None and not self.unwritten and self._bytes + _ROOM_BYTES <= self._bytes_max

    @property
    def _is_late(self) -> bool:
        """Whether the disk has not answered for long."""
        return self._batch is not None and time.monotonic() > self._batch.begun + self._disk_seconds_max

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
                self._add(record)
            else:  # what a crash made of it: for people to look at, and no reason not to start
                self._reject({"line": line.decode(errors="replace")}, "cannot be read")
        self._adopted.append(handle)

    def _add(self, record: Record) -> None:
        self._pending[self._numbered] = record
        self._numbered += 1

    async def append(self, record: Record) -> None:
        """Keep a record; when this returns it survives a crash of the process and of the machine.

        OSError: the disk does not take it, or not in time. It waits in memory, and is written once the disk does.
        Those that come while a batch is on its way are the next one: a thousand calls that find the ledger away at once
        would else keep each other waiting for a thousand syncs.
        """
        assert self._file is not None, "the spool is not open"
        line = _line(record)
        coming = self._batch.lines if self._batch is not None else self._unwritten
        if self._bytes + sum(map(len, coming)) + sum(map(len, self._gathered)) + len(line) > self._bytes_max:
            raise SpoolFull(f"the spool has reached {self._bytes_max} bytes")
        self._add(record)
        self._gathered.append(line)
        await self.write()

    async def write(self) -> None:
        """Write what has gathered, and what the disk did not take before. OSError as for `append`."""
        loop = asyncio.get_running_loop()
        if self._told is None:
            self._told = loop.create_future()
            loop.call_soon(self._send)
        try:
            async with asyncio.timeout(self._disk_seconds_max):
                error = await asyncio.shield(self._told)  # one who is cancelled leaves it to the others
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, "the disk has not answered in time") from None
        if error is not None:
            raise OSError(error.errno, error.strerror)

    def _send(self) -> None:
        """Begin the next batch, unless one is on its way: what has gathered goes once that has come back."""
        if self._batch is not None or self._told is None:
            return
        told, self._told = self._told, None
        lines = self._unwritten + self._gathered
        self._gathered.clear()
        if not lines or self._file is None:
            told.set_result(OSError(errno.EBADF, "the spool is closed") if lines else None)
            return
        loop = asyncio.get_running_loop()
        written = self._disk.submit(self._put, b"".join(lines))
        self._batch = _Batch(lines=lines, told=told, written=written, begun=time.monotonic())
        written.add_done_callback(lambda _: loop.call_soon_threadsafe(self._came_back))

    def _put(self, lines: bytes) -> None:
        """Write and sync, in whichever thread."""
        assert self._file is not None, "closed when no batch is on its way"
        end = self._file.tell()
        try:
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, "no room for the whole record")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # half a record would spoil the one after it
            self._file.seek(end)
            raise

    def _came_back(self) -> None:
        """The disk has answered: tell those who wait, and begin the next batch."""
        batch, self._batch = self._batch, None
        if batch is None:
            return  # the spool was closed, which waited for it
        error = batch.written.exception()
        assert error is None or isinstance(error, OSError), error
        self._unwritten = batch.lines if error is not None else []
        self._bytes += sum(map(len, batch.lines)) if error is None else 0
        batch.told.set_result(error)
        if not self._pending:
            self._clear()  # a replay was over before the batch had come back
        self._send()

    async def replay(
        self, apply: Callable[[Record], Awaitable[None]], about: Callable[[Record], About] = lambda _: ("", None)
    ) -> tuple[int, int]:
        """Apply what waits, in order, as far as the ledger is there: how many were applied and rejected.

        `about`: whose a record is, and which server has it (None: there is one only). Of each owner they are applied in
        order, so that they wait behind one that cannot be done now; so do all for a server that is away, and no others.
        A record that the ledger refuses is moved to `rejected.jsonl` beside the spool, for people to look at.
        """
        if self._replaying:
            return 0, 0
        self._replaying = True
        count: Counter[bool] = Counter()
        waiting: set[str] = set()
        away: Counter[str | None] = Counter()  # how many it was away for
        number = next(iter(self._pending), self._numbered)
        try:
            while number < self._numbered and away[None] < _AWAY_MAX:
                if number in self._pending:
                    owner, server = about(self._pending[number])
                    if owner in waiting or away[server] >= _AWAY_MAX:
                        waiting.add(owner)
                    elif isinstance(done := await self._do(number, apply), LedgerUnavailable):
                        waiting.add(owner)
                        # An error that the server answered is about this owner: many may be in trouble, and it there.
                        away[server] += not isinstance(done.__cause__, CommandError)
                    else:
                        count[done] += 1
                number += 1
                if number % _WALK_MAX == 0:
                    await asyncio.sleep(0)
            if not self._pending:
                self._clear()
        finally:
            self._replaying = False
        return count[True], count[False]

    async def _do(self, number: int, apply: Callable[[Record], Awaitable[None]]) -> bool | LedgerUnavailable:
        """Apply one record; False if the ledger refused it. It stays if the ledger is away: the answer says why."""
        done = True
        try:
            await apply(self._pending[number])
        except LedgerUnavailable as unavailable:
            return unavailable
        except LedgerRefused as error:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk, self._reject, self._pending[number], str(error))
            done = False
        del self._pending[number]
        return done

    def _reject(self, record: Record, why: str) -> None:
        with (self._directory / "rejected.jsonl").open("ab") as handle:
            handle.write(orjson.dumps({"why": why, "record": record}, option=orjson.OPT_APPEND_NEWLINE))
            handle.flush()
            os.fsync(handle.fileno())

    def _clear(self) -> None:
        """Everything was applied: nothing that the files say is outstanding."""
        if self._batch is not None:
            return  # it would be written behind what is cut off here: once it has come back
        self._unwritten.clear()
        self._gathered.clear()
        if self._file is not None:
            self._file.truncate(0)
            self._file.seek(0)
            self._bytes = 0
        for handle in self._adopted:
            Path(handle.name).unlink(missing_ok=True)
            handle.close()
        self._adopted.clear()

    def close(self) -> int:
        """Give the files up; what still waits is adopted by the next process. How many records the disk never took."""
        told, self._told = self._told, None
        self._disk.shutdown()  # waits for what is on its way
        self._came_back()
        lines, error = self._unwritten + self._gathered, None
        self._gathered.clear()
        if self._file is not None:
            try:
                self._put(b"".join(lines))
                lines.clear()
            except OSError as refused:
                error = refused
            if not self._pending:
                self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
        self._unwritten = lines
        if told is not None:
            told.set_result(error)
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
