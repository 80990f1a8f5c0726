"""The ledger in memory: what happens on the path of a call.

Owns: the meaning of those verbs.
Does not know: administration.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.admission import judge, waits, window_at
from gateway.core.errors import Code, OperationConflict, Refused
from gateway.core.money import ZERO, Nanos
from gateway.ledger import rules
from gateway.ledger.memory_books import End, Open, counted_as, demand_of, hold_of
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import (
    AdmissionRequest,
    Admitted,
    Identity,
    PlanChanged,
    Receipt,
    Renewal,
    Renewed,
    Resource,
    ResourceRef,
    Settlement,
)


class MemoryCalls(MemoryStore):
    """See ports.Ledger."""

    # ---- the path of a call

    async def identify(self, digest: str) -> Identity | None:
        """See ports.Ledger."""
        return self.known(digest)

    def known(self, digest: str) -> Identity | None:
        """See ports.Ledger."""
        if self._digests_until.get(digest, sys.maxsize) <= self._clock():
            return None
        account, key_id = self._digests.get(digest, ("", ""))
        return Identity(account=account, key_id=key_id, plan=self._books[account].plan) if account else None

    async def admit(self, request: AdmissionRequest) -> Admitted | Refused | PlanChanged:
        """See ports.Ledger."""
        assert request.estimate >= 0 and request.terms.overdraft >= 0, "amounts of an admission are not negative"
        if request.account not in self._books:
            return Refused(code=Code.UNAUTHORIZED)
        books, now = self._at(request.account)
        found = [books.resource(ref, now) for ref in request.resources]
        records = tuple(record for record in found if record is not None)
        first = books.admitted_before(request, now)
        if first is not None:
            return replace(first, resources=records) if len(records) == len(found) else Refused(code=Code.NOT_FOUND)
        if request.key_id in books.keys and request.terms.plan != books.plan:
            return PlanChanged(plan=books.plan)
        windows = [
            window_at(rate, books.rates.get(counted_as(rate, request.key_id)), now) for rate in request.terms.rates
        ]
        standing = books.standing(request, now, windows)
        verdict = judge(demand_of(request), standing)
        if isinstance(verdict, Refused):
            return verdict
        if len(records) < len(found):
            return Refused(code=Code.NOT_FOUND)

        queued = waits(demand_of(request), standing)
        for rate, window in zip(request.terms.rates, windows, strict=True):
            books.rates[counted_as(rate, request.key_id)] = replace(window, count=window.count + 1)
        answer = Admitted(
            hold=verdict,
            available=Nanos(standing.available - verdict),
            rates=tuple(replace(state, remaining=state.remaining - 1) for state in standing.rates),
            resources=records,
            queued=queued,
        )
        if request.terms.metered:
            hold = hold_of(request, verdict, now, queued=queued)
            books.holds[request.hold_id] = Open(hold, request, answer)
        elif request.terms.rates:
            books.passed[request.hold_id] = (now + rules.FREE_CALL_MS, request, answer)
        return answer

    async def accept(
        self,
        *,
        account: str,
        resource: Resource,
        deadline_seconds: int,
        keep_seconds: int,
        look_seconds: float = 0.0,
        call_seconds: int = 0,
    ) -> None:
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
        deadline_ms = now + deadline_seconds * 1000 if resource.hold else 0
        if resource.hold and resource.state == "open":
            books.followed[resource.ref] = now + round(look_seconds * 1000)
        if call_seconds:
            books.made[resource.hold] = (now + call_seconds * 1000, resource.ref)
        until = now + keep_seconds * 1000 if keep_seconds else float("inf")
        books.resources[resource.ref] = (replace(resource, created_ms=now, deadline_ms=deadline_ms), until)

    async def made_by(self, *, account: str, call_id: str) -> ResourceRef | None:
        """See ports.Ledger."""
        if account not in self._books:
            return None
        books, now = self._at(account)
        until, ref = books.made.get(call_id, (0, None))
        return ref if until > now else None

    async def settle(self, settlement: Settlement) -> Receipt:
        """See ports.Ledger."""
        rules.check_settlement(settlement)
        books, now = self._at(settlement.account)
        first = books.charged_before(settlement)
        return books.charge(settlement, now) if first is None else replace(first, repeated=True)

    async def release(self, *, account: str, hold_id: str, resource: ResourceRef | None = None) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        ended = books.close(hold_id, now) is not None
        if ended:
            books.ends[hold_id] = End("released")
        books.mark(resource, hold_id, state="released")
        return ended

    async def extend(self, *, account: str, hold_ids: Sequence[str], lease_seconds: int) -> Sequence[str]:
        """See ports.Ledger."""
        books, now = self._at(account)
        for open_ in (books.holds[hold_id] for hold_id in hold_ids if hold_id in books.holds):
            expires_ms = max(open_.hold.expires_ms, now + lease_seconds * 1000)
            open_.hold = replace(open_.hold, expires_ms=expires_ms)
        return [hold_id for hold_id in hold_ids if hold_id not in books.holds]

    async def renew(self, renewal: Renewal) -> Renewed | PlanChanged:
        """See ports.Ledger."""
        rules.check_renewal(renewal)
        settlement, request = renewal.settlement, renewal.request
        books, now = self._at(settlement.account)
        receipt = books.charged_before(settlement)
        first = books.renewed_before(renewal, now)
        if first is not None:
            return replace(first, receipt=replace(first.receipt, repeated=True))
        if request.key_id in books.keys and request.terms.plan != books.plan:
            return PlanChanged(plan=books.plan)

        used = books.holds.get(settlement.hold_id)
        receipt = books.charge(settlement, now) if receipt is None else replace(receipt, repeated=True)
        demand, standing = demand_of(request), books.standing(request, now, ())
        if used is not None and demand.concurrency and used.hold.concurrency_class == demand.concurrency.name:
            demand = replace(demand, concurrency=None)  # the place passes on
        verdict = judge(demand, standing)
        if isinstance(verdict, Refused):
            answer = Renewed(receipt=receipt, hold=ZERO, available=standing.available, refused=verdict)
        else:
            answer = Renewed(receipt=receipt, hold=verdict, available=Nanos(standing.available - verdict))
            taken = Admitted(hold=answer.hold, available=answer.available)
            books.holds[request.hold_id] = Open(hold_of(request, verdict, now), request, taken)
        books.renewals[settlement.hold_id] = (request, answer)
        return answer

    async def changes(self, accounts: Sequence[str]) -> Sequence[int]:
        """See ports.Ledger."""
        return [len(self._books[account].operations) if account in self._books else 0 for account in accounts]

    async def use_once(self, *, account: str, name: str, by: str, seconds: int) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        user, until = books.used.get(name, (by, 0))
        if until <= now:
            user, until = by, now + seconds * 1000
        books.used[name] = (user, until)
        return user == by

    async def unuse(self, *, account: str, name: str, by: str) -> None:
        """See ports.Ledger."""
        books, _ = self._at(account)
        if books.used.get(name, ("", 0))[0] == by:
            del books.used[name]

    async def used(self, *, account: str, name: str) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        return books.used.get(name, ("", 0))[1] > now

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
