"""The ledger in memory: jobs that wait for their place at the upstream.

Owns: the meaning of those verbs. Does not know: what is submitted, or how.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.core.errors import OperationConflict
from gateway.core.overrides import NONE, read
from gateway.ledger import rules
from gateway.ledger.memory_books import Books, End
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import QueuedJob, Resource, ResourceRef

QUEUED = ".queued"


class MemoryQueues(MemoryStore):
    """See ports.Ledger."""

    async def enqueue(
        self, *, account: str, resource: Resource, body: bytes, deadline_seconds: int, call_seconds: int = 0
    ) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        existing = books.resource(resource.ref, now)
        if existing is not None:
            if existing.hold != resource.hold:
                raise OperationConflict(f"{resource.ref.kind} {resource.ref.id!r} belongs to another hold")
            return True
        open_ = books.holds.get(resource.hold)
        if open_ is None or not open_.hold.concurrency_class.endswith(QUEUED):
            return False
        if open_.hold.resource is not None:
            raise OperationConflict(f"hold {resource.hold!r} has another job")
        deadline_ms = now + deadline_seconds * 1000
        open_.hold = replace(open_.hold, expires_ms=deadline_ms, resource=resource.ref)
        made = replace(resource, state="queued", created_ms=now, deadline_ms=deadline_ms)
        books.resources[resource.ref] = (made, float("inf"))
        books.bodies[resource.ref] = body
        if call_seconds:
            books.made[resource.hold] = (now + call_seconds * 1000, resource.ref)
        return True

    async def claim_queued(
        self,
        *,
        limit: int,
        lease_seconds: float,
        limits: Mapping[tuple[str, str], int],
        when_negative: Mapping[tuple[str, str], int] | None = None,
    ) -> Sequence[QueuedJob]:
        """See ports.Ledger."""
        claimed: list[QueuedJob] = []
        for account in self._books:
            books, now = self._at(account)
            if books.status != "active":
                continue
            turns = [ref for ref, at in sorted(books.submitting.items(), key=_order) if at <= now]
            turns += self._turns(books, limits, when_negative or {})
            for ref in turns[: limit - len(claimed)]:
                record, _ = books.resources[ref]
                if (open_ := books.holds.get(record.hold)) is not None:
                    name = open_.hold.concurrency_class.removesuffix(QUEUED)
                    open_.hold = replace(open_.hold, concurrency_class=name)
                books.submitting[ref] = now + round(lease_seconds * 1000)
                key = books.keys[record.key_id]
                allowed = not key.disabled and (key.expires_ms is None or key.expires_ms > now)
                body, held = books.bodies[ref], open_ is not None
                claimed.append(QueuedJob(account=account, record=record, body=body, allowed=allowed, held=held))
        return claimed

    def _turns(
        self, books: Books, limits: Mapping[tuple[str, str], int], when_negative: Mapping[tuple[str, str], int]
    ) -> list[ResourceRef]:
        """The jobs whose turn it is, in order, as many as there are places for."""
        turns: list[ResourceRef] = []
        without_credit = books.balance - books.held <= 0
        own = read(books.plan.overrides)
        for name in sorted({hold.concurrency_class.removesuffix(QUEUED) for hold in books.waiting()}):
            named = (name, books.plan.tier)
            places = own.get(f"{name}.concurrency", limits.get(named, NONE))
            most = len(books.holds) if places == NONE else int(places)
            tolerated = own.get(f"{name}.when_negative", when_negative.get(named, rules.WITHOUT_CREDIT))
            least = min(most, int(tolerated))
            taken = sum(open_.hold.concurrency_class == name for open_ in books.holds.values())
            for hold in books.waiting():
                if hold.concurrency_class != name + QUEUED or hold.resource is None:
                    continue
                if taken >= (least if without_credit and not hold.amount else most):
                    break
                taken += 1
                turns.append(hold.resource)
        return turns

    async def submitted(
        self, *, account: str, ref: ResourceRef, hold_id: str, upstream: str, look_seconds: float, endpoint: str = ""
    ) -> None:
        """See ports.Ledger."""
        books, now = self._at(account)
        record, until = books.resources.get(ref, (None, 0.0))
        if record is None or record.state != "queued" or record.hold != hold_id:
            return
        books.resources[ref] = (replace(record, state="open", upstream=upstream, endpoint=endpoint), until)
        books.submitting.pop(ref, None)
        books.bodies.pop(ref, None)
        books.followed[ref] = now + round(look_seconds * 1000)

    async def submit_later(self, *, account: str, ref: ResourceRef, seconds: float) -> None:
        """See ports.Ledger."""
        books, now = self._at(account)
        if ref in books.submitting:
            books.submitting[ref] = now + round(seconds * 1000)

    async def reject(self, *, account: str, ref: ResourceRef, hold_id: str, reason: str) -> None:
        """See ports.Ledger."""
        books, now = self._at(account)
        record, until = books.resources.get(ref, (None, 0.0))
        if record is None or record.state != "queued" or record.hold != hold_id:
            return
        if books.close(hold_id, now) is not None:
            books.ends[hold_id] = End("released")
        books.resources[ref] = (replace(record, state="released", usage={"error": reason}), until)
        books.submitting.pop(ref, None)

    async def queued(self, account: str, *, limit: int = rules.QUEUED_MAX) -> Sequence[ResourceRef]:
        """See ports.Ledger."""
        books, _ = self._at(account)
        submitting = [ref for ref, _ in sorted(books.submitting.items(), key=_order)]
        waiting = sorted(books.waiting(), key=lambda hold: hold.concurrency_class)
        return [*submitting, *(hold.resource for hold in waiting if hold.resource is not None)][:limit]

    async def waiting(self, classes: Sequence[str]) -> Mapping[str, int]:
        """See ports.Ledger."""
        every = [hold.concurrency_class for books in self._books.values() for hold in books.waiting()]
        return {name: every.count(name + QUEUED) for name in classes}

    async def queued_bodies(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bytes | None]:
        """See ports.Ledger."""
        return [self._of(account).bodies.get(ref) for ref in refs]

    async def ids_of_ours(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[str | None]:
        """See ports.Ledger."""
        ours = {
            (ref.kind, record.upstream): ref.id
            for ref, (record, _) in self._of(account).resources.items()
            if record.upstream
        }
        return [ours.get((ref.kind, ref.id)) for ref in refs]


def _order(submitting: tuple[ResourceRef, int]) -> tuple[int, str, str]:
    """By when they are claimed again, then by their names."""
    ref, at_ms = submitting
    return at_ms, ref.kind, ref.id
