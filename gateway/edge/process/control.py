"""The door of a running gateway for the command line: a socket of this machine, beside the spool.

Owns: where it is, what may be said there, who may say it: whoever the directory belongs to.
Does not know: what a reload does, or how its outcome is printed.

It says nothing that the log does not say, and works whatever the ops listener asks of its clients.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import orjson

from gateway.edge.observing import Observing

#: What is asked: a word, and the answer's fields.
Answers = Mapping[str, Callable[[], Awaitable[Any]]]
_PATTERN: Final = "control-*.sock"
_WORD_BYTES_MAX: Final = 32
_ASK_SECONDS_MAX: Final = 5.0
#: A reload starts workers, which may take their time.
ANSWER_SECONDS_MAX: Final = 150.0


class Control:
    """`async with Control(directory, answers, observing)`: is asked there. Without a socket, nobody can ask."""

    def __init__(self, directory: Path, answers: Answers, observing: Observing) -> None:
        self._directory = directory
        self._name = _PATTERN.replace("*", str(os.getpid()))
        self._answers = answers
        self._observing = observing
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Be there, if the system has room for it."""
        try:
            self._server = await asyncio.start_unix_server(self._answer, sock=self._bound(), limit=_WORD_BYTES_MAX)
        except OSError as error:
            self._observing.all.event("control_unavailable", reason=error.strerror or str(error))
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Be gone."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                (self._directory / self._name).unlink()

    def _bound(self) -> socket.socket:
        self._directory.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (self._directory / self._name).unlink()  # of a process that had our number, and was killed
        made = socket.socket(socket.AF_UNIX)
        try:
            with _short(self._directory) as directory:
                os.fchmod(made.fileno(), 0o600)
                made.bind(f"{directory}/{self._name}")
        except OSError:
            made.close()
            raise
        return made

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question, one answer."""
        try:
            async with asyncio.timeout(_ASK_SECONDS_MAX):
                word = (await reader.readline()).decode("ascii", "replace").strip()
            if (answer := self._answers.get(word)) is not None:
                writer.write(orjson.dumps(await answer()))
            await writer.drain()
        except (ConnectionError, TimeoutError, ValueError):
            return  # whoever asked is gone, or says too much
        finally:
            writer.close()


def ask(directory: Path, word: str, *, seconds_max: float = ANSWER_SECONDS_MAX) -> list[dict[str, Any]]:
    """The answer of every gateway that runs with this directory. OSError if one does not answer."""
    found = []
    for path in sorted(directory.glob(_PATTERN)):
        with suppress(ConnectionRefusedError, FileNotFoundError), socket.socket(socket.AF_UNIX) as line:
            line.settimeout(seconds_max)
            with _short(directory) as short:
                line.connect(f"{short}/{path.name}")
            line.sendall(f"{word}\n".encode())
            with line.makefile("rb") as answer:
                found.append(orjson.loads(answer.read()))
    return found


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    """The directory by a short path: that of a socket may have a hundred characters only."""
    if sys.platform != "linux":
        yield str(directory)
        return
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}"
    finally:
        os.close(opened)
