"""What ops may do with deliveries, once, for the admin API and for the command line.

Owns: what is shown of a delivery: nothing of its payload but where it goes and harmless words.
Does not know: HTTP, the command line, what is delivered.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.core.errors import LedgerRefused
from gateway.edge.operations.views import Data, when
from gateway.ports import Delivery, Ledger

#: Fields of payloads that hold no secret; of every other one only the name is shown.
_SHOWN: Final = frozenset(
    {"kind", "watch", "amount", "balance", "percent", "product", "job", "hold", "call_id", "status"}
)
_HIDDEN: Final = "(hidden)"


class UnknownDelivery(LedgerRefused):
    """The account has no delivery of this id that waits, or was given up."""


class OutboxOperations:
    """What ops may do with deliveries. Answers plain data; raises UnknownDelivery, and what the ledger raises."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def list_deliveries(self, account: str, *, dead: bool, limit: int) -> Data:
        """Those that wait, the first one due first; or the dead letters, the newest first."""
        found = await self._ledger.deliveries(account, dead=dead, limit=limit)
        return {"items": [view_delivery(delivery) for delivery in found], "next": None}

    async def show_delivery(self, account: str, delivery_id: str) -> Data:
        """One of them, with what its payload may show."""
        found = await self._ledger.delivery(account=account, delivery_id=delivery_id)
        if found is None:
            raise UnknownDelivery(f"the account has no delivery {delivery_id!r} that waits or was given up")
        return {**view_delivery(found), "payload": _shown(found.payload)}

    async def replay_delivery(self, account: str, delivery_id: str) -> Data:
        """Deliver a dead letter after all. `replayed` false: it was none."""
        replayed = await self._ledger.revive(account=account, delivery_id=delivery_id)
        return {"account": account, "id": delivery_id, "replayed": replayed}


def view_delivery(delivery: Delivery) -> Data:
    """A delivery without its payload."""
    return {
        "id": delivery.id,
        "channel": delivery.channel,
        "state": "dead" if delivery.dead else "waiting",
        "attempts": delivery.attempts,
        "why": delivery.why or None,
        "created_at": when(delivery.created_ms),
        "due_at": None if delivery.dead else when(delivery.due_ms),
        "died_at": when(delivery.due_ms) if delivery.dead else None,
    }


def _shown(payload: Mapping[str, Any]) -> Data:
    return {name: _value(name, value) for name, value in payload.items()}


def _value(name: str, value: Any) -> Any:
    """A URL's path and query may be secrets: its host is not."""
    if name == "url" and isinstance(value, str):
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.hostname or ''}"
    if name in _SHOWN and isinstance(value, str | int):
        return value
    return _HIDDEN
