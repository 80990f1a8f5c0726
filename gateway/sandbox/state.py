"""What one sandbox remembers.

Owns: the knobs now in force, the log of requests, whose credential they carried, what products store (uploads,
transcripts, tokens, sessions, agents), counters, and background tasks. Every store is bounded: the oldest goes first.
Does not know: HTTP replies, or the shapes of products.
"""

import asyncio
import hashlib
import secrets
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any, Final, Generic, TypeVar

import aiohttp
from aiohttp import web

from gateway.sandbox.agent_sessions import AgentRecord
from gateway.sandbox.audio import Audio
from gateway.sandbox.jobs import Job
from gateway.sandbox.knobs import Knobs, SandboxSettings

V = TypeVar("V")


class Kept(OrderedDict[str, V], Generic[V]):
    """A store that forgets its oldest entry when it is full."""

    def __init__(self, count_max: int) -> None:
        super().__init__()
        self._count_max = count_max

    def keep(self, name: str, value: V) -> V:
        """Store the value."""
        self[name] = value
        if len(self) > self._count_max:
            self.popitem(last=False)
        return value


class Carried(StrEnum):
    """The credential a request carried."""

    SERVICE = "service"
    TOKEN = "token"  # noqa: S105 - a kind of credential, not one
    FOREIGN = "foreign"
    MISSING = "missing"


@dataclass(slots=True)
class Entry:
    """One request, as it arrived."""

    at: float
    method: str
    path: str
    query: str
    raw_headers: tuple[tuple[bytes, bytes], ...]
    carried: Carried
    body_bytes: int = 0
    sha256: str = hashlib.sha256(b"").hexdigest()

    def saw(self, body: bytes) -> None:
        """Note the body."""
        self.body_bytes = len(body)
        self.sha256 = hashlib.sha256(body).hexdigest()

    def view(self) -> dict[str, Any]:
        """This entry as JSON. A header sent more than once is joined by commas."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return {
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": headers,
            "body_bytes": self.body_bytes,
            "body_sha256": self.sha256,
            "credential": self.carried,
            "credential_right": self.carried in (Carried.SERVICE, Carried.TOKEN),
        }


@dataclass(frozen=True, slots=True)
class Token:
    """A temporary token: until when it opens sessions, and how long these may be."""

    expires_at: float
    session_seconds_max: int | None


@dataclass(slots=True)
class StreamRecord:
    """One streaming session: what was asked of it and what became of it."""

    id: str
    opened_at: float
    parameters: dict[str, str]
    updates: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=20))
    audio_bytes: int = 0
    audio_seconds: float = 0.0
    session_seconds: float | None = None
    ended: str | None = None

    def view(self) -> dict[str, Any]:
        """This record as JSON; `ended` says how: terminated, client_gone, or an error's close code."""
        return {
            "id": self.id,
            "opened_at": self.opened_at,
            "parameters": self.parameters,
            "updates": list(self.updates),
            "audio_bytes": self.audio_bytes,
            "audio_seconds": self.audio_seconds,
            "session_seconds": self.session_seconds,
            "ended": self.ended,
        }


class SandboxState:
    """One sandbox's memory."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings: Final = settings
        self.defaults: Final = settings.knobs()
        self.knobs: Knobs = self.defaults
        self.closing: Final = asyncio.Event()
        self.entries: Final[deque[Entry]] = deque(maxlen=settings.requests_kept)
        self.counts: Final[Counter[str]] = Counter()
        self.uploads: Final[Kept[Audio]] = Kept(settings.uploads_kept)
        self.jobs: Final[Kept[Job]] = Kept(settings.transcripts_kept)
        self.streaming_tokens: Final[Kept[Token]] = Kept(settings.tokens_kept)
        self.agent_tokens: Final[Kept[Token]] = Kept(settings.tokens_kept)
        self.streams: Final[Kept[StreamRecord]] = Kept(settings.sessions_kept)
        self.agent_sessions: Final[Kept[AgentRecord]] = Kept(settings.sessions_kept)
        self.agents: Final[Kept[dict[str, Any]]] = Kept(settings.agents_kept)
        self.numbers: Final = count(1)
        self.client: aiohttp.ClientSession | None = None
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._failures_due = 0.0

    def __repr__(self) -> str:
        return (
            f"<SandboxState requests={self.counts['requests']} foreign={self.counts['foreign_credentials']} "
            f"jobs={len(self.jobs)} tasks={len(self._tasks)}>"
        )

    def record(self, request: web.Request, tokens: Kept[Token] | None = None) -> Entry:
        """Log a request, and judge its credential; temporary tokens count only where `tokens` are given."""
        carried = self._judge(request, tokens)
        entry = Entry(time.time(), request.method, request.path, request.query_string, request.raw_headers, carried)
        self.entries.append(entry)
        self.counts["requests"] += 1
        if carried is Carried.FOREIGN:
            self.counts["foreign_credentials"] += 1
        elif carried is Carried.MISSING:
            self.counts["missing_credentials"] += 1
        return entry

    def _judge(self, request: web.Request, tokens: Kept[Token] | None) -> Carried:
        offered = [_bare(value) for value in request.headers.getall("Authorization", ())]
        if "token" in request.query_string:
            offered.extend(request.query.getall("token", ()))
        carried = Carried.MISSING
        for value in offered:
            if value == self.settings.credential:
                carried = Carried.SERVICE
            elif tokens is not None and self.live_token(tokens, value) is not None:
                carried = Carried.TOKEN
            elif value:
                return Carried.FOREIGN
        return carried

    def session_seconds_max(self, request: web.Request, tokens: Kept[Token]) -> int | None:
        """The cap that came with the request's temporary token, if it has one."""
        offered = [_bare(request.headers.get("Authorization", "")), request.query.get("token", "")]
        found = [token.session_seconds_max for value in offered if (token := self.live_token(tokens, value))]
        return found[0] if found else None

    @staticmethod
    def live_token(tokens: Kept[Token], value: str) -> Token | None:
        """The token, while it lasts. It opens more than one session, as measured upstream."""
        token = tokens.get(value)
        return token if token is not None and token.expires_at > time.monotonic() else None

    @staticmethod
    def mint(tokens: Kept[Token], seconds: int, session_seconds_max: int | None) -> str:
        """A new temporary token."""
        value = secrets.token_urlsafe(32)
        tokens.keep(value, Token(time.monotonic() + seconds, session_seconds_max))
        return value

    def failure_due(self, rate: float) -> bool:
        """Whether this request is one of the share that fails: evenly spread, so a test can count on it."""
        self._failures_due += rate
        if self._failures_due < 1.0:
            return False
        self._failures_due -= 1.0
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background until done or until the sandbox stops; dropped when too much is waiting."""
        if len(self._tasks) >= self.settings.webhooks_pending_max or self.closing.is_set():
            work.close()
            self.counts["webhooks_dropped"] += 1
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop what runs in the background."""
        self.closing.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.client is not None:
            await self.client.close()

    def reset(self) -> None:
        """Forget the requests and the counts."""
        self.entries.clear()
        self.counts.clear()
        self._failures_due = 0.0


def _bare(value: str) -> str:
    scheme, _, rest = value.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else value.strip()


STATE: Final = web.AppKey("STATE", SandboxState)
