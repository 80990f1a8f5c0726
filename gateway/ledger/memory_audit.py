"""The ledger in memory: the log of what administrators did.

Owns: the meaning of those verbs. Does not know: accounts.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.ledger import rules
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import AuditLine


class MemoryAudit(MemoryStore):
    """See ports.Ledger."""

    async def audit(self, line: AuditLine) -> None:
        """See ports.Ledger."""
        now = self._clock()
        self._audit.append(replace(line, id=f"{now}-{len(self._audit)}", at_ms=now))

    async def audited(self, *, account: str = "", before: str = "", limit: int = 100) -> Sequence[AuditLine]:
        """See ports.Ledger."""
        rules.check_line_id(before)
        place = _order(before)
        lines = (line for line in reversed(self._audit) if not before or _order(line.id) < place)
        return [line for line in lines if not account or line.account == account][: max(limit, 0)]


def _order(line_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in line_id.split("-") if part)
