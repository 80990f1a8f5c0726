"""A crowd of clients with open sessions: they send audio in real time, and keep what they are told.

Owns: both dialects as far as a client speaks them, connecting again, the line that breaks.
Does not know: what is done to the gateway, or what it charged.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson

from tests.pipeline.sockets import AGENT, AGENT_SECOND, PRO, PRO_SECOND
from tests.system.processes import Served

_CHUNK_SECONDS: Final = 0.5
_CONNECT_SECONDS_MAX: Final = 60.0
_END_SECONDS_MAX: Final = 60.0
_LOST: Final = 1006


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """A product that is sold by the second of an open socket. `second` is its price in nano-dollars."""

    name: str
    path: str
    begins: str
    ends: str
    id: str
    opening: Mapping[str, Any] | None = None
    terminate: Mapping[str, Any]
    chunk: bytes | str
    second: int


STREAMING: Final = Kind(
    name="streaming",
    path=PRO,
    begins="Begin",
    ends="Termination",
    id="id",
    terminate={"type": "Terminate"},
    chunk=bytes(int(16_000 * 2 * _CHUNK_SECONDS)),
    second=PRO_SECOND,
)
AGENTS: Final = Kind(
    name="agents",
    path=AGENT,
    begins="session.ready",
    ends="session.ended",
    id="session_id",
    opening={"type": "session.update", "session": {}},
    terminate={"type": "session.end"},
    chunk=orjson.dumps(
        {"type": "input.audio", "audio": base64.b64encode(bytes(int(24_000 * 2 * _CHUNK_SECONDS))).decode()}
    ).decode(),
    second=AGENT_SECOND,
)


@dataclass(eq=False)
class Talker:
    """One client with an open session. `code` is the close code: 1006 for a line that broke, None while it is open."""

    kind: Kind
    socket: aiohttp.ClientWebSocketResponse
    session: str
    heard: list[str] = field(default_factory=list)
    code: int | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def connect(cls, http: aiohttp.ClientSession, at: Served, key: str, kind: Kind) -> "Talker":
        """Connect, again and again where nobody answers or the answer is no, until a session has begun."""
        deadline = time.monotonic() + _CONNECT_SECONDS_MAX
        while (talker := await cls.tried(http, at, key, kind)) is None:
            assert time.monotonic() < deadline, "nobody opens a session"
            await asyncio.sleep(0.05)
        talker.start()
        return talker

    @classmethod
    async def tried(cls, http: aiohttp.ClientSession, at: Served, key: str, kind: Kind) -> "Talker | None":
        """Connect once. A session that has begun, and in which nobody talks yet."""
        try:
            socket = await dialled(http, at, key, kind)
            if kind.opening is not None:
                await socket.send_json(kind.opening)
            begun = await socket.receive_json(timeout=_CONNECT_SECONDS_MAX)
        except (aiohttp.ClientError, ConnectionError, TypeError):  # TypeError: it broke before the first frame
            return None
        if begun["type"] == kind.begins:
            return cls(kind, socket, begun[kind.id])
        await socket.close()
        return None

    def start(self) -> None:
        """Talk and listen."""
        self._tasks = [asyncio.create_task(self._talk()), asyncio.create_task(self._listen())]

    def vanish(self) -> None:
        """Be gone, without a word."""
        self.socket._writer.transport.abort()

    @property
    def lost(self) -> bool:
        """Whether its line broke without a word."""
        return self.code == _LOST

    async def _talk(self) -> None:
        while self.code is None:
            try:
                if isinstance(self.kind.chunk, bytes):
                    await self.socket.send_bytes(self.kind.chunk)
                else:
                    await self.socket.send_str(self.kind.chunk)
            except (ConnectionError, aiohttp.ClientError):
                return  # the listener sees how it ended
            await asyncio.sleep(_CHUNK_SECONDS)

    async def _listen(self) -> None:
        while (message := await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
            self.heard.append(orjson.loads(message.data)["type"])
        self.code = self.socket.close_code or _LOST

    async def terminate(self) -> None:
        """End the session as its dialect says, and wait for the close."""
        await self.socket.send_json(self.kind.terminate)
        await self.over()

    async def over(self) -> None:
        """Wait until the socket is closed, by whomever."""
        async with asyncio.timeout(_END_SECONDS_MAX):
            await asyncio.gather(*self._tasks)
        await self.socket.close()


async def dialled(http: aiohttp.ClientSession, at: Served, key: str, kind: Kind) -> aiohttp.ClientWebSocketResponse:
    """A socket on which nothing was said yet."""
    return await http.ws_connect(at.url + kind.path, headers={"Authorization": key})


class Crowd:
    """All clients of one product. `http` has room for as many connections as there are."""

    def __init__(self, http: aiohttp.ClientSession, kind: Kind, key: str) -> None:
        self.kind = kind
        self.talkers: list[Talker] = []
        self._http = http
        self._key = key

    async def join(self, at: Served, count: int) -> list[Talker]:
        """So many more sessions, all at once."""
        joined = await asyncio.gather(*(Talker.connect(self._http, at, self._key, self.kind) for _ in range(count)))
        self.talkers += joined
        return joined

    async def refusal(self, at: Served) -> int:
        """The close code that somebody gets who wants a session now."""
        async with await dialled(self._http, at, self._key, self.kind) as socket:
            async for _ in socket:
                pass
            return socket.close_code or 0

    @property
    def heard(self) -> int:
        """How much all of them have heard so far."""
        return sum(len(talker.heard) for talker in self.talkers)

    @property
    def open(self) -> list[Talker]:
        """Those whose sessions go on."""
        return [talker for talker in self.talkers if talker.code is None]

    @property
    def lost(self) -> list[Talker]:
        """Those whose lines broke."""
        return [talker for talker in self.talkers if talker.lost]

    async def finish(self) -> None:
        """Everybody who is left ends the session in good order, and hears the report."""
        going_on = self.open
        await asyncio.gather(*(talker.terminate() for talker in going_on))
        told = {(talker.heard[-1], talker.code) for talker in going_on}
        assert told <= {(self.kind.ends, 1000)}, told


async def soon(check: Callable[[], bool], seconds: float) -> None:
    """Wait until the check holds, at most so long."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def all_over(talkers: Collection[Talker]) -> set[int | None]:
    """Wait until each of them is closed: with which codes."""
    await asyncio.gather(*(talker.over() for talker in talkers))
    return {talker.code for talker in talkers}
