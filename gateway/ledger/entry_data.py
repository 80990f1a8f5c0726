"""What an entry says for itself, in both ledgers: the explanation of a charge, a grant, a refund, a commitment.

Owns: the fields of an entry's data. Does not know: how entries are stored, what may be written.
"""

from collections.abc import Mapping
from typing import Any

from gateway.core import monthly
from gateway.core.commitments import Commitment, amount_in, short_of
from gateway.core.money import Nanos
from gateway.core.pricing import Charge
from gateway.ports import Entry, Settlement


def item_data(charge: Charge) -> list[dict[str, Any]]:
    """The lines of a charge as data. Written out: this is half the time of what goes through the records' fields."""
    return [
        {
            "sku": item.sku,
            "quantity": item.quantity,
            "unit": item.unit,
            "unit_price": item.unit_price,
            "amount": item.amount,
        }
        for item in charge.items
    ]


def charge_data(settlement: Settlement, items: Any = None) -> dict[str, Any]:
    """What the entry of a charge says for itself: its items (JSON already, where given), by which prices, for what."""
    charge = settlement.charge
    data = {
        "items": item_data(charge) if items is None else items,
        "price_version": charge.price_version,
        "rate_card": charge.rate_card,
        "basis": charge.basis,
        "call_id": settlement.call_id,
        "key_id": settlement.key_id,
        "product": settlement.product,
        "route": settlement.route,
        "upstream_id": settlement.upstream_id,
    }
    if settlement.volumes is not None:
        data["volumes"] = dict(settlement.volumes)
    return data


def monthly_data(month: str, expires_ms: int) -> dict[str, Any]:
    """What the entry of a monthly grant says for itself."""
    return {**grant_data("monthly", monthly.PRIORITY, expires_ms, ""), "month": month}


def commitment_data(commitment: Commitment, charged: Nanos) -> dict[str, Any]:
    """What the entry of a month that was short of its commitment says for itself."""
    month = commitment.closing
    return {
        "month": month,
        "committed": int(amount_in(commitment, month)),
        "charged": int(charged),
        "reason": f"less was used in {month} than was committed to",
    }


def missing_of(data: Mapping[str, Any]) -> Nanos:
    """What such an entry charges."""
    return short_of(Nanos(data["committed"]), Nanos(data["charged"]))


def grant_data(kind: str, priority: int, expires_ms: int | None, note: str) -> dict[str, Any]:
    """What the entry of a grant says for itself."""
    return {"kind": kind, "priority": priority, "expires_ms": expires_ms, "note": note}


def refund_data(charge: Entry, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the entry of a refund says for itself."""
    return {**data, "refunds": charge.id, "call_id": charge.data["call_id"], "key_id": charge.data["key_id"]}


def is_of_call(entry: Entry, call_id: str) -> bool:
    """Whether an entry is a charge of this call, or corrects one."""
    return entry.kind in {"charge", "correction"} and entry.data.get("call_id") == call_id
