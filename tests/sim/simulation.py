"""One history: the cast, the traffic, the deaths, and the end of it.

Owns: how many of what there are, when a process dies, is configured anew, or the server is restarted; what is said of
a history that fails.
Does not know: what is right (auditor, laws).
"""

import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from gateway.core.errors import LedgerUnavailable
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.sim import customers
from tests.sim.administrators import administrate, open_account
from tests.sim.auditor import Auditor
from tests.sim.bank import hear, pay
from tests.sim.configs import CONFIGS
from tests.sim.deeds import Deed, Violation
from tests.sim.processes import Disk, Outside, Process
from tests.sim.shrink import Stage, shrink, told
from tests.sim.workers import work
from tests.sim.world import FAIR, Weather, World

ACCOUNTS: Final = 6
PROCESSES: Final = 3
#: Steps between two arrivals, deaths of a process, reloads of a config, deaths of the server, and deaths that it comes
#: back from without its last writes.
ARRIVAL_STEPS, DEATH_STEPS, RELOAD_STEPS, RESTART_STEPS, LOSS_STEPS = 4, 250, 150, 5000, 3500
#: So many steps may be lost then.
LOST_STEPS_MAX: Final = 60
#: After the traffic: longer than any lease, job, deadline and back-off.
QUIET_SECONDS: Final = 400.0
#: A process that dies leaves what it wrote to the page cache, which the server's own death does not touch: nothing is
#: fsynced, and what is lost is lost by us, to the byte.
_NO_FSYNC: Final = ("--appendfsync", "no", "--auto-aof-rewrite-percentage", "0")


class Failed(Exception):
    """A history in which something did not hold: how it is seen again, and the shortest one that shows it, if any."""

    def __init__(self, text: str, shortest: Sequence[Deed]) -> None:
        super().__init__(text)
        self.shortest = shortest


async def simulate(seed: int, operations: int, *, source: Callable[[str], str] = str) -> Counter[str]:
    """Run a history of so many operations; what happened in it. Failed, if something does not hold.

    `source` may change the scripts, to see that a mistake in them is found.
    """
    async with a_server() as (server, link):
        history = History(seed, link, server, source)
        try:
            await history.run(operations)
        except (Exception, asyncio.CancelledError) as error:
            again = f"python -m tests.sim --seed {seed} --operations {operations}"
            what = f"{type(error).__name__}: {error}\nstep {history.world.steps}; {again}"
            history.stop()
            shortest, its = await _shortest(history.world.done, Stage(link, source), error)
            raise Failed(f"{what}\n{its}", shortest) from error
        return history.told()


@asynccontextmanager
async def a_server() -> AsyncIterator[tuple[EmbeddedRedis, SingleLink]]:
    """A server of its own, and a line to it."""
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedRedis(Path(directory) / "redis", extra_args=_NO_FSYNC) as server:
            link = SingleLink(LinkSettings(url=server.url, command_seconds_max=30.0))
            await link.open()
            try:
                yield server, link
            finally:
                await link.close()


async def _shortest(done: Sequence[Deed], stage: Stage, error: BaseException) -> tuple[Sequence[Deed], str]:
    """The shortest history that shows a violation; or the last commands, if it takes more than commands to show it."""
    if not isinstance(error, Violation):
        return (), f"the last commands:\n{told(done[-60:])}"
    if shortest := await shrink(stage, done, error):
        return shortest, f"the shortest history that shows it, found by {stage.plays} plays:\n{told(shortest)}"
    about = [deed for deed in done if deed.command.account == error.account and deed.command.names(error.about)]
    return (), f"the last commands about {error.about or error.account}:\n{told(about[-60:])}"


