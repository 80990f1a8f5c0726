"""Customers of every product, who go on whatever happens to them.

Owns: what they ask for, how often, what they remember of the answers. Does not know: what is done to the gateway.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp

from gateway.core.money import ZERO, Nanos, parse_usd
from tests.faults.crowd import AGENTS, STREAMING, Kind, Talker
from tests.pipeline.helpers import CHAT, CHAT_PATH
from tests.system.processes import Served, World

_TALK_SECONDS = 4.0
_AWAY_SECONDS = 0.2
#: What a customer may meet while Redis is away, or the line breaks.
_FAULTS = (aiohttp.ClientError, ConnectionError, TimeoutError, AssertionError)


class Customers:
    """All of them: each kind has an account of its own, which is also the kind's name."""

    def __init__(self, world: World, served: Served, webhook: str) -> None:
        self._world = world
        self._webhook = webhook
        self._served = served
        self._ends = asyncio.Event()
        self._kinds: dict[str, Callable[[str], Awaitable[object]]] = {
            "chats": self._chat, "streams": self._stream, "transcripts": self._transcript, "unpolled": self._leave,
            "crowded": self._crowd, "talks": self._talk, "agents": self._agent, "penniless": self._chat,
            "strangers": self._chat,
        }  # fmt: skip
        self.answers: Counter[tuple[str, int]] = Counter()
        #: What the heads of answers said that the customers of a kind were charged.
        self.told: Counter[str] = Counter()
        self.accounts = [kind for kind in self._kinds if kind != "strangers"]

    async def go_on(self) -> None:
        """Until they are told to end."""
        keys = {"strangers": "nobody-knows-this-key"}
        for account in self.accounts:
            tier, credit = "free" if account == "crowded" else "payg", "0" if account == "penniless" else "1000"
            keys[account] = await self._world.open_account(account, tier=tier, credit=credit)
        await asyncio.gather(*(self._again(kind, work, keys[kind]) for kind, work in self._kinds.items()))

    def end(self) -> None:
        """Whoever is served ends in good order."""
        self._ends.set()

    async def _again(self, kind: str, work: Callable[[str], Awaitable[object]], key: str) -> None:
        while not self._ends.is_set():
            try:
                await work(key)
            except _FAULTS:
                self.answers[kind, 0] += 1
                await asyncio.sleep(_AWAY_SECONDS)
            await asyncio.sleep(random.uniform(0.02, 0.2))

    async def _ask(self, kind: str, method: str, path: str, key: str, **body: Any) -> Any:
        """The JSON of an answer; None where there is none, or the answer is no success."""
        http, url = self._world.http, self._served.url
        async with http.request(method, url + path, headers={"Authorization": key}, **body) as reply:
            text = await reply.read()
            self.answers[kind, reply.status] += 1
            self.told[kind] += parse_usd(reply.headers.get("X-Gateway-Charge", "0"))
            return await reply.json() if reply.status == 200 and text[:1] == b"{" else None

    async def _chat(self, key: str) -> None:
        kind = "strangers" if key.startswith("nobody") else key.removeprefix("secret-of-")
        await self._ask(kind, "POST", CHAT_PATH, key, json=CHAT)

    async def _stream(self, key: str) -> None:
        await self._ask("streams", "POST", CHAT_PATH, key, json={**CHAT, "stream": True})

    async def _submit(self, kind: str, key: str, **more: str) -> str | None:
        audio = f"https://example.com/a.wav?duration={random.randrange(60, 3600)}"
        body = {"audio_url": audio, "speaker_labels": True, **more}
        found = await self._ask(kind, "POST", "/v2/transcript", key, json=body)
        return None if found is None else str(found["id"])

    async def _transcript(self, key: str) -> None:
        """A job to its end, and then what can be understood of it."""
        if (job := await self._submit("transcripts", key)) is None:
            return
        for _ in range(100):
            found = await self._ask("transcripts", "GET", f"/v2/transcript/{job}", key)
            if found is not None and found["status"] in ("completed", "error"):
                break
            await asyncio.sleep(0.05)
        tasks = {"translation": {"target_languages": ["de"]}}
        request = {"transcript_id": job, "speech_understanding": {"request": tasks}}
        await self._ask("transcripts", "POST", "/v1/understanding", key, json=request)
        await self._ask("transcripts", "GET", f"/v2/transcript/{job}/redacted-audio", key)

    async def _leave(self, key: str) -> None:
        """A job that nobody asks for again: whoever wants to know is called."""
        await self._submit("unpolled", key, webhook_url=self._webhook)
        await asyncio.sleep(0.5)

    async def _crowd(self, key: str) -> None:
        """More jobs at once than the plan has places for."""
        await asyncio.gather(*(self._submit("crowded", key) for _ in range(8)))
        await asyncio.sleep(3)

    async def _talk(self, key: str) -> None:
        await self._session("talks", key, STREAMING)

    async def _agent(self, key: str) -> None:
        await self._session("agents", key, AGENTS)

    async def _session(self, account: str, key: str, kind: Kind) -> None:
        talker = await Talker.connect(self._world.http, self._served, key, kind)
        with suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(1, _TALK_SECONDS)):
                await self._ends.wait()
        self.answers[account, 101] += 1
        if talker.code is None:
            await talker.terminate()

    def charged(self, kind: str) -> Nanos:
        """What the answers to a kind of customers said that they cost."""
        return Nanos(self.told[kind]) if self.told[kind] else ZERO
