"""The ledger on Redis (7.0 or later) or Valkey, alone or in a cluster.

Owns: nothing of its own; it joins the path of a call, jobs, the outbox and administration, which share one door.
Does not know: HTTP, products, prices. Each verb is one Lua script of the same name in `scripts/`.
"""

from gateway.ledger.audit import Audit
from gateway.ledger.calls import Calls
from gateway.ledger.exports import Exports
from gateway.ledger.following import Following
from gateway.ledger.named_calls import NamedCalls
from gateway.ledger.outbox import Deliveries
from gateway.ledger.payments import Payments
from gateway.ledger.programmes import Programmes
from gateway.ledger.queues import Queues
from gateway.ledger.refunds import Refunds
from gateway.ledger.repairing import Repairing
from gateway.ledger.restoring import Restoring
from gateway.ledger.usage import Usage
from gateway.ledger.watching import Watching


class RedisLedger(
    Calls,
    NamedCalls,
    Queues,
    Following,
    Deliveries,
    Watching,
    Payments,
    Programmes,
    Usage,
    Audit,
    Refunds,
    Exports,
    Restoring,
    Repairing,
):
    """`ports.Ledger` on Redis. `link` is opened and closed by its owner; its faults are LedgerUnavailable here."""

    def __repr__(self) -> str:
        return f"<RedisLedger {self._names.prefix} identities={len(self._ids)} plans={len(self._plans)} {self._link!r}>"
