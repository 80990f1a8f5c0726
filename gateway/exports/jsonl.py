"""Exports to files of JSON lines: one line for each entry.

Owns: the directory: its files `entries-<when it was begun, ms>.jsonl`, of which the last one grows; each line is on the
disk before it counts as kept. When the directory is full nothing is thrown away: the export waits until files are taken
out. No name comes twice.
Does not know: what the lines say.
"""

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import orjson

from gateway.exports.lines import entry_line
from gateway.ports import ExportFailed, ExportPage
from gateway.settings.exports import JsonlExport

_PATTERN: Final = "entries-*.jsonl"
_MODE: Final = 0o600
_TAIL_BYTES: Final = 65_536


class JsonlSink:
    """See ports.Sink. `settings.directory` is this process's alone: a second one is refused."""

    name = "jsonl"
    keeps_standing = False

    def __init__(self, settings: JsonlExport) -> None:
        self._settings = settings
        self._lock: IO[bytes] | None = None
        self._file: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"<JsonlSink {self._file.name if self._file else 'not opened'}>"

    async def put(self, pages: Sequence[ExportPage]) -> None:
        """See ports.Sink. In a thread: a disk may take its time."""
        lines = [
            orjson.dumps(entry_line(page.account, entry), option=orjson.OPT_APPEND_NEWLINE)
            for page in pages
            for entry in page.entries
        ]
        if not lines:
            return
        try:
            await asyncio.to_thread(self._append, lines)
        except OSError as error:
            self._let_go()
            raise ExportFailed(f"{self._settings.directory}: {error.strerror or error}") from None
        except ExportFailed:
            self._let_go()  # the next one finds what is there then
            raise

    async def close(self) -> None:
        """See ports.Sink."""
        self._let_go()

    def _append(self, lines: Sequence[bytes]) -> None:
        file = self._opened()
        self._check_room(sum(map(len, lines)))
        waiting: list[bytes] = []
        size = file.tell()
        for line in lines:
            if size and size + len(line) > self._settings.file_bytes_max:
                _write(file, b"".join(waiting))
                file, waiting, size = self._next(file), [], 0
            waiting.append(line)
            size += len(line)
        _write(file, b"".join(waiting))

    def _opened(self) -> IO[bytes]:
        if self._file is not None:
            return self._file
        directory = self._settings.directory
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise ExportFailed(f"{directory}: another process writes there") from None
        self._lock = lock
        files = sorted(directory.glob(_PATTERN))
        self._file = _open(files[-1] if files else directory / _name_after(""))
        _mend(self._file)
        return self._file

    def _next(self, file: IO[bytes]) -> IO[bytes]:
        file.close()
        self._file = _open(self._settings.directory / _name_after(Path(file.name).stem))
        return self._file

    def _check_room(self, more: int) -> None:
        used = sum(path.stat().st_size for path in self._settings.directory.glob(_PATTERN))
        if used + more > self._settings.directory_bytes_max:
            raise ExportFailed(f"{self._settings.directory} is full: take files out, or raise directory_bytes_max")

    def _let_go(self) -> None:
        for handle in (self._file, self._lock):
            if handle is not None:
                handle.close()
        self._file = self._lock = None


def _name_after(last: str) -> str:
    """By the time; also where the clock was set back."""
    began = int(last.rpartition("-")[2] or 0)
    return f"entries-{max(int(time.time() * 1000), began + 1):013d}.jsonl"


def _open(path: Path) -> IO[bytes]:
    file = open(path, "a+b", buffering=0, opener=lambda name, flags: os.open(name, flags, _MODE))  # noqa: SIM115
    file.seek(0, os.SEEK_END)
    return file


def _write(file: IO[bytes], text: bytes) -> None:
    """Have it on the disk, or nothing of it: half a line would spoil the one after it."""
    end = file.tell()
    try:
        if file.write(text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def _mend(file: IO[bytes]) -> None:
    """Cut off a line that a crash left unfinished: it was not kept, and comes again."""
    end = file.tell()
    while end:
        start = max(0, end - _TAIL_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    file.truncate(end)
    file.seek(end)
