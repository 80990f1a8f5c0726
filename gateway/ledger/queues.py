"""The ledger on Redis: jobs that wait for their place at the upstream.

Owns: the arguments and answers of those verbs, and the index of the accounts that have a queue to look at.
Does not know: what is submitted, or how.

Like the index of jobs that are followed, this one is a helper: what waits stands in the account's own slot.
"""

import asyncio
from collections.abc import Mapping, Sequence

from gateway.ledger import records, rules
from gateway.ledger.connection import Part
from gateway.ledger.store import Store
from gateway.ports import QueuedJob, Resource, ResourceRef


class Queues(Store):
    """See ports.Ledger."""

    async def enqueue(
        self, *, account: str, resource: Resource, body: bytes, deadline_seconds: int, call_seconds: int = 0
    ) -> bool:
        """See ports.Ledger."""
        ref = resource.ref
        keys = [self._names.resource(account, ref), self._names.body(account, ref)]
        if call_seconds:
            keys.append(self._names.made(account, resource.hold))
        args: list[Part] = [resource.hold, str(deadline_seconds * 1000), records.member(ref), body, str(call_seconds)]
        tag, _ = await self._run("enqueue", account, keys, [*args, *records.resource_fields(resource)])
        if tag == b"queued":
            await self._call("ZADD", self._names.queues, "LT", 0, account)
        return tag == b"queued"

    async def claim_queued(
        self,
        *,
        limit: int,
        lease_seconds: float,
        limits: Mapping[tuple[str, str], int],
        when_negative: Mapping[tuple[str, str], int] | None = None,
    ) -> Sequence[QueuedJob]:
        """See ports.Ledger. One account after the other, the one that has waited longest first."""
        without_credit = when_negative or {}
        places = [
            str(word)
            for (name, tier), most in limits.items()
            for word in (name, tier, most, without_credit.get((name, tier), rules.WITHOUT_CREDIT))
        ]

        async def claim(account: str, most: int) -> list[QueuedJob]:
            args = [str(most), rules.ms(lease_seconds), *places]
            _, (look, jobs) = await self._run("claim_queued", account, [], args)
            await self._noted(self._names.queues, account, look)
            return [records.queued_job(account, job) for job in jobs]

        return await self._visit(self._names.queues, limit, claim)

    async def submitted(
        self, *, account: str, ref: ResourceRef, hold_id: str, upstream: str, look_seconds: float, endpoint: str = ""
    ) -> None:
        """See ports.Ledger."""
        keys = [self._names.resource(account, ref), self._names.ours(account)]
        args: list[Part] = [hold_id, records.member(ref), ref.kind, upstream, rules.ms(look_seconds), endpoint]
        _, (look,) = await self._run("submitted", account, keys, args)
        await self._noted(self._names.followed, account, look)

    async def submit_later(self, *, account: str, ref: ResourceRef, seconds: float) -> None:
        """See ports.Ledger."""
        _, (look,) = await self._run("submit_later", account, [], [records.member(ref), rules.ms(seconds)])
        await self._noted(self._names.queues, account, look)

    async def reject(self, *, account: str, ref: ResourceRef, hold_id: str, reason: str) -> None:
        """See ports.Ledger."""
        keys = [self._names.end(account, hold_id), self._names.resource(account, ref)]
        args: list[Part] = [hold_id, records.member(ref), self._token(), records.json({"error": reason})]
        await self._run("reject", account, keys, args)

    async def queued(self, account: str, *, limit: int = rules.QUEUED_MAX) -> Sequence[ResourceRef]:
        """See ports.Ledger."""
        _, (members,) = await self._run("queued", account, [], [str(limit)])
        return [records.ref(member) for member in members]

    async def waiting(self, classes: Sequence[str]) -> Mapping[str, int]:
        """See ports.Ledger. By what the accounts count themselves, all of them asked in one write."""
        accounts = await self._call("ZRANGE", self._names.queues, 0, rules.QUEUES_MAX - 1)
        fields = [f"open.{name}.queued" for name in classes]
        counted = await asyncio.gather(
            *(self._call("HMGET", self._names.account(account.decode()), *fields) for account in accounts if fields)
        )
        return {name: sum(int(of[i] or 0) for of in counted) for i, name in enumerate(classes)}

    async def queued_bodies(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[bytes | None]:
        """See ports.Ledger. The commands leave in one write."""
        return list(await asyncio.gather(*(self._call("GET", self._names.body(account, ref)) for ref in refs)))

    async def ids_of_ours(self, *, account: str, refs: Sequence[ResourceRef]) -> Sequence[str | None]:
        """See ports.Ledger."""
        if not refs:
            return []
        found = await self._call("HMGET", self._names.ours(account), *map(records.member, refs))
        return [None if name is None else name.decode() for name in found]
