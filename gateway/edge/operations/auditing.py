"""Every deed of an administrator has its lines in the audit log, however it was asked for.

Owns: that a line is there before the deed is done, and what came of it after.
Does not know: what is done, how the log is kept (the ledger), who may do it.

What cannot be noted is not done: without the first line there is no deed. Where the second one is missing, the deed was
cut off, or the ledger went away right after it; its operation tells whether it was done.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar
from uuid import uuid4

from gateway.core.errors import LedgerUnavailable
from gateway.edge.operations.problems import code_of
from gateway.edge.operations.views import Data, when
from gateway.ports import AuditLine, Ledger

Found = TypeVar("Found")
_WORD_MAX: Final = 200
_log = logging.getLogger(__name__)


class Auditor:
    """Does what administrators ask for, and notes it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def noted(
        self,
        deed: Callable[[], Awaitable[Found]],
        *,
        actor: str,
        action: str,
        account: str = "",
        operation: str = "",
        about: Mapping[str, str] | None = None,
    ) -> Found:
        """Do the deed between its two lines. Raises what it raises, and LedgerUnavailable if it cannot be noted."""
        line = AuditLine(
            deed=uuid4().hex,
            actor=actor,
            action=action,
            outcome="begun",
            account=account,
            operation=operation,
            about={name: value[:_WORD_MAX] for name, value in (about or {}).items()},
        )
        await self._ledger.audit(line)
        outcome = "done"
        try:
            return await deed()
        except Exception as error:
            outcome = code_of(error)
            raise
        finally:
            try:
                await self._ledger.audit(replace(line, outcome=outcome))
            except LedgerUnavailable:
                _log.warning("what came of an administrator's deed could not be noted: %s", line.deed)

    async def list_lines(self, *, account: str, after: str, limit: int) -> Data:
        """A page of the log, the newest line first."""
        lines = await self._ledger.audited(account=account, before=after, limit=limit + 1)
        page = lines[:limit]
        return {"items": [view_line(line) for line in page], "next": page[-1].id if len(lines) > limit else None}


def view_line(line: AuditLine) -> Data:
    """One line of the audit log."""
    return {
        "id": line.id,
        "deed": line.deed,
        "at": when(line.at_ms),
        "actor": line.actor,
        "action": line.action,
        "account": line.account or None,
        "operation": line.operation or None,
        "about": dict(line.about),
        "outcome": line.outcome,
    }
