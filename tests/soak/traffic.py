"""The customers of a long run: all six products at a steady rate, and what each of them was told.

Owns: what a customer of each kind does, how many calls begin each second, what is remembered of their answers.
Does not know: what is broken meanwhile, or what the ledger has.

Nobody waits for anybody: calls begin by the clock, whatever became of those before. A call ends in one of three ways:
served (200, and all of it has come), refused (any other status, and all of it has come), cut (anything else).
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson

from gateway.core.money import format_usd, parse_usd
from tests.faults.crowd import AGENTS, STREAMING, Kind, Talker
from tests.pipeline.helpers import CHAT, CHAT_PATH, fixed_hold, sandbox
from tests.pipeline.hooks import Hooks
from tests.system.processes import Served, World

#: What a chat completion costs, and is held for: the poor are never below zero.
CHARGE: Final = parse_usd("0.00315")
#: A streamed one has fewer words, one in each event.
STREAMED_WORDS: Final = 20
STREAMED_CHARGE: Final = parse_usd("0.00203")
CHAT_COSTS: Final = fixed_hold(format_usd(CHARGE))
POOR_CALLS: Final = 500
ACCOUNTS: Final = ("llm-a", "llm-b", "jobs-a", "jobs-b", "poor", STREAMING.name, AGENTS.name)
#: Together at once; who would be more does not begin.
IN_FLIGHT_MAX: Final = 600
CALL_SECONDS_MAX: Final = 10.0
WATCHED_SECONDS_MAX: Final = 20.0
SESSION_SECONDS: Final = (10.0, 25.0)
_POLL_SECONDS: Final = 1.0
_TOKENS: Final = {"input_tokens": 1000, "output_tokens": 100}
_SUMMARY: Final[dict[str, Any]] = {"request": {"summarization": {}}}


@dataclass
class Told:
    """What customers know. Calls are known by the ids that the gateway gave them."""

    served: dict[str, str] = field(default_factory=dict)
    """Call -> kind, of calls that are paid for by themselves."""
    refused: set[str] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)
    """The ids of those whose making was answered."""
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Kind, and how: "served", "cut", or a status."""
    answers: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=2000))
    """When, and its status."""
    left_out: int = 0
    """Calls that did not begin, because there were too many already."""


