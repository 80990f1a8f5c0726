"""The ledger on Redis: the jobs that the gateway follows by itself.

Owns: the arguments and answers of those verbs, and the index of the accounts that have a job to look at.
Does not know: how a job is looked at.

The index is in a slot of its own, so no script can change it together with an account. It is only a helper: what is
followed stands in the account's own slot.
"""

from collections.abc import Sequence

from gateway.ledger import records, rules
from gateway.ledger.store import Store
from gateway.ports import FollowedJob, ResourceRef


class Following(Store):
    """See ports.Ledger."""

    async def claim_jobs(self, *, limit: int, lease_seconds: float) -> Sequence[FollowedJob]:
        """See ports.Ledger. One account after the other, the one that has waited longest first."""
        return await self._visit(
            self._names.followed, limit, lambda account, most: self._claim_jobs(account, most, lease_seconds)
        )

    async def _claim_jobs(self, account: str, limit: int, lease_seconds: float) -> list[FollowedJob]:
        _, (now, look, jobs) = await self._run("claim_jobs", account, [], [str(limit), rules.ms(lease_seconds)])
        await self._noted(self._names.followed, account, look)
        return [records.followed_job(account, now, *job) for job in jobs]

    async def look_later(self, *, account: str, ref: ResourceRef, seconds: float, gone: bool | None = None) -> None:
        """See ports.Ledger."""
        said = "" if gone is None else str(int(gone))
        args = [records.member(ref), rules.ms(seconds), said]
        _, (look,) = await self._run("look_later", account, [self._names.resource(account, ref)], args)
        await self._noted(self._names.followed, account, look)

    async def give_up(self, *, account: str, ref: ResourceRef, hold_id: str) -> bool:
        """See ports.Ledger."""
        keys = [self._names.end(account, hold_id)]
        _, (followed,) = await self._run("give_up", account, keys, [records.member(ref), hold_id])
        return bool(followed == b"1")

    async def jobs(self, account: str, *, limit: int = 1000) -> Sequence[FollowedJob]:
        """See ports.Ledger."""
        _, (now, jobs) = await self._run("jobs", account, [], [str(limit)])
        return [records.followed_job(account, now, *job) for job in jobs]
