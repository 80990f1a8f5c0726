"""Structured logs: one JSON line for each call, and one for each event. No key, token, query or body is ever in one.

Owns: the form of the lines and when they are written (in batches, off the path of a call). Workers write to one pipe:
a write is of whole lines, and not larger than what a pipe takes in one piece.
Does not know: what is worth logging.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from typing import Final, Protocol

import orjson
import structlog

from gateway.observe.outlet import Outlet
from gateway.observe.repeats import Repeats
from gateway.ports import CallFinished, DeliveryTried, ExportTried, JobLooked, PaymentTold, QueueLeft, SessionFinished

_BATCH_BYTES: Final = 64 * 1024
_WRITE_BYTES: Final = 4096  # PIPE_BUF of Linux
_CLOSE_SECONDS_MAX: Final = 2.0
_LINE: Final = orjson.OPT_APPEND_NEWLINE
_NO_FILE: Final = -1
#: Events that are counted and have no line: one of good days, and one that would have to be written where none can be.
_NO_LINE: Final = frozenset({"hold_renewed", "log_lost"})


class Lines(Protocol):
    """Where whole lines go."""

    def write(self, lines: bytes, /) -> object:
        """Take them. OSError if that cannot be."""


class Logs:
    """An `Observer` that writes lines. `flush` is called by a timer and at the end."""

    def __init__(self, *, level: str = "info", stream: Lines | None = None) -> None:
        self._calls = level in ("debug", "info")
        self._stream = stream if stream is not None else _standard_output()
        self._lines: list[bytes] = []
        self._size = 0
        self._repeats = Repeats()
        self._log = structlog.wrap_logger(
            object(),  # of None it would make one that prints, and there may be nothing to print to
            processors=[structlog.processors.add_log_level, self._render],
            wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        )

    def _render(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> str:
        self._add({"time": time.time(), **event})
        raise structlog.DropEvent  # it is in the batch

    def call_finished(self, record: CallFinished) -> None:
        """One line with the record's own field names; times in seconds, money in nano-dollars."""
        if self._calls:
            self._append(b'{"event":"call",%b' % orjson.dumps(record, option=_LINE)[1:])

    def session_finished(self, record: SessionFinished) -> None:
        """One line beside the call's own."""
        if self._calls:
            self._tell("session", record)

    def job_looked(self, record: JobLooked) -> None:
        """One line for a job that a look found to be over."""
        if self._calls and record.over:
            self._tell("job", record)

    def queue_left(self, record: QueueLeft) -> None:
        """One line for a job that waited."""
        if self._calls:
            self._tell("queue", record)

    def delivery_tried(self, record: DeliveryTried) -> None:
        """One line for each attempt."""
        if self._calls:
            self._tell("delivery", record)

    def payment_told(self, record: PaymentTold) -> None:
        """One line for each telling."""
        self._tell("payment", record)

    def export_tried(self, record: ExportTried) -> None:
        """One line for each batch that failed."""
        if record.outcome != "kept":
            self._tell("export", record)

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        """One warning line. Of the same one again and again, one line every while, with how many `times`."""
        if name not in _NO_LINE and self._repeats.is_new(name, tuple(facts.items()), value, time.monotonic()):
            self._log.warning(name, value=value, **facts)

    def info(self, name: str, **facts: object) -> None:
        """One line about the process itself."""
        self._log.info(name, **facts)

    def error(self, name: str, error: BaseException) -> None:
        """A fault that nobody expected: its type and where, never its values."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        self._log.error(name, error=type(error).__name__, where=where)

    def _tell(self, name: str, record: object) -> None:
        """A line of a record that does not say itself when it was."""
        self._append(
            b'{"event":"%b","time":%b,%b'
            % (name.encode(), orjson.dumps(time.time()), orjson.dumps(record, option=_LINE)[1:])
        )

    def _add(self, line: dict[str, object]) -> None:
        self._append(orjson.dumps(line, option=_LINE, default=str))

    def _append(self, text: bytes) -> None:
        self._lines.append(text)
        self._size += len(text)
        if self._size > _BATCH_BYTES:
            self.flush()

    def tell_repeats(self, *, ending: bool = False) -> None:
        """Write what was held back for long enough; all of it at the end."""
        for name, facts, value, times in self._repeats.due(inf if ending else time.monotonic()):
            self._log.warning(name, value=value, times=times, **dict(facts))

    def flush(self) -> None:
        """Write what has gathered. What cannot be written is dropped: nobody's call fails because of a log."""
        lines, self._lines, self._size = self._lines, [], 0
        if lines:
            with suppress(OSError):
                for piece in _pieces(lines):
                    self._stream.write(piece)

    def lost(self) -> int:
        """How many lines could not be written since this was last asked."""
        return self._stream.lost() if isinstance(self._stream, Outlet) else 0

    def close(self) -> None:
        """Write what has gathered, and wait for that for a moment."""
        self.flush()
        if isinstance(self._stream, Outlet):
            self._stream.close(_CLOSE_SECONDS_MAX)


def _standard_output() -> Lines:
    """The process's own, or what stands in its place. Where there is none (`>&-`) every line is lost."""
    try:
        return Outlet(_NO_FILE if sys.stdout is None else sys.stdout.fileno())
    except OSError:
        return sys.stdout.buffer


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """The lines joined, as many in each piece as fit into one write."""
    start = size = 0
    for end, line in enumerate(lines):
        if size + len(line) > _WRITE_BYTES and size:
            yield b"".join(lines[start:end])
            start, size = end, 0
        size += len(line)
    yield b"".join(lines[start:])
