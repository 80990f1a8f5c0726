"""The spool: ledger operations that could not be done, kept on local disk until they are.

Owns: durable lines (synced before `append` returns), their order, their replay, the files of processes that are gone.
Does not know: what an operation means. Replay is safe to repeat, because every operation carries an operation id.

One file for each process, locked while it lives. A file without a lock belongs to nobody, and is adopted by one.
"""

import errno
import fcntl
import os
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

import orjson

from gateway.core.errors import GatewayError, LedgerRefused, LedgerUnavailable

Record = dict[str, Any]
_SUFFIX = ".spool"


class SpoolFull(GatewayError):
    """The spool has reached its bound; the operation was not kept."""


class Spool:
    """Records that wait for the ledger. `bytes_max` bounds the file of this process."""

    def __init__(self, directory: Path, *, bytes_max: int) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._pending: deque[Record] = deque()
        self._adopted: list[IO[bytes]] = []
        self._file: IO[bytes] | None = None
        self._path = Path()
        self._replaying = False

    def __repr__(self) -> str:
        return f"<Spool pending={len(self._pending)} adopted={len(self._adopted)}>"

    def __len__(self) -> int:
        return len(self._pending)

    def open(self, name: str) -> None:
        """Make this process's file, and take over the files of processes that are gone."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self.adopt()
        path = self._directory / f"{name}{_SUFFIX}"
        opening = path.with_suffix(".opening")  # no other process may find it before it is locked
        self._file = _locked(opening.open("ab", buffering=0))
        assert self._file is not None and not path.exists(), "two processes with one spool name"
        opening.rename(path)
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
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                record = None
            if type(record) is dict:
                self._pending.append(record)
            else:  # what a crash made of it: for people to look at, and no reason not to start
                self._reject({"line": line.decode(errors="replace")}, "cannot be read")
        self._adopted.append(handle)

    def append(self, record: Record) -> None:
        """Keep a record; when this returns it survives a crash of the process and of the machine."""
        assert self._file is not None, "the spool is not open"
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        end = self._file.tell()
        if end + len(line) > self._bytes_max:
            raise SpoolFull(f"the spool has reached {self._bytes_max} bytes")
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "no room for the whole record")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # half a record would spoil the one after it
            self._file.seek(end)
            raise
        self._pending.append(record)

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
        if self._file is not None:
            self._file.truncate(0)
            self._file.seek(0)
        for handle in self._adopted:
            Path(handle.name).unlink(missing_ok=True)
            handle.close()
        self._adopted.clear()

    def close(self) -> None:
        """Give the files up; what still waits is adopted by the next process."""
        if self._file is not None:
            if not self._pending:
                self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
        for handle in self._adopted:
            handle.close()
        self._adopted.clear()


def _locked(handle: IO[bytes]) -> IO[bytes] | None:
    """The file with its lock taken, or None (and closed) if another process has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle
