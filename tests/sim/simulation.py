"""One history: the cast, the traffic, the deaths, and the end of it.

Owns: how many of what there are, when a process dies or the server is restarted, the search for the shortest failure.
Does not know: what is right (auditor).
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Final

from gateway.core.errors import LedgerUnavailable
from gateway.core.money import NANOS_PER_USD, Nanos
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings, SingleLink
from gateway.ports import Key
from tests.sim.actors import PLANS, Disk, Process, Upstream
from tests.sim.auditor import Auditor
from tests.sim.world import Request, Weather, World

ACCOUNTS: Final = 6
PROCESSES: Final = 3
#: Steps between two arrivals, two deaths of a process, two of the server.
ARRIVAL_STEPS, DEATH_STEPS, RESTART_STEPS = 4, 250, 5000
#: After the traffic: longer than any lease, job, deadline and back-off.
QUIET_SECONDS: Final = 900.0


class Failed(Exception):
    """A history in which something did not hold: its seed, and what happened last."""


async def simulate(seed: int, operations: int, *, source: Callable[[str], str] = str) -> str:
    """Run a history of so many operations; what happened in it, in a few words. Failed, if something does not hold.

    `source` may change the scripts, to see that a mistake in them is found.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            server = EmbeddedRedis(Path(directory) / "redis", fsync="always")
            await stack.enter_async_context(server)
            link = SingleLink(LinkSettings(url=server.url, command_seconds_max=10.0))
            await link.open()
            stack.push_async_callback(link.close)
            history = History(seed, link, server, source)
            try:
                await history.run(operations)
            except BaseException as error:
                last = "\n".join(history.world.history[-60:])
                again = f"python -m tests.sim --seed {seed} --operations {operations}"
                raise Failed(
                    f"{last}\n\n{type(error).__name__}: {error}\nstep {history.world.steps}; {again}"
                ) from error
            return history.told()


class History:
    """The cast of one seed."""

    def __init__(self, seed: int, link: SingleLink, server: EmbeddedRedis, source: Callable[[str], str]) -> None:
        self.server = server
        self.link = link
        self.world = World(seed, link, Weather(), source)
        self.auditor = Auditor(link, [f"account-{number}" for number in range(ACCOUNTS)])
        self.upstream = Upstream()
        self.operations = 0
        self._names = count(1)
        self.world.on_reply = self._replied
        self.processes: list[Process] = []

    def told(self) -> str:
        """What happened."""
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.world.counts.items()))
        fates: dict[str, int] = {}
        for promise in self.auditor.promises.values():
            fates[promise.fate] = fates.get(promise.fate, 0) + 1
        promises = ", ".join(f"{name} {count}" for name, count in sorted(fates.items()))
        return f"{self.operations} operations, {self.auditor.checks} checks; {counts}; holds: {promises}"

    async def run(self, operations: int) -> None:
        """Traffic and deaths, then quiet, then the reckoning."""
        await self._open()
        self.processes = [self._process(number, Disk()) for number in range(PROCESSES)]
        while self.operations < operations:
            await self.world.step()
            if self.world.steps % ARRIVAL_STEPS == 0:
                self._arrive()
            if self.world.steps % DEATH_STEPS == 0:
                self._die()
            if self.world.steps % RESTART_STEPS == 0:
                await self._restart()
        await self._fall_quiet()
        await self.auditor.reckon()

    async def _open(self) -> None:
        """The accounts, on a line that loses nothing."""
        fair = World(0, self.link, Weather(0, 0, 0))
        process = Process("opening", fair, self.auditor, self.upstream, Disk(), loops=False)

        async def life() -> None:
            for account in self.auditor.accounts:
                await process.ledger.open_account(
                    operation=f"open-{account}", account=account, plan=PLANS[0], signup=Nanos(8 * NANOS_PER_USD)
                )
                key = Key(id=f"{account}-key", account=account)
                await process.ledger.put_key(operation=f"key-{account}", key=key, digest=f"{account}-digest")

        fair.start(process.gateway, life())
        while await fair.step():
            pass

    def _process(self, number: int, disk: Disk) -> Process:
        return Process(f"gateway-{number}", self.world, self.auditor, self.upstream, disk)

    def _arrive(self) -> None:
        """Somebody comes."""
        dice = self.world.dice
        process, account, name = (
            dice.choice(self.processes),
            dice.choice(self.auditor.accounts),
            f"h{next(self._names)}",
        )
        roll = dice.random()
        if roll < 0.4:
            life = process.call(account, name)
        elif roll < 0.6:
            life = process.job(account, name)
        elif roll < 0.75:
            life = process.session(account, name)
        else:
            life = process.administrate(account, f"op-{name}")
        self.world.start(process.gateway, life)

    def _die(self) -> None:
        """A process is killed, and another takes its place and its disk."""
        number = self.world.dice.randrange(len(self.processes))
        old = self.processes[number]
        self.world.kill(old.gateway)
        self.processes[number] = self._process(number, old.disk)

    async def _restart(self) -> None:
        """The server is killed with what it had not written, which is nothing, and started again."""
        self.world.note("server-killed")
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGKILL)
        await self.server.stop()
        await self.server.start()
        async with asyncio.timeout(10):
            while self.link.state != "up":  # noqa: ASYNC110 - nothing there announces itself
                await asyncio.sleep(0.01)
        for account in self.auditor.accounts:
            await self.auditor.check(account)

    async def _fall_quiet(self) -> None:
        """No more traffic: everything that runs ends, everything that waits is done, every time is over."""
        self.world.weather = Weather(0, 0, 0)
        ends_ms = self.world.now_ms + QUIET_SECONDS * 1000
        while self.world.now_ms < ends_ms:
            await self.world.step()
        for process in self.processes:
            assert not process.disk.records, f"the spool of {process.gateway.name} is not empty"
            self.world.kill(process.gateway)
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
        self.world.kill(last.gateway)
        await asyncio.sleep(0)

    async def _replied(self, request: Request, _reply: object) -> None:
        self.operations += 1
        account = request.what.split(" ")[1] if request.what.count(" ") >= 1 else ""
        if account in self.auditor.accounts:
            await self.auditor.check(account)
