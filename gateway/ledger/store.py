"""The door to Redis that all operations of the ledger go through.

Owns: the link, key names, mapping of its faults to ours, what every script's answer has in common, tokens, the indexes
of accounts that have something due, and the bounded cache of what an API key's digest stands for.
Does not know: what any script means.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence, Set
from contextlib import suppress
from typing import Any, Final, Generic, NoReturn, TypeVar

from gateway.core.errors import LedgerUnavailable, OperationConflict, UnknownAccount
from gateway.ledger.condition import Condition, begin_epoch, complete, examine
from gateway.ledger.connection import NOTHING, Packed, Part
from gateway.ledger.epoch import Memory
from gateway.ledger.keys import Keys
from gateway.ledger.link import LinkDown, LinkError, RedisLink
from gateway.ledger.lua import ON_THE_PATH, script
from gateway.ports import Observer

Value = TypeVar("Value")
WEEK_SECONDS: Final = 7 * 86_400
#: Accounts with something new for the export; of more at once, those are found by the walk over all accounts.
_CHANGED_MAX: Final = 100_000
#: When an account is visited again that could not be asked.
_AWAY_MS: Final = 10_000
#: The tags of answers to what no verb does.
_UNDONE: Final = frozenset({b"unknown", b"conflict"})


class Lru(Generic[Value]):
    """The values used last, at most `size_max` of them."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._values: OrderedDict[str, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str) -> Value | None:
        """The value, which is now the one used last."""
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def put(self, name: str, value: Value) -> None:
        """Keep a value; the one that was not used for longest makes room."""
        self._values[name] = value
        self._values.move_to_end(name)
        if len(self._values) > self._size_max:
            self._values.popitem(last=False)

    def drop(self, name: str) -> None:
        """Forget a value."""
        self._values.pop(name, None)


