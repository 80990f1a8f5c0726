"""The ledger in memory: calls that their clients named.

Owns: the meaning of those verbs.
Does not know: what a name or an answer is made of.
"""

from dataclasses import replace
from typing import Final, Literal

from gateway.core.errors import OperationConflict
from gateway.ledger.memory_books import Books, Name
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import NamedCall, Naming

_RUNNING: Final = Naming(state="running")
#: So long after a charge its answer may still be on its way here.
_KEEPING_MS: Final = 5000


class MemoryNamedCalls(MemoryStore):
    """See ports.Ledger."""

    async def name_call(self, named: NamedCall) -> Naming:
        """See ports.Ledger."""
        books, now = self._at(named.account)
        first, state = _standing(books, named.name, now)
        if first is not None and first.hold_id == named.hold_id:
            if first.content != named.content:
                raise OperationConflict(f"hold {named.hold_id!r} has this name for something else")
            return Naming(state="taken")
        if first is not None and state is not None:
            if first.content != named.content:
                return Naming(state="other")
            if state == "running" or (first.answer is None and _keeps(books, first, now)):
                return _RUNNING
            return Naming(state="done", hold_id=first.hold_id, answer=first.answer or None)
        ends = sorted(name.until for name in books.names.values() if name.until > now)
        if first is None and len(ends) >= named.names_max:
            return Naming(state="full", retry_after_seconds=-((now - ends[0]) // 1000))
        lease_until, until = now + named.lease_seconds * 1000, now + named.keep_seconds * 1000
        books.names[named.name] = Name(named.hold_id, named.content, lease_until, until)
        return Naming(state="taken")

    async def has_name(self, *, account: str, name: str) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        return name in books.names and books.names[name].until > now

    async def keep_answer(self, *, account: str, name: str, hold_id: str, answer: bytes, bytes_max: int) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        found, _ = _standing(books, name, now)
        if found is None or found.hold_id != hold_id:
            return False
        if not found.answer:
            size = sum(len(other.answer or b"") for other in books.names.values() if other.until > now)
            if size + len(answer) > bytes_max:
                answer = b""
            found = books.names[name] = replace(found, answer=answer)
        return bool(found.answer)

    async def free_name(self, *, account: str, name: str, hold_id: str) -> None:
        """See ports.Ledger."""
        books, now = self._at(account)
        found, state = _standing(books, name, now)
        waits = hold_id not in books.holds and state == "running"  # for a hold that it will not take
        if found is not None and found.hold_id == hold_id and (state is None or waits):
            del books.names[name]


def _standing(books: Books, name: str, now: int) -> tuple[Name | None, Literal["running", "done"] | None]:
    """A name that is kept, and how the call that took it stands; None where that came to nothing."""
    found = books.names.get(name)
    if found is None or found.until <= now:
        return None, None
    open_, end = books.holds.get(found.hold_id), books.ends.get(found.hold_id)
    if found.answer is not None or (end is not None and end.how == "settled") or (open_ and open_.hold.resource):
        return found, "done"
    waits = found.lease_until > now and not books.is_in_use(found.hold_id, now)
    return found, "running" if open_ is not None or waits else None


def _keeps(books: Books, name: Name, now: int) -> bool:
    """Whether the answer of a call that is done may be about to be kept."""
    end = books.ends.get(name.hold_id)
    return name.lease_until > now if end is None else now - end.at_ms < _KEEPING_MS
