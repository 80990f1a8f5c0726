"""The ledger on Redis: the store's own work, and what administrators do and read.

Owns: the arguments and answers of those verbs, and the order of writes of the two that touch two slots.
Does not know: the path of a call.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core.errors import LedgerRefused, LedgerUnavailable, UnknownAccount
from gateway.core.money import BALANCE_MAX, ZERO, Nanos
from gateway.core.overrides import TEXT_BYTES_MAX
from gateway.ledger import entry_data, records, rules
from gateway.ledger.connection import Part
from gateway.ledger.store import Store
from gateway.ledger.verify import Entered, State, recompute
from gateway.ports import (
    Account,
    AccountStatus,
    Backlog,
    Drift,
    Entry,
    Grant,
    GrantKind,
    Hold,
    Identity,
    Key,
    Lag,
    Plan,
    Receipt,
    Swept,
)

_ENDED_MAX = 100  # of one script's time, as in lib.lua
_PAGE = 1000


class Administration(Store):
    """See ports.Ledger."""

    # ---- the store's own work

    async def sweep(self, account: str) -> Swept:
        """See ports.Ledger. A hundred in each script. The account's place among those with jobs is made good."""
        total = Swept()
        while True:
            _, answer = await self._run("sweep", account, [], [self._token()])
            holds, held, grants = map(int, answer[:3])
            job_ms, queue_ms, *facts = answer[3:]
            await self._noted(self._names.followed, account, job_ms)
            await self._noted(self._names.queues, account, queue_ms)
            total = Swept(
                holds=total.holds + holds,
                held=Nanos(total.held + held),
                grants=total.grants + grants,
                monthly=records.monthly(*facts),
            )
            if holds + grants < _ENDED_MAX:
                return total

    async def accounts(self) -> AsyncIterator[str]:
        """See ports.Ledger. An id whose opening was broken off is not yet an account.

        Where the order lacks some (an older version opened them), it is made good on the way.
        """
        cursor, in_order = b"0", await self._in_order()
        while True:
            cursor, page = await self._call("SSCAN", self._names.accounts, cursor, "COUNT", _PAGE)
            names = [name.decode() for name in page]
            if names and not in_order:
                with suppress(LedgerUnavailable):  # a server without room can still be walked
                    await self._list(*names)
            for name in await self._opened(names):
                yield name
            if cursor == b"0":
                return

    async def accounts_after(self, after: str, *, limit: int, containing: str = "") -> Sequence[str]:
        """See ports.Ledger. From the order of the set, or from all of the set while the order lacks some."""
        if not await self._in_order():
            every = {account async for account in self.accounts() if account > after and containing in account}
            return heapq.nsmallest(limit, every)
        found: list[str] = []
        count = _PAGE if containing else limit
        while len(found) < limit:
            begin = f"({after}" if after else "-"
            page = await self._call("ZRANGE", self._names.accounts_in_order, begin, "+", "BYLEX", "LIMIT", 0, count)
            names = [name.decode() for name in page]
            found += await self._opened([name for name in names if containing in name])
            if len(names) < count:
                break
            after = names[-1]
        return found[:limit]

    def server_of(self, account: str) -> str | None:
        """See ports.Ledger."""
        return self._link.where_is(self._names.account(account))

    async def lease_work(self, *, work: str, seconds: float) -> bool:
        """See ports.Ledger."""
        return await self._leased(self._names.leased(work), rules.ms(seconds))

    async def _in_order(self) -> bool:
        """Whether the order has all that the set has: it has never more."""
        every, ordered = await asyncio.gather(
            self._call("SCARD", self._names.accounts), self._call("ZCARD", self._names.accounts_in_order)
        )
        return bool(every == ordered)

    async def _opened(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are accounts."""
        there = await asyncio.gather(*(self._call("EXISTS", self._names.account(name)) for name in names))
        return [name for name, exists in zip(names, there, strict=True) if exists]

    async def ping(self) -> None:
        """See ports.Ledger. Asked of a key, so that a cluster sends it to a server that holds data."""
        await self._call("EXISTS", self._names.accounts)

    async def backlog(self) -> Backlog:
        """See ports.Ledger. By the indexes, in one write after the time."""
        now = await self._now_ms()
        looks, deliveries = await asyncio.gather(
            self._due(self._names.followed, now), self._due(self._names.outbox, now)
        )
        return Backlog(looks=looks, deliveries=deliveries)

    async def _due(self, index: str, now_ms: int) -> Lag:
        count, first = await asyncio.gather(
            self._call("ZCOUNT", index, "-inf", now_ms), self._call("ZRANGE", index, 0, 0, "WITHSCORES")
        )
        return Lag(accounts=count, since_ms=int(float(first[1])) if count and first else None, now_ms=now_ms)

    # ---- administration

    async def _operate(
        self, verb: str, operation: str, account: str, content: object, keys: Sequence[str], args: Sequence[Part]
    ) -> tuple[bytes, list[bytes]]:
        names = [self._names.operation(account, operation), *keys]
        tag, answer = await self._run(verb, account, names, [records.digest(verb, records.json(content)), *args])
        return tag, answer[0] if answer else []

    async def open_account(self, *, operation: str, account: str, plan: Plan, signup: Nanos = ZERO) -> Account:
        """See ports.Ledger. The set of accounts first: no account is ever missing there."""
        rules.check_new_account(account, signup)
        content = [plan.tier, plan.rate_card, signup]
        data = records.json(entry_data.grant_data("signup", 50, None, ""))
        await self._confirm("open_account")  # else whoever opens what is not there gives signup grants away again
        await self._list(account)
        args: list[Part] = [operation, plan.tier, plan.rate_card, str(signup), data]
        tag, answer = await self._operate("open_account", operation, account, content, [], args)
        if tag == b"exists":
            raise LedgerRefused(f"account {account!r} exists")
        return records.account(account, answer)

    async def change_account(
        self,
        *,
        operation: str,
        account: str,
        plan: Plan | None = None,
        tier: str | None = None,
        rate_card: str | None = None,
        status: AccountStatus | None = None,
        overrides: Mapping[str, str | None] | None = None,
    ) -> Account:
        """See ports.Ledger."""
        fields = [word for pair in rules.account_changes(plan, tier, rate_card, status).items() for word in pair]
        laid_over = [word for name, value in sorted((overrides or {}).items()) for word in (name, value or "")]
        content = [fields, laid_over] if laid_over else fields
        args: list[Part] = [str(TEXT_BYTES_MAX), str(len(fields)), *fields, *laid_over]
        tag, answer = await self._operate("change_account", operation, account, content, [], args)
        if tag == b"too_long":
            raise LedgerRefused(rules.TOO_MANY_OVERRIDES)
        if status == "active":
            with suppress(LedgerUnavailable):  # it is done; a sweep makes the index good
                await self._noted(self._names.queues, account, b"0")  # its queue may have waited for this
        return records.account(account, answer)

    async def grant(
        self,
        *,
        operation: str,
        account: str,
        kind: GrantKind,
        amount: Nanos,
        priority: int = 50,
        expires_ms: int | None = None,
        note: str = "",
    ) -> Grant:
        """See ports.Ledger."""
        rules.check_grant(amount, priority, expires_ms)
        content = [kind, amount, priority, expires_ms, note]
        data = records.json(entry_data.grant_data(kind, priority, expires_ms, note))
        args: list[Part] = [operation, kind, str(amount), str(priority), _time(expires_ms), data, str(BALANCE_MAX)]
        tag, answer = await self._operate("grant", operation, account, content, [], args)
        if tag == b"past":
            raise LedgerRefused(rules.ALREADY_EXPIRED)
        if tag == b"too_much":
            raise LedgerRefused(rules.TOO_MUCH)
        return records.grant(*answer)

    async def end_grant(self, *, operation: str, account: str, grant_id: str, data: Mapping[str, Any]) -> Receipt:
        """See ports.Ledger."""
        args: list[Part] = [operation, grant_id, records.json({**data})]
        tag, answer = await self._operate("end_grant", operation, account, [grant_id, {**data}], [], args)
        if tag == b"none":
            raise LedgerRefused(rules.NOTHING_LEFT)
        entry, left, balance = answer
        return Receipt(entry_id=entry.decode(), charged=Nanos(int(left)), balance=Nanos(int(balance)))

    async def put_key(self, *, operation: str, key: Key, digest: str, before_ms: int | None = None) -> Key:
        """See ports.Ledger. The key first, then its digest: nothing can be found that is not there."""
        rules.check_key(key)
        index, ids = self._names.digest(digest), f"{key.account}|{key.id}".encode()
        if await self._call("GET", index) not in (None, ids):
            raise LedgerRefused(rules.DIGEST_TAKEN)
        fields = records.key_fields(rules.written_of(key))
        keys = [self._names.key(key.account, key.id), self._names.keys(key.account)]
        content = [key.id, digest, *fields]
        last = rules.earliest(key.expires_ms, before_ms)
        args: list[Part] = [key.id, _time(last), *fields, "digest", digest, "pepper", key.pepper]
        tag, answer = await self._operate("put_key", operation, key.account, content, keys, args)
        if tag == b"past":
            raise LedgerRefused(rules.KEY_EXPIRED)
        if tag == b"exists":
            raise LedgerRefused(f"key {key.id!r} exists")
        if await self._call("SET", index, ids, "NX", "GET") not in (None, ids):
            raise LedgerRefused(rules.DIGEST_TAKEN)
        return records.key(key.account, answer)

    async def move_key(self, *, identity: Identity, old: str, new: str, pepper: str) -> None:
        """See ports.Ledger. It is noted, then found by the new digest, and only then is the end of the old one set.

        Broken off anywhere, it is still found by the old one, and moved again.
        """
        account, key_id = identity.account, identity.key_id
        keys, fields = [self._names.key(account, key_id)], ["pepper", pepper, "digest", new]
        operation = f"pepper:{key_id}:{self._token()}"
        args: list[Part] = [key_id, "", *fields]
        tag, _ = await self._operate("change_key", operation, account, [key_id, *fields], keys, args)
        if tag == b"no_key":
            raise LedgerRefused(f"no key {key_id!r}")
        index = self._names.digest(new)
        await self._call("SET", index, f"{account}|{key_id}", "NX")
        await self._call("PERSIST", index)  # it may have been the old one, and be again
        await self._call("EXPIRE", self._names.digest(old), rules.MOVED_SECONDS)

    async def change_key(
        self, *, operation: str, account: str, key_id: str, changes: Mapping[str, Any], before_ms: int | None = None
    ) -> Key:
        """See ports.Ledger."""
        fields = records.key_fields(dict(sorted(rules.check_changes(changes).items())))
        keys = [self._names.key(account, key_id)]
        args: list[Part] = [key_id, _time(rules.earliest(before_ms)), *fields]
        tag, answer = await self._operate("change_key", operation, account, [key_id, *fields], keys, args)
        if tag == b"past":
            raise LedgerRefused(rules.KEY_EXPIRED)
        if tag == b"no_key":
            raise LedgerRefused(f"no key {key_id!r}")
        return records.key(account, answer)

    async def _read(self, verb: str, account: str, keys: Sequence[str] = ()) -> list[Any]:
        """A reading of the account as it stands now: again while there is more to end than one script may."""
        while True:
            tag, answer = await self._run(verb, account, keys, [])
            if tag != b"more":
                found: list[Any] = answer[0]
                return found

    async def account(self, account: str) -> Account:
        """See ports.Ledger."""
        return records.account(account, await self._read("account", account))

    async def keys(self, account: str) -> Sequence[Key]:
        """See ports.Ledger."""
        found = await self._read("keys", account, [self._names.keys(account)])
        return sorted((records.key(account, facts) for facts in found), key=lambda key: key.id)

    async def holds(self, account: str) -> Sequence[Hold]:
        """See ports.Ledger."""
        return [records.hold(account, *facts) for facts in await self._read("holds", account)]

    async def entries(
        self, account: str, *, after: str = "", before: str = "", limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        """See ports.Ledger."""
        rules.check_entry_id(after)
        rules.check_entry_id(before)
        if before and not before.strip("0-"):
            limit = 0  # nothing is before the first id there can be; Redis takes that for a mistake
            before = ""
        start, end = f"({after}" if after else "-", f"({before}" if before else "+"
        command: list[Part] = ["XREVRANGE", end, start] if newest_first else ["XRANGE", start, end]
        command.insert(1, self._names.ledger(account))
        found = await self._call(*command, "COUNT", max(limit, 0))
        if not found and not await self._call("EXISTS", self._names.account(account)):
            raise UnknownAccount(f"no account {account!r}")
        return [records.entry(*line) for line in found or []]

    async def verify(self, account: str, *, entries: bool = True) -> Sequence[Drift]:
        """See ports.Ledger. Exact under traffic: the state and the last entry's id are read in one script, and entries
        before that one never change."""
        state = await self._state(account, counted=entries)
        trimmed = state.account.get("trimmed", "")
        if entries:
            entered = Entered.after(trimmed, state.refunds.keys())
            await self._enter(account, entered, "-", state.last_entry)
        else:
            last = await self._page(account, state.last_entry, state.last_entry)
            balance = records.entry(*last[0]).balance if last else int(trimmed.partition(" ")[2] or 0)
            entered = Entered.up_to(balance)
        return recompute(account, state, entered)

    async def _state(self, account: str, *, counted: bool = True) -> State:
        """All but the entries, at one moment; what is counted by month only where it is asked for."""
        months = await self._months() if counted else []
        _, answer = await self._run("state", account, [self._names.keys(account)], months)
        return State.read(answer)

    async def _enter(self, account: str, entered: Entered, start: str, end: str) -> str:
        """Read the entries from there to this id; where to go on."""
        while page := await self._page(account, start, end):
            for line in page:
                entered.add(records.entry(*line))
            start = f"({page[-1][0].decode()}"
        return start

    async def _months(self) -> list[Part]:
        """The months of which usage may be kept, by the server's clock."""
        seconds, _ = await self._call("TIME")
        now = datetime.fromtimestamp(int(seconds), UTC).date()
        until = now + timedelta(days=1)
        return list(rules.check_days((until - timedelta(days=rules.USAGE_DAYS)).isoformat(), until.isoformat()))

    async def _page(self, account: str, start: str, end: str) -> list[Any]:
        if not end:
            return []
        return list(await self._call("XRANGE", self._names.ledger(account), start, end, "COUNT", _PAGE))


def _time(time_ms: int | None) -> str:
    return "" if time_ms is None else str(time_ms)
