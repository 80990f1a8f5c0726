"""The ledger on Redis: what happens on the path of a call.

Owns: the arguments and answers of the verbs admit, accept, settle, release, extend, renew, use_once, unuse, used; a
known key costs no round trip to identify, and admit, settle and renew are one round trip each.
Does not know: administration.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.core.admission import Rate, RateState, crowded
from gateway.core.errors import Code, LedgerRefused, LedgerUnavailable, Refused, UnknownAccount
from gateway.core.money import Nanos
from gateway.ledger import records
from gateway.ledger.connection import Packed, Part
from gateway.ledger.entry_data import charge_data, item_data
from gateway.ledger.link import RedisLink
from gateway.ledger.rules import SEPARATOR, check_renewal, check_settlement
from gateway.ledger.store import WEEK_SECONDS, Lru, Store
from gateway.ports import (
    AdmissionRequest,
    AdmissionTerms,
    Admitted,
    Identity,
    Observer,
    Plan,
    PlanChanged,
    Receipt,
    Renewal,
    Renewed,
    Resource,
    ResourceRef,
    Settlement,
)

_FLAG: Final = ("0", "1")
#: Whoever guesses keys makes us ask whether the ledger is still there: not more often than this.
_CONFIRMED_SECONDS: Final = 1.0
#: Plans x products x routes' limits, and what accounts have in place of plans.
_TERMS_MAX: Final = 10_000


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
        self._ids: Lru[Identity] = Lru(identities_max)  # by digest: whose key it is never changes
        self._plans: Lru[Plan] = Lru(identities_max)  # by account: a hint, which admit corrects
        self._terms: dict[int, _Terms] = {}  # by the identity of what it was written from

    async def identify(self, digest: str) -> Identity | None:
        """See ports.Ledger. What is not known is not remembered."""
        if (known := self.known(digest)) is not None:
            return known
        ids: bytes | None = await self._call("GET", self._names.digest(digest))
        if ids is None:
            await self._confirm("identify", within_seconds=_CONFIRMED_SECONDS)
            return None
        account, _, key_id = ids.decode().partition("|")
        found = await self._call("HMGET", self._names.account(account), "tier", "rate_card", "overrides")
        if found[0] is None:  # its key is there: nothing ever deletes an account
            raise LedgerUnavailable("identify: the account of a key is gone")
        identity = Identity(account=account, key_id=key_id, plan=_plan(*found))
        self._ids.put(digest, identity)
        self._plans.put(account, identity.plan)
        return identity

    def known(self, digest: str) -> Identity | None:
        """See ports.Ledger."""
        identity = self._ids.get(digest)
        plan = self._plans.get(identity.account) if identity is not None else None
        if identity is None or plan is None:
            return None
        if identity.plan is not plan:
            identity = replace(identity, plan=plan)
            self._ids.put(digest, identity)
        return identity

    async def admit(self, request: AdmissionRequest) -> Admitted | Refused | PlanChanged:
        """See ports.Ledger. One script, one round trip."""
        assert request.estimate >= 0, "an estimate is not negative"
        account, terms, refs = request.account, self._terms_of(request), request.resources
        keys = [self._names.resource(account, ref) for ref in refs] if refs else ()
        tag, answer = await self._run("admit", account, keys, _asking(request, terms, keys), terms.packed)
        if tag == b"plan":
            return self._plan_changed(account, *answer)
        if tag == b"refused":
            if answer[0] == b"unauthorized":
                await self._confirm("admit")
            return self._refused(request, *answer)
        return _admitted(request, tag, *answer)

    def _terms_of(self, request: AdmissionRequest) -> "_Terms":
        """The terms of a request, written once. They are told by their identity: to compare them costs too much."""
        asked = request.terms
        terms = self._terms.get(id(asked))
        if terms is None:
            assert asked.overdraft >= 0, "an overdraft is not negative"
            if len(self._terms) >= _TERMS_MAX:
                self._terms.clear()
            terms = self._terms[id(asked)] = _Terms(asked)
        return terms

    def _plan_changed(self, account: str, tier: bytes, rate_card: bytes, overrides: bytes) -> PlanChanged:
        plan = _plan(tier, rate_card, overrides)
        self._plans.put(account, plan)
        return PlanChanged(plan=plan)

    def _refused(self, request: AdmissionRequest, word: bytes, *rate: bytes) -> Refused:
        code = Code(word.decode())
        if code is Code.TOO_MANY_CONCURRENT and request.terms.concurrency is not None:
            return crowded(request.terms.concurrency)
        if code is Code.RATE_LIMITED:
            retry_after, name, quota = rate
            details = {"rate": name.decode(), "quota": quota.decode()}
            return Refused(code=code, details=details, retry_after_seconds=int(retry_after))
        if code is Code.UNAUTHORIZED:
            self._plans.drop(request.account)  # the store no longer has what was remembered here
        return Refused(code=code)

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
        ref = resource.ref
        if SEPARATOR in ref.kind + ref.id:
            raise LedgerRefused(f"{ref.kind} {ref.id!r}: an id holds no control characters")
        keys = [self._names.end(account, resource.hold), self._names.resource(account, ref)]
        if call_seconds:
            keys.append(self._names.made(account, resource.hold))
        deadline, look = str(deadline_seconds * 1000), str(round(look_seconds * 1000))
        args: list[Part] = [
            resource.hold, deadline, str(keep_seconds), resource.state, ref.kind, ref.id, look, str(call_seconds)
        ]  # fmt: skip
        _, (look_ms,) = await self._run("accept", account, keys, [*args, *records.resource_fields(resource)])
        await self._noted(self._names.followed, account, look_ms)

    async def made_by(self, *, account: str, call_id: str) -> ResourceRef | None:
        """See ports.Ledger. One command."""
        found: bytes | None = await self._call("GET", self._names.made(account, call_id))
        return None if found is None else records.ref(found)

    async def settle(self, settlement: Settlement) -> Receipt:
        """See ports.Ledger. One script, one round trip."""
        check_settlement(settlement)
        account, ref = settlement.account, settlement.resource
        keys = () if ref is None else (self._names.resource(account, ref),)
        tag, answer = await self._run("settle", account, keys, _charge(settlement))
        return _receipt(*answer, repeated=tag == b"repeated")

    async def release(self, *, account: str, hold_id: str, resource: ResourceRef | None = None) -> bool:
        """See ports.Ledger."""
        keys = [self._names.end(account, hold_id)]
        if resource is not None:
            keys.append(self._names.resource(account, resource))
        _, (ended,) = await self._run("release", account, keys, [hold_id, self._token()])
        return bool(ended == b"1")

    async def extend(self, *, account: str, hold_ids: Sequence[str], lease_seconds: int) -> Sequence[str]:
        """See ports.Ledger."""
        _, (gone,) = await self._run("extend", account, [], [str(lease_seconds * 1000), *hold_ids])
        return [hold_id.decode() for hold_id in gone]

    async def renew(self, renewal: Renewal) -> Renewed | PlanChanged:
        """See ports.Ledger. One script, one round trip."""
        check_renewal(renewal)
        settlement, request = renewal.settlement, renewal.request
        account, terms = request.account, self._terms_of(request)
        ref = settlement.resource
        keys = () if ref is None else (self._names.resource(account, ref),)
        args = [*_asking(request, terms), *terms.args, *_charge(settlement)]
        tag, answer = await self._run("renew", account, keys, args)
        if tag == b"plan":
            return self._plan_changed(account, *answer)
        *receipt, repeated, hold, balance, held, guard = answer
        return Renewed(
            receipt=_receipt(*receipt, repeated=repeated == b"1"),
            hold=Nanos(int(hold)),
            available=Nanos(int(balance) - int(held) + request.terms.overdraft),
            refused=None if guard == b"-" else self._refused(request, guard),
        )

    async def changes(self, accounts: Sequence[str]) -> Sequence[int]:
        """See ports.Ledger. The commands leave in one write."""
        commands = (self._call("HGET", self._names.account(account), "changes") for account in accounts)
        return [int(found or 0) for found in await asyncio.gather(*commands)]

    async def use_once(self, *, account: str, name: str, by: str, seconds: int) -> bool:
        """See ports.Ledger."""
        _, (mine,) = await self._run("use_once", account, [self._names.once(account, name)], [by, str(seconds)])
        return bool(mine == b"1")

    async def unuse(self, *, account: str, name: str, by: str) -> None:
        """See ports.Ledger."""
        await self._run("unuse", account, [self._names.once(account, name)], [by])

    async def used(self, *, account: str, name: str) -> bool:
        """See ports.Ledger. An account that is not there has used nothing, and is told."""
        names = (self._names.once(account, name), self._names.account(account))
        found, there = await asyncio.gather(*(self._call("EXISTS", each) for each in names))
        if not there:
            raise UnknownAccount(f"no account {account!r}")
        return bool(found == 1)

    async def resource(self, *, account: str, ref: ResourceRef) -> Resource | None:
        """See ports.Ledger."""
        return records.resource(ref, await self._call("HGETALL", self._names.resource(account, ref)))

    async def owned(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bool]:
        """See ports.Ledger. The commands leave in one write."""
        found = await asyncio.gather(*(self._call("EXISTS", self._names.resource(account, ref)) for ref in refs))
        return [exists == 1 for exists in found]

    async def forget(self, *, account: str, ref: ResourceRef) -> None:
        """See ports.Ledger. With a job that had waited goes the upstream's id that ours stands for."""
        name = self._names.resource(account, ref)
        if upstream := await self._call("HGET", name, "upstream"):
            theirs = ResourceRef(kind=ref.kind, id=upstream.decode())
            await self._call("HDEL", self._names.ours(account), records.member(theirs))
        await self._call("DEL", name)


