"""The ledger in memory: the jobs that the gateway follows by itself.

Owns: the meaning of those verbs.
Does not know: how a job is looked at.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.ledger.memory_books import Books, End
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import FollowedJob, ResourceRef


class MemoryFollowing(MemoryStore):
    """See ports.Ledger."""

    async def claim_jobs(self, *, limit: int, lease_seconds: float) -> Sequence[FollowedJob]:
        """See ports.Ledger."""
        claimed: list[FollowedJob] = []
        for account in self._books:
            books, now = self._at(account)
            open_jobs = {job.record.ref: job for job in _followed(books, now)}
            due = sorted((look, _member(ref), ref) for ref, look in books.followed.items() if look <= now)
            for _, _, ref in due[: limit - len(claimed)]:
                if ref in open_jobs:
                    claimed.append(open_jobs[ref])
                    books.followed[ref] = now + round(lease_seconds * 1000)
                else:
                    del books.followed[ref]  # it was forgotten
        return claimed

    async def look_later(self, *, account: str, ref: ResourceRef, seconds: float, gone: bool | None = None) -> None:
        """See ports.Ledger."""
        books, now = self._at(account)
        if ref not in books.followed or (record := books.resource(ref, now)) is None:
            return
        books.followed[ref] = now + round(seconds * 1000)
        if gone is not None:
            said = replace(record, gone_ms=(record.gone_ms or now) if gone else 0)
            books.resources[ref] = (said, books.resources[ref][1])

    async def give_up(self, *, account: str, ref: ResourceRef, hold_id: str) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        if books.close(hold_id, now) is not None:
            books.ends[hold_id] = End("expired")
        return books.followed.pop(ref, None) is not None

    async def jobs(self, account: str, *, limit: int = 1000) -> Sequence[FollowedJob]:
        """See ports.Ledger."""
        books, now = self._at(account)
        return _followed(books, now)[:limit]


def _followed(books: Books, now: int) -> list[FollowedJob]:
    """The jobs whose records are open, the next one to be looked at first."""
    found = [
        FollowedJob(account=books.id, record=record, look_ms=look_ms, now_ms=now)
        for ref, look_ms in books.followed.items()
        if (record := books.resource(ref, now)) is not None and record.state == "open"
    ]
    return sorted(found, key=lambda job: (job.look_ms, _member(job.record.ref)))


def _member(ref: ResourceRef) -> str:
    return f"{ref.kind}:{ref.id}"
