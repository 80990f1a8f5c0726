"""Watches whether the ledger's Redis is fit to hold money, and tells ops once when that changes.

Owns: when it is asked, that a gateway does not start on one that is not, the gauge.
Does not know: what makes it fit (ledger/condition).
"""

from typing import Final

from gateway.core.errors import LedgerUnavailable
from gateway.edge.observing import Observing
from gateway.ledger.epoch import REFUSED, Memory
from gateway.ledger.redis import RedisLedger

LOOK_SECONDS: Final = 5.0


class UnfitLedger(Exception):
    """Redis would lose money, or is not the ledger that this machine knew. The message says what to do."""


class Fitness:
    """What was last found, and was told."""

    def __init__(self, ledger: RedisLedger, memory: Memory, observing: Observing) -> None:
        self._memory = memory
        self._ledger = ledger
        self._observing = observing
        self._told: frozenset[tuple[str, str]] = frozenset()

    async def start(self) -> None:
        """Look for the first time. A Redis with a fault is UnfitLedger; one that is away may yet come."""
        faults = await self._look()
        if faults:
            raise UnfitLedger("; ".join(faults))

    async def look(self) -> None:
        """Look, and tell what has changed."""
        await self._look()

    async def _look(self) -> list[str]:
        try:
            condition = await self._ledger.condition(self._memory)
            if not condition.faults:
                await self._ledger.complete(self._memory, condition)
        except LedgerUnavailable as error:
            text = str(error)
            found = frozenset({("away", text)})
            faults = [text] if REFUSED in text else []
        else:
            found = frozenset((finding.level, finding.text) for finding in condition.findings)
            faults = [finding.text for finding in condition.faults]
        for level, text in sorted(found - self._told):
            self._observing.all.event("ledger_condition", level=level, reason=text)
        if self._told and not found:
            self._observing.logs.info("ledger_fit")
        self._told = found
        self._observing.metrics.gauges["gateway_ledger_faults"] = len(faults)
        return faults
