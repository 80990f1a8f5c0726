"""The link to one Redis (or Valkey) server: commands of one loop tick leave in one write.

Owns: matching replies to commands in order, repeats after a lost connection, deadlines, the breaker.
Does not know: what the commands mean.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import hiredis

from gateway.ledger.address import Address
from gateway.ledger.connection import NOTHING, Connection, Gate, Packed, Part, pack, pack_count, pack_number, pack_parts
from gateway.ledger.link import CommandError, LinkDown, LinkError, LinkSettings, RedisLink, Reply, Script, State

#: Commands of one loop tick leave in one write, but not more than these: the server works on them while we go on.
#: Under load it gave 5-8 % more calls per second than writing all at the tick's end.
_WRITTEN_TOGETHER_MAX: Final = 8
# Answers that mean "nothing was done, and this server cannot serve now": raised as LinkDown.
_UNABLE: Final = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"}
)
_FIRST_PAUSE_SECONDS: Final = 0.01


class _Command:
    """One command in flight. `script` is what it runs, its rest packed, for a server that asks (NOSCRIPT)."""

    __slots__ = ("data", "deadline", "future", "script", "sent")

    def __init__(
        self,
        data: bytes,
        future: asyncio.Future[Reply],
        deadline: float,
        script: tuple[Script, int, tuple[bytes, ...]] | None,
    ) -> None:
        self.data = data
        self.future = future
        self.deadline = deadline
        self.script = script
        self.sent = False

    def fail(self, error: LinkError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class SingleLink:
    """A `RedisLink` to one server. `call` and `run` return futures: no task and no timer per command.

    Raises ValueError (a URL that cannot be read) or OSError (its PEM file) when made. One event loop only.
    A server that `gate` refuses is as good as away.
    """

    def __init__(self, settings: LinkSettings, gate: Gate | None = None, *, address: Address | None = None) -> None:
        self.address = address or Address.parse(settings.url)
        self._settings = settings
        self._gate = gate
        self._state: State = "closed"
        self._connection: Connection | None = None
        self._pending: deque[_Command] = deque()
        self._out: list[bytes] = []
        self._sourced: dict[str, asyncio.Future[Reply]] = {}  # scripts that went as source last, and their answers
        self._why = "not open"
        self._confirmed_at = float("-inf")
        self._down_since: float | None = None
        self._fruitless = 0
        self._attempt: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        since = ""
        if self._down_since is not None:
            since = f" since {self._loop.time() - self._down_since:.1f} s ({self._why})"
        return f"<{type(self).__name__} {self.where} {self._state}{since}, pending {len(self._pending)}>"

    @property
    def where(self) -> str:
        """The server, as a person may read it."""
        return self.address.where

    @property
    def state(self) -> State:
        return self._state

    @property
    def pending(self) -> int:
        """Commands in flight."""
        return len(self._pending)

    @property
    def nodes(self) -> Sequence[RedisLink]:
        return (self,)

    @property
    def is_cluster(self) -> bool:
        return False

    def where_is(self, key: str) -> None:  # noqa: ARG002 - the protocol's
        return None

    def start(self) -> None:
        """Begin to connect; commands wait for it. Must be called on the loop. Twice is once."""
        if self._state == "closed":
            self._loop = asyncio.get_running_loop()
            self._fruitless = 0
            self._dial()

    async def open(self) -> None:
        self.start()
        if self._attempt is not None:
            await asyncio.wait([self._attempt])
        if self._state != "up":
            raise self._down(self._why)

    async def close(self) -> None:
        if self._state == "closed":
            return
        connection, self._connection = self._connection, None
        self._state, self._why, self._down_since = "closed", "closed", None
        for timer in (self._retry, self._watch):
            if timer is not None:
                timer.cancel()
        self._retry = self._watch = None
        self._out.clear()
        self._fail(list(self._pending), "closed")
        self._pending.clear()
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
            self._attempt = None
        if connection is not None and connection.transport is not None:
            connection.transport.close()
            await asyncio.wait([connection.gone], timeout=self._settings.connect_seconds_max)
            connection.abort()

    async def confirm(
        self, *, within_seconds: float = 0.0, only: Callable[[tuple[str, ...]], bool] = lambda _: True
    ) -> None:
        """See RedisLink. One that lost its data while we were connected is left alone, as it would be at a connect.

        `only`: which of the gate's questions are put.
        """
        now = asyncio.get_running_loop().time()
        if self._gate is None or now < self._confirmed_at + within_seconds:
            return
        connection = self._connection
        asked = [self.call(*question) for question in self._gate.questions() if only(question)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        if (down := next((answer for answer in answers if isinstance(answer, LinkDown)), None)) is not None:
            raise down
        refusal = self._gate.refusal(answers)
        if refusal:
            if connection is not None:
                self._break_off(connection, refusal)
            raise self._down(refusal)
        self._confirmed_at = now

    def call(self, *parts: Part) -> asyncio.Future[Reply]:
        return self._submit(pack(parts), None)

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Part],
        *,
        first_keys: Packed = NOTHING,
        last_args: Packed = NOTHING,
        by_source: bool = False,
    ) -> asyncio.Future[Reply]:
        """See RedisLink. `by_source`: without asking whether the server has the script."""
        keys_count = first_keys.count + len(keys)
        count = 3 + keys_count + len(args) + last_args.count
        rest = (pack_number(keys_count), first_keys.data, pack_parts((*keys, *args)), last_args.data)
        if by_source:
            return self._submit(_by_source(script, count, rest), None)
        return self._submit(b"".join((pack_count(count), script.by_sha1, *rest)), (script, count, rest))

    # Commands

    def _submit(self, data: bytes, script: tuple[Script, int, tuple[bytes, ...]] | None) -> asyncio.Future[Reply]:
        if self._state in {"down", "closed"}:
            return self._refused(self._why)
        if len(self._pending) >= self._settings.pending_max:
            return self._refused(f"overloaded: {len(self._pending)} commands in flight")
        loop = self._loop
        deadline = loop.time() + self._settings.command_seconds_max
        command = _Command(data, loop.create_future(), deadline, script)
        self._enqueue(command)
        if self._watch is None:
            self._watch = loop.call_at(deadline, self._expire)
        return command.future

    def _enqueue(self, command: _Command) -> None:
        self._pending.append(command)
        if self._connection is None:
            return
        command.sent = True
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(command.data)
        if len(out) >= _WRITTEN_TOGETHER_MAX:
            self._flush()

    def _flush(self) -> None:
        if self._out and self._connection is not None:
            self._connection.write(self._out)
            self._out.clear()

    def settle(self, connection: Connection, reply: object) -> None:
        """The connection received the reply to the oldest command."""
        if not self._pending:
            raise hiredis.ProtocolError("a reply to no command")
        command = self._pending.popleft()
        if command.future.done():
            return  # its waiter was cancelled
        if not isinstance(reply, Exception):
            command.future.set_result(reply)  # type: ignore[arg-type] # a parser's reply is of no other kind
            return
        text = str(reply)
        code = text.split(" ", 1)[0]
        if code == "NOSCRIPT" and command.script is not None:
            self._again(command, command.script)
        elif code in _UNABLE:
            command.fail(LinkDown(text, code))
        else:
            command.fail(CommandError(text, code))
        if code == "READONLY":
            # The primary moved away from under our name: look the name up again, after the rest of this chunk.
            self._loop.call_soon(self._break_off, connection, text)

    def _again(self, command: _Command, script: tuple[Script, int, tuple[bytes, ...]]) -> None:
        """The server lacks a script: it gets the source once, however many ask. The others follow that by SHA-1.

        A source is up to 30 KB. Thousands at once, as after a failover, would take longer than commands may.
        """
        sha1 = script[0].sha1
        source = self._sourced.get(sha1)
        if source is None or source.done():
            self._sourced[sha1] = command.future
            command = _Command(_by_source(*script), command.future, command.deadline, None)
        self._enqueue(command)

    def _expire(self) -> None:
        """Fail what is past its deadline. The watch is never set later than the earliest deadline."""
        self._watch = None
        now = self._loop.time()
        overdue = [command for command in self._pending if command.deadline <= now]
        if overdue:
            self._pending = deque(command for command in self._pending if command.deadline > now)
            why = f"no reply within {self._settings.command_seconds_max} s"
            if self._connection is not None:  # later replies could not be matched
                self._break_off(self._connection, why)
            self._fail(overdue, why)
        if self._pending:
            self._watch = self._loop.call_at(min(command.deadline for command in self._pending), self._expire)

    def _fail(self, commands: Iterable[_Command], why: str) -> None:
        for command in commands:
            command.fail(self._down(why))

    def _down(self, why: str) -> LinkDown:
        return LinkDown(f"{self.where}: {why}")

    def _refused(self, why: str) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        future.set_exception(self._down(why))
        return future

    # The connection

    def _dial(self) -> None:
        """Connect. While the breaker is open it stays open: an attempt keeps no command waiting."""
        self._retry = None
        if self._down_since is None:
            self._state = "connecting"
        self._attempt = self._loop.create_task(self._connect())

    async def _locate(self) -> Address:
        """Where to connect to this time. OSError if nobody knows."""
        return self.address

    async def _connect(self) -> None:
        connection = Connection(self, self.address.greeting(), self._gate)
        try:
            async with asyncio.timeout(self._settings.connect_seconds_max):
                address = await self._locate()
                await address.connect(lambda: connection)
                refusal = await connection.refusal
        except TimeoutError:
            refusal = f"no connection within {self._settings.connect_seconds_max} s"
        except (OSError, UnicodeError) as error:
            refusal = str(error)
        except asyncio.CancelledError:
            connection.abort()
            raise
        if not refusal and connection.gone.done():
            refusal = "connection closed by the server after its greeting"
        if refusal:
            connection.abort()
            self._unreachable(refusal)
        else:
            self._up(connection)

    def _up(self, connection: Connection) -> None:
        self._attempt, self._connection, self._state, self._down_since = None, connection, "up", None
        self._pending = deque(command for command in self._pending if not command.future.done())
        if not self._pending:
            return
        for command in self._pending:
            command.sent = True
        connection.write(command.data for command in self._pending)

    def _unreachable(self, why: str) -> None:
        """Open the breaker, and keep it open until a connect succeeds.

        What was sent before may have been done: it waits for a repeat until its deadline.
        """
        self._attempt, self._state, self._why = None, "down", why
        if self._down_since is None:
            self._down_since = self._loop.time()
        unsent = [command for command in self._pending if not command.sent]
        self._pending = deque(command for command in self._pending if command.sent)
        self._fail(unsent, why)
        self._retry = self._loop.call_later(self._settings.down_seconds, self._dial)

    def lost(self, connection: Connection, why: str) -> None:
        """The connection is of no more use: connect again, after a growing pause if it never answered a command."""
        if connection is not self._connection:
            return
        self._connection, self._why = None, why
        self._out.clear()
        connection.abort()
        if connection.served:
            self._fruitless = 0
            self._dial()
            return
        pause = min(self._settings.down_seconds, _FIRST_PAUSE_SECONDS * 2 ** min(self._fruitless, 10))
        self._fruitless += 1
        if self._down_since is None:
            self._state = "connecting"
        self._retry = self._loop.call_later(pause, self._dial)

    def _break_off(self, connection: Connection, why: str) -> None:
        """The server answers too late, or cannot serve: leave it alone for a while, whether or not it would connect."""
        if connection is self._connection:
            self._connection = None
            self._out.clear()
            connection.abort()
            self._unreachable(why)


def _by_source(script: Script, count: int, rest: tuple[bytes, ...]) -> bytes:
    return b"".join((pack_count(count), pack_parts(("EVAL", script.source)), *rest))
