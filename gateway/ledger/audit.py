"""The ledger on Redis: the log of what administrators did, one STREAM for all accounts.

Owns: a line's layout. Does not know: scripts; who may read the log.

A line is about a deed in an account's slot and stands in none: so it is written before the deed and after it, and not
in one step with it.
"""

from collections.abc import Sequence
from typing import Final

import orjson

from gateway.ledger import records, rules
from gateway.ledger.store import Store
from gateway.ports import AuditLine

_PAGE: Final = 1000


class Audit(Store):
    """See ports.Ledger."""

    async def audit(self, line: AuditLine) -> None:
        """See ports.Ledger."""
        words = ("v", "1", "deed", line.deed, "actor", line.actor, "action", line.action, "outcome", line.outcome)
        of = ("account", line.account, "operation", line.operation, "about", records.json(dict(line.about)))
        await self._call("XADD", self._names.audit, "MAXLEN", "~", rules.AUDIT_LINES_MAX, "*", *words, *of)

    async def audited(self, *, account: str = "", before: str = "", limit: int = 100) -> Sequence[AuditLine]:
        """See ports.Ledger. For one account the log is read until there are enough lines."""
        rules.check_line_id(before)
        if before and not before.strip("0-"):
            return []  # nothing is before the first id there can be; Redis takes that for a mistake
        found: list[AuditLine] = []
        while len(found) < limit:
            count = _PAGE if account else limit
            end = f"({before}" if before else "+"
            page = await self._call("XREVRANGE", self._names.audit, end, "-", "COUNT", count)
            lines = [_line(*line) for line in page or []]
            found += [line for line in lines if not account or line.account == account]
            if len(lines) < count:
                break
            before = lines[-1].id
        return found[: max(limit, 0)]


def _line(line_id: bytes, flat: Sequence[bytes]) -> AuditLine:
    words = records.pairs(flat)
    if words.pop("v", "") != "1":
        raise records.UnreadableRecord(f"line {line_id.decode()} of the audit log: not a record of version 1")
    about, found = orjson.loads(words.pop("about")), line_id.decode()
    return AuditLine(**words, about=about, id=found, at_ms=int(found.partition("-")[0]))
