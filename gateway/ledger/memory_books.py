"""The books of one account in memory: the part of the executable specification that moves money.

Owns: what a balance is, debt, what ends when its time is over. Nothing is counted that can be summed.
Does not know: guards (core.admission), or that there are other accounts.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from gateway.core.admission import KEY_RATE, Demand, Rate, RateState, Standing, Window
from gateway.core.autopay import Autopay
from gateway.core.commitments import Commitment
from gateway.core.errors import OperationConflict
from gateway.core.money import ZERO, Nanos
from gateway.core.months import month_of
from gateway.ledger.entry_data import charge_data
from gateway.ledger.memory_grants import Grants
from gateway.ledger.memory_posts import Posts
from gateway.ledger.memory_watches import Scene, Watches
from gateway.ledger.rules import grant_id
from gateway.ports import (
    Account,
    AccountStatus,
    AdmissionRequest,
    Admitted,
    Entry,
    Grant,
    Hold,
    Key,
    Monthly,
    Plan,
    Receipt,
    Renewal,
    Renewed,
    Resource,
    ResourceRef,
    Settlement,
    Swept,
)

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Open:
    """An open hold, the request it was made for, and the first answer."""

    hold: Hold
    request: AdmissionRequest
    answer: Admitted


@dataclass(frozen=True, slots=True)
class End:
    """How a hold ended: settled (with what), released or expired."""

    how: Literal["settled", "released", "expired"]
    content: object = None
    receipt: Receipt | None = None
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Name:
    """A client's name for a call: whose it is, until when without a hold, until when it is kept, and the answer."""

    hold_id: str
    content: str
    lease_until: int
    until: int
    answer: bytes | None = None


@dataclass(slots=True)
class Paid:
    """A payment: what was credited, what each source says that it takes back (and if finally), what was taken."""

    amount: int = 0
    sources: dict[str, tuple[int, bool]] = field(default_factory=dict)
    taken: int = 0
    moves: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the entry that takes it back


