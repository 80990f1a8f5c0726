"""The ledger in memory: the executable specification of `ports.Ledger`.

Owns: what every operation means, in the plainest form. Nothing is counted that can be summed.
Does not know: Redis, money beyond one process. Records of ended holds and operations are kept for ever here.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.core.admission import judge
from gateway.core.errors import Code, LedgerRefused, OperationConflict, Refused, UnknownAccount
from gateway.core.money import BALANCE_MAX, ZERO, Nanos
from gateway.ledger import rules
from gateway.ledger.memory_books import Books, End, Open, demand_of, hold_of
from gateway.ledger.rules import month_of
from gateway.ports import (
    Account,
    AccountStatus,
    AdmissionRequest,
    Admitted,
    Drift,
    Entry,
    Grant,
    GrantKind,
    Hold,
    Identity,
    Key,
    Plan,
    PlanChanged,
    Receipt,
    Resource,
    ResourceRef,
    Settlement,
    Swept,
)


class MemoryLedger:
    """`ports.Ledger` in the memory of one process. `clock` is the store's, in milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._books: dict[str, Books] = {}
        self._digests: dict[str, tuple[str, str]] = {}

    def __repr__(self) -> str:
        return f"<MemoryLedger accounts={len(self._books)} keys={len(self._digests)}>"

    def _of(self, account: str) -> Books:
        if account not in self._books:
            raise UnknownAccount(f"no account {account!r}")
        return self._books[account]

    def _at(self, account: str) -> tuple[Books, int]:
        """The account's books and the time, after ending what is over."""
        books, now = self._of(account), self._clock()
        books.end_what_is_over(now)
        return books, now

    # ---- the path of a call

    async def identify(self, digest: str) -> Identity | None:
        """See ports.Ledger."""
        account, key_id = self._digests.get(digest, ("", ""))
        return Identity(account=account, key_id=key_id, plan=self._books[account].plan) if account else None

    async def admit(self, request: AdmissionRequest) -> Admitted | Refused | PlanChanged:
        """See ports.Ledger."""
        assert request.estimate >= 0 and request.overdraft >= 0, "amounts of an admission are not negative"
        if request.account not in self._books:
            return Refused(code=Code.UNAUTHORIZED)
        books, now = self._at(request.account)
        found = [books.resource(ref, now) for ref in request.resources]
        records = tuple(record for record in found if record is not None)
        first = books.admitted_before(request, now)
        if first is not None:
            return replace(first, resources=records) if len(records) == len(found) else Refused(code=Code.NOT_FOUND)
        if request.key_id in books.keys and request.plan != books.plan:
            return PlanChanged(plan=books.plan)
        rates = [books.rate(rate, now) for rate in request.rates]
        standing = books.standing(request, now, rates)
        verdict = judge(demand_of(request), standing)
        if isinstance(verdict, Refused):
            return verdict
        if len(records) < len(found):
            return Refused(code=Code.NOT_FOUND)

        for rate, (start, count) in zip(request.rates, rates, strict=True):
            books.rates[rate.name] = (start, count + 1)
        answer = Admitted(
            hold=verdict,
            available=Nanos(standing.available - verdict),
            rates=tuple(replace(state, remaining=state.remaining - 1) for state in standing.rates),
            resources=records,
        )
        if request.metered:
            books.holds[request.hold_id] = Open(hold_of(request, verdict, now), request, answer)
        elif request.rates:
            books.passed[request.hold_id] = (now + rules.FREE_CALL_MS, request, answer)
        return answer

    async def accept(self, *, account: str, resource: Resource, deadline_seconds: int, keep_seconds: int) -> None:
        """See ports.Ledger."""
        books, now = self._at(account)
        existing = books.resource(resource.ref, now)
        if existing is not None:
            if existing.hold != resource.hold:
                raise OperationConflict(f"{resource.ref.kind} {resource.ref.id!r} belongs to another hold")
            return
        open_, end = books.holds.get(resource.hold), books.ends.get(resource.hold)
        if open_ is not None:
            open_.hold = replace(open_.hold, expires_ms=now + deadline_seconds * 1000, resource=resource.ref)
        elif end is not None and end.how != "expired":
            resource = replace(resource, state=end.how)
        until = now + keep_seconds * 1000 if keep_seconds else float("inf")
        books.resources[resource.ref] = (replace(resource, created_ms=now), until)

    async def settle(self, settlement: Settlement) -> Receipt:
        """See ports.Ledger."""
        rules.check_settlement(settlement)
        books, now = self._at(settlement.account)
        charge, hold_id = settlement.charge, settlement.hold_id
        content = (charge.amount, charge.items)
        end = books.ends.get(hold_id)
        if end is not None and end.receipt is not None and end.content == content:
            return end.receipt
        if end is not None and end.how != "expired":
            raise OperationConflict(f"hold {hold_id!r} was {end.how}")

        late = books.holds.pop(hold_id, None) is None
        data = rules.charge_data(settlement) | books.burn(charge.amount) | ({"late": True} if late else {})
        entry = books.write(now, "charge", -charge.amount, hold_id, data)
        key = books.keys.get(settlement.key_id)
        if key is not None:
            spent = books.key(key.id, now).spent + charge.amount
            books.keys[key.id], books.months[key.id] = replace(key, spent=Nanos(spent)), month_of(now)
        books.mark(settlement.resource, hold_id, state="settled", usage=settlement.resource_usage)
        receipt = Receipt(entry_id=entry.id, charged=charge.amount, balance=entry.balance, late=late)
        books.ends[hold_id] = End("settled", content, receipt)
        return receipt

    async def release(self, *, account: str, hold_id: str, resource: ResourceRef | None = None) -> bool:
        """See ports.Ledger."""
        books, _ = self._at(account)
        ended = books.holds.pop(hold_id, None) is not None
        if ended:
            books.ends[hold_id] = End("released")
        books.mark(resource, hold_id, state="released")
        return ended

    async def renew(self, *, account: str, hold_ids: Sequence[str], lease_seconds: int) -> Sequence[str]:
        """See ports.Ledger."""
        books, now = self._at(account)
        for open_ in (books.holds[hold_id] for hold_id in hold_ids if hold_id in books.holds):
            expires_ms = max(open_.hold.expires_ms, now + lease_seconds * 1000)
            open_.hold = replace(open_.hold, expires_ms=expires_ms)
        return [hold_id for hold_id in hold_ids if hold_id not in books.holds]

    async def resource(self, *, account: str, ref: ResourceRef) -> Resource | None:
        """See ports.Ledger."""
        books = self._books.get(account)
        return books.resource(ref, self._clock()) if books else None

    async def owned(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bool]:
        """See ports.Ledger."""
        return [await self.resource(account=account, ref=ref) is not None for ref in refs]

    async def forget(self, *, account: str, ref: ResourceRef) -> None:
        """See ports.Ledger."""
        if account in self._books:
            self._books[account].resources.pop(ref, None)

    # ---- the store's own work

    async def sweep(self, account: str) -> Swept:
        """See ports.Ledger."""
        return self._of(account).end_what_is_over(self._clock())

    async def accounts(self) -> AsyncIterator[str]:
        """See ports.Ledger."""
        for account in list(self._books):
            yield account

    async def ping(self) -> None:
        """See ports.Ledger."""

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
            books.give(now, operation, Grant(id="", kind="signup", amount=signup, remaining=signup), "")
        return books.done(operation, content, books.account())

    async def change_account(
        self, *, operation: str, account: str, plan: Plan | None = None, status: AccountStatus | None = None
    ) -> Account:
        """See ports.Ledger."""
        books, _ = self._at(account)
        content = ("change_account", plan, status)
        first: Account | None = books.seen(operation, content)
        if first is not None:
            return first
        books.plan, books.status = plan or books.plan, status or books.status
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
        return books.done(operation, content, books.give(now, operation, given, note))

    async def put_key(self, *, operation: str, key: Key, digest: str) -> Key:
        """See ports.Ledger."""
        rules.check_key(key)
        if self._digests.get(digest, (key.account, key.id)) != (key.account, key.id):
            raise LedgerRefused(rules.DIGEST_TAKEN)
        books, now = self._at(key.account)
        key = replace(key, spent=ZERO, held=ZERO, created_ms=0)
        content = ("put_key", key, digest)
        first: Key | None = books.seen(operation, content)
        if first is not None:
            return first
        if key.id in books.keys:
            raise LedgerRefused(f"key {key.id!r} exists")
        books.keys[key.id], books.months[key.id] = replace(key, created_ms=now), month_of(now)
        self._digests[digest] = (key.account, key.id)
        return books.done(operation, content, books.key(key.id, now))

    async def change_key(self, *, operation: str, account: str, key_id: str, changes: Mapping[str, Any]) -> Key:
        """See ports.Ledger."""
        checked = rules.check_changes(changes)
        books, now = self._at(account)
        content = ("change_key", key_id, checked)
        first: Key | None = books.seen(operation, content)
        if first is not None:
            return first
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

    async def entries(self, account: str, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        """See ports.Ledger."""
        rules.check_entry_id(after)
        books = self._of(account)
        done = int(after.partition("-")[0]) if after else 0
        return books.entries[done : done + max(limit, 0)]

    async def verify(self, account: str) -> Sequence[Drift]:
        """See ports.Ledger. Everything here is summed on reading; only balance and entries can differ."""
        books = self._of(account)
        entered = sum(entry.amount for entry in books.entries)
        drift = Drift(account=account, what="balance", stored=books.balance, recomputed=entered)
        return [drift] if drift.stored != drift.recomputed else []
