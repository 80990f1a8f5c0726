"""The ledger on Redis: the jobs that the gateway follows by itself.

Owns: the arguments and answers of those verbs, and the index of the accounts that have a job to look at.
Does not know: how a job is looked at.

The index is in a slot of its own, so no script can change it together with an account. It is only a helper: what is
followed stands in the account's own slot. A visitor takes an account out of the index before it asks the account, and
puts it back by the earliest look that is left; whoever accepts a job meanwhile puts the account there as well, and the
earlier time stays. An account that a killed visitor had taken out comes back with its next sweep.
"""

from collections.abc import Sequence

from gateway.core.errors import UnknownAccount
from gateway.ledger import records
from gateway.ledger.store import Store
from gateway.ports import FollowedJob, ResourceRef


class Following(Store):
    """See ports.Ledger."""

    async def claim_jobs(self, *, limit: int, lease_seconds: float) -> Sequence[FollowedJob]:
        """See ports.Ledger. One account after the other, the one that has waited longest first."""
        seconds, micros = await self._call("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        index = self._names.followed
        claimed: list[FollowedJob] = []
        due = await self._call("ZRANGE", index, "-inf", now, "BYSCORE", "LIMIT", 0, limit)
        for account in due:
            if len(claimed) >= limit:
                break
            if await self._call("ZREM", index, account):  # else another visitor has it
                claimed += await self._claim(account.decode(), limit - len(claimed), lease_seconds)
        return claimed

    async def _claim(self, account: str, limit: int, lease_seconds: float) -> list[FollowedJob]:
        try:
            _, (now, look, jobs) = await self._run("claim_jobs", account, [], [str(limit), _ms(lease_seconds)])
        except UnknownAccount:
            return []
        await self._followed(account, look)
        return [records.followed_job(account, now, *job) for job in jobs]

    async def look_later(self, *, account: str, ref: ResourceRef, seconds: float, gone: bool | None = None) -> None:
        """See ports.Ledger."""
        said = "" if gone is None else str(int(gone))
        args = [records.member(ref), _ms(seconds), said]
        _, (look,) = await self._run("look_later", account, [self._names.resource(account, ref)], args)
        await self._followed(account, look)

    async def give_up(self, *, account: str, ref: ResourceRef, hold_id: str) -> bool:
        """See ports.Ledger."""
        keys = [self._names.end(account, hold_id)]
        _, (followed,) = await self._run("give_up", account, keys, [records.member(ref), hold_id])
        return bool(followed == b"1")

    async def jobs(self, account: str, *, limit: int = 1000) -> Sequence[FollowedJob]:
        """See ports.Ledger."""
        _, (now, jobs) = await self._run("jobs", account, [], [str(limit)])
        return [records.followed_job(account, now, *job) for job in jobs]


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))
