"""The simulated world: its time, its lines to the real server, and what goes wrong on them.

Owns: who goes on next, which request reaches the server when, and how often; the time that scripts are told.
Does not know: what the actors want, or what must be true (auditor).

Nothing runs side by side. An actor runs until it waits, for the server or for time; then the dice choose one of those
that wait. So a history depends on the seed alone, although the server is a real one.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.ledger.connection import NOTHING, Packed, Part
from gateway.ledger.link import LinkDown, RedisLink, Reply, Script, State
from gateway.ledger.lua import PRELUDES, script
from tests.ledger.ledgers import START_MS, ClockedLink
from tests.sim.auditor import LOOK, Auditor
from tests.sim.deeds import Command, Deed, words

#: The server does at most so many requests before anybody learns of one.
_TOGETHER_MAX = 8
#: A second copy of a request comes as late as this, in simulated seconds.
_ECHO_SECONDS_MAX = 20.0


#: A month ends about here: some histories begin before it.
BEFORE_MONTH_ENDS_MS = START_MS + (7 * 24 + 11) * 3_600_000 + 56 * 60_000


@dataclass(frozen=True)
class Weather:
    """How bad the lines are: chances of each request."""

    request_lost: float = 0.02
    reply_lost: float = 0.03
    doubled: float = 0.02


FAIR = Weather(0, 0, 0)


@dataclass(eq=False)
class Request:
    """A command on its way."""

    command: Command
    gateway: "Gateway"
    future: asyncio.Future[Reply]


@dataclass
class Gateway:
    """A process, and the actors that live in it."""

    name: str
    alive: bool = True
    actors: dict[asyncio.Task[object], None] = field(default_factory=dict)  # in order, as a set's depends on addresses


class World:
    """Time, dice, and everything that waits. `done` is every command of an account, as the server did it."""

    def __init__(self, seed: int, real: RedisLink, auditor: Auditor, source: Callable[[str], str] = str) -> None:
        self.dice = random.Random(seed)
        self.now_ms = self.began_ms = self.dice.choice((START_MS, BEFORE_MONTH_ENDS_MS))
        self.weather = FAIR
        self.steps = 0
        self.counts: dict[str, int] = {}
        self.faults: list[BaseException] = []
        self.done: list[Deed] = []
        self._auditor = auditor
        self._loop = asyncio.get_running_loop()
        self._real = ClockedLink(real, lambda: self.now_ms, source)
        self._requests: list[Request] = []
        self._echoes: list[tuple[int, Request]] = []
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sleeps = 0

    # ---- what actors use

    def now(self) -> float:
        """The time, of processes and of the server alike."""
        return self.now_ms / 1000

    monotonic = now

    async def sleep(self, seconds: float) -> None:
        """Let simulated time pass."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._sleeps += 1
        self._sleepers.append((self.now_ms + max(1, round(seconds * 1000)), self._sleeps, future))
        await future

    def start(self, gateway: Gateway, life: Coroutine[Any, Any, object]) -> None:
        """An actor begins to live in a process."""
        task = asyncio.create_task(life)
        gateway.actors[task] = None
        task.add_done_callback(lambda done: self._ended(gateway, done))

    def _ended(self, gateway: Gateway, task: asyncio.Task[object]) -> None:
        gateway.actors.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.faults.append(error)

    def kill(self, gateway: Gateway) -> None:
        """A process dies wherever its actors are; what it had sent may yet arrive."""
        self.note(f"kill {gateway.name}")
        gateway.alive = False
        for task in list(gateway.actors):
            task.cancel()

    def link(self, gateway: Gateway) -> RedisLink:
        """A process's line to the server."""
        return SimulatedLink(self, gateway)

    def submit(self, request: Request) -> None:
        """A request has left."""
        self._requests.append(request)

    def note(self, what: str) -> None:
        """Something happened."""
        word = what.split(" ", maxsplit=1)[0]
        self.counts[word] = self.counts.get(word, 0) + 1

    # ---- one step

    async def step(self) -> bool:
        """Let one thing happen: a request, a late copy of one, or time. False: nothing waits."""
        while self._loop._ready:  # type: ignore[attr-defined] # noqa: ASYNC110 - who can go on, does
            await asyncio.sleep(0)
        if self.faults:
            raise self.faults[0]
        self.steps += 1
        due = [echo for echo in self._echoes if echo[0] <= self.now_ms]
        if due and self.dice.random() < 0.5:
            self._echoes.remove(due[0])
            self.note("doubled")
            await self._do([due[0][1].command])
        elif self._requests and (not self._sleepers or self.dice.random() < 0.15 * len(self._requests)):
            await self._serve()
        elif self._sleepers:
            self._wake()
        elif self._echoes:
            self.now_ms = max(self.now_ms, min(at for at, _ in self._echoes))
        else:
            return False
        return True

    async def load(self) -> None:
        """Have the server know every script."""
        await load(self._real)

    async def _serve(self) -> None:
        """Some of the requests arrive, in any order: the server does them before anybody learns of one."""
        arrived: list[tuple[Request, float]] = []
        for _ in range(min(len(self._requests), self.dice.randint(1, _TOGETHER_MAX))):
            request = self._requests.pop(self.dice.randrange(len(self._requests)))
            roll = self.dice.random()
            if roll < self.weather.request_lost:
                self.note("request-lost")
                _fail(request)
            else:
                arrived.append((request, roll - self.weather.request_lost))
        answers = await self._do([request.command for request, _ in arrived])
        for (request, roll), answer in zip(arrived, answers, strict=True):
            if roll < self.weather.reply_lost:
                self.note("reply-lost")
                _fail(request)
                continue
            if roll < self.weather.reply_lost + self.weather.doubled:
                at = self.now_ms + round(self.dice.uniform(0, _ECHO_SECONDS_MAX) * 1000)
                self._echoes.append((at, request))
            if request.future.done():
                continue
            if isinstance(answer, Exception):
                request.future.set_exception(answer)
            else:
                request.future.set_result(answer)

    async def _do(self, commands: Sequence[Command]) -> list[Any]:
        """The server's answers. The auditor sees what each script did, in the same journey."""
        asked: list[tuple[Deed, int]] = []  # and where its answer will be
        under_way: list[Awaitable[Reply]] = []
        for command in commands:
            asked.append((Deed(self.now_ms, command), len(under_way)))
            under_way.append(command.send(self._real))
            if command.account:
                under_way.append(self._auditor.look(command.account, self.now_ms))
        answers: list[Any] = await asyncio.gather(*under_way, return_exceptions=True)
        for deed, place in asked:
            if deed.command.account:
                self.done.append(deed)
                self._auditor.saw(deed, answers[place], answers[place + 1])
        return [answers[place] for _, place in asked]

    def _wake(self) -> None:
        """The next one who waits for time goes on; now and then another first, as clocks of machines differ."""
        self._sleepers.sort(key=lambda sleeper: sleeper[:2])
        at, _, future = self._sleepers.pop(0)
        self.now_ms = max(self.now_ms, at)
        if not future.done():
            future.set_result(None)


