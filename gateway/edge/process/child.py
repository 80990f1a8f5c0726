"""One worker process, as its supervisor sees it: started, ready, reporting, ending, over.

Owns: the process's command line, the supervisor's side of the channel, the patience with a process that says nothing.
Does not know: other workers, or why this one is started or ended.
"""

import asyncio
import os
import pickle
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import gateway
from gateway.edge.process.channel import Channel, Says
from gateway.observe.metrics import Figures
from gateway.settings.runtime import Runtime
from gateway.settings.tls import Tls

_START_SECONDS_MAX: Final = 60.0
#: It reports every second; one that says nothing for so long serves nobody either.
_SILENT_SECONDS_MAX: Final = 30.0
_DONE_SECONDS_MAX: Final = 1.0
#: From its last word to its end.
_EXIT_SECONDS_MAX: Final = 10.0
#: Beyond what calls may take: settling those that were cut, closing.
_END_SECONDS_MAX: Final = 60.0


class WorkerFailed(Exception):
    """A worker ended before it was ready. The message says why, as far as it said so."""


class Child:
    """A worker process. `figures` are those that it last reported."""

    def __init__(
        self, number: int, process: asyncio.subprocess.Process, channel: Channel, silent_seconds_max: float
    ) -> None:
        self.number = number
        self.started = time.monotonic()
        self.accepting = False
        self.figures: Figures | None = None
        self.failure = ""
        self._process = process
        self._channel = channel
        self._silent_seconds_max = silent_seconds_max
        self._ready = asyncio.Event()
        self._reported = asyncio.Event()
        self._shown = asyncio.Event()
        self._ending = asyncio.Event()
        self._end: asyncio.TimerHandle | None = None
        self._life = asyncio.create_task(self._live())

    def __repr__(self) -> str:
        return f"<Child {self.number} pid={self.pid} accepting={self.accepting}>"

    @classmethod
    async def start(
        cls,
        number: int,
        runtime: Runtime,
        listener: socket.socket,
        *,
        silent_seconds_max: float = _SILENT_SECONDS_MAX,
    ) -> Self:
        """A new process that accepts from `listener`. OSError if the system has no room for it."""
        ours, theirs = socket.socketpair()
        try:
            inherited = (theirs.fileno(), listener.fileno())
            # The package that runs here, wherever it is; and nothing else from the working directory.
            path = os.pathsep.join(filter(None, (str(Path(gateway.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gateway.edge.process.worker", *map(str, inherited)),
                env=os.environ | {"PYTHONPATH": path},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=inherited,
                start_new_session=True,  # the terminal's Ctrl-C is for the supervisor, which then ends its workers
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        channel = await Channel.over(ours)
        channel.send(pickle.dumps(runtime))
        return cls(number, process, channel, silent_seconds_max)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def ready(self) -> None:
        """Wait until it takes calls. WorkerFailed if it ends before."""
        await self._ready.wait()
        if not self.accepting:
            raise WorkerFailed(self.failure or f"a worker ended at once, status {self._process.returncode}")

    async def report(self) -> None:
        """Have it report its figures now. One that is busy or gone has reported lately, one that starts has none."""
        if self._ready.is_set():
            await self._have(Says.REPORT, None, self._reported)

    async def show(self, tls: Tls | None) -> None:
        """Have it show new connections this certificate. One that starts, or is busy, will, before it takes them."""
        files = None if tls is None else [(str(file.path), file.text) for file in tls.files]
        await self._have(Says.SHOW, files, self._shown)

    async def _have(self, what: Says, fact: object, done: asyncio.Event) -> None:
        """Say something, and wait a moment until it is done."""
        done.clear()
        self._channel.say(what, fact)
        with suppress(TimeoutError):
            async with asyncio.timeout(_DONE_SECONDS_MAX):
                await done.wait()

    def end_within(self, seconds: float, *, linger_seconds: float = 0.0) -> None:
        """Have it take no more connections and end; see `Gateway.end_within`. May be said again, with less."""
        self.accepting = False
        self._channel.say(Says.END_WITHIN, (seconds, linger_seconds))
        if self._end is not None:
            self._end.cancel()
        self._end = asyncio.get_running_loop().call_later(seconds + _END_SECONDS_MAX, self._kill, "it did not end")

    async def ending(self) -> None:
        """Wait until it has heard that it is to end, and takes no more connections.

        One that is gone takes none either. For one that has not heard it for long, nobody waits: it is about to be
        killed as one that says nothing.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._silent_seconds_max):
                await self._ending.wait()

    async def over(self) -> int:
        """Wait until the process has ended; its status."""
        return await asyncio.shield(self._life)

    async def _live(self) -> int:
        """Hear what it says, to its last word, then see it end."""
        patience = _START_SECONDS_MAX
        try:
            while heard := await asyncio.wait_for(self._channel.hear(), patience):
                match heard:
                    case Says.READY, _:
                        self.accepting = True
                        self._ready.set()
                        patience = self._silent_seconds_max
                    case Says.FIGURES, figures:
                        self.figures = figures
                        self._reported.set()
                    case Says.SHOWN, _:
                        self._shown.set()
                    case Says.ENDING, _:
                        self._ending.set()
                    case Says.FAILED, why:
                        self.failure = why
        except TimeoutError:
            self._kill(f"it said nothing for {patience:.0f} s")
        self.accepting = False
        await self._channel.close()
        try:
            status = await asyncio.wait_for(self._process.wait(), _EXIT_SECONDS_MAX)
        except TimeoutError:
            self._kill("it did not exit")
            status = await self._process.wait()
        if self._end is not None:
            self._end.cancel()
        for event in (self._ready, self._reported, self._shown, self._ending):  # whoever waits for one waits in vain
            event.set()
        return status

    def _kill(self, why: str) -> None:
        self.failure = why
        with suppress(ProcessLookupError):
            self._process.kill()