class Store:
    """What the parts of RedisLedger share."""

    def __init__(
        self,
        link: RedisLink,
        prefix: str = "gw",
        observer: Observer | None = None,
        *,
        operation_seconds: int = WEEK_SECONDS,
    ) -> None:
        assert operation_seconds > 0, "an operation must be remembered for a while"
        self._link = link
        self._names = Keys(prefix)
        self._observer = observer
        self._operation_seconds = operation_seconds
        self._process = secrets.token_hex(8)
        self._calls = 0
        self._sinks: tuple[str, ...] = ()  # of the export
        self._entering: Set[str] = frozenset()  # the verbs after which an account has something new for them
        self._changed: set[str] = set()  # accounts that have, and for which that is not noted yet

    async def condition(self, memory: Memory) -> Condition:
        """Whether the servers are fit to hold money. `memory` is this machine's of which they were."""
        try:
            await self._link.confirm()
            return await examine(self._link, self._names.prefix, memory)
        except LinkError as error:
            raise self._unavailable(error, "condition") from error

    async def begin_epoch(self, memory: Memory) -> str:
        """Take the servers as they are for the ledger from now on; the name of the new epoch."""
        try:
            return await begin_epoch(self._link, self._names.prefix, memory)
        except LinkError as error:
            raise self._unavailable(error, "begin_epoch") from error

    async def complete(self, memory: Memory, condition: Condition) -> None:
        """Have the servers' data say which layout it has, and whose it is, where this condition lacks that."""
        try:
            await complete(self._link, self._names.prefix, memory, condition)
        except LinkError as error:
            raise self._unavailable(error, "complete") from error

    def _token(self) -> str:
        """Names one call of one process: its repeat over a broken connection is told from a second call."""
        self._calls += 1
        return f"{self._process}-{self._calls}"

    async def _run(
        self, verb: str, account: str, keys: Sequence[str], args: Sequence[Part], last_args: Packed = NOTHING
    ) -> tuple[bytes, list[Any]]:
        """One script call: the answer's tag and the rest of it."""
        names = self._names.of_call(account) if verb in ON_THE_PATH else self._names.of_account(account)
        values = (self._operation_seconds, *args)
        try:
            reply = await self._link.run(script(verb), keys, values, first_keys=names, last_args=last_args)
        except LinkError as error:
            raise self._unavailable(error, verb) from error
        finally:
            if verb in self._entering and len(self._changed) < _CHANGED_MAX:
                self._changed.add(account)
        answer: Any = reply  # every script's is a list that begins with these two
        tag, told, *rest = answer
        if told:
            await self._told(account, told)
        if tag in _UNDONE:
            await self._undone(verb, account, tag)
        return tag, rest

    async def _undone(self, verb: str, account: str, tag: bytes) -> NoReturn:
        if tag == b"unknown":
            await self._confirm(verb)
            raise UnknownAccount(f"no account {account!r}")
        raise OperationConflict(f"{verb}: this operation was used before with other content, or has ended")

    async def _told(self, account: str, told: Any) -> None:
        """What a script found beside its own work: holds that were over, deliveries that wait."""
        waits, *ended = told
        if waits:
            with suppress(LedgerUnavailable):  # the verb is done; a sweep makes the index good
                await self._noted(self._names.outbox, account, waits)
        if self._observer is not None:
            for product, count in zip(ended[::2], ended[1::2], strict=True):
                self._observer.event("hold_expired", value=count, product=product.decode())

    async def _visit(
        self,
        index: str,
        limit: int,
        claim: Callable[[str, int], Awaitable[Sequence[Value]]],
        *,
        busy: Collection[str] = (),
    ) -> list[Value]:
        """What `claim(account, limit)` takes of the accounts that have something due, the longest due first, and are
        not `busy`.

        An account is taken out of the index before it is asked; what asks it puts it back by what is due next. Whoever
        adds something meanwhile puts it there as well, and the earlier time stays. One that a killed visitor had taken
        out comes back with its next sweep.
        """
        now = await self._now_ms()
        claimed: list[Value] = []
        due = await self._call("ZRANGE", index, "-inf", now, "BYSCORE", "LIMIT", 0, limit + len(busy))
        for account in (name.decode() for name in due):
            if len(claimed) >= limit:
                break
            if account not in busy and await self._call("ZREM", index, account):  # else another visitor has it
                try:
                    with suppress(UnknownAccount):
                        claimed += await claim(account, limit - len(claimed))
                except LedgerUnavailable:  # of a cluster, its server alone may be away: the others have their turn
                    await self._noted(index, account, str(now + _AWAY_MS).encode())
        return claimed

    async def _leased(self, name: str, ms: str) -> bool:
        """Whether the lease of this name is this process's, for so long from now."""
        holder = await self._call("SET", name, self._process, "NX", "GET", "PX", ms)
        if holder is None:
            return True
        mine = bool(holder == self._process.encode())
        if mine:
            await self._call("PEXPIRE", name, ms)
        return mine

    async def _list(self, *accounts: str) -> None:
        """Have the accounts in the set of all, and in its order: the set is first to know."""
        scored = [part for account in accounts for part in ("0", account)]
        await asyncio.gather(
            self._call("SADD", self._names.accounts, *accounts),
            self._call("ZADD", self._names.accounts_in_order, *scored),
        )

    async def _now_ms(self) -> int:
        """The server's clock."""
        seconds, micros = await self._call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def _noted(self, index: str, account: str, due_ms: bytes) -> None:
        """The account has something due then (nothing: none): in an index of accounts, which keeps the earlier time."""
        if due_ms:
            await self._call("ZADD", index, "LT", due_ms, account)

    async def _call(self, *parts: Part) -> Any:
        """One command."""
        try:
            return await self._link.call(*parts)
        except LinkError as error:
            raise self._unavailable(error, str(parts[0])) from error

    async def _confirm(self, what: str, *, within_seconds: float = 0.0) -> None:
        """Something is not there: LedgerUnavailable if that is because the ledger is not."""
        try:
            await self._link.confirm(within_seconds=within_seconds)
        except LinkError as error:
            raise self._unavailable(error, what) from error

    def _unavailable(self, error: LinkError, what: str) -> LedgerUnavailable:
        """An error that the server answered is no less unavailable: the operation is kept and tried again."""
        if self._observer is not None:
            reason = (error.code.lower() or "link_down") if isinstance(error, LinkDown) else "command_error"
            self._observer.event("ledger_error", reason=reason, operation=what)
        return LedgerUnavailable(f"{what}: {error}")