async def load(real: ClockedLink) -> None:
    """Have the server know every script: else one is sent again, behind those that were sent after it."""
    scripts = (LOOK, *(real.clocked(script(verb)) for verb in PRELUDES))
    await asyncio.gather(*(real.link.call("SCRIPT", "LOAD", one.source) for one in scripts))


def _fail(request: Request) -> None:
    if not request.future.done():
        request.future.set_exception(LinkDown("simulated: the line broke"))


class SimulatedLink:
    """A `RedisLink` whose every command waits for the dice."""

    def __init__(self, world: World, gateway: Gateway) -> None:
        self._world = world
        self._gateway = gateway

    @property
    def state(self) -> State:
        return "up"

    @property
    def nodes(self) -> Sequence[RedisLink]:
        return (self,)

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    @property
    def is_cluster(self) -> bool:
        return False

    def where_is(self, key: str) -> None:
        """There is one server."""

    async def confirm(self, *, within_seconds: float = 0.0) -> None:
        """It always is."""

    def call(self, *parts: Part) -> Awaitable[Reply]:
        return self._submit(Command(str(parts[0]), "", (), words(parts[1:]), lambda link: link.call(*parts)))

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Part],
        *,
        first_keys: Packed = NOTHING,
        last_args: Packed = NOTHING,
    ) -> Awaitable[Reply]:
        def send(link: RedisLink) -> Awaitable[Reply]:
            return link.run(script, keys, args, first_keys=first_keys, last_args=last_args)

        account = str(first_keys.first).partition("{")[2].partition("}")[0]
        return self._submit(Command(script.name, account, tuple(keys), words(args[1:]), send))

    def _submit(self, command: Command) -> Awaitable[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._world.submit(Request(command, self._gateway, future))
        return future
