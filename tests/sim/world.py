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
from tests.ledger.ledgers import START_MS, ClockedLink

#: In so many turns of the loop every actor that can go on does.
_TURNS = 12
#: A second copy of a request comes as late as this, in simulated seconds.
_ECHO_SECONDS_MAX = 20.0


@dataclass(frozen=True)
class Weather:
    """How bad the lines are: chances of each request."""

    request_lost: float = 0.02
    reply_lost: float = 0.03
    doubled: float = 0.02


@dataclass(eq=False)
class Request:
    """A command on its way. `send` does it on the real server."""

    what: str
    gateway: "Gateway"
    send: Callable[[], Awaitable[Reply]]
    future: asyncio.Future[Reply]


@dataclass
class Gateway:
    """A process, and the actors that live in it."""

    name: str
    alive: bool = True
    actors: dict[asyncio.Task[None], None] = field(default_factory=dict)  # in order, as a set's depends on addresses


class World:
    """Time, dice, and everything that waits."""

    def __init__(self, seed: int, real: RedisLink, weather: Weather, source: Callable[[str], str] = str) -> None:
        self.dice = random.Random(seed)
        self.now_ms = START_MS
        self.weather = weather
        self.steps = 0
        self.counts: dict[str, int] = {}
        self.history: list[str] = []
        self.faults: list[BaseException] = []
        self.on_reply: Callable[[Request, Reply], Awaitable[None]] | None = None
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
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeps += 1
        self._sleepers.append((self.now_ms + max(1, round(seconds * 1000)), self._sleeps, future))
        await future

    def start(self, gateway: Gateway, life: Coroutine[Any, Any, None]) -> None:
        """An actor begins to live in a process."""
        task = asyncio.create_task(life)
        gateway.actors[task] = None
        task.add_done_callback(lambda done: self._ended(gateway, done))

    def _ended(self, gateway: Gateway, task: asyncio.Task[None]) -> None:
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
        return SimulatedLink(self, self._real, gateway)

    def submit(self, request: Request) -> None:
        """A request has left."""
        self._requests.append(request)

    def note(self, what: str) -> None:
        """Something happened."""
        word = what.split(" ", maxsplit=1)[0]
        self.counts[word] = self.counts.get(word, 0) + 1
        self.history.append(f"{self.steps:>7} {(self.now_ms - START_MS) / 1000:>9.3f}s {what}")
        if len(self.history) > 4000:
            del self.history[:2000]

    # ---- one step

    async def step(self) -> bool:
        """Let one thing happen: a request, a late copy of one, or time. False: nothing waits."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if self.faults:
            raise self.faults[0]
        self.steps += 1
        due = [echo for echo in self._echoes if echo[0] <= self.now_ms]
        if due and self.dice.random() < 0.5:
            self._echoes.remove(due[0])
            await self._echo(due[0][1])
        elif self._requests and (not self._sleepers or self.dice.random() < 0.9):
            await self._serve(self._requests.pop(self.dice.randrange(len(self._requests))))
        elif self._sleepers:
            self._wake()
        elif self._echoes:
            self.now_ms = max(self.now_ms, min(at for at, _ in self._echoes))
        else:
            return False
        return True

    async def _serve(self, request: Request) -> None:
        roll, weather = self.dice.random(), self.weather
        if roll < weather.request_lost:
            self.note(f"request-lost {request.gateway.name} {request.what}")
            _fail(request)
            return
        answer = await self._do(request)
        roll -= weather.request_lost
        if roll < weather.reply_lost:
            self.note(f"reply-lost {request.gateway.name} {request.what}")
            _fail(request)
            return
        if roll < weather.reply_lost + weather.doubled:
            at = self.now_ms + round(self.dice.uniform(0, _ECHO_SECONDS_MAX) * 1000)
            self._echoes.append((at, request))
        if not request.future.done():
            if isinstance(answer, Exception):
                request.future.set_exception(answer)
            else:
                request.future.set_result(answer)

    async def _echo(self, request: Request) -> None:
        self.note(f"doubled {request.gateway.name} {request.what}")
        await self._do(request)

    async def _do(self, request: Request) -> Any:
        try:
            answer: Any = await request.send()
        except Exception as error:  # noqa: BLE001 - it is the actor's to judge
            return error
        if self.on_reply is not None:
            await self.on_reply(request, answer)
        return answer

    def _wake(self) -> None:
        """The next one who waits for time goes on; now and then another first, as clocks of machines differ."""
        self._sleepers.sort(key=lambda sleeper: sleeper[:2])
        at, _, future = self._sleepers.pop(0)
        self.now_ms = max(self.now_ms, at)
        if not future.done():
            future.set_result(None)


def _fail(request: Request) -> None:
    if not request.future.done():
        request.future.set_exception(LinkDown("simulated: the line broke"))


class SimulatedLink:
    """A `RedisLink` whose every command waits for the dice."""

    def __init__(self, world: World, real: ClockedLink, gateway: Gateway) -> None:
        self._world = world
        self._real = real
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

    def call(self, *parts: Part) -> Awaitable[Reply]:
        return self._submit(str(parts[0]), lambda: self._real.call(*parts))

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Part],
        *,
        first_keys: Packed = NOTHING,
        last_args: Packed = NOTHING,
    ) -> Awaitable[Reply]:
        def send() -> Awaitable[Reply]:
            return self._real.run(script, keys, args, first_keys=first_keys, last_args=last_args)

        account = str(first_keys.first).partition("{")[2].partition("}")[0]
        return self._submit(f"{script.name} {account} {args[1] if len(args) > 1 else ''!s:.40}", send)

    def _submit(self, what: str, send: Callable[[], Awaitable[Reply]]) -> Awaitable[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._world.submit(Request(what, self._gateway, send, future))
        return future