class History:
    """The cast of one seed."""

    def __init__(self, seed: int, link: SingleLink, server: EmbeddedRedis, source: Callable[[str], str]) -> None:
        self.server = server
        self.link = link
        self.auditor = Auditor(link, [f"account-{number}" for number in range(ACCOUNTS)])
        self.world = World(seed, link, self.auditor, source)
        self.outside = Outside()
        self._names = count(1)
        self.processes: list[Process] = []

    def told(self) -> Counter[str]:
        """What happened."""
        counts = Counter(self.world.counts) + self.auditor.answers
        counts["operations"], counts["checks"] = len(self.world.done), self.auditor.checks
        counts.update(promise.fate for promise in self.auditor.promises.values())
        return counts

    async def run(self, operations: int) -> None:
        """Traffic and deaths, then quiet, then the reckoning."""
        world = self.world
        await world.load()
        await self._open()
        self.processes = [self._process(number, Disk()) for number in range(PROCESSES)]
        world.weather = Weather()
        lose_at = 0
        while len(world.done) < operations:
            await world.step()
            if world.steps % ARRIVAL_STEPS == 0:
                self._arrive()
            if world.steps % DEATH_STEPS == 0:
                self._die()
            if world.steps % RELOAD_STEPS == 0:
                self._reload()
            if world.steps % RESTART_STEPS == 0 and not lose_at:
                await self._restart()
            if world.steps % LOSS_STEPS == 0:
                await self._mark()
                lose_at = world.steps + world.dice.randint(1, LOST_STEPS_MAX)
            if world.steps == lose_at:
                await self._lose()
                lose_at = 0
        await self._fall_quiet()
        await self.auditor.reckon(world.now_ms)

    async def _open(self) -> None:
        """The accounts, on a line that loses nothing."""
        process = Process("opening", self.world, self.auditor, self.outside, Disk())

        async def life() -> None:
            for account in self.auditor.accounts:
                await open_account(process, account)

        self.world.start(process.gateway, life())
        while await self.world.step():
            pass

    def _process(self, number: int, disk: Disk) -> Process:
        process = Process(f"gateway-{number}", self.world, self.auditor, self.outside, disk)
        process.keep_house()
        work(process)
        process.every(4.0, partial(hear, process))
        return process

    def _arrive(self) -> None:
        """Somebody comes."""
        dice, number = self.world.dice, next(self._names)
        process, account, name = dice.choice(self.processes), dice.choice(self.auditor.accounts), f"h{number}"
        lives: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "call": lambda: customers.call(process, account, name),
            "job": lambda: customers.job(process, account, name),
            "session": lambda: customers.session(process, account, name),
            "named call": lambda: customers.named_call(process, account, name, f"name-{number // 200}"),
            "token": lambda: customers.token(process, account, name),
            "payment": lambda: pay(process, account, name),
            "administrator": lambda: administrate(process, account, f"op-{name}"),
        }
        (life,) = dice.choices(tuple(lives), weights=(24, 20, 14, 8, 2, 8, 24))
        self.world.start(process.gateway, lives[life]())

    def _reload(self) -> None:
        """One gateway reads another config; the others still have theirs."""
        dice = self.world.dice
        dice.choice(self.processes).config = dice.choice(CONFIGS)
        self.world.note("reload")

    def _die(self) -> None:
        """A process is killed, and another takes its place and its disk."""
        number = self.world.dice.randrange(len(self.processes))
        old = self.processes[number]
        self.world.kill(old.gateway)
        self.processes[number] = self._process(number, old.disk)

    async def _mark(self) -> None:
        """What a replica has got, or a disk: all that is done from here on is lost."""
        await self.link.call("PING")  # a long reply may leave before its command is in the file; this one is read after
        self._kept_bytes, self._kept_deeds = self._log().stat().st_size, len(self.world.done)
        self.auditor.mark()

    async def _lose(self) -> None:
        """The server comes back without what was done since the mark: as a replica that was promoted, or after a crash
        of its machine.
        """
        self.world.note("writes-lost")

        def cut() -> None:
            os.truncate(self._log(), self._kept_bytes)

        self.auditor.lose(self.world.done[self._kept_deeds :])
        del self.world.done[self._kept_deeds :]
        await self._restart(cut)

    def _log(self) -> Path:
        """The server's append-only file, as it grows."""
        (path,) = (self.server.directory / "appendonlydir").glob("*.incr.aof")
        return path

    async def _restart(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """The server is killed, and started again."""
        self.world.note("server-killed")
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGKILL)
        await self.server.stop()
        meanwhile()
        await self.server.start()
        async with asyncio.timeout(30):
            while self.link.state != "up":  # noqa: ASYNC110 - nothing there announces itself
                await asyncio.sleep(0.01)
        await self.world.load()
        for account in self.auditor.accounts:
            await self.auditor.check(account, self.world.now_ms)

    async def _fall_quiet(self) -> None:
        """No more traffic: everything that runs ends, everything that waits is done, every time is over."""
        self.world.weather = FAIR
        ends_ms = self.world.now_ms + QUIET_SECONDS * 1000
        while self.world.now_ms < ends_ms:
            await self.world.step()
        for process in self.processes:
            assert not process.disk.records, f"the spool of {process.gateway.name} is not empty"
        self.stop()
        last = self._process(99, Disk())
        self.processes = [last]

        async def sweep() -> None:
            for account in self.auditor.accounts:
                try:
                    await last.ledger.sweep(account)
                except LedgerUnavailable as error:
                    raise AssertionError("a quiet line loses nothing") from error

        self.world.start(last.gateway, sweep())
        for _ in range(200):
            await self.world.step()
        self.stop()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Nobody goes on."""
        for process in self.processes:
            self.world.kill(process.gateway)