class _Terms:
    """`AdmissionTerms` as they are sent: the arguments of guards.lua from the plan on, and rates."""

    __slots__ = ("args", "asked", "digest", "packed")

    def __init__(self, asked: AdmissionTerms) -> None:
        plan, limit = asked.plan, asked.concurrency
        self.asked = asked  # kept, so that its identity stays its own
        self.args = (
            SEPARATOR.join((plan.tier, plan.rate_card, plan.overrides)),
            _FLAG[asked.entitled] + _FLAG[asked.metered] + _FLAG[asked.covers_estimate],
            str(asked.overdraft),
            str(asked.lease_seconds * 1000),
            asked.product + SEPARATOR + asked.price_version,
            f"{limit.limit}:{limit.queued_max}:{limit.when_negative}:{limit.name}" if limit else "",
            SEPARATOR.join((asked.product, *asked.add_ons)),
        )
        rates = [word for rate in asked.rates for word in (rate.name, _quota(rate), str(rate.window_seconds * 1000))]
        self.digest = records.digest(*self.args, *rates)
        self.packed = Packed((*self.args, *rates))


def _asking(request: AdmissionRequest, terms: _Terms, resources: Sequence[str] = ()) -> tuple[str, ...]:
    """The arguments of guards.lua up to the plan. The digest is of all that makes one request another than another."""
    estimate = str(request.estimate)
    content = SEPARATOR.join((terms.digest, estimate, request.key_id, *resources))
    return request.hold_id, records.digest_of(content.encode()), estimate, request.key_id