class Traffic:
    """All customers. `rate` calls begin each second, sessions beside them."""

    def __init__(self, world: World, served: Served, keys: Mapping[str, str], hooks: Hooks) -> None:
        self.told = Told()
        self.talkers: dict[Kind, list[Talker]] = {STREAMING: [], AGENTS: []}
        self.over = asyncio.Event()
        self.http = world.http
        self._url = served.url
        self._served = served
        self._keys = keys
        self._hooks = hooks
        self._chance = random.Random(1)
        self._calls: set[asyncio.Task[None]] = set()
        self._seats: list[asyncio.Task[None]] = []
        self._mix: Mapping[Callable[[], Coroutine[Any, Any, None]], int] = {
            self._chat: 60, self._streamed: 20, self._poor: 6, self._job: 8, self._slow: 1,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Traffic in_flight={self.in_flight} sessions={len(self.open)} left_out={self.told.left_out}>"

    @property
    def in_flight(self) -> int:
        """Calls under way; a job is, until its client knows its end."""
        return len(self._calls)

    @property
    def open(self) -> list[Talker]:
        """Sessions that go on."""
        return [talker for talkers in self.talkers.values() for talker in talkers if talker.code is None]

    # ---- how many

    async def capacity(self, seconds: float, together: int) -> float:
        """Calls a second, when each of so many customers begins its next at the end of its last."""
        done = 0

        async def customer(until: float) -> None:
            nonlocal done
            while time.monotonic() < until:
                await self._any()()
                done += 1

        await asyncio.gather(*(customer(time.monotonic() + seconds) for _ in range(together)))
        return done / seconds

    async def flow(self, rate: float) -> None:
        """Begin calls until it is over."""
        began, count = time.monotonic(), 0
        while not self.over.is_set():
            due = int((time.monotonic() - began) * rate)
            for _ in range(due - count):
                self._begin(self._any())
            count = due
            await asyncio.sleep(0.02)

    def sit(self, kind: Kind, seats: int) -> None:
        """So many sessions at any time."""
        self._seats += [asyncio.create_task(self._seat(kind)) for _ in range(seats)]

    def vanish(self) -> tuple[int, int]:
        """Half of all clients are gone without a word: so many calls, so many sessions."""
        calls = [task for task in self._calls if self._chance.random() < 0.5]
        for task in calls:
            task.cancel()
        sessions = [talker for talker in self.open if self._chance.random() < 0.5]
        for talker in sessions:
            talker.vanish()
        return len(calls), len(sessions)

    def slow(self, count: int) -> None:
        """So many clients that take their answers slowly, at once."""
        for _ in range(count):
            self._begin(self._slow)

    async def served_after(self, moment: float, seconds: float) -> float | None:
        """How long after a moment somebody was served again; None if nobody is for so long."""
        while time.monotonic() < moment + seconds:
            for ended, status in self.told.answers:
                if status == 200 and ended > moment:
                    return ended - moment
            await asyncio.sleep(0.02)
        return None

    async def end(self) -> None:
        """Nothing begins any more; what goes on ends in good order."""
        self.over.set()
        await asyncio.gather(*self._calls, *self._seats, return_exceptions=True)

    def _any(self) -> Callable[[], Coroutine[Any, Any, None]]:
        return self._chance.choices(list(self._mix), list(self._mix.values()))[0]

    def _begin(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if len(self._calls) >= IN_FLIGHT_MAX:
            self.told.left_out += 1
            return
        task = asyncio.create_task(call())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # ---- what they do

    async def _chat(self) -> None:
        await self._call("chat", self._chance.choice(("llm-a", "llm-b")), CHAT_PATH, CHAT)

    async def _streamed(self) -> None:
        account, body = self._chance.choice(("llm-a", "llm-b")), {**CHAT, "stream": True}
        await self._call("chat, SSE", account, CHAT_PATH, body, event_seconds=0.05, output_tokens=STREAMED_WORDS)

    async def _poor(self) -> None:
        await self._call("chat, poor", "poor", CHAT_PATH, CHAT)

    async def _slow(self) -> None:
        await self._call("chat, slow reader", "llm-a", CHAT_PATH, CHAT, slowly=True, body_bytes=1_000_000)

    async def _job(self) -> None:
        """A job, half of them with a webhook and half of them watched to their end, and what is made of it."""
        account, number = self._chance.choice(("jobs-a", "jobs-b")), self._chance.randrange(1_000_000)
        redacts, fails, watched = number % 4 == 1, number % 20 == 3, number % 2 == 1
        request: dict[str, Any] = {"audio_url": "https://example.com/a.wav?duration=36"}
        if redacts:
            request |= {"redact_pii": True, "redact_pii_audio": True}
        if number % 3 == 0:
            request |= {"webhook_url": self._hooks.url("/hook")}
        knobs: dict[str, Any] = {"job_seconds": 1 + number % 4, "job_status": "error" if fails else "completed"}
        made = await self._call("job", account, "/v2/transcript", request, paid=False, **knobs)
        if made is None:
            return
        job = str(orjson.loads(made)["id"])
        self.told.jobs.add(job)
        if watched and await self._watched(account, job) == "completed":
            understanding = {"transcript_id": job, "speech_understanding": _SUMMARY}
            await self._call("understanding", account, "/v1/understanding", understanding)
            if redacts:
                await self._call("guardrails", account, f"/v2/transcript/{job}/redacted-audio", None, paid=False)

    async def _watched(self, account: str, job: str) -> str:
        """How the job ended; nothing, if its client gives up."""
        deadline = time.monotonic() + WATCHED_SECONDS_MAX
        while time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            said = await self._call("job's poll", account, f"/v2/transcript/{job}", None, paid=False)
            status = str(orjson.loads(said)["status"]) if said is not None else ""
            if status in ("completed", "error"):
                return status
        return ""

    async def _call(
        self, kind: str, account: str, path: str, body: Any, *, paid: bool = True, slowly: bool = False, **knobs: Any
    ) -> bytes | None:
        """One call; what it was answered with, if it was served."""
        headers = {"Authorization": self._keys[account], **sandbox(**{**_TOKENS, **knobs})}
        method = "GET" if body is None else "POST"
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS_MAX)
        how, said = "cut", b""
        try:
            request = self.http.request(method, self._url + path, json=body, headers=headers, timeout=timeout)
            async with request as response:
                if slowly:
                    await asyncio.sleep(2.0)
                said = await response.read()
                how = "served" if response.status == 200 else str(response.status)
                call = response.headers["X-Gateway-Call-Id"]
            if how != "served":
                self.told.refused.add(call)
            elif paid:
                self.told.served[call] = kind
            self.told.answers.append((time.monotonic(), response.status))
        except (aiohttp.ClientError, TimeoutError):
            how = "cut"
        finally:
            self.told.ended[kind, how] += 1
        return said if how == "served" else None

    async def _seat(self, kind: Kind) -> None:
        """One session after another."""
        while not self.over.is_set():
            talker = await Talker.tried(self.http, self._served, self._keys[kind.name], kind)
            if talker is None:
                self.told.ended[kind.name, "not begun"] += 1
                await asyncio.sleep(0.5)
                continue
            talker.start()
            self.talkers[kind].append(talker)
            until = time.monotonic() + self._chance.uniform(*SESSION_SECONDS)
            while talker.code is None and not self.over.is_set() and time.monotonic() < until:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            if talker.code is None:
                try:
                    await talker.terminate()
                except (ConnectionError, aiohttp.ClientError, TimeoutError):
                    talker.vanish()
            talker.heard.clear()
            self.told.ended[kind.name, str(talker.code)] += 1