@dataclass(slots=True)
class Books:
    """Everything of one account."""

    id: str
    plan: Plan
    created_ms: int
    status: AccountStatus = "active"
    debt: int = 0
    grants: Grants = field(default_factory=Grants)
    grants_made: int = 0
    commitment: Commitment = field(default_factory=Commitment)
    granted: str = ""  # the last month that had a monthly grant
    holds: dict[str, Open] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)
    passed: dict[str, tuple[int, AdmissionRequest, Admitted]] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    months: dict[str, str] = field(default_factory=dict)  # the month that a key's `spent` is of
    rates: dict[tuple[str, str], Window] = field(default_factory=dict)  # the last window that was counted in
    resources: dict[ResourceRef, tuple[Resource, float]] = field(default_factory=dict)  # and until when
    bodies: dict[ResourceRef, bytes] = field(default_factory=dict)  # what is kept of the requests of jobs that wait
    submitting: dict[ResourceRef, int] = field(default_factory=dict)  # jobs that have their place: when to claim again
    followed: dict[ResourceRef, int] = field(default_factory=dict)  # when to look at an open job next
    made: dict[str, tuple[int, ResourceRef]] = field(default_factory=dict)  # by call: until when it is known, what
    renewals: dict[str, tuple[AdmissionRequest, Renewed]] = field(default_factory=dict)  # by the used hold's id
    used: dict[str, tuple[str, int]] = field(default_factory=dict)  # who used a name first, until when it is remembered
    names: dict[str, Name] = field(default_factory=dict)
    volumes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by month and SKU
    taken: dict[str, tuple[dict[str, int], dict[str, int]]] = field(default_factory=dict)  # by hold: volumes, answer
    posts: Posts = field(default_factory=Posts)
    watches: Watches = field(default_factory=Watches)
    autopay: Autopay = field(default_factory=Autopay)
    payments: dict[tuple[str, str], Paid] = field(default_factory=dict)  # by provider and its id
    operations: dict[str, tuple[object, object]] = field(default_factory=dict)  # content, first answer
    entries: list[Entry] = field(default_factory=list)
    trimmed: int = 0  # so many entries, the oldest, are not told any more
    exported: dict[str, tuple[int, int]] = field(default_factory=dict)  # by sink: entries and changes that it has had

    @property
    def balance(self) -> int:
        return self.grants.remaining - self.debt

    @property
    def held(self) -> int:
        return sum(open_.hold.amount for open_ in self.holds.values())

    def key(self, key_id: str, now: int) -> Key:
        """The key as it stands: the month's spending, its open holds."""
        key = self.keys[key_id]
        held = sum(open_.hold.amount for open_ in self.holds.values() if open_.hold.key_id == key_id)
        spent = key.spent if self.months[key_id] == month_of(now) else ZERO
        return replace(key, spent=spent, held=Nanos(held))

    def resource(self, ref: ResourceRef, now: int) -> Resource | None:
        """The account's record, for as long as it is kept."""
        record, until = self.resources.get(ref, (None, 0))
        return record if until > now else None

    def waiting(self) -> list[Hold]:
        """The holds of jobs that wait for their place, first in, first out."""
        holds = (open_.hold for open_ in self.holds.values())
        queued = [hold for hold in holds if hold.resource is not None and hold.concurrency_class.endswith(".queued")]
        return sorted(queued, key=lambda hold: (hold.created_ms, hold.resource and hold.resource.id))

    def standing(self, request: AdmissionRequest, now: int, windows: Sequence[Window]) -> Standing:
        """The live facts that the guards look at."""
        key = self.key(request.key_id, now) if request.key_id in self.keys else None
        name = request.terms.concurrency.name if request.terms.concurrency else ""
        budget = None if key is None else key.monthly_budget
        return Standing(
            key_known=key is not None,
            key_enabled=key is not None and not key.disabled and (key.expires_ms is None or key.expires_ms > now),
            key_products=None if key is None or key.products is None else frozenset(key.products),
            account_active=self.status == "active",
            available=Nanos(self.balance - self.held + request.terms.overdraft),
            budget_left=None if key is None or budget is None else Nanos(budget - key.spent - key.held),
            rates=[
                RateState(
                    rate=replace(rate, quota=window.quota),
                    remaining=window.quota - window.count,
                    reset_seconds=-((now - window.start_ms) // 1000 - rate.window_seconds),
                )
                for rate, window in zip(request.terms.rates, windows, strict=True)
            ],
            open_holds=sum(open_.hold.concurrency_class == name for open_ in self.holds.values()),
            queued=sum(open_.hold.concurrency_class == f"{name}.queued" for open_ in self.holds.values()),
        )

    def admitted_before(self, request: AdmissionRequest, now: int) -> Admitted | None:
        """The first answer to this request, if its hold is open; None if it is new."""
        open_ = self.holds.get(request.hold_id)
        until, passed, answer = self.passed.get(request.hold_id, (0, None, None))
        if open_ is not None:
            passed, answer = open_.request, open_.answer
        elif request.hold_id in self.ends:
            raise OperationConflict(f"hold {request.hold_id!r} has ended")
        elif until <= now:
            return None
        if passed != request:
            raise OperationConflict(f"hold {request.hold_id!r} was taken for another request")
        return answer

    def charged_before(self, settlement: Settlement) -> Receipt | None:
        """The first receipt of this very charge; None if it may be made now."""
        end = self.ends.get(settlement.hold_id)
        if end is not None and end.receipt is not None and end.content == content_of(settlement):
            return end.receipt
        if end is not None and end.how != "expired":
            raise OperationConflict(f"hold {settlement.hold_id!r} was {end.how}")
        return None

    def charge(self, settlement: Settlement, now: int) -> Receipt:
        """End the hold by its charge."""
        charge, hold_id = settlement.charge, settlement.hold_id
        paid = self.close(hold_id, now, charge.amount)
        late = paid is None
        data = charge_data(settlement) | self.burn(charge.amount, paid or {}) | ({"late": True} if late else {})
        entry = self.write(now, "charge", -charge.amount, hold_id, data)
        self.count(settlement.key_id, charge.amount, now)
        self.watch_charge(now, entry, settlement.key_id)
        self.mark(settlement.resource, hold_id, state="settled", usage=settlement.resource_usage)
        receipt = Receipt(entry_id=entry.id, charged=charge.amount, balance=entry.balance, late=late)
        self.ends[hold_id] = End("settled", content_of(settlement), receipt, now)
        return receipt

    def count(self, key_id: str, amount: int, now: int) -> None:
        """Count an amount in what a key has spent this month, which is never less than nothing."""
        if key_id in self.keys:
            spent = max(0, self.key(key_id, now).spent + amount)
            self.keys[key_id], self.months[key_id] = replace(self.keys[key_id], spent=Nanos(spent)), month_of(now)

    def look(self, now: int, **facts: Any) -> None:
        """Look at every watch after something happened: the facts of a Scene."""
        grants = {grant.id: grant for grant in self.grants}
        self.watches.look(Scene(account=self.id, now=now, balance=self.balance, grants=grants, **facts), self.posts)

    def watch_charge(self, now: int, entry: Entry, key_id: str = "") -> None:
        """Look at the watches after a charge, or a correction that charged more: that was spent."""
        self.watches.count(now, -entry.amount)
        self.look(now, moved=entry.data["grants"], key=self.key(key_id, now) if key_id in self.keys else None)

    def renewed_before(self, renewal: Renewal, now: int) -> Renewed | None:
        """The first answer to this very renewal; None if it may be made now."""
        request = renewal.request
        first, answer = self.renewals.get(renewal.settlement.hold_id, (None, None))
        if first is not None and first != request:
            raise OperationConflict(f"hold {renewal.settlement.hold_id!r} was renewed otherwise")
        if first is None and self.is_in_use(request.hold_id, now):
            raise OperationConflict(f"hold {request.hold_id!r} is in use or has ended")
        return answer

    def is_in_use(self, hold_id: str, now: int) -> bool:
        """Whether a call has, or had, this id."""
        return hold_id in self.holds or hold_id in self.ends or self.passed.get(hold_id, (0,))[0] > now

    def close(self, hold_id: str, now: int, charge: int = 0) -> dict[str, int] | None:
        """Take a hold out; what grants that are over pay of its charge. None if it was not open.

        A job that waits with it is claimed next, to tell its client.
        """
        open_ = self.holds.pop(hold_id, None)
        if open_ is None:
            return None
        if open_.hold.concurrency_class.endswith(".queued") and open_.hold.resource is not None:
            self.submitting[open_.hold.resource] = now
        paid, expired = self.grants.let_go(open_.hold, charge)
        for name, amount in expired.items():
            self.expire(now, name, amount)
        if expired:
            self.look(now)
        return paid

    def mark(self, ref: ResourceRef | None, hold_id: str, **changes: Any) -> None:
        """Move a job's record on with its hold; a record that is settled or released stays."""
        if ref in self.resources:
            record, until = self.resources[ref]
            if record.hold == hold_id and record.state in ("open", "queued"):
                self.resources[ref] = (replace(record, **changes), until)
                self.followed.pop(ref, None)
                self.submitting.pop(ref, None)
                self.bodies.pop(ref, None)

    def account(self) -> Account:
        """The account as it stands."""
        return Account(
            id=self.id,
            plan=self.plan,
            status=self.status,
            balance=Nanos(self.balance),
            held=Nanos(self.held),
            debt=Nanos(self.debt),
            open_holds=len(self.holds),
            created_ms=self.created_ms,
            grants=tuple(self.grants),
        )

    def end_what_is_over(self, now: int) -> Swept:
        """Expire holds and grants whose time has come, one after the other as it came."""
        holds = {f"h:{open_.hold.id}": open_.hold for open_ in self.holds.values() if open_.hold.expires_ms <= now}
        grants = {f"g:{grant.id}": grant for grant in self.grants if (grant.expires_ms or sys.maxsize) <= now}
        times = {name: over.expires_ms or 0 for name, over in (holds | grants).items()}
        taken_of = 0
        for name in sorted(times, key=lambda name: (times[name], name)):
            if name in holds:
                self.close(holds[name].id, now)
                self.ends[holds[name].id] = End("expired")
                continue
            taken = self.grants.lapse(grants[name], self.held)
            if taken:
                self.expire(now, grants[name].id, taken)
                taken_of += 1
        if taken_of:
            self.look(now)
        monthly = Monthly(plan=self.plan, now=month_of(now), granted=self.granted, closing=self.commitment.closing)
        held = Nanos(sum(hold.amount for hold in holds.values()))
        return Swept(holds=len(holds), held=held, grants=taken_of, monthly=monthly)

    def expire(
        self, now: int, name: str, amount: int, operation: str = "", facts: Mapping[str, Any] = MappingProxyType({})
    ) -> Entry:
        """Take an amount off a grant that is over; without an operation it is one of its own."""
        left = self.grants.take(name, amount)
        operation = operation or f"expiry:{name}" + (f":{left}" if left else "")
        return self.write(now, "grant_expiry", -amount, operation, {**facts, "grants": {name: amount}})

    def burn(self, amount: int, paid: Mapping[str, int] = MappingProxyType({})) -> dict[str, Any]:
        """Take an amount from the grants, of which some pay a part of it; the rest becomes debt. What was moved."""
        burnt = self.grants.pay(paid)
        burnt |= self.grants.burn(amount - sum(burnt.values()))
        owed = amount - sum(burnt.values())
        self.debt += owed
        return {"grants": burnt} | ({"debt": owed} if owed else {})

    def give(
        self,
        now: int,
        operation: str,
        given: Grant,
        facts: Mapping[str, Any],
        why: str = "grant",
        *,
        back: bool = False,
    ) -> tuple[Grant, Entry]:
        """Add a grant by an entry of kind `why`: debt first, the rest remains. `back`: it had been spent."""
        self.grants_made += 1
        paid = min(self.debt, given.amount)
        self.debt -= paid
        remaining = Nanos(given.amount - paid)
        grant = replace(given, id=grant_id(self.grants_made), remaining=remaining, created_ms=now)
        self.grants.put(grant)
        moved = {"grants": {grant.id: grant.amount}} | ({"debt": -paid} if paid else {})
        entry = self.write(now, why, grant.amount, operation, {**facts, **moved})
        if grant.kind == "purchase":
            self.watches.topped_up = grant.amount
        if back:
            self.watches.count(now, -grant.amount)
        self.look(now, given=grant.kind)
        return grant, entry

    def seen(self, operation: str, content: object) -> Any:
        """The first answer of an operation that was done before; None if it is new."""
        done = self.operations.get(operation)
        if done is not None and done[0] != content:
            raise OperationConflict(f"operation {operation!r} was used before with other content")
        return done[1] if done else None

    def done(self, operation: str, content: object, answer: Answer) -> Answer:
        """Remember the answer under the operation, and give it."""
        self.operations[operation] = (content, answer)
        return answer

    def write(self, now: int, kind: str, amount: int, operation: str, data: Mapping[str, Any]) -> Entry:
        """Add one immutable line."""
        entry = Entry(
            id=f"{len(self.entries) + 1}-0",
            kind=kind,
            amount=Nanos(amount),
            balance=Nanos(self.balance),
            operation=operation,
            at_ms=now,
            data=data,
        )
        self.entries.append(entry)
        return entry


def content_of(settlement: Settlement) -> object:
    """What tells two charges of one hold apart."""
    return settlement.charge.amount, settlement.charge.items


def counted_as(rate: Rate, key_id: str) -> tuple[str, str]:
    """Whose window of a rate a request is counted in: the account's, or that of its key."""
    return rate.name, key_id if rate.name == KEY_RATE else ""


def demand_of(request: AdmissionRequest) -> Demand:
    """What the request asks of the guards."""
    return Demand(
        product=request.terms.product,
        entitled=request.terms.entitled,
        metered=request.terms.metered,
        estimate=request.estimate,
        add_ons=request.terms.add_ons,
        covers_estimate=request.terms.covers_estimate,
        concurrency=request.terms.concurrency,
    )


def hold_of(request: AdmissionRequest, amount: Nanos, now: int, *, queued: bool = False) -> Hold:
    """The hold that the request takes."""
    name = request.terms.concurrency.name if request.terms.concurrency else ""
    return Hold(
        id=request.hold_id,
        account=request.account,
        amount=amount,
        product=request.terms.product,
        key_id=request.key_id,
        price_version=request.terms.price_version,
        concurrency_class=f"{name}.queued" if queued else name,
        created_ms=now,
        expires_ms=now + request.terms.lease_seconds * 1000,
    )
