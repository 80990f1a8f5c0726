"""Where lines leave the process, written by a thread of its own: a reader that has stopped reading, or a disk that is
stalled, holds up nobody's call.

Owns: what waits to be written and how much may, what is lost, that a line begins where no other is unfinished.
Does not know: what the lines say.
"""

import os
import threading
from collections import deque
from typing import Final

#: What may wait while nothing is taken; a line beyond is lost.
WAITING_BYTES_MAX: Final = 8 * 1024 * 1024


class Outlet:
    """Writes whole lines to an open file. `close` waits for them, and a later line opens it again."""

    def __init__(self, descriptor: int, *, waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        self._descriptor = descriptor
        self._waiting_bytes_max = waiting_bytes_max
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._unfinished = False  # the last thing that was written is half a line
        self._writer: threading.Thread | None = None
        self._closing = False
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<Outlet {self._descriptor} waiting={self._waiting_bytes}>"

    def write(self, lines: bytes) -> None:
        """Have whole lines written, soon."""
        with self._changed:
            if self._waiting_bytes + len(lines) > self._waiting_bytes_max or not self._has_writer():
                self._lost += lines.count(b"\n")
                return
            self._pieces.append(lines)
            self._waiting_bytes += len(lines)
            self._changed.notify_all()

    def _has_writer(self) -> bool:
        """Whether a thread writes, from the first line on: the system may have no room for one."""
        if self._writer is None:
            writer = threading.Thread(target=self._run, name="log", daemon=True)
            try:
                writer.start()
            except RuntimeError:
                return False
            self._writer = writer
        return True

    def lost(self) -> int:
        """How many lines were lost since this was last asked."""
        with self._changed:
            lost, self._lost = self._lost, 0
        return lost

    def close(self, seconds_max: float) -> None:
        """Wait until all is written, but no longer than that: who reads nothing keeps no process alive."""
        with self._changed:
            writer = self._writer
            if writer is None:
                return
            self._closing = True
            self._changed.notify_all()
        writer.join(seconds_max)
        with self._changed:
            self._closing = False

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._closing)
                if not self._pieces:
                    self._writer = None
                    return
                piece = self._pieces.popleft()
            lost = self._put(piece)
            with self._changed:
                self._waiting_bytes -= len(piece)
                self._lost += lost

    def _put(self, piece: bytes) -> int:
        """Write it; how many lines of it were lost, since the disk is full or nobody is there."""
        rest = b"\n" + piece if self._unfinished else piece
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._unfinished = not rest[:written].endswith(b"\n")
                rest = rest[written:]
        except OSError:
            return rest.count(b"\n")
        return 0
