"""The ledger in memory: the store's own work, and what administrators do and read.

Owns: the meaning of those verbs.
Does not know: the path of a call.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.core.errors import LedgerRefused
from gateway.core.money import BALANCE_MAX, ZERO, Nanos
from gateway.core.months import month_of
from gateway.core.overrides import TEXT_BYTES_MAX, merged
from gateway.ledger import entry_data, rules
from gateway.ledger.memory_books import Books
from gateway.ledger.memory_store import MemoryStore
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


class MemoryAdministration(MemoryStore):
    """See ports.Ledger."""

    # ---- the store's own work

    async def sweep(self, account: str) -> Swept:
        """See ports.Ledger."""
        books, now = self._of(account), self._clock()
        swept = books.end_what_is_over(now)
        books.posts.forget_dead(now)
        books.look(now, swept=True)
        return swept

    async def accounts(self) -> AsyncIterator[str]:
        """See ports.Ledger."""
        for account in list(self._books):
            yield account

    async def accounts_after(self, after: str, *, limit: int, containing: str = "") -> Sequence[str]:
        """See ports.Ledger."""
        return sorted(account for account in self._books if account > after and containing in account)[:limit]

    def server_of(self, account: str) -> None:
        """See ports.Ledger."""

    async def lease_work(self, *, work: str, seconds: float) -> bool:  # noqa: ARG002 - the port's
        """See ports.Ledger. There is no other process."""
        return True

    async def ping(self) -> None:
        """See ports.Ledger."""

    async def backlog(self) -> Backlog:
        """See ports.Ledger."""
        every, now = self._books.values(), self._clock()
        return Backlog(
            looks=_due(now, [list(books.followed.values()) for books in every]),
            deliveries=_due(
                now, [[delivery.due_ms for delivery in books.posts.listed(now, dead=False)] for books in every]
            ),
        )

    # ---- administration

    async def open_account(self, *, operation: str, account: str, plan: Plan, signup: Nanos = ZERO) -> Account:
        """See ports.Ledger."""
        rules.check_new_account(account, signup)
        content = ("open_account", plan, signup)
        books = self._books.get(account)
        if books is not None:
            first: Account | None = books.seen(operation, content)
            if first is None:
                raise LedgerRefused(f"account {account!r} exists")
            return first
        now = self._clock()
        books = self._books[account] = Books(account, plan, now)
        if signup:
            given = Grant(id="", kind="signup", amount=signup, remaining=signup)
            books.give(now, operation, given, entry_data.grant_data("signup", given.priority, None, ""))
        return books.done(operation, content, books.account())

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
        books, _ = self._at(account)
        changes = rules.account_changes(plan, tier, rate_card, status)
        content = ("change_account", changes, {**(overrides or {})})
        first: Account | None = books.seen(operation, content)
        if first is not None:
            return first
        text = merged(books.plan.overrides, overrides or {})
        if len(text.encode()) > TEXT_BYTES_MAX:
            raise LedgerRefused(rules.TOO_MANY_OVERRIDES)
        books.plan = Plan(
            tier=changes.get("tier", books.plan.tier),
            rate_card=changes.get("rate_card", books.plan.rate_card),
            overrides=text,
        )
        books.status = status or books.status
        return books.done(operation, content, books.account())

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
        books, now = self._at(account)
        content = ("grant", kind, amount, priority, expires_ms, note)
        first: Grant | None = books.seen(operation, content)
        if first is not None:
            return first
        if expires_ms is not None and expires_ms <= now:
            raise LedgerRefused(rules.ALREADY_EXPIRED)
        if books.balance + amount > BALANCE_MAX:
            raise LedgerRefused(rules.TOO_MUCH)
        given = Grant(id="", kind=kind, amount=amount, remaining=amount, priority=priority, expires_ms=expires_ms)
        facts = entry_data.grant_data(kind, priority, expires_ms, note)
        made, _ = books.give(now, operation, given, facts)
        return books.done(operation, content, made)

    async def end_grant(self, *, operation: str, account: str, grant_id: str, data: Mapping[str, Any]) -> Receipt:
        """See ports.Ledger."""
        books, now = self._at(account)
        content = ("end_grant", grant_id, {**data})
        first: Receipt | None = books.seen(operation, content)
        if first is not None:
            return first
        grant = next((grant for grant in books.grants if grant.id == grant_id), None)
        if grant is None or grant.id in books.grants.lapsed:
            raise LedgerRefused(rules.NOTHING_LEFT)
        taken = books.grants.lapse(replace(grant, expires_ms=now), books.held)
        entry = books.expire(now, grant_id, taken, operation, data)
        books.look(now)
        receipt = Receipt(entry_id=entry.id, charged=Nanos(taken), balance=entry.balance)
        return books.done(operation, content, receipt)

    async def put_key(self, *, operation: str, key: Key, digest: str, before_ms: int | None = None) -> Key:
        """See ports.Ledger."""
        rules.check_key(key)
        last = rules.earliest(key.expires_ms, before_ms)
        if self._digests.get(digest, (key.account, key.id)) != (key.account, key.id):
            raise LedgerRefused(rules.DIGEST_TAKEN)
        books, now = self._at(key.account)
        key = replace(key, spent=ZERO, held=ZERO, created_ms=0)
        content = ("put_key", replace(key, pepper=""), digest)
        first: Key | None = books.seen(operation, content)
        if first is not None:
            return first
        if last is not None and last <= now:
            raise LedgerRefused(rules.KEY_EXPIRED)
        if key.id in books.keys:
            raise LedgerRefused(f"key {key.id!r} exists")
        books.keys[key.id], books.months[key.id] = replace(key, created_ms=now), month_of(now)
        self._digests[digest] = (key.account, key.id)
        return books.done(operation, content, books.key(key.id, now))

    async def move_key(self, *, identity: Identity, old: str, new: str, pepper: str) -> None:
        """See ports.Ledger."""
        books, now = self._at(identity.account)
        if identity.key_id not in books.keys:
            raise LedgerRefused(f"no key {identity.key_id!r}")
        books.keys[identity.key_id] = replace(books.keys[identity.key_id], pepper=pepper)
        self._digests.setdefault(new, (identity.account, identity.key_id))
        self._digests_until.pop(new, None)
        self._digests_until[old] = now + rules.MOVED_SECONDS * 1000

    async def change_key(
        self, *, operation: str, account: str, key_id: str, changes: Mapping[str, Any], before_ms: int | None = None
    ) -> Key:
        """See ports.Ledger."""
        checked, last = rules.check_changes(changes), rules.earliest(before_ms)
        books, now = self._at(account)
        content = ("change_key", key_id, checked)
        first: Key | None = books.seen(operation, content)
        if first is not None:
            return first
        if last is not None and last <= now:
            raise LedgerRefused(rules.KEY_EXPIRED)
        if key_id not in books.keys:
            raise LedgerRefused(f"no key {key_id!r}")
        books.keys[key_id] = replace(books.keys[key_id], **checked)
        return books.done(operation, content, books.key(key_id, now))

    async def account(self, account: str) -> Account:
        """See ports.Ledger."""
        books, _ = self._at(account)
        return books.account()

    async def keys(self, account: str) -> Sequence[Key]:
        """See ports.Ledger."""
        books, now = self._at(account)
        return [books.key(key_id, now) for key_id in sorted(books.keys)]

    async def holds(self, account: str) -> Sequence[Hold]:
        """See ports.Ledger."""
        books, _ = self._at(account)
        return sorted((open_.hold for open_ in books.holds.values()), key=lambda hold: (hold.expires_ms, hold.id))

    async def entries(
        self, account: str, *, after: str = "", before: str = "", limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        """See ports.Ledger."""
        rules.check_entry_id(after)
        rules.check_entry_id(before)
        entries = self._of(account).entries
        first, last = (int(each.partition("-")[0]) if each else None for each in (after, before))
        found = entries[max(first or 0, self._of(account).trimmed) : len(entries) if last is None else max(0, last - 1)]
        return (found[::-1] if newest_first else found)[: max(limit, 0)]

    async def verify(self, account: str, *, entries: bool = True) -> Sequence[Drift]:
        """See ports.Ledger. Everything here is summed on reading; only balance and entries can differ."""
        books = self._of(account)
        entered = sum(entry.amount for entry in books.entries)
        if not entries:
            entered = books.entries[-1].balance if books.entries else 0
        drift = Drift(account=account, what="balance", stored=books.balance, recomputed=entered)
        return [drift] if drift.stored != drift.recomputed else []


def _due(now_ms: int, times: Sequence[Sequence[int]]) -> Lag:
    """Of the times of several accounts."""
    due = [min(of_one) for of_one in times if of_one and min(of_one) <= now_ms]
    return Lag(accounts=len(due), since_ms=min(due, default=None), now_ms=now_ms)
