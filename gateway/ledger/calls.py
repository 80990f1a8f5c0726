"""The ledger on Redis: what happens on the path of a call.

Owns: the arguments and answers of the verbs admit, accept, settle, release, renew; a known key costs no round trip
to identify, and admit and settle are one round trip each.
Does not know: administration.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.core.admission import RateState
from gateway.core.errors import Code, LedgerRefused, Refused
from gateway.core.money import Nanos
from gateway.ledger import records
from gateway.ledger.connection import Part
from gateway.ledger.link import RedisLink
from gateway.ledger.rules import FREE_CALL_MS, SEPARATOR, charge_data, check_settlement
from gateway.ledger.store import WEEK_SECONDS, Lru, Store
from gateway.ports import (
    AdmissionRequest,
    Admitted,
    Identity,
    Observer,
    Plan,
    PlanChanged,
    Receipt,
    Resource,
    ResourceRef,
    Settlement,
)

_FLAG: Final = ("0", "1")


class Calls(Store):
    """See ports.Ledger. `identities_max` bounds the keys, and the accounts, whose identity is remembered here."""

    def __init__(
        self,
        link: RedisLink,
        prefix: str = "gw",
        observer: Observer | None = None,
        *,
        operation_seconds: int = WEEK_SECONDS,
        identities_max: int = 100_000,
    ) -> None:
        super().__init__(link, prefix, observer, operation_seconds=operation_seconds)
        self._ids: Lru[tuple[str, str]] = Lru(identities_max)  # by digest: never changes
        self._plans: Lru[Plan] = Lru(identities_max)  # by account: a hint, which admit corrects

    async def identify(self, digest: str) -> Identity | None:
        """See ports.Ledger. What is not known is not remembered."""
        ids = self._ids.get(digest)
        plan = self._plans.get(ids[0]) if ids else None
        if ids is None or plan is None:
            found: bytes | None = await self._call("GET", self._names.digest(digest))
            if found is None:
                return None
            account, _, key_id = found.decode().partition("|")
            tier, rate_card = await self._call("HMGET", self._names.account(account), "tier", "rate_card")
            if tier is None:
                return None
            ids, plan = (account, key_id), Plan(tier=tier.decode(), rate_card=rate_card.decode())
            self._ids.put(digest, ids)
            self._plans.put(account, plan)
        return Identity(account=ids[0], key_id=ids[1], plan=plan)

    async def admit(self, request: AdmissionRequest) -> Admitted | Refused | PlanChanged:
        """See ports.Ledger. One script, one round trip."""
        assert request.estimate >= 0 and request.overdraft >= 0, "amounts of an admission are not negative"
        account, limit = request.account, request.concurrency
        content = [
            request.plan.tier,
            request.plan.rate_card,
            request.product,
            _FLAG[request.entitled],
            _FLAG[request.metered],
            str(request.estimate),
            str(request.overdraft),
            _FLAG[request.covers_estimate],
            str(request.lease_seconds * 1000),
            request.key_id,
            request.price_version,
            limit.name if limit else "",
            str(limit.limit) if limit else "0",
            str(FREE_CALL_MS),
        ]
        for rate in request.rates:
            content += [rate.name, str(rate.quota), str(rate.window_seconds * 1000)]
        resources = [self._names.resource(account, ref) for ref in request.resources]
        keys = [self._names.end(account, request.hold_id), self._names.key(account, request.key_id), *resources]
        digest = records.digest_of(SEPARATOR.join((*content, *resources)).encode())
        args = [request.hold_id, digest, *content]
        tag, answer = await self._run("admit", account, keys, args)
        if tag == b"plan":
            plan = Plan(tier=answer[0].decode(), rate_card=answer[1].decode())
            self._plans.put(account, plan)
            return PlanChanged(plan=plan)
        if tag == b"refused":
            return self._refused(request, *answer)
        return _admitted(request, *answer)

    def _refused(self, request: AdmissionRequest, word: bytes, retry_after: bytes = b"", rate: bytes = b"") -> Refused:
        code = Code(word.decode())
        details = {}
        if code is Code.UNAUTHORIZED:
            self._plans.drop(request.account)  # the store no longer has what was remembered here
        elif code is Code.TOO_MANY_CONCURRENT and request.concurrency is not None:
            details = {"limit": str(request.concurrency.limit)}
        elif code is Code.RATE_LIMITED:
            details = {"rate": rate.decode()}
        return Refused(code=code, details=details, retry_after_seconds=int(retry_after) if retry_after else None)

    async def accept(self, *, account: str, resource: Resource, deadline_seconds: int, keep_seconds: int) -> None:
        """See ports.Ledger."""
        ref = resource.ref
        if SEPARATOR in ref.kind + ref.id:
            raise LedgerRefused(f"{ref.kind} {ref.id!r}: an id holds no control characters")
        keys = [self._names.end(account, resource.hold), self._names.resource(account, ref)]
        times = (str(deadline_seconds * 1000), str(keep_seconds))
        args: list[Part] = [resource.hold, *times, resource.state, ref.kind, ref.id, *records.resource_fields(resource)]
        await self._run("accept", account, keys, args)

    async def settle(self, settlement: Settlement) -> Receipt:
        """See ports.Ledger. One script, one round trip."""
        check_settlement(settlement)
        account, hold_id, charge = settlement.account, settlement.hold_id, settlement.charge
        keys = [self._names.end(account, hold_id), self._names.key(account, settlement.key_id)]
        usage = b""
        if settlement.resource is not None:
            keys.append(self._names.resource(account, settlement.resource))
            usage = records.json(dict(settlement.resource_usage))
        items = orjson.dumps(charge.items)
        amount = str(charge.amount)
        data = charge_data(settlement, orjson.Fragment(items))
        args: list[Part] = [hold_id, records.digest_of(amount.encode() + items), amount, orjson.dumps(data), usage]
        _, (entry_id, charged, balance, late) = await self._run("settle", account, keys, args)
        return Receipt(
            entry_id=entry_id.decode(), charged=Nanos(int(charged)), balance=Nanos(int(balance)), late=late == b"1"
        )

    async def release(self, *, account: str, hold_id: str, resource: ResourceRef | None = None) -> bool:
        """See ports.Ledger."""
        keys = [self._names.end(account, hold_id)]
        if resource is not None:
            keys.append(self._names.resource(account, resource))
        _, (ended,) = await self._run("release", account, keys, [hold_id, self._token()])
        return bool(ended == b"1")

    async def renew(self, *, account: str, hold_ids: Sequence[str], lease_seconds: int) -> Sequence[str]:
        """See ports.Ledger."""
        _, (gone,) = await self._run("renew", account, [], [str(lease_seconds * 1000), *hold_ids])
        return [hold_id.decode() for hold_id in gone]

    async def resource(self, *, account: str, ref: ResourceRef) -> Resource | None:
        """See ports.Ledger."""
        return records.resource(ref, await self._call("HGETALL", self._names.resource(account, ref)))

    async def owned(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bool]:
        """See ports.Ledger. The commands leave in one write."""
        found = await asyncio.gather(*(self._call("EXISTS", self._names.resource(account, ref)) for ref in refs))
        return [exists == 1 for exists in found]

    async def forget(self, *, account: str, ref: ResourceRef) -> None:
        """See ports.Ledger."""
        await self._call("DEL", self._names.resource(account, ref))


def _admitted(
    request: AdmissionRequest, hold: bytes, balance: bytes, held: bytes, states: bytes, *hashes: list[Any]
) -> Admitted:
    found = zip(request.resources, hashes, strict=True)
    rates: list[RateState] = []
    if states:
        for rate, state in zip(request.rates, states.split(b","), strict=True):
            remaining, reset = state.split(b":")
            rates.append(RateState(rate=rate, remaining=int(remaining), reset_seconds=int(reset)))
    resources = [record for ref, flat in found if (record := records.resource(ref, flat)) is not None]
    return Admitted(
        hold=Nanos(int(hold)),
        available=Nanos(int(balance) - int(held) + request.overdraft),
        rates=tuple(rates),
        resources=tuple(resources),
    )