def _quota(rate: Rate) -> str:
    """A rate's quota, and how it follows its use."""
    scaling = rate.scaling
    if scaling is None:
        return str(rate.quota)
    steps = (rate.quota, scaling.grow_at_percent, scaling.grow_percent, scaling.shrink_below_percent, scaling.quota_max)
    return ":".join(map(str, steps))


def _charge(settlement: Settlement) -> list[Part]:
    """The arguments of a charge: hold, digest, amount, explanation, usage for the job, product, how many calls, key."""
    charge = settlement.charge
    items, amount = orjson.dumps(item_data(charge)), str(charge.amount)
    data = charge_data(settlement, orjson.Fragment(items))
    usage = records.json(dict(settlement.resource_usage)) if settlement.resource is not None else b""
    digest = records.digest_of(amount.encode() + items)
    calls, key_id = _FLAG[settlement.begins_call], settlement.key_id
    return [settlement.hold_id, digest, amount, orjson.dumps(data), usage, settlement.product, calls, key_id]


def _plan(tier: bytes, rate_card: bytes, overrides: bytes | None) -> Plan:
    return Plan(tier=tier.decode(), rate_card=rate_card.decode(), overrides=(overrides or b"").decode())


def _receipt(entry_id: bytes, charged: bytes, balance: bytes, late: bytes, *, repeated: bool = False) -> Receipt:
    return Receipt(
        entry_id=entry_id.decode(),
        charged=Nanos(int(charged)),
        balance=Nanos(int(balance)),
        late=late == b"1",
        repeated=repeated,
    )


def _admitted(
    request: AdmissionRequest, tag: bytes, hold: bytes, balance: bytes, held: bytes, states: bytes, *hashes: list[Any]
) -> Admitted:
    rates: list[RateState] = []
    if states:
        for rate, state in zip(request.terms.rates, states.split(b","), strict=True):
            remaining, reset, *quota = state.split(b":")
            in_force = replace(rate, quota=int(quota[0])) if quota else rate
            rates.append(RateState(rate=in_force, remaining=int(remaining), reset_seconds=int(reset)))
    resources: list[Resource] = []
    if hashes:
        found = zip(request.resources, hashes, strict=True)
        resources = [record for ref, flat in found if (record := records.resource(ref, flat)) is not None]
    return Admitted(
        hold=Nanos(int(hold)),
        available=Nanos(int(balance) - int(held) + request.terms.overdraft),
        rates=tuple(rates),
        resources=tuple(resources),
        queued=tag == b"queued",
    )
