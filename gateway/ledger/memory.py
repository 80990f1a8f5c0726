"""The ledger in memory: the executable specification of `ports.Ledger`.

Owns: nothing of its own; it joins the path of a call, jobs, the outbox and administration, as the ledger on Redis does.
What every operation means is there in the plainest form: nothing is counted that can be summed.
Does not know: Redis, money beyond one process. Records of ended holds and operations are kept for ever here.
"""

from gateway.ledger.memory_administration import MemoryAdministration
from gateway.ledger.memory_audit import MemoryAudit
from gateway.ledger.memory_calls import MemoryCalls
from gateway.ledger.memory_exports import MemoryExports
from gateway.ledger.memory_following import MemoryFollowing
from gateway.ledger.memory_named_calls import MemoryNamedCalls
from gateway.ledger.memory_outbox import MemoryDeliveries
from gateway.ledger.memory_payments import MemoryPayments
from gateway.ledger.memory_programmes import MemoryProgrammes
from gateway.ledger.memory_queues import MemoryQueues
from gateway.ledger.memory_refunds import MemoryRefunds
from gateway.ledger.memory_usage import MemoryUsage
from gateway.ledger.memory_watching import MemoryWatching


class MemoryLedger(
    MemoryCalls,
    MemoryNamedCalls,
    MemoryQueues,
    MemoryFollowing,
    MemoryDeliveries,
    MemoryWatching,
    MemoryPayments,
    MemoryProgrammes,
    MemoryUsage,
    MemoryAudit,
    MemoryRefunds,
    MemoryExports,
    MemoryAdministration,
):
    """`ports.Ledger` in the memory of one process. `clock` is the store's, in milliseconds."""

    def __repr__(self) -> str:
        return f"<MemoryLedger accounts={len(self._books)} keys={len(self._digests)}>"
